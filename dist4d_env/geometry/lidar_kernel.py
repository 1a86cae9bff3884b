"""Beams through depth images, compiled by numba: the loops of ``geometry.lidar.depth_ranges``.

Every beam is computed by itself, in one order of operations; no sum is reordered or contracted (no ``fastmath``).
"""

from __future__ import annotations

import math

import numpy as np

from dist4d_env.geometry.jit import compiled

Array = np.ndarray

NEAR = 0.1
"""Metres of z-depth below which a camera shows nothing."""
GAP = 0.1
"""Share of its inverse depth by which a surface may step between two pixels and still be one surface."""
STEEPEST = 0.5
"""Share of its inverse depth by which a pixel's surface may slope to the next pixel."""


@compiled
def slope(back: float, ahead: float, here: float) -> float:
    """Inverse depth per pixel: the smaller of the differences to both neighbours, 0 where they disagree in sign."""
    if (back > 0) != (ahead > 0):
        return 0.0
    least = back if abs(back) < abs(ahead) else ahead
    return min(max(least, -STEEPEST * here), STEEPEST * here)


@compiled
def pixel_planes(depth: Array, far: float) -> Array:
    """(V, H, W, 3) float32 inverse z-depth at the pixel's centre and its change per column and per row; 0 for sky and holes.

    depth: (V, H, W) float32 metres.
    """
    views, height, width = depth.shape
    planes = np.zeros((views, height, width, 3), np.float32)
    for view in range(views):
        for row in range(height):
            for column in range(width):
                z = depth[view, row, column]
                if z > NEAR and z < far:
                    planes[view, row, column, 0] = 1.0 / z
        for row in range(height):
            for column in range(width):
                here = planes[view, row, column, 0]
                if here == 0:
                    continue
                left = planes[view, row, max(column - 1, 0), 0]
                right = planes[view, row, min(column + 1, width - 1), 0]
                above = planes[view, max(row - 1, 0), column, 0]
                below = planes[view, min(row + 1, height - 1), column, 0]
                across_back = here - left if column > 0 else right - here
                across_ahead = right - here if column + 1 < width else across_back
                down_back = here - above if row > 0 else below - here
                down_ahead = below - here if row + 1 < height else down_back
                planes[view, row, column, 1] = slope(across_back, across_ahead, here)
                planes[view, row, column, 2] = slope(down_back, down_ahead, here)
    return planes


@compiled
def beam_ranges(directions: Array, pixel_from_lidar: Array, planes: Array, nearest: float, farthest: float) -> Array:
    """(N,) range of each beam, inf without a return, the nearest over all cameras.

    directions: (N, 3) unit vectors in the LiDAR's frame; pixel_from_lidar: (V, 3, 4) from its points to (u z, v z, z); planes:
    (V, H, W, 3) as of ``pixel_planes``; nearest, farthest: metres.
    """
    ranges = np.full(len(directions), np.inf)
    for beam in range(len(directions)):
        x, y, z = directions[beam, 0], directions[beam, 1], directions[beam, 2]
        for view in range(len(pixel_from_lidar)):
            m = pixel_from_lidar[view]
            along = (
                m[0, 0] * x + m[0, 1] * y + m[0, 2] * z,
                m[1, 0] * x + m[1, 1] * y + m[1, 2] * z,
                m[2, 0] * x + m[2, 1] * y + m[2, 2] * z,
            )
            start = m[0, 3], m[1, 3], m[2, 3]
            ranges[beam] = min(ranges[beam], one_range(start, along, planes[view], nearest, farthest))
    return ranges


@compiled
def clip(place: float, change: float, size: float, first: float, last: float) -> tuple[float, float]:
    """The part of [first, last] in which place + share * change lies within [0, size]; empty where first exceeds last."""
    if change == 0:
        return (first, last) if 0 <= place <= size else (1.0, 0.0)
    one, other = -place / change, (size - place) / change
    return max(first, min(one, other)), min(last, max(one, other))


@compiled
def one_range(
    start: tuple[float, float, float], along: tuple[float, float, float], planes: Array, nearest: float, farthest: float
) -> float:
    """Range of one beam through one camera, inf without a return. start + r along: (u z, v z, z) at range r."""
    height, width, _ = planes.shape
    if along[2] > 0:
        nearest = max(nearest, (NEAR - start[2]) / along[2])
    elif along[2] < 0:
        farthest = min(farthest, (NEAR - start[2]) / along[2])
    elif start[2] < NEAR:
        return np.inf
    if not nearest < farthest:
        return np.inf
    # u, v and inverse depth q are linear in the share s of the way across the image.
    q, q_end = 1 / (start[2] + nearest * along[2]), 1 / (start[2] + farthest * along[2])
    u, v = (start[0] + nearest * along[0]) * q, (start[1] + nearest * along[1]) * q
    du, dv = (start[0] + farthest * along[0]) * q_end - u, (start[1] + farthest * along[1]) * q_end - v
    dq = q_end - q
    s, last = clip(u, du, width, 0.0, 1.0)
    s, last = clip(v, dv, height, s, last)
    if not s <= last:
        return np.inf
    column = min(max(math.floor(u + s * du), 0), width - 1)
    row = min(max(math.floor(v + s * dv), 0), height - 1)
    right, down = (1 if du > 0 else -1), (1 if dv > 0 else -1)
    per_column, per_row = 1 / du if du != 0 else np.inf, 1 / dv if dv != 0 else np.inf
    border_u = (column + (1 if du > 0 else 0) - u) * per_column if du != 0 else np.inf
    border_v = (row + (1 if dv > 0 else 0) - v) * per_row if dv != 0 else np.inf
    per_column, per_row = abs(per_column), abs(per_row)
    before, in_front = 0.0, False
    while True:
        leaves = min(max(min(border_u, border_v), s), last)
        w, across, below = planes[row, column, 0], planes[row, column, 1], planes[row, column, 2]
        offset = q - w - across * (u - column - 0.5) - below * (v - row - 0.5)
        change = dq - across * du - below * dv
        enter, leave = offset + s * change, offset + leaves * change  # positive: the beam is before the surface
        end = -1.0
        if enter >= 0 and leave < 0:
            end = s + (leaves - s) * enter / (enter - leave)
        elif enter < 0 and in_front and before - enter <= GAP * w:
            end = s
        if end >= 0:
            far_share, near_share = end * q_end, (1 - end) * q
            return (nearest * near_share + farthest * far_share) / (near_share + far_share)
        before, in_front, s = leave, leave >= 0, leaves
        if s >= last:
            return np.inf
        if border_u <= border_v:
            column += right
            border_u += per_column
        else:
            row += down
            border_v += per_row
        if column < 0 or row < 0 or column >= width or row >= height:
            return np.inf
