"""The plain splat's loop, compiled: ``plain._land_points``."""

from __future__ import annotations

import numpy as np
from numba import njit

from dist4d_env.geometry.box_motion import UNUSED
from dist4d_env.geometry.compiled.matrices import apply, matrix
from dist4d_env.geometry.rasterise import LEAST_BITS


@njit(cache=True, nogil=True)
def land_points(
    points, label, owner, moved, turn, shift, linear, offset, visible, height, width, near, first, nearest
):  # fmt: skip
    """As ``plain._land_points``."""
    per_view = points.shape[1] // visible.shape[1]
    for camera in range(len(linear)):
        rows = matrix(linear, offset, camera)
        for i in range(points.shape[1]):
            box = owner[i]
            travels = box >= 0 and moved[box]
            if label[i] == UNUSED or not (travels or visible[camera, i // per_view]):
                continue
            point = points[0, i], points[1, i], points[2, i]
            if travels:
                point = apply(matrix(turn, shift, box), point)
            x, y, z = apply(rows, point)
            if z > near and x >= 0 and y >= 0 and x < np.float32(width) * z and y < np.float32(height) * z:
                column, row = min(np.int32(x / z), width - 1), min(np.int32(y / z), height - 1)
                at = (camera * height + row) * width + column
                key = (np.int64(np.float32(z).view(np.int32)) - LEAST_BITS) << 32 | (i + first)
                nearest[at] = min(nearest[at], key)
