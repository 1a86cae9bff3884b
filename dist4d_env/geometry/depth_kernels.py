"""Inner loops of depth: points of source frames land in target images, as footprints or one pixel each."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.box_motion import STATIC
from dist4d_env.geometry.jit import compiled, float32, index, inlined, int32

LEAST_BITS = 0x3D000000
"""Bits of the float 0.03: no depth is nearer, and what is left of a depth's bits fits below FRINGE."""
FRINGE = 1 << 60
"""Added to the key of a fragment that reaches a pixel with its rim only."""
NOTHING = np.iinfo(np.int64).max
"""Key of a pixel in which nothing has landed."""
UNITS = 2.0**36
"""Weights are summed as whole numbers of this part of one, so that their sums do not depend on the order."""

_HALF, _ONE, _ZERO, _TENT, _NEXT = float32(0.5), float32(1), float32(0), float32(1.02), index(1)
_START_U, _START_V, _SHARP_U, _SHARP_V, _Z, _BEHIND = range(6)
_PIXEL, _COLUMNS, _ROWS, _LABEL = range(4)
_X, _Y, _DEPTH, _U, _V, _ALONG_U, _ALONG_V, _ALONG_Z, _DOWN_U, _DOWN_V, _DOWN_Z, _REACH_U, _REACH_V = range(13)

Array = np.ndarray
Matrix = tuple[float, ...]
"""The twelve numbers of a 3x4 matrix, row by row."""
Settings = tuple[float, ...]
"""near, footprint / 2, minimum, maximum, tolerance, footprint, core and facing of a ``SplatConfig``, bounds in pixels."""
Fragments = tuple[Array, Array, Array]
"""Of one target camera. nearest: (P,) int64, each pixel's key of the nearest fragment, the bits of its depth above its number;
P is H W + W + 2, for footprints at the end of the image; numbers: (6, n) float32 and whole: (4, n) int32, the fragments, in rows
as above. Those of no columns or rows take no part."""


@compiled
def carry(
    points: Array, tangents: Array, owner: Array, index: Array, rotation: Array, shift: Array, there: Array, turned: Array
) -> None:
    """Write where the pixels ``index`` (n,) of a source are, taken along by their boxes: points (3, n) and tangents (6, n)."""
    for j in range(len(index)):
        i, box = index[j], owner[index[j]]
        for axis in range(3):
            a, b, c = rotation[box, axis, 0], rotation[box, axis, 1], rotation[box, axis, 2]
            there[axis, j] = a * points[0, i] + b * points[1, i] + c * points[2, i] + shift[box, axis]
            turned[axis, j] = a * tangents[0, i] + b * tangents[1, i] + c * tangents[2, i]
            turned[3 + axis, j] = a * tangents[3, i] + b * tangents[4, i] + c * tangents[5, i]


# The loops of the next functions are as simple as they are so that the compiler makes vector instructions of them: arrays
# from their beginning to their end, one of them written, no branch.


@compiled
def _turn(m: Matrix, axis: int, x: Array, y: Array, z: Array, out: Array) -> None:
    a, b, c = m[4 * axis], m[4 * axis + 1], m[4 * axis + 2]
    for j in range(len(out)):
        out[j] = a * x[j] + b * y[j] + c * z[j]


@compiled
def _move(m: Matrix, axis: int, x: Array, y: Array, z: Array, out: Array) -> None:
    a, b, c, d = m[4 * axis], m[4 * axis + 1], m[4 * axis + 2], m[4 * axis + 3]
    for j in range(len(out)):
        out[j] = a * x[j] + b * y[j] + c * z[j] + d


@compiled
def _copy(values: Array, out: Array) -> None:
    for j in range(len(out)):
        out[j] = values[j]


@compiled
def _inside(x: Array, y: Array, z: Array, usable: Array, near: float, right: float, low: float, out: Array) -> None:
    """Whether usable points lie in front of a camera and at most a pixel beside its image."""
    for j in range(len(out)):
        w = z[j]
        out[j] = usable[j] & (w > near) & (x[j] > -w) & (y[j] > -w) & (x[j] < right * w) & (y[j] < low * w)


