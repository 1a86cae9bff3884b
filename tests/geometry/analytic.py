"""A street corner by formula: a checkered ground plane, a striped wall, a sky and boxes, ray-cast without a mesh."""

from __future__ import annotations

import numpy as np

from dist4d_env.data.nuscenes import RING
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.transforms import invert, pose_from_xy_yaw

CAMERA_AXES = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # ego from a camera that looks ahead
YAWS = np.radians([55, 0, -55, -110, 180, 110])
WALL_Y = 9.0
BASE = np.array([1000.0, 2000.0, 0.0])  # far from the global origin, as in nuScenes: float32 globals would not do


def make_rig(height: int = 64, width: int = 112) -> CameraRig:
    poses = []
    for yaw in YAWS:
        pose = pose_from_xy_yaw(1.0 + 0.5 * np.cos(yaw), 0.5 * np.sin(yaw), yaw, 1.5) @ CAMERA_AXES
        poses.append(pose)
    focal = 0.8 * width
    k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return CameraRig(RING, np.repeat(k[None], 6, 0), np.stack(poses), height, width)


def make_boxes(*entries: tuple[int, float, float, float]) -> Boxes:
    """Cars (token, x, y, yaw) relative to BASE."""
    n = len(entries)
    rows = np.array(entries, float).reshape(n, 4)
    position = np.concatenate([rows[:, 1:3], np.full((n, 1), 0.8)], 1) + BASE
    return Boxes(
        rows[:, 0].astype(np.int64),
        np.zeros(n, np.int8),
        position,
        np.tile([4.5, 1.9, 1.6], (n, 1)),
        rows[:, 3],
        np.zeros((n, 2)),
    )


def render(rig: CameraRig, ego: np.ndarray, boxes: Boxes, time: float = 0.0) -> RGBDFrame:
    """The analytic scene seen from an ego pose (4, 4) relative to BASE."""
    ego = ego.copy()
    ego[:3, 3] += BASE
    poses = ego @ rig.ego_from_camera
    columns, rows = np.meshgrid(np.arange(rig.width) + 0.5, np.arange(rig.height) + 0.5)
    pixels = np.stack([columns, rows, np.ones_like(rows)], -1)
    rgb = np.zeros((6, rig.height, rig.width, 3))
    depth = np.full((6, rig.height, rig.width), np.inf)
    for view in range(6):
        rays = pixels @ np.linalg.inv(rig.intrinsics[view]).T @ poses[view, :3, :3].T
        start = poses[view, :3, 3] - BASE
        with np.errstate(divide="ignore", invalid="ignore"):
            _paint(rgb[view], depth[view], -start[2] / rays[..., 2], lambda t: _ground(start + rays * t[..., None]))  # noqa: B023
            wall = (WALL_Y - start[1]) / rays[..., 1]
            wall[np.abs((start + rays * np.nan_to_num(wall, posinf=0, neginf=0)[..., None])[..., 2] - 3) > 3] = np.inf
            _paint(rgb[view], depth[view], wall, lambda t: _wall(start + rays * t[..., None]))  # noqa: B023
            for i in range(len(boxes)):
                from_box = invert(boxes.poses[i])
                local_start = from_box[:3, :3] @ poses[view, :3, 3] + from_box[:3, 3]
                local_rays = rays @ from_box[:3, :3].T
                half = boxes.size[i] / 2
                near, far = (-half - local_start) / local_rays, (half - local_start) / local_rays
                enter, leave = np.minimum(near, far).max(-1), np.maximum(near, far).min(-1)
                t = np.where(enter < leave, enter, np.inf)
                _paint(rgb[view], depth[view], t, lambda t: _car(local_start + local_rays * t[..., None], i))  # noqa: B023
        sky = ~np.isfinite(depth[view]) | (depth[view] > FAR)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        rgb[view][sky] = np.stack([120 + 80 * rays[..., 2], 170 + 0 * rows, 230 - 40 * rays[..., 0]], -1)[sky]
    depth = np.minimum(depth, FAR).astype(np.float32)
    return RGBDFrame(np.clip(rgb, 0, 255).astype(np.uint8), depth, rig.intrinsics, poses, np.full(6, time))


def _paint(rgb: np.ndarray, depth: np.ndarray, t: np.ndarray, colour: object) -> None:
    front = (t > 0.05) & (t < depth)
    rgb[front] = colour(np.where(front, t, 1.0))[front]
    depth[front] = t[front]


def _ground(p: np.ndarray) -> np.ndarray:
    wave = np.sin(p[..., 0] * 1.1) * np.sin(p[..., 1] * 1.3)
    return np.stack([100 + 40 * wave, 100 + 40 * wave, 95 + 40 * wave], -1)


def _wall(p: np.ndarray) -> np.ndarray:
    return np.stack([160 + 60 * np.sin(p[..., 0] * 0.9), 110 + 40 * np.sin(p[..., 2] * 2), 90 + 0 * p[..., 0]], -1)


def _car(p: np.ndarray, i: int) -> np.ndarray:
    return np.stack([200 + 40 * np.sin(3 * p[..., 0]), 60 + 40 * np.sin(4 * p[..., 2]), 40.0 + 60 * i + 0 * p[..., 0]], -1)
