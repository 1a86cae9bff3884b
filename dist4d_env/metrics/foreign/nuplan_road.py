"""nuPlan's road rules: drivable area with a tolerance, driving direction, and the lanes that the ego counts as being in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from dist4d_env.metrics.driving.areas import ego_corners
from dist4d_env.metrics.driving.first_instant import counted_corners
from dist4d_env.metrics.driving.forms import Form, is_faithful
from dist4d_env.metrics.driving.road import NO_MAP
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.scenes.maps import Lane, SceneMap

TOLERANCE = 0.3  # m
WINDOW = 1.0  # s
TOLERATED, VIOLATED = 2.0, 6.0  # m
_NEAR = 5.0  # m; a connector just left is kept this far away where only another connector, or none, is found


def nuplan_drivable_area(trace: EpisodeTrace, form: Form = "faithful") -> MetricResult:
    """0 if a corner of the footprint is ever 0.3 m or more away from the drivable area (or a car park) and from the lane of the
    ego's centre, else 1. corrected: a corner that starts outside counts from where it first is inside (``first_instant``).
    details: the largest distance outside and its step. Not valid without a drivable area."""
    if trace.map is None or "drivable_area" in trace.map.missing:
        return MetricResult(0.0, False, NO_MAP)
    corners = ego_corners(trace.ego, trace.vehicle)
    away = _distance(trace.map, corners)
    for step, lane in enumerate(driven_lanes(trace.map, trace.center)):
        if lane is not None and (away[step] > 0).any():
            away[step] = np.minimum(away[step], shapely.distance(lane.polygon, shapely.points(corners[step])))
    if not is_faithful(form):
        away[~counted_corners(away > 0, np.ones(4, bool))[0]] = 0.0
    farthest = away.max(1)
    worst, step = float(farthest.max()), int(farthest.argmax())
    return MetricResult(float(worst < TOLERANCE), True, {"distance": worst, "step": step if worst > 0 else None})


def _distance(scene_map: SceneMap, corners: np.ndarray) -> np.ndarray:
    """(T, 4) metres from corners (T, 4, 2) to the drivable area or the nearest car park."""
    away = np.zeros(corners.shape[:2])
    outside = ~scene_map.on_drivable(corners)
    if outside.any():
        points = shapely.points(corners[outside])
        away[outside] = np.nan_to_num(shapely.distance(scene_map.drivable, points), nan=np.inf)
        for polygon in scene_map.layers.get("carpark_area", ()):
            away[outside] = np.minimum(away[outside], shapely.distance(polygon, points))
    return away


def nuplan_driving_direction(trace: EpisodeTrace) -> MetricResult:
    """1, 1/2 or 0 as the most metres driven against the lanes' direction in any second, net, stay below 2, below 6, or not.

    The way along a lane is that of the centre's projection on its middle line and starts anew with every lane. details: those
    metres, and the step at which their second ends. Not valid without lanes.
    """
    if trace.map is None or not trace.map.lanes:
        return MetricResult(0.0, False, NO_MAP)
    along = np.zeros(len(trace.time))
    before: str | None = None
    before_s: float | None = None
    lines: dict[str, shapely.LineString] = {}
    for step, lane in enumerate(driven_lanes(trace.map, trace.center)):
        if lane is None:
            continue
        if step and lane.token != before:
            before, before_s = lane.token, None  # no progress is known at the step into a lane
            continue
        before = lane.token
        line = lines.setdefault(before, shapely.LineString(lane.centerline[:, :2]))
        s = float(line.project(shapely.Point(trace.center[step])))
        along[step] = 0.0 if before_s is None else s - before_s
        before_s = s
    count = _ticks(trace.time)
    driven = np.concatenate([np.zeros(count + 1), np.cumsum(along)])
    within = driven[count + 1 :] - driven[: -count - 1]  # the steps i - count to i
    worst = abs(float(within.min()))
    value = 1.0 if worst < TOLERATED else 0.5 if worst < VIOLATED else 0.0
    return MetricResult(value, True, {"distance": worst, "step": int(within.argmin()) if value < 1 else None})


def _ticks(time: np.ndarray) -> int:
    return int(WINDOW / float(np.diff(time).mean()) + 1e-6) if len(time) > 1 else 1


def driven_lanes(scene_map: SceneMap, points: np.ndarray) -> list[Lane | None]:
    """The lane of every point (T, 2) of a path, None where it is in none.

    A point stays in its predecessor's lane while that holds it, else goes on into a lane that follows; only then the map is
    asked, where a lane goes before connectors. Where several connectors lie over each other, the one that leads to where the path
    goes on is taken, found backwards in time.
    """
    routes: list[list[Lane]] = []
    here: list[Lane] = []
    for found, (x, y) in zip(scene_map.lanes_along(points), points.tolist(), strict=True):
        here = _next(scene_map, here, found)
        if not here:
            here = _looked_up(scene_map, routes, found, x, y)
        routes.append(here)
    for i in range(len(routes) - 2, -1, -1):
        routes[i] = _narrowed(routes[i], routes[i + 1])
    return [lanes[0] if lanes else None for lanes in routes]


def _next(scene_map: SceneMap, before: list[Lane], found: Sequence[Lane]) -> list[Lane]:
    """Which of the lanes so far, or of the successors of the only one, hold the point."""
    tokens = {lane.token for lane in found}
    kept = [lane for lane in before if lane.token in tokens]
    if not kept and len(before) == 1:
        kept = [scene_map.lanes[token] for token in before[0].successors if token in tokens and token in scene_map.lanes]
    return kept


def _looked_up(scene_map: SceneMap, routes: list[list[Lane]], found: Sequence[Lane], x: float, y: float) -> list[Lane]:
    here = [lane for lane in found if not lane.is_connector][:1] or list(found)
    last = routes[-1] if routes else []
    if last and last[0].is_connector and (here[0].is_connector if here else scene_map.in_intersection(np.array([x, y]))):
        point = shapely.points(x, y)
        here = [lane for lane in last if lane.polygon.distance(point) < _NEAR] or here
    return here


def _narrowed(lanes: list[Lane], after: list[Lane]) -> list[Lane]:
    """Of several lanes those that the path is in, or leads to, at the next step."""
    if len(lanes) < 2 or not after:
        return lanes
    tokens = {lane.token for lane in after}
    kept = [lane for lane in lanes if lane.token in tokens]
    if not kept and not after[0].is_connector:
        kept = [lane for lane in lanes if after[0].token in lane.successors]
    return kept or lanes


def within_lanes(scene_map: SceneMap, corners: np.ndarray) -> np.ndarray:
    """(T,) whether all corners of footprints (T, 4, 2), in the order of ``ego_corners``, are in one lane or in lanes of which one
    leads to the next: neither across lanes nor beside them."""
    held = scene_map.lanes_along(corners.reshape(-1, 2))
    tokens = [frozenset(lane.token for lane in lanes) for lanes in held]
    return np.array([_connected(scene_map, tokens[i : i + 4]) for i in range(0, len(tokens), 4)], bool)


def _connected(scene_map: SceneMap, held: Sequence[frozenset[str]]) -> bool:
    front_left, rear_left, rear_right, front_right = held
    if not all(held):
        return False
    if front_left & rear_left & rear_right & front_right:
        return True
    left_on, right_on = (rear | _linked(scene_map, rear, "successors") for rear in (rear_left, rear_right))
    if not (rear_left & right_on or rear_right & left_on):
        return False
    left, right = (front | _linked(scene_map, front, "predecessors") for front in (front_left, front_right))
    return bool(left & right_on & right & left_on)


def _linked(scene_map: SceneMap, tokens: frozenset[str], side: str) -> frozenset[str]:
    return frozenset(other for token in tokens for other in getattr(scene_map.lanes[token], side))
