"""One frame's pixels as points, compiled: ``splat_source._prepare`` and ``carry``'s labels."""

from __future__ import annotations

import numpy as np
from numba import njit

from dist4d_env.geometry.box_motion import STATIC, UNUSED
from dist4d_env.geometry.frustum import ray_parts
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.splat_source import BOX_MARGIN, GROUND_MARGIN, MIXED_EDGE, SKY_DEPTH, BoxRows, PixelGeometry

_LEAST, _FAR, _BEYOND, _SKY = np.float32(0.05), np.float32(FAR), np.float32(FAR * 0.999), np.float32(SKY_DEPTH)
_HALF, _BEND, _MIXED = np.float32(0.5), np.float32(0.1), np.float32(MIXED_EDGE)
_MARGIN, _GROUND = np.float32(BOX_MARGIN), np.float32(GROUND_MARGIN)


def prepare_pixels(
    frame: RGBDFrame, origin: np.ndarray, boxes: BoxRows, drop_mixed: bool
) -> tuple[PixelGeometry, np.ndarray, np.ndarray]:
    """As ``splat_source._prepare``."""
    views, height, width = frame.depth.shape
    along_row, along_column, steps = ray_parts(frame.intrinsics, frame.global_from_camera, (height, width))
    offset = (frame.global_from_camera[:, :3, 3] - origin).astype(np.float32)
    known, edge = np.empty((2, views, height, width), bool)
    points, tangents = np.empty((3, views, height, width), np.float32), np.empty((6, views, height, width), np.float32)
    inverse_depth = np.empty((views, height, width, 3), np.float32)
    depth = np.require(frame.depth, np.float32, ["C", "W"])
    _points(
        depth, along_row, along_column, steps.astype(np.float32), offset, drop_mixed,
        known, edge, points, tangents, inverse_depth,
    )  # fmt: skip
    owner, under = np.full((2, views, height, width), -1, np.int32)
    _owners(points, inverse_depth, boxes.first, boxes.centre, boxes.turn, boxes.half, boxes.reach, owner, under)
    flat = points.reshape(3, -1), tangents.reshape(6, -1), inverse_depth.reshape(-1, 3)
    return PixelGeometry(known, *flat, edge), owner, under


@njit(cache=True, nogil=True)
def _points(depth, along_row, along_column, steps, offset, drop_mixed, known, edge, points, tangents, inverse_depth):
    views, height, width = depth.shape
    metres = np.empty((height, width), np.float32)
    inverse = np.empty((height, width), np.float32)
    steps_u, steps_v = np.empty((height, width + 1), np.float32), np.empty((width, height + 1), np.float32)
    for view in range(views):
        for row in range(height):
            for column in range(width):
                z = depth[view, row, column]
                has = np.isfinite(z) and z > _LEAST
                known[view, row, column] = has
                if not has:
                    z = _FAR
                if z >= _BEYOND:
                    z = _SKY
                metres[row, column] = z
                inverse[row, column] = np.float32(1) / z
        _steps(inverse, steps_u, steps_v)
        for row in range(height):
            line_u = steps_u[row]
            for column in range(width):
                z, w = metres[row, column], inverse[row, column]
                across, edge_u, between_u, explained_u = _line(line_u, column, width, w)
                down, edge_v, between_v, explained_v = _line(steps_v[column], row, height, w)
                edge[view, row, column] = edge_u or edge_v
                if drop_mixed and (between_u or between_v) and not (explained_u or explained_v):
                    known[view, row, column] = False
                inverse_depth[view, row, column, 0] = w
                inverse_depth[view, row, column, 1] = across
                inverse_depth[view, row, column, 2] = down
                bend = -z * z
                for axis in range(3):
                    ray = np.float32(along_column[view, axis, row] + along_row[view, axis, column])
                    points[axis, view, row, column] = ray * z + offset[view, axis]
                    tangents[axis, view, row, column] = ray * (bend * across) + steps[view, axis, 0] * z
                    tangents[3 + axis, view, row, column] = ray * (bend * down) + steps[view, axis, 1] * z


