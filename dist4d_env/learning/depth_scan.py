"""Depth scans: free distance along the route, in front and beside, from the depth images of an RGB-D world.

Depth gives distance without learning: pixels become points, and points above the road become obstacles in the frame of the route.
Pure functions of the images, the ego's own state and its route.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError, shown
from dist4d_env.geometry.cameras import CameraRig, invert_intrinsics
from dist4d_env.learning.route_frame import RouteFrame
from dist4d_env.models.arguments import check_whole
from dist4d_env.scenes.edits import MOST, is_number

LANES = (-5.0, -3.0, -1.25, 1.25, 3.0, 5.0)
"""Metres to the left of the route between which the strips of the scan lie; the ego needs the middle one."""
FRONT, REACH, CELL, FEW = 3.9, 50.0, 1.0, 3
"""Metres ahead of the rear axle where the scan begins and how far from there it reaches; metres of road in which so many points
are an obstacle (fewer are stray pixels at the edges of things)."""
LOW, HIGH = 0.5, 2.2
"""Metres above the ground between which a point is an obstacle: not the road and its kerbs, not the crowns of trees."""
SCAN_SIZE = len(LANES) - 1
SCAN_FEATURES = SCAN_SIZE + 2
Calibration = tuple[tuple[float, ...], ...]


def calibration_of(rig: CameraRig) -> Calibration:
    """A rig as plain numbers: per camera intrinsics (9), for images of the rig's size, and ego_from_camera (16)."""
    return tuple(
        (*k.ravel().tolist(), *pose.ravel().tolist()) for k, pose in zip(rig.intrinsics, rig.ego_from_camera, strict=True)
    )


def check_cameras(cameras: Any, size: Any, calibration: Any) -> None:
    """Raises ConfigError for names of cameras, a height and width of their images, or a calibration (one row of 25 numbers for
    each, or none at all) that cannot be, as in a file that is broken."""
    if not isinstance(cameras, list | tuple) or not all(isinstance(name, str) and name for name in cameras):
        raise ConfigError(f"cameras must be a list of names, not {shown(cameras)}")
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ConfigError(f"size must be a height and a width, not {shown(size)}")
    for side in size:
        check_whole("size", side, 16, 4096)
    rows = calibration if isinstance(calibration, list | tuple) else ["none"]
    if not all(isinstance(row, list | tuple) and len(row) == 25 for row in rows) or len(rows) not in (0, len(cameras)):
        raise ConfigError(f"calibration must be 25 numbers for each camera, not {shown(calibration)}")
    for number in (number for row in rows for number in row if not is_number(number, -MOST, MOST)):
        raise ConfigError(f"calibration must be of finite numbers, not {shown(number)}")


@dataclass(frozen=True)
class Rays:
    """Of all pixels P of all cameras: direction (P, 3) per metre of z-depth and origin (P, 3), in the ego frame."""

    direction: np.ndarray
    origin: np.ndarray

    @classmethod
    def of(cls, calibration: Calibration, size: tuple[int, int]) -> Rays:
        """size: height and width of the images."""
        numbers = np.asarray(calibration, float)
        intrinsics, mounting = numbers[:, :9].reshape(-1, 3, 3), numbers[:, 9:].reshape(-1, 4, 4)
        columns, rows = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
        pixels = np.stack([columns, rows, np.ones_like(rows)], -1).reshape(-1, 3)
        direction = pixels @ np.swapaxes(mounting[:, :3, :3] @ invert_intrinsics(intrinsics), 1, 2)  # (V, H W, 3)
        origin = np.broadcast_to(mounting[:, None, :3, 3], direction.shape)
        return cls(direction.reshape(-1, 3), origin.reshape(-1, 3))

    def points(self, depth: np.ndarray) -> np.ndarray:
        """(P, 3) metres in the ego frame for z-depths (P,)."""
        return self.direction * depth[:, None] + self.origin


def scan(depth: np.ndarray, rays: Rays, route: RouteFrame) -> np.ndarray:
    """(B, 5) free metres ahead of the ego's front in each strip of ``LANES``, at most ``REACH``.

    depth: (B, V, H, W, 1) metres of the cameras of ``rays``, in their order; route: the B routes.
    """
    depth = depth.reshape(len(depth), -1)
    return np.stack([_scan_one(rays.points(row), route.row(index)) for index, row in enumerate(depth)])


def _scan_one(points: np.ndarray, route: RouteFrame) -> np.ndarray:
    near = FRONT + REACH + max(LANES)
    chosen = (points[:, 2] > LOW) & (points[:, 2] < HIGH) & (np.abs(points[:, :2]) < near).all(1)
    along, left, _ = (part[0] for part in route.project(points[None, chosen, :2]))
    ahead = along - FRONT
    strip, cell = np.digitize(left, LANES) - 1, np.floor(ahead / CELL).astype(int)
    cells = int(REACH / CELL)
    inside = (strip >= 0) & (strip < SCAN_SIZE) & (cell >= 0) & (cell < cells)
    place = strip[inside] * cells + cell[inside]
    count = np.bincount(place, minlength=SCAN_SIZE * cells).reshape(SCAN_SIZE, cells)
    metres = np.bincount(place, ahead[inside], SCAN_SIZE * cells).reshape(SCAN_SIZE, cells)
    first = (count >= FEW).argmax(1)
    rows = np.arange(SCAN_SIZE)
    hit = count[rows, first] >= FEW
    return np.where(hit, metres[rows, first] / np.maximum(count[rows, first], 1), REACH)


def scan_features(ego: np.ndarray, free: np.ndarray) -> np.ndarray:
    """(B, 7) for the ego observation (B, 10) and a scan (B, 5): metres over 30; of the middle strip the gap in seconds over 5 and
    the deceleration that stops the ego 1 m before it, over 5 m/s^2."""
    speed, middle = ego[:, :1], free[:, SCAN_SIZE // 2, None]
    needed = speed**2 / (2 * np.maximum(middle - 1.0, 0.5))
    return np.concatenate([free / 30.0, middle / np.maximum(speed, 1.0) / 5.0, needed / 5.0], 1)
