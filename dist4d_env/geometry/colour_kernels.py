"""Inner loops of colour: source cameras compete for target pixels, and the winner gives a bilinear sample."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.box_motion import STATIC
from dist4d_env.geometry.jit import compiled, float32, index, inlined, int32

DEPTH_TOLERANCE = 0.05
"""Relative difference of depth up to which a source pixel shows the target's point."""
COARSER, FINER = 1.0, 0.5
"""Cost of an octave by which a source pixel is coarser, or finer, than the target's."""
EDGE, DISAGREEMENT = 1.0, 4.0
"""Cost of nearness to a depth edge, and of a unit of relative depth disagreement."""
UNCONFIRMED = 50.0
"""Cost from which on a source only stands in where nothing better is known."""
EDGE_TOLERANCE = 0.1
"""Relative difference of inverse depth beyond which a neighbour is another surface and gives no colour."""
NEAR = 0.1
"""Metres before a source camera nearer than which it sees nothing."""
OCTAVE = float32(0.43872573), float32(-0.23905819), float32(0.08213064)
"""log2(1 + t) is t + t (1 - t) (a + b t + c t t) within 0.00012 for t in [0, 1]."""

_NEAR, _TOLERANCE, _EDGE_TOLERANCE = float32(NEAR), float32(DEPTH_TOLERANCE), float32(EDGE_TOLERANCE)
_COARSER, _FINER, _EDGE = float32(COARSER), float32(FINER), float32(EDGE)
_DISAGREEMENT, _UNCONFIRMED = float32(DISAGREEMENT), float32(UNCONFIRMED)
_A, _B, _C = OCTAVE
_ZERO, _HALF, _ONE, _HUNDRED, _TINY = float32(0), float32(0.5), float32(1), float32(100), float32(1e-6)

Array = np.ndarray
Point = tuple[float, float, float]
Targets = tuple[Array, Array, Array, Array, Array]
"""Of one target camera. points: (3, P) from an origin; detail: (P,) pixels per metre; label: (P,); standing: (P,) bool, pixels
that show the standing world; moving: (n,) the others that show anything."""
Pinholes = tuple[Array, Array, Array, int, int]
"""linear, offset: ``frustum.pinhole_rows`` of S source cameras; visible: (S,) bool, may see of the target; height, width."""
Motion = tuple[Array, Array, Array]
"""entry: (S, labels) int32, ``MovedSource.entries``; rotation (B, 3, 3) and shift (B, 3): from now back to the source's time."""
Shown = tuple[Array, Array, Array, Array, Array]
"""label, inverse_depth, edge: of the source's pixels; focal, penalty: (S,) pixels, and cost of each camera."""


@compiled
def unproject_targets(
    depth: Array, along_row: Array, along_column: Array, shift: Array, points: Array, near: Array, far: Array
) -> None:
    """Write the points (V, 3, H W) of target depth (V, H, W), and lower near and raise far (V,) to the depths that occur."""
    views, height, width = depth.shape
    for view in range(views):
        i = 0
        for row in range(height):
            for column in range(width):
                z = depth[view, row, column]
                if z > 0:
                    near[view], far[view] = min(near[view], z), max(far[view], z)
                for axis in range(3):
                    ray = float32(along_column[view, axis, row] + along_row[view, axis, column])
                    points[view, axis, i] = ray * z + shift[view, axis]
                i += 1


@inlined
def coordinate(linear: Array, offset: Array, k: int, axis: int, p: Point) -> float:
    """One coordinate of ``linear[k] @ p + offset[k]``, summed from left to right."""
    return linear[k, axis, 0] * p[0] + linear[k, axis, 1] * p[1] + linear[k, axis, 2] * p[2] + offset[k, axis]