@njit(cache=True, nogil=True, inline="always")
def _line(steps, i, n, here):
    """Slope, edge, between and explained of pixel i of n along one line, as in ``splat_source._slopes``. steps: the line's
    differences, the one before and the one ahead of pixel i at i and i + 1."""
    back, ahead = steps[i], steps[i + 1]
    # The neighbours of the first and last pixel wrap around, as numpy's roll does.
    further_back = steps[i - 1] if i > 0 else steps[n - 1]
    further_ahead = steps[i + 2] if i + 1 < n else steps[1]
    slope = back if abs(back) < abs(ahead) else ahead
    slope = min(max(slope, -_HALF * here), _HALF * here)
    edge = abs(ahead - back) > _BEND * here
    between = min(abs(back), abs(ahead)) > _MIXED * here and (back > 0) == (ahead > 0)
    explained = abs(back - further_back) < _MIXED * here or abs(ahead - further_ahead) < _MIXED * here
    return slope, edge, between, explained


@njit(cache=True, nogil=True)
def _steps(inverse, across, down):
    """Differences of neighbouring inverse depths along rows (H, W + 1) and, transposed, along columns (W, H + 1); the first and
    the last are those beside them."""
    height, width = inverse.shape
    for row in range(height):
        for column in range(1, width):
            across[row, column] = inverse[row, column] - inverse[row, column - 1]
        across[row, 0], across[row, width] = across[row, 1], across[row, width - 1]
    for row in range(1, height):
        for column in range(width):
            down[column, row] = inverse[row, column] - inverse[row - 1, column]
    for column in range(width):
        down[column, 0], down[column, height] = down[column, 1], down[column, height - 1]


@njit(cache=True, nogil=True)
def _owners(points, inverse_depth, first, centre, turn, half, reach, owner, under):
    _, views, height, width = points.shape
    farthest = np.float32(1) / _SKY
    for view in range(views):
        low_x, low_y, high_x, high_y = np.float32(np.inf), np.float32(np.inf), np.float32(-np.inf), np.float32(-np.inf)
        for row in range(height):
            for column in range(width):
                if inverse_depth[view, row, column, 0] > farthest:
                    x, y = points[0, view, row, column], points[1, view, row, column]
                    low_x, high_x = min(low_x, x), max(high_x, x)
                    low_y, high_y = min(low_y, y), max(high_y, y)
        for i in range(first[view], first[view + 1]):
            cx, cy, cz, r = centre[i, 0], centre[i, 1], centre[i, 2], reach[i]
            if cx + r < low_x or cy + r < low_y or cx - r > high_x or cy - r > high_y:
                continue
            top, bottom = half[i, 2] + _MARGIN, -half[i, 2] - (_GROUND + _GROUND)
            for row in range(height):
                for column in range(width):
                    dx = points[0, view, row, column] - cx
                    dy = points[1, view, row, column] - cy
                    if not (abs(dx) < r and abs(dy) < r):
                        continue
                    dz = points[2, view, row, column] - cz
                    x = turn[i, 0, 0] * dx + turn[i, 0, 1] * dy + turn[i, 0, 2] * dz
                    y = turn[i, 1, 0] * dx + turn[i, 1, 1] * dy + turn[i, 1, 2] * dz
                    z = turn[i, 2, 0] * dx + turn[i, 2, 1] * dy + turn[i, 2, 2] * dz
                    if abs(x) < half[i, 0] + _MARGIN and abs(y) < half[i, 1] + _MARGIN and z < top and z > bottom:
                        if z < _GROUND - half[i, 2]:
                            under[view, row, column] = i
                        else:
                            owner[view, row, column] = i


@njit(cache=True, nogil=True)
def label_pixels(keep, owner, under, exists, stands, box_label):
    """(M,) int32 label of each pixel's point: as ``carry._labels``."""
    label = np.empty(len(keep), np.int32)
    for i in range(len(keep)):
        box, over = owner[i], under[i]
        if not keep[i] or (box >= 0 and not exists[box]) or (over >= 0 and not stands[over]):
            label[i] = UNUSED
        else:
            label[i] = box_label[box] if box >= 0 else STATIC
    return label
