"""nuPlan's rules of the road: drivable area with a tolerance, and driving along the lanes."""

from __future__ import annotations

import numpy as np
import shapely

from dist4d_env.metrics.driving.areas import ego_corners
from dist4d_env.metrics.driving.drivable_area import NO_MAP
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.metrics.foreign.nuplan_lanes import driven_lanes
from dist4d_env.scenes.maps import SceneMap

TOLERANCE = 0.3  # m
WINDOW = 1.0  # s
TOLERATED, VIOLATED = 2.0, 6.0  # m


def nuplan_drivable_area(trace: EpisodeTrace) -> MetricResult:
    """0 if a corner of the footprint is ever 0.3 m or more away from the drivable area (or a car park) and from the lane of the
    ego's centre, else 1. details: the largest distance outside and its step. Not valid without a drivable area."""
    if trace.map is None or "drivable_area" in trace.map.missing:
        return MetricResult(0.0, False, NO_MAP)
    corners = ego_corners(trace.ego, trace.vehicle)
    away = _distance(trace.map, corners)
    for step, lane in enumerate(driven_lanes(trace.map, trace.center)):
        if lane is not None and (away[step] > 0).any():
            away[step] = np.minimum(away[step], shapely.distance(lane.polygon, shapely.points(corners[step])))
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
            before, before_s = lane.token, None  # the step into a lane says nothing
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