@compiled
def _divide(a: Array, b: Array, out: Array) -> None:
    for j in range(len(out)):
        out[j] = a[j] / b[j]


@compiled
def _half_width(
    settings: Settings, along: Array, along_z: Array, down: Array, down_z: Array, u: Array, z: Array, out: Array
) -> None:
    """Half the width of footprints, in pixels, however large."""
    for j in range(len(out)):
        extent = abs(along[j] - u[j] * along_z[j]) + abs(down[j] - u[j] * down_z[j])
        out[j] = max(settings[1] * extent / z[j], settings[2])


@compiled
def _limited(settings: Settings, half: Array, other: Array, label: Array, out: Array) -> None:
    """Half widths along one axis within their bound, which for points of agents is wider where those along the ``other`` are."""
    for j in range(len(out)):
        bound = settings[7] if label[j] != STATIC else settings[3]
        out[j] = min(half[j], max(settings[3], min(other[j], bound)))


@compiled
def _first(centre: Array, half: Array, out: Array) -> None:
    for j in range(len(out)):
        out[j] = max(int32(np.ceil(centre[j] - half[j] - _HALF)), int32(0))


@compiled
def _count(centre: Array, half: Array, first: Array, inside: Array, limit: int, out: Array) -> None:
    for j in range(len(out)):
        count = min(int32(np.floor(centre[j] + half[j] - _HALF)), int32(limit - 1)) - first[j] + int32(1)
        out[j] = count if inside[j] else int32(0)


@compiled
def _start(centre: Array, first: Array, out: Array) -> None:
    for j in range(len(out)):
        out[j] = float32(first[j]) + _HALF - centre[j]


@compiled
def _inverse(half: Array, out: Array) -> None:
    for j in range(len(out)):
        out[j] = _ONE / half[j]


@compiled
def _behind(settings: Settings, z: Array, along_z: Array, down_z: Array, out: Array) -> None:
    for j in range(len(out)):
        out[j] = z[j] + min(settings[4] * z[j] + settings[5] * (abs(along_z[j]) + abs(down_z[j])), _HALF * z[j])


@compiled
def _place(rows: Array, columns: Array, width: int, out: Array) -> None:
    for j in range(len(out)):
        out[j] = rows[j] * int32(width) + columns[j]


@compiled
def _trim(wanted: Array, first: int, last: int) -> tuple[int, int]:
    """The range without what isn't wanted at its two ends."""
    while first < last and not wanted[first]:
        first += 1
    while last > first and not wanted[last - 1]:
        last -= 1
    return first, last


@compiled
def project(
    points: Array, tangents: Array, label: Array, usable: Array, views: Array, run: int, m: Matrix, height: int, width: int,
    settings: Settings, fragments: Fragments, count: int,
) -> int:  # fmt: skip
    """Append the fragments of a source's points in one target camera and keep the nearest of each pixel; returns how many
    fragments there are now.

    points (3, M), tangents (6, M), label (M,) as in ``MovedSource``; usable: (M,) bool, points that take part; views: (S,) bool,
    the S-th parts of the points that may be in view; run: how many are worked on together, best a row of their image; m: a row of
    ``frustum.pinhole_rows``.
    """
    nearest, numbers, whole = fragments
    room, inside = np.empty((13, run), np.float32), np.empty(run, np.bool_)
    top = np.empty(run, np.int32)
    x, y, z = room[_X], room[_Y], room[_DEPTH]
    per_view = points.shape[1] // len(views)
    for view in range(len(views)):
        if not views[view]:
            continue
        for start in range(view * per_view, (view + 1) * per_view, run):
            begin, end = _trim(usable, start, min(start + run, (view + 1) * per_view))
            n = end - begin
            px, py, pz = points[0, begin:end], points[1, begin:end], points[2, begin:end]
            _move(m, 2, px, py, pz, z[:n])
            _move(m, 0, px, py, pz, x[:n])
            _move(m, 1, px, py, pz, y[:n])
            _inside(x[:n], y[:n], z[:n], usable[begin:end], settings[0], float32(width + 1), float32(height + 1), inside[:n])
            a, b = _trim(inside, 0, n)
            if a < b:
                _copy(label[begin + a : begin + b], whole[_LABEL, count : count + b - a])
                _land(tangents, begin, room, a, b, inside, top, m, height, width, settings, numbers, whole, count)
                _offer(nearest, numbers, whole, width, settings[6], count, count + b - a)
                count += b - a
    return count


