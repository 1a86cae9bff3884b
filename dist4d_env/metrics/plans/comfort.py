"""Plans as they are felt: comfort, with or without the driving before."""

from __future__ import annotations

import numpy as np

from dist4d_env.metrics.driving.comfort import WINDOWS, smoothed_signals, within_limits
from dist4d_env.metrics.plans.evidence import Evidence, first_step
from dist4d_env.metrics.plans.scene import PlanScene


def plan_history_comfort(ego: np.ndarray, scene: PlanScene, faithful: bool, evidence: Evidence) -> np.ndarray:
    """(B,) HC: v2's comfort over the driving before (``scene.history``) and the plans (B, S, 7) together; where nothing is known
    of the past, the faithful form gives 1 and the other judges the plans alone."""
    past = np.zeros((0, 7)) if scene.history is None else scene.history
    rows = np.concatenate([np.broadcast_to(past, (len(ego), *past.shape)), ego], 1)
    signals = smoothed_signals(rows, scene.vehicle.rear_axle_to_center, WINDOWS["v2"], faithful)
    felt = plan_comfort(ego, signals, evidence)
    return np.ones(len(ego)) if faithful and not len(past) else felt


def plan_comfort(ego: np.ndarray, signals: np.ndarray, evidence: Evidence) -> np.ndarray:
    """(B,) 1 if signals (B, 6, H + S), the H before the plan included, keep all six bounds. A breach in the past is step 0."""
    held = within_limits(signals)  # (B, 6, H + S)
    evidence["comfort_held"] = held.all(-1)
    breached = first_step(~held)
    evidence["rough_step"] = np.where(breached >= 0, np.maximum(breached - (held.shape[-1] - ego.shape[1]), 0), -1)
    return held.all((1, 2)).astype(float)
