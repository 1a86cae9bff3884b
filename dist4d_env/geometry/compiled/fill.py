"""Holes continued from behind, compiled: ``fill.fill_background``."""

from __future__ import annotations

import numpy as np
from numba import njit

from dist4d_env.geometry.rgbd import FAR

_FAR, _NONE = np.float32(FAR), np.float32(-1)


@njit(cache=True, nogil=True)
def fill_rows(rgb, depth, valid):
    """Fill the holes of rgb (V, H, W, 3) uint8 and depth (V, H, W) float32 in place; valid: (V, H, W) bool."""
    views, height, width = valid.shape
    has = np.zeros(height, np.bool_)
    for view in range(views):
        some = False
        for row in range(height):
            has[row] = _fill_row(rgb[view, row], depth[view, row], valid[view, row])
            some |= has[row]
        if not some:
            for row in range(height):
                for column in range(width):
                    depth[view, row, column] = _FAR
                    for c in range(3):
                        rgb[view, row, column, c] = 127
            continue
        for row in range(height):
            if has[row]:
                continue
            for away in range(1, height):  # of two rows equally near, the upper one
                nearest = row - away if row >= away and has[row - away] else row + away
                if nearest < height and has[nearest]:
                    for column in range(width):
                        depth[view, row, column] = depth[view, nearest, column]
                        for c in range(3):
                            rgb[view, row, column, c] = rgb[view, nearest, column, c]
                    break


@njit(cache=True, nogil=True)
def _fill_row(rgb, depth, valid):
    """Continue each hole of one row from its farther side; False where the row shows nothing at all."""
    width = len(valid)
    a = -1
    column = 0
    while column < width:
        if valid[column]:
            a = column
            column += 1
            continue
        b = column
        while b < width and not valid[b]:
            b += 1
        if a < 0 and b == width:
            return False
        depth_a, depth_b = depth[a] if a >= 0 else _NONE, depth[b] if b < width else _NONE
        source = a if depth_a > depth_b else b
        for k in range(column, b):
            depth[k] = depth[source]
            for c in range(3):
                rgb[k, c] = rgb[source, c]
        column = b
    return True
