"""Colours looked up backwards, compiled: ``backward.look_up_colours``."""

from __future__ import annotations

import numpy as np
from numba import njit

from dist4d_env.geometry import backward
from dist4d_env.geometry.backward import AGE, GENERATED, OCTAVE, Lookup
from dist4d_env.geometry.box_motion import STATIC, CarriedSource, motion_about
from dist4d_env.geometry.frustum import frustum_corners, may_see, pinhole_rows, ray_parts
from dist4d_env.geometry.splat_source import SKY_DEPTH
from dist4d_env.geometry.transforms import invert

_NEAR, _TOLERANCE, _EDGE_TOLERANCE = (np.float32(v) for v in (backward.NEAR, backward.DEPTH_TOLERANCE, backward.EDGE_TOLERANCE))
_COARSER, _FINER, _EDGE = (np.float32(v) for v in (backward.COARSER, backward.FINER, backward.EDGE))
_DISAGREEMENT, _UNCONFIRMED = np.float32(backward.DISAGREEMENT), np.float32(backward.UNCONFIRMED)
_A, _B, _C = OCTAVE
_ZERO, _HALF, _ONE, _HUNDRED, _TINY = (np.float32(v) for v in (0, 0.5, 1, 100, 1e-6))


def look_up_colours(
    sources: list[CarriedSource],
    depth: np.ndarray,
    label: np.ndarray,
    intrinsics: np.ndarray,
    global_from_camera: np.ndarray,
    time: float,
) -> Lookup:
    """As ``backward.look_up_colours``."""
    views, height, width = depth.shape
    origin = global_from_camera[:, :3, 3].mean(0)
    along_row, along_column, _ = ray_parts(intrinsics, global_from_camera, (height, width))
    points = np.empty((3, depth.size), np.float32)
    near, far = np.full(views, SKY_DEPTH, np.float32), np.zeros(views, np.float32)
    shift = (global_from_camera[:, :3, 3] - origin).astype(np.float32)
    _target_points(depth, along_row, along_column, shift, points, near, far)
    corners = frustum_corners(intrinsics, global_from_camera, (height, width), near, far, origin)
    flat, focal = depth.reshape(-1), intrinsics[:, 0, 0].astype(np.float32)
    best, best_at = np.full(depth.size, np.inf, np.float32), np.zeros((depth.size, 2), np.float32)
    age, chosen = np.zeros(depth.size, np.float32), np.full((depth.size, 2), -1, np.int32)
    highest = int(max([label.max(initial=0), *(int(one.box_label.max(initial=0)) for one in sources)]))
    for number, one in enumerate(sources):
        source, frame = one.source, one.source.frame
        linear, offset = pinhole_rows(frame.intrinsics, invert(frame.global_from_camera), origin)
        visible = may_see(linear, offset, (frame.depth.shape[1], frame.depth.shape[2]), corners)
        turn, step = motion_about(invert(one.carry.motion), origin)
        delay = np.abs(time - np.asarray(frame.time, np.float64))
        penalty = (AGE * delay + GENERATED * source.generated).astype(np.float32)
        _consider(
            number, flat, label, points, focal, visible, linear, offset, frame.depth.shape[1], frame.depth.shape[2],
            _entries(one, len(linear), highest), turn, step, one.label, source.inverse_depth, source.edge.reshape(-1),
            frame.intrinsics[:, 0, 0].astype(np.float32), penalty, delay.astype(np.float32), best, best_at, age, chosen,
        )  # fmt: skip
    rgb, generated = np.zeros((depth.size, 3), np.float32), np.zeros(depth.size, bool)
    for number, one in enumerate(sources):
        source = one.source
        _, rows, columns = source.frame.depth.shape
        pixels = np.require(source.frame.rgb, np.uint8, ["C", "W"]).reshape(-1, 3)
        _sample(number, chosen, best_at, pixels, source.inverse_depth, source.edge.reshape(-1), rows, columns, rgb)
        if source.generated:
            generated |= chosen[:, 0] == number
    confidence = np.where(best < _UNCONFIRMED, np.exp2(-np.minimum(best, _UNCONFIRMED)), _ZERO)
    return Lookup(chosen[:, 0] >= 0, rgb, confidence, age, generated)


def _entries(one: CarriedSource, views: int, highest: int) -> np.ndarray:
    """(views, highest + 1) int32: the row of each label's box for each source camera where it has moved, else -1."""
    entry = np.full((views, highest + 1), -1, np.int32)
    moved = np.flatnonzero(one.carry.moved)
    entry[one.source.box_view[moved], one.box_label[moved]] = moved
    return entry


@njit(cache=True, nogil=True)
def _target_points(depth, along_row, along_column, shift, points, near, far):
    views, height, width = depth.shape
    i = 0
    for view in range(views):
        for row in range(height):
            for column in range(width):
                z = depth[view, row, column]
                if z > 0:
                    near[view], far[view] = min(near[view], z), max(far[view], z)
                for axis in range(3):
                    ray = np.float32(along_column[view, axis, row] + along_row[view, axis, column])
                    points[axis, i] = ray * z + shift[view, axis]
                i += 1


