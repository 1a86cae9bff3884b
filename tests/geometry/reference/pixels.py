"""Loops over single pixels in numpy: the plain splat's points, and holes continued from behind."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.box_motion import UNUSED
from dist4d_env.geometry.depth_kernels import LEAST_BITS
from dist4d_env.geometry.rgbd import FAR
from tests.geometry.reference import to_rows


def land_points(
    points: np.ndarray,
    label: np.ndarray,
    owner: np.ndarray,
    moved: np.ndarray,
    rotation: np.ndarray,
    shift: np.ndarray,
    linear: np.ndarray,
    offset: np.ndarray,
    visible: np.ndarray,
    height: int,
    width: int,
    near: np.float32,
    first: int,
    nearest: np.ndarray,
) -> None:
    """As ``depth_kernels.land_points``."""
    travels = np.append(moved, False)[owner] & (label != UNUSED)
    stands = (label != UNUSED) & ~travels
    index = np.flatnonzero(travels)
    box = owner[index]
    gone = np.stack(to_rows(rotation.take(box, 0).transpose(1, 2, 0), shift.take(box, 0).T, points.take(index, 1)))
    per_view = points.shape[1] // visible.shape[1]
    for camera in range(len(linear)):
        standing = np.flatnonzero(stands & np.repeat(visible[camera], per_view))
        for number, at in ((standing, points.take(standing, 1)), (index, gone)):
            x, y, z = to_rows(linear[camera], offset[camera], at)
            here = np.flatnonzero((z > near) & (x >= 0) & (y >= 0) & (x < width * z) & (y < height * z))
            x, y, z = x[here], y[here], z[here]
            column, row = np.minimum((x / z).astype(np.int32), width - 1), np.minimum((y / z).astype(np.int32), height - 1)
            key = (z.view(np.int32).astype(np.int64) - LEAST_BITS) << 32 | (number[here] + first)
            np.minimum.at(nearest, (camera * height + row) * width + column, key)


def fill_background(rgb: np.ndarray, depth: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As ``fill.fill_background``."""
    views, height, width = valid.shape
    columns = np.arange(width)
    left = np.maximum.accumulate(np.where(valid, columns, -1), 2)
    right = np.minimum.accumulate(np.where(valid, columns, width)[..., ::-1], 2)[..., ::-1]
    view, row, column = np.nonzero(~valid & (left[..., -1:] >= 0))
    a, b = left[view, row, column], right[view, row, column]
    depth_a = np.where(a >= 0, depth[view, row, np.maximum(a, 0)], -1)
    depth_b = np.where(b < width, depth[view, row, np.minimum(b, width - 1)], -1)
    source = np.where(depth_a > depth_b, a, b)
    rgb, depth = rgb.copy(), depth.copy()
    rgb[view, row, column] = rgb[view, row, source]
    depth[view, row, column] = depth[view, row, source]

    has = valid.any(2)  # (V, H)
    rows = np.arange(height)
    for v in range(views):
        empty = np.flatnonzero(~has[v])
        if len(empty) == height:
            rgb[v], depth[v] = 127, FAR
        elif len(empty):
            full = rows[has[v]]
            nearest = full[np.abs(empty[:, None] - full).argmin(1)]
            rgb[v, empty], depth[v, empty] = rgb[v, nearest], depth[v, nearest]
    return rgb, depth
