"""Inner loops of depth: points of source frames land in target images, as footprints or one pixel each."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.box_motion import STATIC, UNUSED
from dist4d_env.geometry.jit import compiled, float32, inlined, int32

LEAST_BITS = 0x3D000000
"""Bits of the float 0.03: no depth is nearer, and what is left of a depth's bits fits below FRINGE."""
FRINGE = 1 << 60
"""Added to the key of a fragment that reaches a pixel with its rim only."""
NOTHING = np.iinfo(np.int64).max
"""Key of a pixel in which nothing has landed."""
UNITS = 2.0**36
"""Weights are summed as whole numbers of this part of one, so that their sums do not depend on the order."""

_ZERO, _HALF, _ONE, _TENT = float32(0), float32(0.5), float32(1), float32(1.02)
_START_U, _START_V, _SHARP_U, _SHARP_V, _Z, _BEHIND = range(6)
_PIXEL, _COLUMNS, _ROWS, _LABEL = range(4)

Array = np.ndarray
Point = tuple[float, float, float]
Matrix = tuple[float, ...]
Settings = tuple[float, ...]
"""near, footprint / 2, minimum, maximum, tolerance, footprint and core of a ``SplatConfig``."""
Fragments = tuple[Array, Array, Array]
"""nearest: (V H W,) int64 key of each pixel's nearest fragment, the bits of its depth above its number; numbers: (n, 6) float32
and whole: (n, 4) int32, the fragments, in columns as above."""


@inlined
def _matrix(linear: Array, offset: Array, k: int) -> Matrix:
    """Row k of linear (K, 3, 3) and offset (K, 3) as the twelve numbers of a 3x4 matrix: arrays in inner loops cost time."""
    return (
        linear[k, 0, 0], linear[k, 0, 1], linear[k, 0, 2], offset[k, 0],
        linear[k, 1, 0], linear[k, 1, 1], linear[k, 1, 2], offset[k, 1],
        linear[k, 2, 0], linear[k, 2, 1], linear[k, 2, 2], offset[k, 2],
    )  # fmt: skip


@inlined
def _rotate(m: Matrix, p: Point) -> Point:
    """The matrix without its offset times (x, y, z), summed from left to right."""
    return (
        m[0] * p[0] + m[1] * p[1] + m[2] * p[2],
        m[4] * p[0] + m[5] * p[1] + m[6] * p[2],
        m[8] * p[0] + m[9] * p[1] + m[10] * p[2],
    )


@inlined
def _transform(m: Matrix, p: Point) -> Point:
    """The matrix times (x, y, z, 1)."""
    x, y, z = _rotate(m, p)
    return x + m[3], y + m[7], z + m[11]


@compiled
def project(
    points: Array, tangents: Array, label: Array, owner: Array, moved: Array, rotation: Array, shift: Array,
    linear: Array, offset: Array, visible: Array, height: int, width: int, settings: Settings, fragments: Fragments, count: int,
) -> int:  # fmt: skip
    """Append the fragments of one source and keep the nearest of each pixel; returns how many fragments there are now.

    Points (3, M), tangents (6, M), label and owner (M,) as in ``MovedSource``; moved, rotation, shift: of its boxes; linear,
    offset: ``frustum.pinhole_rows`` of the targets; visible: (targets, views) ``frustum.may_see``.
    """
    views = visible.shape[1]
    per_view = points.shape[1] // views
    for view in range(views):
        for camera in range(len(linear)):
            if not visible[camera, view]:
                continue
            rows = _matrix(linear, offset, camera)
            for i in range(view * per_view, (view + 1) * per_view):
                if label[i] == UNUSED or (owner[i] >= 0 and moved[owner[i]]):
                    continue
                point = points[0, i], points[1, i], points[2, i]
                if not _inside(rows, point, height, width, settings):
                    continue
                along = tangents[0, i], tangents[1, i], tangents[2, i]
                down = tangents[3, i], tangents[4, i], tangents[5, i]
                place = camera * height * width, height, width
                count = _land(rows, point, along, down, label[i], place, settings, fragments, count)
    if not moved.any():
        return count
    for i in range(points.shape[1]):
        box = owner[i]
        if label[i] == UNUSED or box < 0 or not moved[box]:
            continue
        motion = _matrix(rotation, shift, box)
        point = _transform(motion, (points[0, i], points[1, i], points[2, i]))
        along = _rotate(motion, (tangents[0, i], tangents[1, i], tangents[2, i]))
        down = _rotate(motion, (tangents[3, i], tangents[4, i], tangents[5, i]))
        for camera in range(len(linear)):
            rows = _matrix(linear, offset, camera)
            if _inside(rows, point, height, width, settings):
                place = camera * height * width, height, width
                count = _land(rows, point, along, down, label[i], place, settings, fragments, count)
    return count


@inlined
def _inside(rows: Matrix, point: Point, height: int, width: int, settings: Settings) -> bool:
    """Whether a point lies in front of a camera and at most a pixel beside its image."""
    x, y, z = _transform(rows, point)
    return z > settings[0] and x > -z and y > -z and x < float32(width + 1) * z and y < float32(height + 1) * z


