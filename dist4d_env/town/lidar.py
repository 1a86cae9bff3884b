"""A spinning LiDAR in the town, from the same rays as the pictures."""

from __future__ import annotations

from functools import cache

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.town.render import TownRenderer
from dist4d_env.town.sensors import LIDAR_AZIMUTH_STEPS, LIDAR_ELEVATIONS
from dist4d_env.town.textures_ground import SEMANTICS

MAX_RANGE = 80.0
"""Metres beyond which nothing comes back."""

_NOISE = 0.015  # metres, standard deviation of a range
_REFLECTANCE = dict(
    road=14, marking=60, crossing=50, sidewalk=26, terrain=20, building=36, vegetation=30, pole=45, vehicle=40, two_wheeler=28,
    pedestrian=32, cone=90, barrier=50,
)  # fmt: skip
_BY_CLASS = np.array([_REFLECTANCE.get(name, 0) for name in SEMANTICS], np.float32)


@cache
def _beams() -> tuple[np.ndarray, np.ndarray]:
    """Unit directions (N, 3) in the sensor frame and rings (N,) of all firings of one turn."""
    azimuth = -np.arange(LIDAR_AZIMUTH_STEPS) * (2 * np.pi / LIDAR_AZIMUTH_STEPS)  # clockwise seen from above, as nuScenes spins
    elevation, turn = np.broadcast_arrays(LIDAR_ELEVATIONS, azimuth[:, None])
    local = np.stack([np.cos(elevation) * np.cos(turn), np.cos(elevation) * np.sin(turn), np.sin(elevation)], -1).reshape(-1, 3)
    return local, np.tile(np.arange(len(LIDAR_ELEVATIONS), dtype=np.float32), LIDAR_AZIMUTH_STEPS)


def scan(
    renderer: TownRenderer, global_from_lidar: np.ndarray, boxes: Boxes | None, time: float, seed: int | None = None
) -> np.ndarray:
    """One turn of LIDAR_TOP, all at one instant.

    Returns (P, 5) float32 x, y, z in the sensor frame (metres), intensity 0-255, ring index (0 lowest), in firing order. Rays
    that meet nothing within MAX_RANGE leave no point. With a ``seed`` ranges carry 1.5 cm of noise drawn from it; None is exact.
    """
    local, ring = _beams()
    around = global_from_lidar[:3, 3]
    near = None if boxes is None else np.hypot(*(boxes.position - around)[:, :2].T) < MAX_RANGE + boxes.size.max(1, initial=0)
    actors = renderer.place(boxes, time, around, near)
    origins, directions = renderer.rays(global_from_lidar, local)
    hits = renderer.trace(origins, directions, actors, MAX_RANGE)
    distance = hits.distance.astype(float)
    if seed is not None:
        distance = distance + np.random.default_rng([seed, 17]).normal(0, _NOISE, len(distance))
    found = np.isfinite(distance) & (hits.distance <= MAX_RANGE)
    classes = renderer.semantics(origins, directions, hits, actors)
    intensity = np.where(np.isfinite(hits.distance), _BY_CLASS[classes] * np.exp(-np.minimum(hits.distance, 100) / 90), 0)
    points = np.concatenate([local * np.where(found, distance, 0)[:, None], intensity[:, None], ring[:, None]], 1)
    return points[found].astype(np.float32)
