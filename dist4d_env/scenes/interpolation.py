"""Poses between log rows: positions linearly, rotations spherically (Shoemake 1985)."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import pose_from_quaternion


def quaternions_of(poses: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4) w, x, y, z of poses (..., 4, 4), w >= 0."""
    m = poses[..., :3, :3]
    d = np.diagonal(m, axis1=-2, axis2=-1)
    # Four times each squared component; the largest one is a safe divisor (Shepperd 1978).
    squares = 1 + d @ np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1.0]])
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    s0, s1, s2, s3 = np.moveaxis(squares, -1, 0)
    products = np.stack([s0, wx, wy, wz, wx, s1, xy, xz, wy, xy, s2, yz, wz, xz, yz, s3], -1).reshape(*squares.shape, 4)
    row = np.argmax(squares, -1)[..., None, None]
    q = np.take_along_axis(products, np.broadcast_to(row, (*row.shape[:-1], 4)), -2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., :1] < 0, -q, q)


def interpolate_poses(time: np.ndarray, poses: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Poses (M, 4, 4) at times (M,) between rows time (T,), poses (T, 4, 4); times outside are clamped to the ends."""
    at = np.clip(at, time[0], time[-1])
    after = np.clip(np.searchsorted(time, at, side="right"), 1, max(len(time) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(time) - 1)
    span = time[after] - time[before]
    share = np.where(span > 0, (at - time[before]) / np.where(span > 0, span, 1.0), 0.0)[:, None]
    q0, q1 = quaternions_of(poses[before]), quaternions_of(poses[after])
    cosine = np.einsum("mi,mi->m", q0, q1)
    q1, cosine = np.where(cosine[:, None] < 0, -q1, q1), np.abs(cosine)
    angle = deterministic.arccos(np.clip(cosine, -1, 1))[:, None]
    sine = deterministic.sin(angle)
    near = sine < 1e-6  # the two weights tend to 1 - share and share
    safe = np.where(near, 1.0, sine)
    weight0 = np.where(near, 1 - share, deterministic.sin((1 - share) * angle) / safe)
    weight1 = np.where(near, share, deterministic.sin(share * angle) / safe)
    q = weight0 * q0 + weight1 * q1
    return pose_from_quaternion((1 - share) * poses[before, :3, 3] + share * poses[after, :3, 3], q)