@compiled
def _move(row: Array, d: float, x: Array, y: Array, z: Array, out: Array) -> None:
    """Write a coordinate of points (n,); loops as simple as this one and the next ones become vector instructions."""
    a, b, c = row[0], row[1], row[2]
    for j in range(len(out)):
        out[j] = a * x[j] + b * y[j] + c * z[j] + d


@compiled
def _within(x: Array, y: Array, z: Array, usable: Array, right: float, low: float, out: Array) -> None:
    """Whether usable points lie in an image."""
    for j in range(len(out)):
        w = z[j]
        out[j] = usable[j] & (w > _NEAR) & (x[j] > _ZERO) & (y[j] > _ZERO) & (x[j] < right * w) & (y[j] < low * w)


@compiled
def octaves(ratio: float) -> float:
    """log2 of a positive float32 to 0.0002: libraries' own logarithms differ in their last bits."""
    bits = float32(ratio).view(np.int32)
    whole = float32((bits >> 23) - 127)
    t = int32((bits & 0x7FFFFF) | 0x3F800000).view(np.float32) - _ONE
    return whole + t + t * (_ONE - t) * (_A + t * (_B + t * _C))


@compiled
def _divide(a: Array, b: Array, out: Array) -> None:
    for j in range(len(out)):
        out[j] = a[j] / b[j]


@compiled
def _weigh(z: Array, detail: Array, focal: float, cost: Array) -> None:
    """Write what it costs that a source's pixels are coarser or finer than the target's."""
    for j in range(len(cost)):
        finer = octaves(focal / z[j] / detail[j])
        cost[j] = -_COARSER * finer if finer < 0 else _FINER * finer


@compiled
def _find(u: Array, v: Array, first: int, height: int, width: int, inside: Array, label_there: Array, pixel: Array) -> None:
    """Write the source's pixel at each place in an image that begins at pixel ``first``, -1 where it shows no standing world."""
    for j in range(len(pixel)):
        column, row = min(int32(u[j]), int32(width - 1)), min(int32(v[j]), int32(height - 1))
        pixel[j] = int32(first) + row * int32(width) + column if inside[j] else int32(first)
    for j in range(len(pixel)):
        pixel[j] = pixel[j] if inside[j] & (label_there[index(pixel[j])] == STATIC) else int32(-1)


@inlined
def _predicted(inverse_depth: Array, at: int, u: float, v: float, height: int, width: int) -> float:
    """The inverse depth that a source's pixel has at a place (u, v) in it."""
    right, down = u - float32(min(int32(u), int32(width - 1))) - _HALF, v - float32(min(int32(v), int32(height - 1))) - _HALF
    return inverse_depth[at, 0] + inverse_depth[at, 1] * right + inverse_depth[at, 2] * down


@inlined
def _confirmed(cost: float, predicted: float, z: float, at_edge: bool, penalty: float) -> float:
    """The cost of a source's pixel that predicts an inverse depth for a point at depth z; cost: so far."""
    disagreement = abs(predicted * z - _ONE)
    cost = cost + (_EDGE if at_edge else _ZERO) + penalty
    return cost + (_HUNDRED * disagreement + _UNCONFIRMED if disagreement > _TOLERANCE else _DISAGREEMENT * disagreement)


@compiled
def _compare(
    z: Array, u: Array, v: Array, pixel: Array, inverse_depth: Array, edge: Array, penalty: float, height: int, width: int,
    cost: Array,
) -> None:  # fmt: skip
    """Add what it costs to take colours from pixels of a source; infinite where there is none."""
    for j in range(len(cost)):
        at = index(max(pixel[j], int32(0)))
        predicted = _predicted(inverse_depth, at, u[j], v[j], height, width)
        total = _confirmed(cost[j], predicted, z[j], edge[at], penalty)
        cost[j] = total if pixel[j] >= 0 else float32(np.inf)


@compiled
def _take(cost: Array, value: Array, best: Array, taken: Array) -> None:
    """Take values where the cost is less than the best."""
    for j in range(len(cost)):
        taken[j] = value[j] if cost[j] < best[j] else taken[j]


