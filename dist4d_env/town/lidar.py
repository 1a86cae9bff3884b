"""A spinning LiDAR in the town, from the same rays as the pictures."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.lidar import LidarPattern
from dist4d_env.town.render import TownRenderer
from dist4d_env.town.sensors import TOWN_LIDAR
from dist4d_env.town.textures_ground import SEMANTICS

_REFLECTANCE = dict(
    road=14, marking=60, crossing=50, sidewalk=26, terrain=20, building=36, vegetation=30, pole=45, vehicle=40, two_wheeler=28,
    pedestrian=32, cone=90, barrier=50,
)  # fmt: skip
_BY_CLASS = np.array([_REFLECTANCE.get(name, 0) for name in SEMANTICS], np.float32)


def scan(
    renderer: TownRenderer,
    global_from_lidar: np.ndarray,
    boxes: Boxes | None,
    time: float,
    pattern: LidarPattern = TOWN_LIDAR,
) -> np.ndarray:
    """One turn of a LiDAR, LIDAR_TOP unless a pattern says otherwise, all at one instant.

    Returns (P, 5) float32 x, y, z in the sensor frame (metres), intensity 0-255, ring index (0 lowest), in firing order. Rays
    that meet nothing within the pattern's range leave no point.
    """
    local, reach, around = pattern.directions, pattern.max_range, global_from_lidar[:3, 3]
    near = None if boxes is None else np.hypot(*(boxes.position - around)[:, :2].T) < reach + boxes.size.max(1, initial=0)
    actors = renderer.place(boxes, time, around, near)
    origins, directions = renderer.rays(global_from_lidar, local)
    hits = renderer.trace(origins, directions, actors, reach)
    distance = hits.distance.astype(float)
    found = np.isfinite(distance) & (hits.distance <= reach)
    classes = renderer.semantics(origins, directions, hits, actors)
    intensity = np.where(np.isfinite(hits.distance), _BY_CLASS[classes] * np.exp(-np.minimum(hits.distance, 100) / 90), 0)
    points = np.concatenate([local * np.where(found, distance, 0)[:, None], intensity[:, None], pattern.rings[:, None]], 1)
    return points[found].astype(np.float32)
