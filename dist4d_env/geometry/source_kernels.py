"""Inner loops that prepare a frame for splatting: points, slopes and edges of its pixels, and the boxes that they lie in."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.jit import compiled, float32, inlined
from dist4d_env.geometry.rgbd import FAR

SKY_DEPTH = 1000.0
"""Where points of depth FAR are put, in metres: so far away that only a camera's rotation moves them."""
BOX_MARGIN = 0.15
"""A box owns points up to this many metres outside of its sides and top."""
GROUND_MARGIN = 0.15
"""Points closer than this above a box's bottom may be ground: they do not move with it, and are not kept once it has moved."""
MIXED_EDGE = 0.06
"""Relative error up to which two neighbours in line explain a pixel's inverse depth."""

_LEAST, _FAR, _BEYOND, _SKY = float32(0.05), float32(FAR), float32(FAR * 0.999), float32(SKY_DEPTH)
_ZERO, _HALF, _ONE, _BEND, _MIXED = float32(0), float32(0.5), float32(1), float32(0.1), float32(MIXED_EDGE)
_MARGIN, _GROUND = float32(BOX_MARGIN), float32(GROUND_MARGIN)

Array = np.ndarray


@compiled
def unproject_pixels(
    view: int, depth: Array, along_row: Array, along_column: Array, steps: Array, offset: Array,
    known: Array, edge: Array, points: Array, tangents: Array, inverse_depth: Array,
) -> None:  # fmt: skip
    """Write known pixels, points and slopes of one of the depth images (V, H, W); rays as ``frustum.ray_parts`` has them.

    offset: (V, 3) camera centres from the origin. Written: known and edge (V, H, W), points (3, V, H, W), tangents (6, V, H, W),
    inverse_depth (V, H, W, 3), as in ``SplatSource``; pixels between two surfaces are not known.
    """
    _, height, width = depth.shape
    metres, inverse = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    steps_u, steps_v = np.empty((height, width + 1), np.float32), np.empty((width, height + 1), np.float32)
    _clean(depth[view], known[view], metres, inverse)
    _differences(inverse, steps_u, steps_v)
    for row in range(height):
        line_u = steps_u[row]
        for column in range(width):
            z, w = metres[row, column], inverse[row, column]
            across, edge_u, between_u, explained_u = _slope(line_u, column, width, w)
            down, edge_v, between_v, explained_v = _slope(steps_v[column], row, height, w)
            edge[view, row, column] = edge_u or edge_v
            if (between_u or between_v) and not (explained_u or explained_v):
                known[view, row, column] = False
            inverse_depth[view, row, column, 0] = w
            inverse_depth[view, row, column, 1] = across
            inverse_depth[view, row, column, 2] = down
            bend = -z * z  # d(z ray) = z' ray + z ray', with z' = -z^2 (1/z)'
            for axis in range(3):
                ray = float32(along_column[view, axis, row] + along_row[view, axis, column])
                points[axis, view, row, column] = ray * z + offset[view, axis]
                tangents[axis, view, row, column] = ray * (bend * across) + steps[view, axis, 0] * z
                tangents[3 + axis, view, row, column] = ray * (bend * down) + steps[view, axis, 1] * z


@compiled
def _clean(depth: Array, known: Array, metres: Array, inverse: Array) -> None:
    """Known pixels (H, W), depth with the sky far away and its inverse; unknown pixels count as sky."""
    height, width = depth.shape
    for row in range(height):
        for column in range(width):
            z = depth[row, column]
            has = np.isfinite(z) and z > _LEAST
            known[row, column] = has
            if not has:
                z = _FAR
            if z >= _BEYOND:
                z = _SKY
            metres[row, column] = z
            inverse[row, column] = _ONE / z


@compiled
def _differences(inverse: Array, across: Array, down: Array) -> None:
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


