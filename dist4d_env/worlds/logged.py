"""When the simulator's truth is the log's own, and how far the ego is from the log when it is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import invert, wrap_angle
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.memory import Memory


@dataclass(frozen=True)
class Tolerance:
    """How close poses and boxes must be to count as the same: metres, radians, and metres between box centres."""

    position: float
    angle: float
    box: float


LOGGED = Tolerance(position=0.01, angle=float(np.radians(0.05)), box=0.1)
BOX_RANGE = 60.0
"""Boxes farther than this from the ego (metres) are too small to matter when two instants are compared."""


def pose_difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Metres and radians between two poses (4, 4)."""
    relative = invert(a) @ b
    angle = deterministic.arccos(np.clip((np.trace(relative[:3, :3]) - 1) / 2, -1, 1))
    return float(np.linalg.norm(relative[:3, 3])), float(angle)


def same_pose(a: np.ndarray, b: np.ndarray, tolerance: Tolerance) -> bool:
    """Whether two poses agree within a tolerance."""
    metres, radians = pose_difference(a, b)
    return metres <= tolerance.position and radians <= tolerance.angle


def same_boxes(a: Boxes, b: Boxes, near: np.ndarray, tolerance: float, angle: float = 0.2) -> bool:
    """Whether the same objects stand within ``tolerance`` metres and ``angle`` radians of each other around a point ``near``."""
    parts = []
    for boxes in (a, b):
        close = boxes.select(np.linalg.norm(boxes.position[:, :2] - near[:2], axis=1) < BOX_RANGE)
        parts.append(close.select(np.argsort(close.token, kind="stable")))
    first, second = parts
    everywhere = (set(a.token.tolist()), set(b.token.tolist()))
    if not set(first.token.tolist()) <= everywhere[1] or not set(second.token.tolist()) <= everywhere[0]:
        return False
    common = np.intersect1d(first.token, second.token)
    first, second = first.select(np.isin(first.token, common)), second.select(np.isin(second.token, common))
    apart = np.linalg.norm(first.position[:, :2] - second.position[:, :2], axis=1)
    turned = np.abs(wrap_angle(first.yaw - second.yaw))
    return bool((apart <= tolerance).all() and (turned <= angle).all())


def logged_frame(start: WorldStart, memory: Memory, now: SceneAt) -> RGBDFrame | None:
    """The remembered frame taken at this very instant and ego pose amid the same traffic, if there is one."""
    scene = start.scene
    here = [f for f in memory.frames if not f.generated and abs(f.time - now.time) < 1e-3]
    if not here or not same_pose(now.global_from_ego, scene.ego_pose(now.time), LOGGED):
        return None
    if not same_boxes(now.boxes, scene.recorded.boxes(now.time), now.global_from_ego[:3, 3], LOGGED.box):
        return None
    return here[0].source().frame


def distance_to_path(path: np.ndarray, point: np.ndarray) -> float:
    """Metres from a point (2,) to a polyline (P, 2)."""
    if len(path) == 1:
        return float(np.linalg.norm(path[0] - point))
    start, along = path[:-1], np.diff(path, axis=0)
    length = np.maximum((along**2).sum(1), 1e-12)
    share = np.clip(((point - start) * along).sum(1) / length, 0, 1)
    return float(np.linalg.norm(start + share[:, None] * along - point, axis=1).min())
