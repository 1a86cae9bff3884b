"""Filling holes of a splat without parameters."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.jit import compiled
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.threads import in_threads

_FAR, _NONE = np.float32(FAR), np.float32(-1)


def fill_background(rgb: np.ndarray, depth: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Continue each hole from the farther of its two sides in its row: what is uncovered is what lay behind.

    rgb: (V, H, W, 3) uint8; depth: (V, H, W) float32; valid: (V, H, W) bool. Rows without any pixel take the nearest row's
    result; an image without any pixel becomes grey at depth FAR.
    """
    rgb, depth = np.array(rgb, np.uint8, order="C"), np.array(depth, np.float32, order="C")
    _fill_images(rgb, depth, np.require(valid, bool, ["C", "W"]))
    return rgb, depth


def fill_telea(rgb: np.ndarray, depth: np.ndarray, valid: np.ndarray, radius: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Inpaint colours from the rims of the holes (Telea, 2004); depth as in ``fill_background``."""
    import cv2

    behind, filled_depth = fill_background(rgb, depth, valid)
    out = rgb.copy()

    def one_camera(view: int) -> None:
        if not valid[view].any():
            out[view] = behind[view]
        elif not valid[view].all():
            holes = (~valid[view]).astype(np.uint8)
            out[view] = cv2.inpaint(np.ascontiguousarray(rgb[view]), holes, radius, cv2.INPAINT_TELEA)

    in_threads(one_camera, len(rgb))
    return out, filled_depth


@compiled
def _fill_images(rgb: np.ndarray, depth: np.ndarray, valid: np.ndarray) -> None:
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


@compiled
def _fill_row(rgb: np.ndarray, depth: np.ndarray, valid: np.ndarray) -> bool:
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