@compiled
def _land(
    tangents: Array, start: int, room: Array, a: int, b: int, inside: Array, top: Array, m: Matrix, height: int, width: int,
    settings: Settings, numbers: Array, whole: Array, count: int,
) -> None:  # fmt: skip
    """Write the fragments of points start + a to start + b, whose x, y and z lie at a to b in ``room`` (13, run), from ``count``
    on; room, top: to work in."""
    here, there, n = slice(a, b), slice(count, count + b - a), b - a
    along = slice(start + a, start + b)
    x, y, z, u, v = room[_X, here], room[_Y, here], room[_DEPTH, here], room[_U, here], room[_V, here]
    reach_u, reach_v = room[_REACH_U, here], room[_REACH_V, here]
    for axis in range(3):
        _turn(m, axis, tangents[0, along], tangents[1, along], tangents[2, along], room[_ALONG_U + axis, here])
        _turn(m, axis, tangents[3, along], tangents[4, along], tangents[5, along], room[_DOWN_U + axis, here])
    along_z, down_z, line = room[_ALONG_Z, here], room[_DOWN_Z, here], top[:n]
    pixel, columns, rows = whole[_PIXEL, there], whole[_COLUMNS, there], whole[_ROWS, there]
    _divide(x, z, u)
    _divide(y, z, v)
    _half_width(settings, room[_ALONG_U, here], along_z, room[_DOWN_U, here], down_z, u, z, reach_u)
    _half_width(settings, room[_ALONG_V, here], along_z, room[_DOWN_V, here], down_z, v, z, reach_v)
    half_u, half_v = room[_ALONG_U, here], room[_ALONG_V, here]  # no longer needed
    _limited(settings, reach_u, reach_v, whole[_LABEL, there], half_u)
    _limited(settings, reach_v, reach_u, whole[_LABEL, there], half_v)
    _first(u, half_u, pixel)
    _count(u, half_u, pixel, inside[here], width, columns)
    _start(u, pixel, numbers[_START_U, there])
    _inverse(half_u, numbers[_SHARP_U, there])
    _first(v, half_v, line)
    _count(v, half_v, line, inside[here], height, rows)
    _start(v, line, numbers[_START_V, there])
    _inverse(half_v, numbers[_SHARP_V, there])
    _place(line, pixel, width, pixel)
    _copy(z, numbers[_Z, there])
    _behind(settings, z, along_z, down_z, numbers[_BEHIND, there])


@compiled
def _offer(nearest: Array, numbers: Array, whole: Array, width: int, core: float, first: int, last: int) -> None:
    """Let the fragments from ``first`` to ``last`` compete for their pixels.

    Nearly all cover at most two by two pixels, and which of these they do no processor can guess: no branches there.
    """
    below = index(width)
    for i in range(first, last):
        columns, rows, pixel = whole[_COLUMNS, i], whole[_ROWS, i], whole[_PIXEL, i]
        if columns <= 0 or rows <= 0:
            continue
        start_u, start_v, sharp_u, sharp_v = (
            numbers[_START_U, i],
            numbers[_START_V, i],
            numbers[_SHARP_U, i],
            numbers[_SHARP_V, i],
        )
        # Positive floats order like their bits; the fragment's number below them makes every key unique, whatever the order.
        key = (np.int64(float32(numbers[_Z, i]).view(np.int32)) - LEAST_BITS) << 32 | i
        if columns <= 2 and rows <= 2:
            rim, rim_across = abs(start_u) * sharp_u > core, abs(start_u + _ONE) * sharp_u > core
            rim_above, rim_below = abs(start_v) * sharp_v > core, abs(start_v + _ONE) * sharp_v > core
            wide, high, at = columns == 2, rows == 2, index(pixel)
            here, across = _key(key, rim | rim_above, True), _key(key, rim_across | rim_above, wide)
            down, askew = _key(key, rim | rim_below, high), _key(key, rim_across | rim_below, wide & high)
            nearest[at], nearest[at + _NEXT] = min(nearest[at], here), min(nearest[at + _NEXT], across)
            at += below
            nearest[at], nearest[at + _NEXT] = min(nearest[at], down), min(nearest[at + _NEXT], askew)
            continue
        for line in range(rows):
            outer = abs(start_v + float32(line)) * sharp_v > core
            for column in range(columns):
                place = pixel + line * width + column
                rim = outer or abs(start_u + float32(column)) * sharp_u > core
                nearest[place] = min(nearest[place], _key(key, rim, True))