@inlined
def _slope(steps: Array, i: int, n: int, here: float) -> tuple[float, bool, bool, bool]:
    """Slope of inverse depth at pixel i of n along one line, and whether it lies at an edge, between its neighbours, and in line
    with two of them. steps: the line's differences, the one before and the one ahead of pixel i at i and i + 1.

    A plane's inverse depth is linear in the image, so a bend is an edge however steep the plane. The gentler of the two
    one-sided differences is the slope of the surface that the pixel belongs to; a pixel far nearer, or farther, than both its
    neighbours, as of a pole, belongs to that of neither, and faces the camera. A pixel mixes two surfaces where it lies between
    its neighbours and no two pixels in line, on any side, continue into it.
    """
    back, ahead = steps[i], steps[i + 1]
    # The neighbours of the first and last pixel wrap around; the pixels beside them count as explained, for the line's first and
    # last difference are those beside them. To doubt them, too, costs more right pixels than it saves.
    further_back = steps[i - 1] if i > 0 else steps[n - 1]
    further_ahead = steps[i + 2] if i + 1 < n else steps[1]
    slope = back if abs(back) < abs(ahead) else ahead
    slope = min(max(slope, -_HALF * here), _HALF * here)
    steep, onwards = min(abs(back), abs(ahead)) > _MIXED * here, (back > 0) == (ahead > 0)
    if steep and not onwards:
        slope = _ZERO
    edge = abs(ahead - back) > _BEND * here
    between = steep and onwards
    explained = abs(back - further_back) < _MIXED * here or abs(ahead - further_ahead) < _MIXED * here
    return slope, edge, between, explained


@compiled
def find_owners(
    view: int, points: Array, inverse_depth: Array, first: Array, centre: Array, rotation: Array, half: Array, reach: Array,
    owner: Array, under: Array,
) -> None:  # fmt: skip
    """Write which box each point (3, V, H, W) of a camera lies in, and which it lies under: (V, H, W) int32 each, untouched where
    none.

    Boxes as ``splat_source.box_rows`` has them; of two boxes around a point the later one owns it.
    """
    _, _, height, width = points.shape
    farthest = _ONE / _SKY
    low_x, low_y, high_x, high_y = float32(np.inf), float32(np.inf), float32(-np.inf), float32(-np.inf)
    for row in range(height):
        for column in range(width):
            if inverse_depth[view, row, column, 0] > farthest:
                x, y = points[0, view, row, column], points[1, view, row, column]
                low_x, high_x = min(low_x, x), max(high_x, x)
                low_y, high_y = min(low_y, y), max(high_y, y)
    for i in range(first[view], first[view + 1]):
        cx, cy, r = centre[i, 0], centre[i, 1], reach[i]
        if not (cx + r < low_x or cy + r < low_y or cx - r > high_x or cy - r > high_y):
            _own(points[:, view], i, centre[i], rotation[i], half[i], r, owner[view], under[view])


@compiled
def _own(points: Array, i: int, centre: Array, m: Array, half: Array, reach: float, owner: Array, under: Array) -> None:
    """Write ``i`` where a point (3, H, W) of one camera lies in or under box ``i``."""
    _, height, width = points.shape
    cx, cy, cz = centre[0], centre[1], centre[2]
    top, bottom = half[2] + _MARGIN, -half[2] - (_GROUND + _GROUND)
    for row in range(height):
        for column in range(width):
            dx, dy = points[0, row, column] - cx, points[1, row, column] - cy
            if not (abs(dx) < reach and abs(dy) < reach):
                continue
            dz = points[2, row, column] - cz
            x = m[0, 0] * dx + m[0, 1] * dy + m[0, 2] * dz
            y = m[1, 0] * dx + m[1, 1] * dy + m[1, 2] * dz
            z = m[2, 0] * dx + m[2, 1] * dy + m[2, 2] * dz
            if abs(x) < half[0] + _MARGIN and abs(y) < half[1] + _MARGIN and z < top and z > bottom:
                if z < _GROUND - half[2]:
                    under[row, column] = i
                else:
                    owner[row, column] = i