@compiled
def _set(cost: Array, value: int, best: Array, taken: Array) -> None:
    """As ``_take``, of the same value everywhere."""
    for j in range(len(cost)):
        taken[j] = int32(value) if cost[j] < best[j] else taken[j]


@compiled
def _compete_moving(
    number: int,
    view: int,
    targets: Targets,
    pinholes: Pinholes,
    motion: Motion,
    shown: Shown,
    best: Array,
    at: Array,
    chosen: Array,
) -> None:
    """One source camera competes as in ``choose`` for the pixels that show boxes, whose points move back with them."""
    points, detail, label, _, moving = targets
    linear, offset, visible, height, width = pinholes
    entry, rotation, shift = motion
    right, low = float32(width), float32(height)
    for i in moving:
        box = entry[view, label[i]]
        if box < 0 and not visible[view]:
            continue
        point = points[0, i], points[1, i], points[2, i]
        if box >= 0:
            x, y = coordinate(rotation, shift, box, 0, point), coordinate(rotation, shift, box, 1, point)
            point = x, y, coordinate(rotation, shift, box, 2, point)
        x, y = coordinate(linear, offset, view, 0, point), coordinate(linear, offset, view, 1, point)
        z = coordinate(linear, offset, view, 2, point)
        if z > _NEAR and x > 0 and x < right * z and y > 0 and y < low * z:
            u, v = x / z, y / z
            there = index((view * height + min(int32(v), int32(height - 1))) * width + min(int32(u), int32(width - 1)))
            if shown[0][there] != label[i]:
                continue
            finer = octaves(shown[3][view] / z / detail[i])
            predicted = _predicted(shown[1], there, u, v, height, width)
            so_far = -_COARSER * finer if finer < 0 else _FINER * finer
            total = _confirmed(so_far, predicted, z, shown[2][there], shown[4][view])
            if total < best[i]:
                best[i], at[0, i], at[1, i], chosen[0, i], chosen[1, i] = total, u, v, number, view


@compiled
def choose(
    number: int,
    run: int,
    targets: Targets,
    pinholes: Pinholes,
    motion: Motion,
    shown: Shown,
    best: Array,
    at: Array,
    chosen: Array,
) -> None:
    """Let the cameras of source ``number`` compete for every pixel of a target: lower ``best`` (P,) to the least cost, write the
    place (u, v) in the image to ``at`` (2, P) and (number, camera) to ``chosen`` (2, P). run: pixels worked on together, best a
    row."""
    points, detail, _, standing, _ = targets
    linear, offset, visible, height, width = pinholes
    room, inside, pixel = np.empty((6, run), np.float32), np.empty(run, np.bool_), np.empty(run, np.int32)
    focal = shown[3]
    right, low = float32(width), float32(height)
    for view in range(len(linear)):
        if visible[view]:
            for start in range(0, len(best), run):
                end = min(start + run, len(best))
                n = end - start
                px, py, pz = points[0, start:end], points[1, start:end], points[2, start:end]
                for axis in range(3):
                    _move(linear[view, axis], offset[view, axis], px, py, pz, room[axis, :n])
                _within(room[0, :n], room[1, :n], room[2, :n], standing[start:end], right, low, inside[:n])
                a, b = 0, n
                while a < n and not inside[a]:
                    a += 1
                while b > a and not inside[b - 1]:
                    b -= 1
                if a == b:
                    continue
                _divide(room[0, a:b], room[2, a:b], room[3, a:b])
                _divide(room[1, a:b], room[2, a:b], room[4, a:b])
                _find(room[3, a:b], room[4, a:b], view * height * width, height, width, inside[a:b], shown[0], pixel[a:b])
                while a < b and pixel[a] < 0:  # most sources show little that others don't
                    a += 1
                while b > a and pixel[b - 1] < 0:
                    b -= 1
                if a == b:
                    continue
                z, u, v, cost = room[2, a:b], room[3, a:b], room[4, a:b], room[5, a:b]
                _weigh(z, detail[start + a : start + b], focal[view], cost)
                _compare(z, u, v, pixel[a:b], shown[1], shown[2], shown[4][view], height, width, cost)
                here = slice(start + a, start + b)
                _take(cost, u, best[here], at[0, here])
                _take(cost, v, best[here], at[1, here])
                _set(cost, number, best[here], chosen[0, here])
                _set(cost, view, best[here], chosen[1, here])
                _take(cost, cost, best[here], best[here])
        _compete_moving(number, view, targets, pinholes, motion, shown, best, at, chosen)


