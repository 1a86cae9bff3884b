"""Road rules of an episode: drivable area, driving direction, lane keeping and speed limit."""

from __future__ import annotations

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.metrics.driving.areas import corners_off, ego_corners, speed_limit, wrong_way
from dist4d_env.metrics.driving.first_instant import counted_corners
from dist4d_env.metrics.driving.forms import is_faithful
from dist4d_env.metrics.driving.route_lanes import lanes_on_route, route_area
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.scenes.route import Route

NO_MAP = {"reason": "the scene has no map"}
NO_ROUTE_LANES = {"reason": "the route runs over no lane of the map, so that none can be told from an oncoming one"}
WINDOW = 10  # ticks in which metres against the traffic add up
TOLERATED, VIOLATED = 2.0, 6.0  # m driven against the traffic
TOLERANCE = 0.5  # m off the centreline
PATIENCE = 20  # consecutive ticks off the centreline
MAX_OVERSPEED = 2.23  # m/s


def drivable_area_compliance(trace: EpisodeTrace, form: str = "corrected") -> MetricResult:
    """1 if all corners of the footprint stay on the drivable area or in a car park at every step, without tolerance, else 0
    (NAVSIM's DAC). corrected: a corner that starts outside counts from where it first is on the road (``first_instant``).
    details: first step outside and share of steps outside. Not valid without a map."""
    faithful = is_faithful(form)
    if trace.map is None or "drivable_area" in trace.map.missing:
        return MetricResult(0.0, False, NO_MAP)
    outside = outside_steps(trace.map, ego_corners(trace.ego, trace.vehicle), faithful)
    step = int(np.argmax(outside)) if outside.any() else None
    return MetricResult(float(not outside.any()), True, {"step": step, "share_outside": float(outside.mean())})


def outside_steps(scene_map: SceneMap, corners: np.ndarray, faithful: bool) -> np.ndarray:
    """(..., T) at which steps some corner of footprints (..., T, 4, 2) is outside; not faithful: some corner that counts."""
    off = corners_off(scene_map, corners)
    if not faithful:
        off, _ = counted_corners(off, np.ones(off.shape[:-2] + off.shape[-1:], bool))
    return off.any(-1)


def driving_direction_compliance(trace: EpisodeTrace, form: str = "corrected") -> MetricResult:
    """1, 1/2 or 0 as the most the ego drives against the traffic within any second stays below 2 m, below 6 m, or not (the form
    of nuPlan and NAVSIM v2; ``against_traffic`` defines it).

    details: the worst distance and the step at which its second ends. Not valid without lanes; faithful: without lanes on the
    route.
    """
    faithful = is_faithful(form)
    if trace.map is None or not trace.map.lanes:
        return MetricResult(0.0, False, NO_MAP)
    on_route = lanes_on_route(trace.map, trace.route.lanes)
    if faithful and not on_route:
        return MetricResult(0.0, False, NO_ROUTE_LANES)
    against = against_traffic(trace.map, trace.route, on_route, trace.center, trace.ego[:, 2], faithful)
    within = driven_within_a_second(trace.at_ticks().center, against)
    worst = float(within.max())
    value = float(graded(within.max()))
    return MetricResult(value, True, {"distance": worst, "step": int(np.argmax(within)) if worst > 0 else None})


def against_traffic(
    scene_map: SceneMap,
    route: Route,
    on_route: frozenset[str],
    center: np.ndarray,
    yaw: np.ndarray,
    faithful: bool,
    everywhere: bool = False,
) -> np.ndarray:
    """(...) whether box centres (..., 2) with headings (...) count as oncoming, never in an intersection.

    faithful: outside the lanes on the route, as in NAVSIM, which punishes leaving the road a second time (everywhere: in
    intersections, too, as in its v1.1); else in lanes that all run against the heading (``areas.wrong_way``).
    """
    if not faithful:
        return wrong_way(scene_map, center.reshape(-1, 2), yaw.ravel()).reshape(yaw.shape)
    against = ~route_area(scene_map, on_route, route).holds(center)
    if not everywhere:
        against[against] = ~scene_map.in_intersection(center[against])
    return against


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


