"""Rigid transforms as 4x4 float64 matrices, named ``to_from``: ``global_from_camera = global_from_ego @ ego_from_camera``."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry import deterministic


def pose_from_xy_yaw(x: float, y: float, yaw: float, z: float = 0.0) -> np.ndarray:
    """A (4, 4) pose that turns about z only (metres, radians)."""
    return poses_from_position_yaw(np.array([x, y, z], float), np.asarray(yaw, float))


def poses_from_position_yaw(position: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Positions (..., 3) and headings (...) to poses (..., 4, 4)."""
    pose = np.zeros((*np.shape(yaw), 4, 4))
    cos, sin = deterministic.cos(yaw), deterministic.sin(yaw)
    pose[..., 0, 0], pose[..., 0, 1] = cos, -sin
    pose[..., 1, 0], pose[..., 1, 1] = sin, cos
    pose[..., 2, 2] = pose[..., 3, 3] = 1.0
    pose[..., :3, 3] = position
    return pose


def pose_from_quaternion(translation: np.ndarray, wxyz: np.ndarray) -> np.ndarray:
    """Translations (..., 3) and unit quaternions (..., 4) in w, x, y, z order to poses (..., 4, 4)."""
    q = np.asarray(wxyz, float)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    pose = np.zeros((*q.shape[:-1], 4, 4))
    pose[..., 0, :3] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1)
    pose[..., 1, :3] = np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1)
    pose[..., 2, :3] = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1)
    pose[..., :3, 3] = translation
    pose[..., 3, 3] = 1.0
    return pose


def invert(pose: np.ndarray) -> np.ndarray:
    """The inverse of rigid poses (..., 4, 4)."""
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse = np.zeros_like(pose)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation, pose[..., :3, 3])
    inverse[..., 3, 3] = 1.0
    return inverse


def invert_stretched(pose: np.ndarray) -> np.ndarray:
    """The inverse of poses (..., 4, 4) whose axes, at right angles, may be of any length: of stretched or mirrored frames."""
    turned = np.swapaxes(pose[..., :3, :3], -1, -2)
    linear = turned / np.square(turned).sum(-1, keepdims=True)
    inverse = np.zeros_like(pose)
    inverse[..., :3, :3] = linear
    inverse[..., :3, 3] = -np.einsum("...ij,...j->...i", linear, pose[..., :3, 3])
    inverse[..., 3, 3] = 1.0
    return inverse


def apply(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Poses (..., 4, 4) applied to points (..., N, 3)."""
    return points @ np.swapaxes(pose[..., :3, :3], -1, -2) + pose[..., None, :3, 3]


def yaw_of(pose: np.ndarray) -> np.ndarray:
    """Heading (...) of poses (..., 4, 4): the direction of the x axis in the xy plane."""
    return deterministic.arctan2(pose[..., 1, 0], pose[..., 0, 0])


def wrap_angle(angle: np.ndarray | float) -> np.ndarray:
    """Angles to [-pi, pi)."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi
