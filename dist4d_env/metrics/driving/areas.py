"""Where on the map the ego is: across lanes, off the road, against the traffic (nuPlan's ego areas)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import shapely

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.maps import Lane, SceneMap

AGAINST = math.radians(120)
"""A lane is driven the wrong way where heading and lane differ by more than this."""


def ego_corners(ego: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
    """Footprint corners (..., 4, 2), front-left, rear-left, rear-right, front-right, of ego rows (..., 7)."""
    front, back = vehicle.rear_axle_to_center + vehicle.length / 2, vehicle.rear_axle_to_center - vehicle.length / 2
    ahead = np.array([front, back, back, front])
    left = np.array([0.5, 0.5, -0.5, -0.5]) * vehicle.width
    cos, sin = deterministic.cos(ego[..., 2, None]), deterministic.sin(ego[..., 2, None])
    corners = np.empty((*ego.shape[:-1], 4, 2))
    corners[..., 0] = ego[..., 0, None] + cos * ahead - sin * left
    corners[..., 1] = ego[..., 1, None] + sin * ahead + cos * left
    return corners


def off_drivable(scene_map: SceneMap, corners: np.ndarray) -> np.ndarray:
    """(...) whether some corner of footprints (..., 4, 2) lies neither on the drivable area nor in a car park."""
    outside = ~scene_map.on_drivable(corners)
    if outside.any() and scene_map.layers.get("carpark_area"):
        points = corners[outside]
        parked = np.zeros(len(points), bool)
        hits = scene_map.trees["carpark_area"].query(shapely.points(points), predicate="intersects")
        parked[hits[0]] = True
        outside[outside] = ~parked
    return outside.any(-1)


def lanes_holding(scene_map: SceneMap, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair (point, lane), as two arrays (K,) of indices, in which a lane's polygon holds a point (M, 2).

    Lanes are counted in the order of ``SceneMap.lanes``; the same answer as the tree's own predicate, several times as fast.
    """
    tree = scene_map.trees["lane"]
    point, lane = tree.query(shapely.points(points))
    shapely.prepare(tree.geometries)
    inside = shapely.intersects_xy(tree.geometries[lane], points[point, 0], points[point, 1])
    return point[inside], lane[inside]


def across_lanes(scene_map: SceneMap, corners: np.ndarray) -> np.ndarray:
    """(...) whether a footprint (..., 4, 2) stands in more than one lane and wholly in none."""
    count = math.prod(corners.shape[:-2])
    point, lane = lanes_holding(scene_map, corners.reshape(-1, 2))
    # One entry per footprint and lane that hold each other's: how many of the four corners.
    pair, held = np.unique(point // 4 * len(scene_map.lanes) + lane, return_counts=True)
    footprint = pair // max(len(scene_map.lanes), 1)
    lanes = np.bincount(footprint, minlength=count)
    whole = np.bincount(footprint, weights=held == 4, minlength=count) > 0
    return ((lanes > 1) & ~whole).reshape(corners.shape[:-2])


def out_of_lane(scene_map: SceneMap | None, ego: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
    """(...) whether egos (..., 7) stand across lanes or with a corner off the drivable area; never without a map."""
    if scene_map is None:
        return np.zeros(ego.shape[:-1], bool)
    corners = ego_corners(ego, vehicle)
    return across_lanes(scene_map, corners) | off_drivable(scene_map, corners)


def wrong_way(scene_map: SceneMap, points: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """(M,) whether box centres (M, 2) with headings (M,) lie in lanes that all run against them.

    Never in an intersection, where lanes of all directions lie over each other, nor where there is no lane.
    """
    point, lane = lanes_holding(scene_map, points)
    lanes = list(scene_map.lanes.values())
    against = np.zeros(len(point), bool)
    for index in np.unique(lane).tolist():
        rows = lane == index
        here = point[rows]
        against[rows] = _against(lanes[index], points[here], yaw[here])
    held, opposed = (np.bincount(point, weights, len(points)) for weights in (None, against))
    wrong = (held > 0) & (opposed == held)
    wrong[wrong] = ~scene_map.in_intersection(points[wrong])
    return wrong


def wrong_way_at(scene_map: SceneMap, lanes: Sequence[Lane], x: float, y: float, yaw: float) -> bool:
    """``wrong_way`` of one box centre whose lanes (``SceneMap.lanes_at``) are known already."""
    point, heading = np.array([[x, y]]), np.array([yaw])
    return bool(lanes) and all(_against(lane, point, heading)[0] for lane in lanes) and not scene_map.in_intersection(point)[0]


def _against(lane: Lane, points: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """(M,) whether a lane runs against headings (M,) where it is nearest to points (M, 2)."""
    line = lane.centerline
    dx, dy = points[:, 0, None] - line[:, 0], points[:, 1, None] - line[:, 1]
    heading = line[np.argmin(dx * dx + dy * dy, axis=1), 2]
    return np.abs((yaw - heading + math.pi) % (2 * math.pi) - math.pi) > AGAINST


def speed_limit(lanes: Iterable[Lane]) -> float | None:
    """The highest limit (m/s) of the lanes that state one."""
    return max((lane.speed_limit for lane in lanes if lane.speed_limit is not None), default=None)
