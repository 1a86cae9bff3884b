"""One camera at its own exposure, and where its rays meet the ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.cameras import unproject
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.transforms import invert

NEAR = 0.5
"""Metres; nothing is nearer to a car's camera than this."""


@dataclass(frozen=True)
class View:
    """One camera at its own exposure. intrinsics: (3, 3) for the depth image's size; plane: ground in that ego frame; field: the
    LiDAR's vertical view, lowest and highest elevation of its returns in radians."""

    intrinsics: np.ndarray
    global_from_camera: np.ndarray
    global_from_ego: np.ndarray
    plane: np.ndarray
    field: tuple[float, float] = (-np.pi / 2, np.pi / 2)


def ground_depth(view: View, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """z-depth (H, W) at which each pixel's ray meets the ground plane, FAR where it does not, and elevation (H, W), the angle of
    the ray above the plane in radians."""
    ego_from_camera = invert(view.global_from_ego) @ view.global_from_camera
    rays = unproject(np.ones((height, width)), view.intrinsics) @ ego_from_camera[:3, :3].T
    a, b, c = view.plane
    above = ego_from_camera[2, 3] - ego_from_camera[0, 3] * a - ego_from_camera[1, 3] * b - c  # camera height over the plane
    rate = rays @ np.array([-a, -b, 1.0])  # height gained per metre of z-depth
    depth = np.where(rate < -1e-6, above / np.maximum(-rate, 1e-6), FAR)
    elevation = np.arcsin(np.clip(rate / np.linalg.norm(rays, axis=-1) / np.sqrt(1 + a * a + b * b), -1, 1))
    return np.clip(depth, NEAR, FAR), elevation
