"""Where on the map the ego is: across lanes, off the road, against the traffic (nuPlan's ego areas)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import shapely

from dist4d_env.scenes.maps import Lane, SceneMap
from dist4d_env.simulation.state import VehicleParameters

AGAINST = math.radians(120)
"""A lane is driven the wrong way where heading and lane differ by more than this."""


def ego_corners(ego: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
    """Footprint corners (..., 4, 2), front-left, rear-left, rear-right, front-right, of ego rows (..., 7)."""
    front, back = vehicle.rear_axle_to_center + vehicle.length / 2, vehicle.rear_axle_to_center - vehicle.length / 2
    ahead = np.array([front, back, back, front])
    left = np.array([0.5, 0.5, -0.5, -0.5]) * vehicle.width
    cos, sin = np.cos(ego[..., 2, None]), np.sin(ego[..., 2, None])
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


def across_lanes(scene_map: SceneMap, corners: np.ndarray) -> bool:
    """Whether one footprint (4, 2) stands in more than one lane and wholly in none."""
    held = np.zeros((len(scene_map.lanes), 4), bool)
    point, lane = scene_map.trees["lane"].query(shapely.points(corners), predicate="intersects")
    held[lane, point] = True
    return bool(held.any(1).sum() > 1 and not held.all(1).any())


def wrong_way(scene_map: SceneMap, lanes: Iterable[Lane], x: float, y: float, yaw: float) -> bool:
    """Whether a box centre with a heading lies in lanes (those of ``SceneMap.lanes_at``) that all run against it.

    Never in an intersection, where lanes of all directions lie over each other.
    """
    against = False
    for lane in lanes:
        line = lane.centerline
        nearest = int(np.argmin((line[:, 0] - x) ** 2 + (line[:, 1] - y) ** 2))
        against = abs((yaw - line[nearest, 2] + math.pi) % (2 * math.pi) - math.pi) > AGAINST
        if not against:
            return False
    return against and not bool(scene_map.in_intersection(np.array([x, y])))


def speed_limit(lanes: Iterable[Lane]) -> float | None:
    """The highest limit (m/s) of the lanes that state one."""
    return max((lane.speed_limit for lane in lanes if lane.speed_limit is not None), default=None)
