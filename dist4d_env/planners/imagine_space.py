"""Free space in generated pictures: how far along a path nothing stands, read from RGB-D alone."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.cameras import RING, CameraRig, unproject
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import apply

FORWARD = tuple(RING.index(name) for name in ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"))
"""The cameras that see what lies ahead."""

_FARTHEST = 60.0  # m; beyond it a pixel covers more than a car's width
_LOWEST, _TILT, _HIGHEST = 0.5, 0.02, 2.2  # m above the road; the lower bound rises with distance, as errors of depth do
_SPECK = 4  # points before a place counts as taken: one or two are edges where near and far mix


def obstacle_points(frame: RGBDFrame, rig: CameraRig) -> np.ndarray:
    """(P, 2) x, y in the ego frame of what stands above the road in the forward cameras' depth.

    rig: the vehicle's cameras at any size; the frame brings the intrinsics of its own.
    """
    views = list(FORWARD)
    depth = frame.depth[views]
    points = unproject(depth, frame.intrinsics[views])  # (3, H, W, 3)
    points = apply(rig.ego_from_camera[views], points.reshape(len(views), -1, 3)).reshape(-1, 3)
    near = depth.reshape(-1) < _FARTHEST
    height, distance = points[:, 2], np.hypot(points[:, 0], points[:, 1])
    return points[near & (height > _LOWEST + _TILT * distance) & (height < _HIGHEST), :2]


def free_distance(points: np.ndarray, path: np.ndarray, arc_length: np.ndarray, half_width: float) -> float:
    """Metres along a path (M, 3) of x, y, heading until ``points`` (P, 2) stand within ``half_width`` of it; its length if none.

    arc_length: (M,) metres of the path's poses. Points before its first pose do not count.
    """
    if not len(points):
        return float(arc_length[-1])
    offset = points[:, None] - path[:, :2]  # (P, M, 2)
    nearest = np.argmin(np.einsum("pmi,pmi->pm", offset, offset), 1)
    pose, rows = path[nearest], np.arange(len(points))
    cos, sin = deterministic.cos(pose[:, 2]), deterministic.sin(pose[:, 2])
    dx, dy = offset[rows, nearest].T
    along, beside = cos * dx + sin * dy, cos * dy - sin * dx
    at = arc_length[nearest] + along
    taken = np.sort(at[(np.abs(beside) < half_width) & (at > 0) & (at < arc_length[-1])])
    return float(taken[_SPECK - 1]) if len(taken) >= _SPECK else float(arc_length[-1])