@inlined
def _key(key: int, rim: bool, covered: bool) -> int:
    """The key with which a fragment competes for a pixel."""
    offered = key + FRINGE if rim else key
    return offered if covered else NOTHING


@inlined
def _sum(front: Array, sums: Array, at: int, bits: int, of: int, weight: float, inverse_z: float, covered: bool) -> None:
    """Add a fragment's weight at a pixel that it covers, if it belongs to the nearest surface there."""
    belongs = covered & (bits <= front[at, 0]) & (bits >= front[at, 2]) & (of == front[at, 1])
    share, inverse = np.int64(np.float64(weight) * UNITS), np.int64(np.float64(weight * inverse_z) * UNITS)
    sums[at, 0] += share if belongs else np.int64(0)
    sums[at, 1] += inverse if belongs else np.int64(0)


@inlined
def _begin(nearest: Array, numbers: Array, whole: Array, front: Array, sums: Array, place: int) -> None:
    """Write a pixel's surface, the bits of its farthest depth, its label and the bits of its nearest, and sums of nothing.

    What lies nearer reaches the pixel with its rim only.
    """
    front[place, 0], front[place, 1], front[place, 2] = -1, STATIC, 0
    sums[place, 0], sums[place, 1] = 0, 0
    if nearest[place] != NOTHING:
        winner = nearest[place] & 0xFFFFFFFF
        behind, z = numbers[_BEHIND, winner], numbers[_Z, winner]
        front[place, 0], front[place, 1] = float32(behind).view(np.int32), whole[_LABEL, winner]
        front[place, 2] = float32(z - (behind - z)).view(np.int32)


@inlined
def _end(nearest: Array, front: Array, sums: Array, place: int, depth: Array, label: Array) -> None:
    """Write a pixel's depth, 0 in a hole, and label."""
    label[place], depth[place] = front[place, 1], _ZERO
    if nearest[place] != NOTHING:
        depth[place] = float32(np.float64(sums[place, 0]) / np.float64(sums[place, 1]))


