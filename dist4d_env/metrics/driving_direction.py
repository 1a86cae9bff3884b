"""Not driving against the traffic."""

from __future__ import annotations

import numpy as np

from dist4d_env.metrics.areas import wrong_way
from dist4d_env.metrics.drivable_area import NO_MAP
from dist4d_env.metrics.trace import EpisodeTrace, MetricResult

WINDOW = 10  # ticks
TOLERATED, VIOLATED = 2.0, 6.0  # m


def driven_within_a_second(center: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """(..., T) metres that centres (..., T, 2) moved at the counted (..., T) among the steps i - 10 to i."""
    moved = np.zeros(counted.shape)
    moved[..., 1:] = np.linalg.norm(np.diff(center, axis=-2), axis=-1)
    driven = np.cumsum(np.where(counted, moved, 0.0), axis=-1)
    within = driven.copy()
    within[..., WINDOW + 1 :] -= driven[..., : -WINDOW - 1]
    return within


def graded(metres: np.ndarray) -> np.ndarray:
    """(...) 1, 1/2 or 0 for metres (...) driven against the traffic."""
    return np.where(metres < TOLERATED, 1.0, np.where(metres < VIOLATED, 0.5, 0.0))


def driving_direction_compliance(trace: EpisodeTrace) -> MetricResult:
    """1, 1/2 or 0 as the most the ego drives against its lanes within any second stays below 2 m, below 6 m, or not.

    The form of nuPlan and NAVSIM v2, except for what counts as against: here the box centre lies in lanes that all run against
    the heading (``areas.wrong_way``), so that leaving the road is not punished twice. details: the worst distance and the step
    at which its second ends. Not valid without lanes.
    """
    if trace.map is None or not trace.map.lanes:
        return MetricResult(0.0, False, NO_MAP)
    against = wrong_way(trace.map, trace.center, trace.ego[:, 2])
    within = driven_within_a_second(trace.center, against)
    worst = float(within.max())
    value = float(graded(within.max()))
    return MetricResult(value, True, {"distance": worst, "step": int(np.argmax(within)) if worst > 0 else None})
