"""Inner loops of colour: source cameras compete for target pixels, and the winner gives a bilinear sample."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.box_motion import STATIC
from dist4d_env.geometry.jit import compiled, float32, inlined, int32

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
Targets = tuple[Array, Array, Array, Array]
"""depth: (V H W,), 0 in holes; label: (V H W,); points: (3, V H W) from an origin; focal: (V,) pixels."""
Pinholes = tuple[Array, Array, Array, int, int]
"""linear, offset: ``frustum.pinhole_rows`` of S source cameras; visible: (S, V) ``frustum.may_see``; height, width."""
Motion = tuple[Array, Array, Array]
"""entry: (S, labels) int32 row of each label's box for each source camera, -1 where it has not moved; rotation (B, 3, 3) and
shift (B, 3): from now back to the source's time."""
Shown = tuple[Array, Array, Array, Array, Array]
"""label, inverse_depth, edge: of the source's pixels; focal, penalty: (S,) pixels, and cost of each camera."""


@compiled
def unproject_targets(
    depth: Array, along_row: Array, along_column: Array, shift: Array, points: Array, near: Array, far: Array
) -> None:
    """Write the points (3, V H W) of target depth (V, H, W), and lower near and raise far (V,) to the depths that occur."""
    views, height, width = depth.shape
    i = 0
    for view in range(views):
        for row in range(height):
            for column in range(width):
                z = depth[view, row, column]
                if z > 0:
                    near[view], far[view] = min(near[view], z), max(far[view], z)
                for axis in range(3):
                    ray = float32(along_column[view, axis, row] + along_row[view, axis, column])
                    points[axis, i] = ray * z + shift[view, axis]
                i += 1


@inlined
def _axis(linear: Array, offset: Array, k: int, axis: int, p: Point) -> float:
    """One coordinate of ``linear[k] @ p + offset[k]``, summed from left to right."""
    return linear[k, axis, 0] * p[0] + linear[k, axis, 1] * p[1] + linear[k, axis, 2] * p[2] + offset[k, axis]


@compiled
def choose(
    number: int, targets: Targets, pinholes: Pinholes, motion: Motion, shown: Shown, best: Array, best_at: Array, chosen: Array
) -> None:
    """Let the cameras of source ``number`` compete for every target pixel: lower ``best`` (V H W,) to the least cost, write the
    place (u, v) in the image to ``best_at`` and (number, camera) to ``chosen`` (V H W, 2)."""
    depth, label, points, focal = targets
    linear, offset, visible, height, width = pinholes
    entry, rotation, shift = motion
    per_camera = len(depth) // len(focal)
    right_end, lower_end = float32(width), float32(height)
    for i in range(len(depth)):
        if not depth[i] > 0:
            continue
        camera = i // per_camera
        point = points[0, i], points[1, i], points[2, i]
        detail = focal[camera] / depth[i]
        for view in range(len(linear)):
            box = entry[view, label[i]] if label[i] != STATIC else -1
            if box < 0 and not visible[view, camera]:
                continue
            there = point
            if box >= 0:
                x, y = _axis(rotation, shift, box, 0, point), _axis(rotation, shift, box, 1, point)
                there = x, y, _axis(rotation, shift, box, 2, point)
            z = _axis(linear, offset, view, 2, there)
            if not z > _NEAR:
                continue
            x = _axis(linear, offset, view, 0, there)
            if not (x > 0 and x < right_end * z):
                continue
            y = _axis(linear, offset, view, 1, there)
            if not (y > 0 and y < lower_end * z):
                continue
            u, v = x / z, y / z
            column, row = min(int32(u), width - 1), min(int32(v), height - 1)
            pixel = (view * height + row) * width + column
            if shown[0][pixel] != label[i]:
                continue
            right, down = u - float32(column) - _HALF, v - float32(row) - _HALF
            cost = _cost(shown, view, pixel, right, down, z, detail)
            if cost < best[i]:
                best[i], best_at[i, 0], best_at[i, 1] = cost, u, v
                chosen[i, 0], chosen[i, 1] = number, view


@inlined
def _cost(shown: Shown, view: int, pixel: int, right: float, down: float, z: float, detail: float) -> float:
    """What it costs to take a point's colour from a pixel, (right, down) of whose centre it lies at depth z.

    detail: target pixels per metre.
    """
    _, inverse_depth, edge, focal, penalty = shown
    predicted = inverse_depth[pixel, 0] + inverse_depth[pixel, 1] * right + inverse_depth[pixel, 2] * down
    disagreement = abs(predicted * z - _ONE)
    finer = octaves(focal[view] / z / detail)
    cost = (-_COARSER * finer if finer < 0 else _FINER * finer) + (_EDGE if edge[pixel] else _ZERO)
    cost += penalty[view]
    if disagreement > _TOLERANCE:
        cost += _HUNDRED * disagreement + _UNCONFIRMED
    else:
        cost += _DISAGREEMENT * disagreement
    return cost


@compiled
def octaves(ratio: float) -> float:
    """log2 of a positive float32 to 0.0002: libraries' own logarithms differ in their last bits."""
    bits = float32(ratio).view(np.int32)
    whole = float32((bits >> 23) - 127)
    t = int32((bits & 0x7FFFFF) | 0x3F800000).view(np.float32) - _ONE
    return whole + t + t * (_ONE - t) * (_A + t * (_B + t * _C))


@compiled
def sample(
    number: int, chosen: Array, at: Array, pixels: Array, inverse_depth: Array, edge: Array, delay: Array,
    height: int, width: int, rgb: Array, age: Array,
) -> None:  # fmt: skip
    """Where source ``number`` was chosen, write bilinear samples to rgb (V H W, 3) float32, clamped at the image's border (pixel
    centres at + 0.5), and its cameras' ``delay`` (S,) to age (V H W,) float32.

    At a depth edge only the neighbours on the nearest pixel's surface take part.
    """
    for i in range(len(chosen)):
        if chosen[i, 0] != number:
            continue
        age[i] = delay[chosen[i, 1]]
        image = chosen[i, 1] * (height * width)
        u, v = at[i, 0], at[i, 1]
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
def _on_surface(weight: float, corner: int, nearest: int, inverse_depth: Array, right: int, down: int) -> float:
    """The weight of a neighbour of an edge pixel: none where it is another surface."""
    here = inverse_depth[nearest, 0]
    predicted = here + inverse_depth[nearest, 1] * float32(right) + inverse_depth[nearest, 2] * float32(down)
    if abs(inverse_depth[corner, 0] - predicted) > _EDGE_TOLERANCE * here:
        weight = _ZERO
    return weight + (_TINY if corner == nearest else _ZERO)