@compiled
def sample(
    number: int, chosen: Array, at: Array, pixels: Array, inverse_depth: Array, edge: Array, delay: Array,
    height: int, width: int, rgb: Array, age: Array,
) -> None:  # fmt: skip
    """Where source ``number`` was chosen, write bilinear samples to rgb (P, 3) float32, clamped at the image's border (pixel
    centres at + 0.5), and its cameras' ``delay`` (S,) to age (P,) float32.

    At a depth edge only the neighbours on the nearest pixel's surface take part.
    """
    for i in range(len(age)):
        if chosen[0, i] != number:
            continue
        age[i] = delay[chosen[1, i]]
        image = chosen[1, i] * (height * width)
        u, v = at[0, i], at[1, i]
        row, column = min(int32(v), height - 1), min(int32(u), width - 1)
        u = min(max(u - _HALF, _ZERO), float32(width - 1))
        v = min(max(v - _HALF, _ZERO), float32(height - 1))
        left, top = min(int32(u), width - 2), min(int32(v), height - 2)
        a, b = u - float32(left), v - float32(top)
        first = image + top * width + left
        w0, w1, w2, w3 = (_ONE - a) * (_ONE - b), a * (_ONE - b), (_ONE - a) * b, a * b
        nearest = image + row * width + column
        if edge[nearest]:
            w0 = _on_surface(w0, first, nearest, inverse_depth, left - column, top - row)
            w1 = _on_surface(w1, first + 1, nearest, inverse_depth, left + 1 - column, top - row)
            w2 = _on_surface(w2, first + width, nearest, inverse_depth, left - column, top + 1 - row)
            w3 = _on_surface(w3, first + width + 1, nearest, inverse_depth, left + 1 - column, top + 1 - row)
            total = w0 + w1 + w2 + w3
            w0, w1, w2, w3 = w0 / total, w1 / total, w2 / total, w3 / total
        for c in range(3):
            colour = w0 * float32(pixels[first, c]) + w1 * float32(pixels[first + 1, c])
            colour += w2 * float32(pixels[first + width, c])
            rgb[i, c] = colour + w3 * float32(pixels[first + width + 1, c])


@compiled
def mix(rgb: Array, second: Array, age: Array, its_age: Array, mixed: Array) -> None:
    """Write colours (P, 3) uint8 that go with time from ``rgb`` to ``second``, both float32."""
    for i in range(len(age)):
        share = age[i] / max(age[i] + its_age[i], _TINY)
        for c in range(3):
            mixed[i, c] = np.uint8(np.rint(rgb[i, c] + share * (second[i, c] - rgb[i, c])))


@compiled
def _on_surface(weight: float, corner: int, nearest: int, inverse_depth: Array, right: int, down: int) -> float:
    """The weight of a neighbour of an edge pixel: none where it is another surface."""
    here = inverse_depth[nearest, 0]
    predicted = here + inverse_depth[nearest, 1] * float32(right) + inverse_depth[nearest, 2] * float32(down)
    if abs(inverse_depth[corner, 0] - predicted) > _EDGE_TOLERANCE * here:
        weight = _ZERO
    return weight + (_TINY if corner == nearest else _ZERO)