@compiled
def average(fragments: Fragments, front: Array, sums: Array, width: int, count: int, depth: Array, label: Array) -> None:
    """Write depth (H W,) float32, 0 in holes, and label (H W,) int32 of one target: the inverse depths of all fragments of the
    nearest one's surface, averaged with tent weights; finer fragments count for more. front: (P, 3) int32 and sums: (P, 2) int64,
    to work in."""
    nearest, numbers, whole = fragments
    for place in range(len(nearest)):
        _begin(nearest, numbers, whole, front, sums, place)
    for i in range(count):
        columns, rows, of = whole[_COLUMNS, i], whole[_ROWS, i], whole[_LABEL, i]
        if columns <= 0 or rows <= 0:
            continue
        start_u, start_v, z = numbers[_START_U, i], numbers[_START_V, i], numbers[_Z, i]
        sharp_u, sharp_v = numbers[_SHARP_U, i], numbers[_SHARP_V, i]
        density, inverse_z, bits = sharp_u * sharp_v, _ONE / z, float32(z).view(np.int32)
        if columns <= 2 and rows <= 2:  # without branches, as in ``_offer``
            above, below = density * (_TENT - abs(start_v) * sharp_v), density * (_TENT - abs(start_v + _ONE) * sharp_v)
            left, right = _TENT - abs(start_u) * sharp_u, _TENT - abs(start_u + _ONE) * sharp_u
            wide, high, at = columns == 2, rows == 2, index(whole[_PIXEL, i])
            down = at + index(width)
            _sum(front, sums, at, bits, of, above * left, inverse_z, True)
            _sum(front, sums, at + _NEXT, bits, of, above * right, inverse_z, wide)
            _sum(front, sums, down, bits, of, below * left, inverse_z, high)
            _sum(front, sums, down + _NEXT, bits, of, below * right, inverse_z, wide & high)
            continue
        for line in range(rows):
            tent = density * (_TENT - abs(start_v + float32(line)) * sharp_v)
            for column in range(columns):
                at = index(whole[_PIXEL, i] + line * width + column)
                weight = tent * (_TENT - abs(start_u + float32(column)) * sharp_u)
                _sum(front, sums, at, bits, of, weight, inverse_z, True)
    for place in range(len(depth)):
        _end(nearest, front, sums, place, depth, label)


@compiled
def uncover(
    fragments: Fragments, front: Array, sums: Array, floor: Array, width: int, core: float, count: int, depth: Array, label: Array
) -> None:  # fmt: skip
    """Write depth and label (H W,) anew where ``floor`` (H W,) float32 isn't 0: of the nearest surface farther than that.

    The rest as in ``average``, after which it is called.
    """
    nearest, numbers, whole = fragments
    touched = np.zeros(len(nearest), np.bool_)  # the first pixels of footprints of two by two that cover such a place
    for place in range(len(floor)):
        if floor[place] > 0:
            nearest[place] = NOTHING
            for before in (0, 1, width, width + 1):
                touched[max(place - before, 0)] = True
    concerned, n = np.empty(count, np.int32), 0
    for i in range(count):
        columns, rows, pixel, z = whole[_COLUMNS, i], whole[_ROWS, i], whole[_PIXEL, i], numbers[_Z, i]
        if columns <= 0 or rows <= 0 or (columns <= 2 and rows <= 2 and not touched[pixel]):
            continue
        key, concerns = (np.int64(float32(z).view(np.int32)) - LEAST_BITS) << 32 | i, False
        for line in range(rows):
            outer = abs(numbers[_START_V, i] + float32(line)) * numbers[_SHARP_V, i] > core
            for column in range(columns):
                place = pixel + line * width + column
                if floor[place] > 0 and z > floor[place]:
                    rim = outer or abs(numbers[_START_U, i] + float32(column)) * numbers[_SHARP_U, i] > core
                    nearest[place], concerns = min(nearest[place], _key(key, rim, True)), True
        if concerns:
            concerned[n] = i
            n += 1
    for place in range(len(floor)):
        if floor[place] > 0:
            _begin(nearest, numbers, whole, front, sums, place)
    for i in concerned[:n]:
        z, sharp_u, sharp_v = numbers[_Z, i], numbers[_SHARP_U, i], numbers[_SHARP_V, i]
        density, inverse_z, bits, of = sharp_u * sharp_v, _ONE / z, float32(z).view(np.int32), whole[_LABEL, i]
        for line in range(whole[_ROWS, i]):
            tent = density * (_TENT - abs(numbers[_START_V, i] + float32(line)) * sharp_v)
            for column in range(whole[_COLUMNS, i]):
                at = index(whole[_PIXEL, i] + line * width + column)
                if floor[at] > 0:
                    weight = tent * (_TENT - abs(numbers[_START_U, i] + float32(column)) * sharp_u)
                    _sum(front, sums, at, bits, of, weight, inverse_z, z > floor[at])
    for place in range(len(floor)):
        if floor[place] > 0:
            _end(nearest, front, sums, place, depth, label)


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