@inlined
def _land(
    rows: Matrix, point: Point, along: Point, down: Point, label: int, place: tuple[int, int, int], settings: Settings,
    fragments: Fragments, count: int,
) -> int:  # fmt: skip
    """Append the fragment of one point in view, whose steps per column and row are ``along`` and ``down``."""
    nearest, numbers, whole = fragments
    first, height, width = place
    x, y, z = _transform(rows, point)
    u, v = x / z, y / z
    column_x, column_y, column_z = _rotate(rows, along)
    row_x, row_y, row_z = _rotate(rows, down)
    extent_u = abs(column_x - u * column_z) + abs(row_x - u * row_z)
    extent_v = abs(column_y - v * column_z) + abs(row_y - v * row_z)
    half_u = min(max(settings[1] * extent_u / z, settings[2]), settings[3])
    half_v = min(max(settings[1] * extent_v / z, settings[2]), settings[3])
    left = max(int32(np.ceil(u - half_u - _HALF)), int32(0))
    top = max(int32(np.ceil(v - half_v - _HALF)), int32(0))
    columns = min(int32(np.floor(u + half_u - _HALF)), width - 1) - left + 1
    lines = min(int32(np.floor(v + half_v - _HALF)), height - 1) - top + 1
    if columns <= 0 or lines <= 0:
        return count
    pixel = first + top * width + left
    start_u, start_v = float32(left) + _HALF - u, float32(top) + _HALF - v
    sharp_u, sharp_v = _ONE / half_u, _ONE / half_v
    slack = min(settings[4] * z + settings[5] * (abs(column_z) + abs(row_z)), _HALF * z)
    numbers[count, _START_U], numbers[count, _START_V] = start_u, start_v
    numbers[count, _SHARP_U], numbers[count, _SHARP_V] = sharp_u, sharp_v
    numbers[count, _Z], numbers[count, _BEHIND] = z, z + slack
    whole[count, _PIXEL], whole[count, _COLUMNS], whole[count, _ROWS], whole[count, _LABEL] = pixel, columns, lines, label
    # Positive floats order like their bits; the fragment's number below them makes every key unique, whatever the order.
    key = (np.int64(float32(z).view(np.int32)) - LEAST_BITS) << 32 | count
    for line in range(lines):
        outer = abs(start_v + float32(line)) * sharp_v > settings[6]
        for column in range(columns):
            rim = outer or abs(start_u + float32(column)) * sharp_u > settings[6]
            at = pixel + line * width + column
            nearest[at] = min(nearest[at], key + FRINGE if rim else key)
    return count + 1


@compiled
def average(fragments: Fragments, width: int, count: int) -> tuple[Array, Array]:
    """Depth (V H W,) float32, 0 in holes, and label (V H W,) int32: the inverse depths of all fragments of the nearest one's
    surface, averaged with tent weights; finer fragments count for more."""
    nearest, numbers, whole = fragments
    pixels = len(nearest)
    total, inverse = np.zeros(pixels, np.int64), np.zeros(pixels, np.int64)
    behind, label = np.full(pixels, -np.inf, np.float32), np.full(pixels, STATIC, np.int32)
    for place in range(pixels):
        if nearest[place] != NOTHING:
            winner = nearest[place] & 0xFFFFFFFF
            behind[place], label[place] = numbers[winner, _BEHIND], whole[winner, _LABEL]
    for i in range(count):
        start_u, start_v = numbers[i, _START_U], numbers[i, _START_V]
        sharp_u, sharp_v, z = numbers[i, _SHARP_U], numbers[i, _SHARP_V], numbers[i, _Z]
        density, inverse_z = sharp_u * sharp_v, _ONE / z
        for down in range(whole[i, _ROWS]):
            tent = density * (_TENT - abs(start_v + float32(down)) * sharp_v)
            for across in range(whole[i, _COLUMNS]):
                place = whole[i, _PIXEL] + down * width + across
                if z <= behind[place] and whole[i, _LABEL] == label[place]:
                    weight = tent * (_TENT - abs(start_u + float32(across)) * sharp_u)
                    total[place] += np.int64(np.float64(weight) * UNITS)
                    inverse[place] += np.int64(np.float64(weight * inverse_z) * UNITS)
    depth = np.zeros(pixels, np.float32)
    for place in range(pixels):
        if nearest[place] != NOTHING:
            depth[place] = float32(np.float64(total[place]) / np.float64(inverse[place]))
    return depth, label


@compiled
def close_gaps(depth: Array, label: Array, near: float, alike: float, least: int) -> None:
    """Close gaps of single pixels in the surfaces of depth and label (V, H, W), in place.

    A pixel lies in such a gap where at least ``least`` of its eight neighbours show one surface, less than
    ``near`` times as far away: they have the label of the nearest of them and are within ``alike`` times its depth. It takes
    their mean inverse depth. Holes stay, for the fill knows more about them, and so do pixels at the border.
    """
    views, height, width = depth.shape
    before, labels = np.empty((height, width), np.float32), np.empty((height, width), np.int32)
    for view in range(views):
        before[:], labels[:] = depth[view], label[view]
        for row in range(1, height - 1):
            for column in range(1, width - 1):
                here = before[row, column]
                limit = here * near
                beside = min(before[row, column - 1], before[row, column + 1])
                if min(beside, min(before[row - 1, column], before[row + 1, column])) >= limit:
                    continue  # a gap has such a pixel on one of its sides; this ends most searches
                nearest, of = limit, int32(0)
                for down in range(-1, 2):
                    for across in range(-1, 2):
                        z = before[row + down, column + across]
                        if z > 0 and z < nearest:
                            nearest, of = z, labels[row + down, column + across]
                limit = min(limit, nearest * alike)
                count, inverse = 0, _ZERO
                for down in range(-1, 2):
                    for across in range(-1, 2):
                        z = before[row + down, column + across]
                        if z > 0 and z < limit and labels[row + down, column + across] == of:
                            count += 1
                            inverse += _ONE / z
                if count >= least:
                    depth[view, row, column], label[view, row, column] = float32(count) / inverse, of
