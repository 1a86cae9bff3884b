"""Fragments and their depth, compiled: ``fragments.project_source`` and ``rasterise.rasterise``."""

from __future__ import annotations

import numpy as np
from numba import njit

from dist4d_env.geometry.box_motion import STATIC, UNUSED, CarriedSource, motion_about
from dist4d_env.geometry.compiled.matrices import apply, matrix
from dist4d_env.geometry.compiled.matrices import turn as turned
from dist4d_env.geometry.fragments import SplatConfig
from dist4d_env.geometry.frustum import may_see, pinhole_rows
from dist4d_env.geometry.rasterise import FRINGE, LEAST_BITS, NOTHING, UNITS
from dist4d_env.geometry.transforms import invert

_HALF, _ONE, _TENT = np.float32(0.5), np.float32(1), np.float32(1.02)
_START_U, _START_V, _SHARP_U, _SHARP_V, _Z, _BEHIND = range(6)
_PIXEL, _COLUMNS, _ROWS, _LABEL = range(4)


def splat_depth(
    carried: list[CarriedSource],
    intrinsics: np.ndarray,
    global_from_camera: np.ndarray,
    size: tuple[int, int],
    config: SplatConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Depth and label (V H W,) that ``rasterise`` gives of the fragments of all sources."""
    targets, pixels = len(intrinsics), len(intrinsics) * size[0] * size[1]
    plans, room = [], 0
    for one in carried:
        source = one.source
        linear, offset = pinhole_rows(intrinsics, invert(global_from_camera), source.origin)
        visible = may_see(linear, offset, size, source.corners)
        room += int(visible.sum()) * source.frame.depth[0].size
        if one.carry.moved.any():
            room += targets * int(np.append(one.carry.moved, False)[source.owner].sum())
        plans.append((linear, offset, visible))
    nearest = np.full(pixels, NOTHING)
    numbers, whole = np.empty((room, 6), np.float32), np.empty((room, 4), np.int32)
    numbers_of = (
        config.near,
        0.5 * config.footprint,
        config.minimum,
        config.maximum,
        config.tolerance,
        config.footprint,
        config.core,
    )
    settings = tuple(np.float32(number) for number in numbers_of)
    count = 0
    for one, (linear, offset, visible) in zip(carried, plans, strict=True):
        source = one.source
        turn, shift = motion_about(one.carry.motion, source.origin)
        count = _project(
            source.points, source.tangents, one.label, source.owner.reshape(-1), one.carry.moved, turn, shift,
            linear, offset, visible, size[0], size[1], settings, nearest, numbers, whole, count,
        )  # fmt: skip
    return _average(nearest, numbers, whole, size[1], count)


@njit(cache=True, nogil=True)
def _project(
    points, tangents, label, owner, moved, turn, shift, linear, offset, visible, height, width, settings,
    nearest, numbers, whole, count,
):  # fmt: skip
    """Append the fragments of one source and keep the nearest of each pixel; returns how many fragments there are now."""
    views = visible.shape[1]
    per_view = points.shape[1] // views
    for view in range(views):
        for camera in range(len(linear)):
            if not visible[camera, view]:
                continue
            rows = matrix(linear, offset, camera)
            for i in range(view * per_view, (view + 1) * per_view):
                if label[i] == UNUSED or (owner[i] >= 0 and moved[owner[i]]):
                    continue
                point = points[0, i], points[1, i], points[2, i]
                if not _inside(rows, point, height, width, settings):
                    continue
                along = tangents[0, i], tangents[1, i], tangents[2, i]
                down = tangents[3, i], tangents[4, i], tangents[5, i]
                place = camera * height * width, height, width
                count = _land(rows, point, along, down, label[i], place, settings, nearest, numbers, whole, count)
    if not moved.any():
        return count
    for i in range(points.shape[1]):
        box = owner[i]
        if label[i] == UNUSED or box < 0 or not moved[box]:
            continue
        motion = matrix(turn, shift, box)
        point = apply(motion, (points[0, i], points[1, i], points[2, i]))
        along = turned(motion, (tangents[0, i], tangents[1, i], tangents[2, i]))
        down = turned(motion, (tangents[3, i], tangents[4, i], tangents[5, i]))
        for camera in range(len(linear)):
            rows = matrix(linear, offset, camera)
            if _inside(rows, point, height, width, settings):
                place = camera * height * width, height, width
                count = _land(rows, point, along, down, label[i], place, settings, nearest, numbers, whole, count)
    return count


@njit(cache=True, nogil=True, inline="always")
def _inside(rows, point, height, width, settings):
    """Whether a point lies in front of a camera and at most a pixel beside its image."""
    x, y, z = apply(rows, point)
    return z > settings[0] and x > -z and y > -z and x < np.float32(width + 1) * z and y < np.float32(height + 1) * z


@njit(cache=True, nogil=True, inline="always")
def _land(rows, point, along, down, label, place, settings, nearest, numbers, whole, count):
    """Append the fragment of one point in view, whose steps per column and row are ``along`` and ``down``."""
    first, height, width = place
    x, y, z = apply(rows, point)
    u, v = x / z, y / z
    column_x, column_y, column_z = turned(rows, along)
    row_x, row_y, row_z = turned(rows, down)
    extent_u = abs(column_x - u * column_z) + abs(row_x - u * row_z)
    extent_v = abs(column_y - v * column_z) + abs(row_y - v * row_z)
    half_u = min(max(settings[1] * extent_u / z, settings[2]), settings[3])
    half_v = min(max(settings[1] * extent_v / z, settings[2]), settings[3])
    left = max(np.int32(np.ceil(u - half_u - _HALF)), np.int32(0))
    top = max(np.int32(np.ceil(v - half_v - _HALF)), np.int32(0))
    columns = min(np.int32(np.floor(u + half_u - _HALF)), width - 1) - left + 1
    lines = min(np.int32(np.floor(v + half_v - _HALF)), height - 1) - top + 1
    if columns <= 0 or lines <= 0:
        return count
    pixel = first + top * width + left
    start_u, start_v = np.float32(left) + _HALF - u, np.float32(top) + _HALF - v
    sharp_u, sharp_v = _ONE / half_u, _ONE / half_v
    slack = min(settings[4] * z + settings[5] * (abs(column_z) + abs(row_z)), _HALF * z)
    numbers[count, _START_U], numbers[count, _START_V] = start_u, start_v
    numbers[count, _SHARP_U], numbers[count, _SHARP_V] = sharp_u, sharp_v
    numbers[count, _Z], numbers[count, _BEHIND] = z, z + slack
    whole[count, _PIXEL], whole[count, _COLUMNS], whole[count, _ROWS], whole[count, _LABEL] = pixel, columns, lines, label
    key = (np.int64(np.float32(z).view(np.int32)) - LEAST_BITS) << 32 | count
    for line in range(lines):
        outer = abs(start_v + np.float32(line)) * sharp_v > settings[6]
        for column in range(columns):
            rim = outer or abs(start_u + np.float32(column)) * sharp_u > settings[6]
            at = pixel + line * width + column
            nearest[at] = min(nearest[at], key + FRINGE if rim else key)
    return count + 1


@njit(cache=True, nogil=True)
def _average(nearest, numbers, whole, width, count):
    """Depth and label of each pixel from all fragments of its nearest one's surface."""
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
            tent = density * (_TENT - abs(start_v + np.float32(down)) * sharp_v)
            for across in range(whole[i, _COLUMNS]):
                place = whole[i, _PIXEL] + down * width + across
                if z <= behind[place] and whole[i, _LABEL] == label[place]:
                    weight = tent * (_TENT - abs(start_u + np.float32(across)) * sharp_u)
                    total[place] += np.int64(np.float64(weight) * UNITS)
                    inverse[place] += np.int64(np.float64(weight * inverse_z) * UNITS)
    depth = np.zeros(pixels, np.float32)
    for place in range(pixels):
        if nearest[place] != NOTHING:
            depth[place] = np.float32(np.float64(total[place]) / np.float64(inverse[place]))
    return depth, label
