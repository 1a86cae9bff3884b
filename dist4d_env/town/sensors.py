"""The town's car: the nuScenes ring of six cameras and a 32-beam LiDAR, mounted the way nuScenes mounts them."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.lidar import NUSCENES_LIDAR

SOURCE_SIZE = (900, 1600)
"""Height and width of the images that the intrinsics below are written for."""

MOUNTS = {  # x, y, z in the ego frame, yaw of the optical axis in degrees, focal length in pixels of the source image
    "CAM_FRONT_LEFT": (1.52, 0.49, 1.51, 55.0, 1266.0),
    "CAM_FRONT": (1.70, 0.00, 1.51, 0.0, 1266.0),
    "CAM_FRONT_RIGHT": (1.52, -0.49, 1.51, -55.0, 1266.0),
    "CAM_BACK_RIGHT": (1.02, -0.48, 1.57, -110.0, 1259.0),
    "CAM_BACK": (0.03, 0.00, 1.58, 180.0, 809.0),
    "CAM_BACK_LEFT": (1.02, 0.48, 1.57, 110.0, 1259.0),
}

TOWN_LIDAR = NUSCENES_LIDAR
"""LIDAR_TOP."""
EGO_FROM_LIDAR = TOWN_LIDAR.ego_from_lidar


def camera_pose(x: float, y: float, z: float, yaw: float) -> np.ndarray:
    """ego_from_camera (4, 4) of a level camera that looks along ``yaw`` (radians)."""
    pose = np.eye(4)
    sin, cos = np.sin(yaw), np.cos(yaw)
    pose[:3, 0] = sin, -cos, 0.0  # image right
    pose[:3, 1] = 0.0, 0.0, -1.0  # image down
    pose[:3, 2] = cos, sin, 0.0
    pose[:3, 3] = x, y, z
    return pose


def town_rig(height: int, width: int) -> CameraRig:
    """The six cameras at an image size, through the one crop and resize (``CameraRig.at_size``)."""
    intrinsics = np.array([[[f, 0, 816.0], [0, f, 491.0], [0, 0, 1.0]] for *_, f in MOUNTS.values()])
    poses = np.stack([camera_pose(x, y, z, np.radians(yaw)) for x, y, z, yaw, _ in MOUNTS.values()])
    return CameraRig(tuple(MOUNTS), intrinsics, poses, *SOURCE_SIZE).at_size(height, width)