def lane_keeping(trace: EpisodeTrace, middle: str = "lane") -> MetricResult:
    """0 if the centre is more than 0.5 m from a centreline for 20 consecutive steps, else 1 (NAVSIM v2's LK).

    Steps in intersections neither count nor interrupt. middle: "lane" measures from the centreline of the nearest lane in the
    direction of travel, so that a quick lane change passes; "route", as NAVSIM, from those of the lanes that the route runs
    over. details: step at which the 20 are reached, largest offset. Not valid without lanes.
    """
    if middle not in ("lane", "route"):
        raise ConfigError(f"middle={middle!r} is unknown; choose lane or route")
    if trace.map is None or not trace.map.lanes:
        return MetricResult(0.0, False, NO_MAP)
    if middle == "lane":
        offsets = lane_offsets(trace)
    else:
        offsets = route_area(trace.map, lanes_on_route(trace.map, trace.route.lanes), trace.route).offset(trace.center)
    crossing = trace.map.in_intersection(trace.at_ticks().center)
    step = int(patience_ended(~(offsets <= TOLERANCE), crossing))
    ended = step if step >= 0 else None
    largest = float(np.nanmax(np.where(crossing, 0.0, offsets), initial=0.0))
    return MetricResult(float(ended is None), True, {"step": ended, "largest": largest})


def lane_offsets(trace: EpisodeTrace) -> np.ndarray:
    """(T,) distance of the box centre from the centreline of the lane that fits best, in metres; nan where there is no lane."""
    assert trace.map is not None
    center = trace.center
    x, y, heading = trace.map.lane_points_along(np.column_stack([center, trace.ego[:, 2]])).T
    return np.abs(deterministic.cos(heading) * (center[:, 1] - y) - deterministic.sin(heading) * (center[:, 0] - x))


def patience_ended(off: np.ndarray, skipped: np.ndarray) -> np.ndarray:
    """(...) the step of (..., T) at which, for the first time, 20 consecutive steps were off, -1 for never; skipped (..., T)
    steps neither count nor interrupt."""
    run, ended = np.zeros(off.shape[:-1], int), np.full(off.shape[:-1], -1)
    for step in range(off.shape[-1]):
        run = np.where(skipped[..., step], run, np.where(off[..., step], run + 1, 0))
        ended = np.where((ended < 0) & (run >= PATIENCE), step, ended)
    return ended


def speed_limit_compliance(trace: EpisodeTrace, form: str = "corrected") -> MetricResult:
    """``max(0, 1 - sum(overspeed dt) / (2.23 T))`` as in nuPlan, the speed without its sign. T: the number of rows times dt;
    faithful: one dt less, the time between the first and the last, as in nuPlan. details: largest overspeed, its step, share with
    a limit.

    Steps on lanes that state no limit count as kept. Not valid where no step has a limit (nuScenes maps state none).
    """
    faithful = is_faithful(form)
    if trace.map is None:
        return MetricResult(0.0, False, NO_MAP)
    limits = [speed_limit(lanes) for lanes in trace.lanes]
    known = np.array([limit is not None for limit in limits])
    if not known.any():
        return MetricResult(0.0, False, {"reason": "the map states no speed limit here"})
    over = np.maximum(np.abs(trace.ego[:, 3]) - np.array([np.inf if limit is None else limit for limit in limits]), 0.0)
    value = max(0.0, 1.0 - float(over.sum()) / (MAX_OVERSPEED * max(len(over) - faithful, 1)))
    step = int(np.argmax(over)) if over.any() else None
    return MetricResult(value, True, {"largest": float(over.max()), "step": step, "share_known": float(known.mean())})
