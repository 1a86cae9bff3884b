"""Keeping to the speed limit, where there is one."""

from __future__ import annotations

import numpy as np

from dist4d_env.metrics.driving.areas import speed_limit
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.scenes.scene import TICK

MAX_OVERSPEED = 2.23  # m/s


def speed_limit_compliance(trace: EpisodeTrace) -> MetricResult:
    """``max(0, 1 - sum(overspeed dt) / (2.23 T))`` as in nuPlan. details: largest overspeed, its step, share with a limit.

    Steps on lanes that state no limit count as kept. Not valid where no step has a limit (nuScenes maps state none).
    """
    if trace.map is None:
        return MetricResult(0.0, False, {"reason": "the scene has no map"})
    limits = [speed_limit(lanes) for lanes in trace.lanes]
    known = np.array([limit is not None for limit in limits])
    if not known.any():
        return MetricResult(0.0, False, {"reason": "the map states no speed limit here"})
    over = np.maximum(trace.ego[:, 3] - np.array([np.inf if limit is None else limit for limit in limits]), 0.0)
    value = max(0.0, 1.0 - float(over.sum() * TICK) / (MAX_OVERSPEED * len(over) * TICK))
    step = int(np.argmax(over)) if over.any() else None
    return MetricResult(value, True, {"largest": float(over.max()), "step": step, "share_known": float(known.mean())})
