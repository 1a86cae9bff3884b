"""Loops over single pixels in numpy: holes continued from behind."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.rgbd import FAR


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
