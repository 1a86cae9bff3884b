"""Filling holes of a splat without parameters."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.backend import compiled
from dist4d_env.geometry.rgbd import FAR


def fill_background(rgb: np.ndarray, depth: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Continue each hole from the farther of its two sides in its row: what is uncovered is what lay behind.

    rgb: (V, H, W, 3) uint8; depth: (V, H, W) float32; valid: (V, H, W) bool. Rows without any pixel take the nearest row's
    result; an image without any pixel becomes grey at depth FAR.
    """
    if compiled():
        from dist4d_env.geometry.compiled.fill import fill_rows

        rgb, depth = np.array(rgb, np.uint8, order="C"), np.array(depth, np.float32, order="C")
        fill_rows(rgb, depth, np.require(valid, bool, ["C", "W"]))
        return rgb, depth
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


def fill_telea(rgb: np.ndarray, depth: np.ndarray, valid: np.ndarray, radius: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Inpaint colours from the rims of the holes (Telea, 2004); depth as in ``fill_background``."""
    import cv2

    behind, filled_depth = fill_background(rgb, depth, valid)
    out = rgb.copy()
    for view in range(len(rgb)):
        if valid[view].all():
            continue
        if not valid[view].any():
            out[view] = behind[view]
            continue
        out[view] = cv2.inpaint(np.ascontiguousarray(rgb[view]), (~valid[view]).astype(np.uint8), radius, cv2.INPAINT_TELEA)
    return out, filled_depth
