"""Not driving against the traffic."""

from __future__ import annotations

import numpy as np

from dist4d_env.metrics.areas import wrong_way
from dist4d_env.metrics.drivable_area import NO_MAP
from dist4d_env.metrics.trace import EpisodeTrace, MetricResult

WINDOW = 10  # ticks
TOLERATED, VIOLATED = 2.0, 6.0  # m


def driving_direction_compliance(trace: EpisodeTrace) -> MetricResult:
    """1, 1/2 or 0 as the most the ego drives against its lanes within any second stays below 2 m, below 6 m, or not.

    The form of nuPlan and NAVSIM v2, except for what counts as against: here the box centre lies in lanes that all run against
    the heading (``areas.wrong_way``), so that leaving the road is not punished twice. details: the worst distance and the step
    at which its second ends. Not valid without lanes.
    """
    if trace.map is None or not trace.map.lanes:
        return MetricResult(0.0, False, NO_MAP)
    center = trace.center
    moved = np.linalg.norm(np.diff(center, axis=0, prepend=center[:1]), axis=1)
    here = zip(trace.lanes, center.tolist(), trace.ego[:, 2].tolist(), strict=True)
    against = [wrong_way(trace.map, lanes, x, y, yaw) for lanes, (x, y), yaw in here]
    driven = np.concatenate([np.zeros(WINDOW + 1), np.cumsum(np.where(against, moved, 0.0))])
    within = driven[WINDOW + 1 :] - driven[: -WINDOW - 1]  # the displacements of steps i - 10 to i
    worst = float(within.max())
    value = 1.0 if worst < TOLERATED else 0.5 if worst < VIOLATED else 0.0
    return MetricResult(value, True, {"distance": worst, "step": int(np.argmax(within)) if worst > 0 else None})
