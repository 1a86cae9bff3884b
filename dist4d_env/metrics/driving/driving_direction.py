"""Not driving against the traffic."""

from __future__ import annotations

import numpy as np

from dist4d_env.metrics.driving.areas import wrong_way
from dist4d_env.metrics.driving.drivable_area import NO_MAP
from dist4d_env.metrics.driving.forms import is_faithful
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.metrics.plans.lanes import lanes_on_route, route_area
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.scenes.route import Route

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


def against_traffic(
    scene_map: SceneMap, route: Route, on_route: frozenset[str], center: np.ndarray, yaw: np.ndarray, faithful: bool
) -> np.ndarray:
    """(...) whether box centres (..., 2) with headings (...) count as oncoming, never in an intersection.

    faithful: outside the lanes on the route, as NAVSIM has it, which punishes leaving the road a second time; else in lanes that
    all run against the heading (``areas.wrong_way``).
    """
    if not faithful:
        return wrong_way(scene_map, center.reshape(-1, 2), yaw.ravel()).reshape(yaw.shape)
    against = ~route_area(scene_map, on_route, route).holds(center)
    against[against] = ~scene_map.in_intersection(center[against])
    return against


def driving_direction_compliance(trace: EpisodeTrace, form: str = "corrected") -> MetricResult:
    """1, 1/2 or 0 as the most the ego drives against the traffic within any second stays below 2 m, below 6 m, or not (the form
    of nuPlan and NAVSIM v2; what counts as against says ``against_traffic``).

    details: the worst distance and the step at which its second ends. Not valid without lanes.
    """
    faithful = is_faithful(form)
    if trace.map is None or not trace.map.lanes:
        return MetricResult(0.0, False, NO_MAP)
    on_route = lanes_on_route(trace.map, trace.route.lanes)
    against = against_traffic(trace.map, trace.route, on_route, trace.center, trace.ego[:, 2], faithful)
    within = driven_within_a_second(trace.center, against)
    worst = float(within.max())
    value = float(graded(within.max()))
    return MetricResult(value, True, {"distance": worst, "step": int(np.argmax(within)) if worst > 0 else None})
