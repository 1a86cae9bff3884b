"""Staying on the road."""

from __future__ import annotations

import numpy as np

from dist4d_env.metrics.driving.areas import ego_corners, off_drivable
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult

NO_MAP = {"reason": "the scene has no map"}


def drivable_area_compliance(trace: EpisodeTrace) -> MetricResult:
    """1 if all corners of the footprint stay on the drivable area or in a car park at every step, without tolerance, else 0
    (NAVSIM's DAC). details: first step outside and share of steps outside. Not valid without a map."""
    if trace.map is None or "drivable_area" in trace.map.missing:
        return MetricResult(0.0, False, NO_MAP)
    outside = off_drivable(trace.map, ego_corners(trace.ego, trace.vehicle))
    step = int(np.argmax(outside)) if outside.any() else None
    return MetricResult(float(not outside.any()), True, {"step": step, "share_outside": float(outside.mean())})
