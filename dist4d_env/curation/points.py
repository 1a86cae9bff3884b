"""LiDAR gathered over time: what stands still in the global frame, what moves in the frame of its box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.transforms import apply, invert, poses_from_position_yaw
from dist4d_env.scenes.scene import LidarSweep, Scene

MARGIN = 0.15
"""Metres by which boxes are grown: annotated boxes cut mirrors, wheels and outstretched arms."""

GROUND_CLEARANCE = 0.12
"""Points lower than this above a box's bottom belong to the road under the object, which stays where it is."""

EGO_LOW, EGO_HIGH = np.array([-1.2, -1.2, -0.5]), np.array([4.0, 1.2, 2.2])
"""The ego's own body with its roof rack, ego frame, metres: returns from it are dropped."""


@dataclass(frozen=True)
class SeparatedSweep:
    """One sweep taken apart. static: (P, 3) global; local: (Q, 3) in the frame of box ``token`` (Q,); field: lowest and highest
    elevation of its returns, radians above the ego's own plane."""

    static: np.ndarray
    local: np.ndarray
    token: np.ndarray
    field: tuple[float, float]

    def at(self, boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
        """Global points (N, 3) at the instant these boxes exist, and which of them (N,) lie in boxes.

        Points of objects that do not exist then are left out.
        """
        if not len(self.token) or not len(boxes):
            return self.static, np.zeros(len(self.static), bool)
        row = np.full(max(int(self.token.max()), int(boxes.token.max())) + 1, -1)
        row[boxes.token] = np.arange(len(boxes))
        index = row[self.token]
        here = index >= 0
        pose = boxes.poses[index[here]]
        moved = np.einsum("nij,nj->ni", pose[:, :3, :3], self.local[here]) + pose[:, :3, 3]
        return np.concatenate([self.static, moved]), np.arange(len(self.static) + len(moved)) >= len(self.static)


def street_points(sweep: LidarSweep, global_from_ego: np.ndarray) -> np.ndarray:
    """(N, 3) global returns of a sweep, without those of the ego's own body; the ego pose (4, 4) at the sweep's own time."""
    points = apply(sweep.global_from_lidar, sweep.points[:, :3].astype(float))
    in_ego = apply(invert(global_from_ego), points)
    return points[~((in_ego > EGO_LOW) & (in_ego < EGO_HIGH)).all(1)]


def separate(sweep: LidarSweep, boxes: Boxes, global_from_ego: np.ndarray) -> SeparatedSweep:
    """Takes a sweep apart with the boxes (global frame) and the ego pose at the sweep's own time."""
    points = street_points(sweep, global_from_ego)
    owner = np.full(len(points), -1)
    local = np.empty_like(points)
    half = boxes.size / 2 + MARGIN
    reach = np.linalg.norm(half[:, :2], axis=1)
    box_from_global = invert(poses_from_position_yaw(boxes.position, boxes.yaw))
    x, y = np.ascontiguousarray(points[:, :2].T)
    for index, (east, north) in enumerate(boxes.position[:, :2]):
        near = np.flatnonzero((np.abs(x - east) < reach[index]) & (np.abs(y - north) < reach[index]) & (owner < 0))
        inside = apply(box_from_global[index], points[near])
        floor = -boxes.size[index, 2] / 2 + GROUND_CLEARANCE
        hit = (np.abs(inside) < half[index]).all(1) & (inside[:, 2] > floor)
        owner[near[hit]] = index
        local[near[hit]] = inside[hit]
    moving = owner >= 0
    field = _field(points, sweep.global_from_lidar[:3, 3], global_from_ego[:3, :3])
    return SeparatedSweep(points[~moving], local[moving], boxes.token[owner[moving]], field)


def _field(points: np.ndarray, lidar: np.ndarray, global_from_ego: np.ndarray) -> tuple[float, float]:
    """Elevations between which all but a thousandth of the points (N, 3) lie, seen from the LiDAR (3,); (0, 0) without any."""
    if not len(points):
        return 0.0, 0.0
    rays = (points - lidar) @ global_from_ego
    elevation = np.arctan2(rays[:, 2], np.maximum(np.hypot(rays[:, 0], rays[:, 1]), 1e-6))
    low, high = np.quantile(elevation, (0.0005, 0.9995))
    return float(low), float(high)


def vertical_field(sweeps: Sequence[SeparatedSweep]) -> tuple[float, float]:
    """The LiDAR's vertical view, radians: the lowest and highest elevation that sweeps have returns from."""
    return min((sweep.field[0] for sweep in sweeps), default=0.0), max((sweep.field[1] for sweep in sweeps), default=0.0)


def boxes_when(scene: Scene, time: float) -> Boxes:
    """The annotated objects at a sensor's time; a little before or after the log they move on at their velocity."""
    inside = float(np.clip(time, 0.0, scene.duration))
    boxes = scene.boxes(inside)
    if inside == time:
        return boxes
    drift = np.pad(boxes.velocity * (time - inside), ((0, 0), (0, 1)))
    return replace(boxes, position=boxes.position + drift)