@njit(cache=True, nogil=True)
def _consider(
    number, depth, label, points, focal, visible, linear, offset, height, width, entry, turn, step,
    source_label, inverse_depth, edge, source_focal, penalty, delay, best, best_at, age, chosen,
):  # fmt: skip
    """Let one source's cameras compete for every target pixel."""
    per_camera = len(depth) // len(focal)
    right_end, lower_end = np.float32(width), np.float32(height)
    for i in range(len(depth)):
        if not depth[i] > 0:
            continue
        camera = i // per_camera
        px, py, pz = points[0, i], points[1, i], points[2, i]
        detail = focal[camera] / depth[i]
        for view in range(len(linear)):
            box = entry[view, label[i]] if label[i] != STATIC else -1
            if box >= 0:
                gx = turn[box, 0, 0] * px + turn[box, 0, 1] * py + turn[box, 0, 2] * pz + step[box, 0]
                gy = turn[box, 1, 0] * px + turn[box, 1, 1] * py + turn[box, 1, 2] * pz + step[box, 1]
                gz = turn[box, 2, 0] * px + turn[box, 2, 1] * py + turn[box, 2, 2] * pz + step[box, 2]
            elif visible[view, camera]:
                gx, gy, gz = px, py, pz
            else:
                continue
            z = linear[view, 2, 0] * gx + linear[view, 2, 1] * gy + linear[view, 2, 2] * gz + offset[view, 2]
            if not z > _NEAR:
                continue
            x = linear[view, 0, 0] * gx + linear[view, 0, 1] * gy + linear[view, 0, 2] * gz + offset[view, 0]
            if not (x > 0 and x < right_end * z):
                continue
            y = linear[view, 1, 0] * gx + linear[view, 1, 1] * gy + linear[view, 1, 2] * gz + offset[view, 1]
            if not (y > 0 and y < lower_end * z):
                continue
            u, v = x / z, y / z
            column, row = min(np.int32(u), width - 1), min(np.int32(v), height - 1)
            pixel = (view * height + row) * width + column
            if source_label[pixel] != label[i]:
                continue
            right, down = u - np.float32(column) - _HALF, v - np.float32(row) - _HALF
            predicted = inverse_depth[pixel, 0] + inverse_depth[pixel, 1] * right + inverse_depth[pixel, 2] * down
            disagreement = abs(predicted * z - _ONE)
            finer = _octaves(source_focal[view] / z / detail)
            cost = (-_COARSER * finer if finer < 0 else _FINER * finer) + (_EDGE if edge[pixel] else _ZERO)
            cost += penalty[view]
            if disagreement > _TOLERANCE:
                cost += _HUNDRED * disagreement + _UNCONFIRMED
            else:
                cost += _DISAGREEMENT * disagreement
            if cost < best[i]:
                best[i], best_at[i, 0], best_at[i, 1], age[i] = cost, u, v, delay[view]
                chosen[i, 0], chosen[i, 1] = number, view


@njit(cache=True, nogil=True)
def _octaves(ratio):
    """As ``backward.octaves``."""
    bits = np.float32(ratio).view(np.int32)
    whole = np.float32((bits >> 23) - 127)
    t = np.int32((bits & 0x7FFFFF) | 0x3F800000).view(np.float32) - _ONE
    return whole + t + t * (_ONE - t) * (_A + t * (_B + t * _C))


@njit(cache=True, nogil=True)
def _sample(number, chosen, at, pixels, inverse_depth, edge, height, width, rgb):
    """Bilinear colours where a source was chosen, as ``backward._bilinear``."""
    for i in range(len(chosen)):
        if chosen[i, 0] != number:
            continue
        image = chosen[i, 1] * (height * width)
        u, v = at[i, 0], at[i, 1]
        row, column = min(np.int32(v), height - 1), min(np.int32(u), width - 1)
        u = min(max(u - _HALF, _ZERO), np.float32(width - 1))
        v = min(max(v - _HALF, _ZERO), np.float32(height - 1))
        left, top = min(np.int32(u), width - 2), min(np.int32(v), height - 2)
        a, b = u - np.float32(left), v - np.float32(top)
        first = image + top * width + left
        w0, w1, w2, w3 = (_ONE - a) * (_ONE - b), a * (_ONE - b), (_ONE - a) * b, a * b
        nearest = image + row * width + column
        if edge[nearest]:
            w0 = _kept(w0, first, nearest, inverse_depth, left - column, top - row)
            w1 = _kept(w1, first + 1, nearest, inverse_depth, left + 1 - column, top - row)
            w2 = _kept(w2, first + width, nearest, inverse_depth, left - column, top + 1 - row)
            w3 = _kept(w3, first + width + 1, nearest, inverse_depth, left + 1 - column, top + 1 - row)
            total = w0 + w1 + w2 + w3
            w0, w1, w2, w3 = w0 / total, w1 / total, w2 / total, w3 / total
        for c in range(3):
            colour = w0 * np.float32(pixels[first, c]) + w1 * np.float32(pixels[first + 1, c])
            colour += w2 * np.float32(pixels[first + width, c])
            rgb[i, c] = colour + w3 * np.float32(pixels[first + width + 1, c])


@njit(cache=True, nogil=True)
def _kept(weight, corner, nearest, inverse_depth, right, down):
    """The weight of a neighbour of an edge pixel: none where it is another surface."""
    here = inverse_depth[nearest, 0]
    predicted = here + inverse_depth[nearest, 1] * np.float32(right) + inverse_depth[nearest, 2] * np.float32(down)
    if abs(inverse_depth[corner, 0] - predicted) > _EDGE_TOLERANCE * here:
        weight = _ZERO
    return weight + (_TINY if corner == nearest else _ZERO)
