"""Inner loops of carving: which pixels lie at outlines, and what a source's images say about them."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.box_motion import UNUSED
from dist4d_env.geometry.colour_kernels import NEAR, Motion, Pinholes, coordinate
from dist4d_env.geometry.jit import compiled, float32, int32

FARTHER = 1.1
"""An outline is where a neighbour is this many times as far away, or shows another object farther away, or nothing."""
AGREEMENT = 0.1
"""Relative difference of inverse depth up to which a pixel shows the point that is asked for."""
DOUBT = 1.5
"""How many times as many votes against a point as for it there must be. With 1, outlines are right on average; agents are a few
pixels wide, and one that is a little too wide misleads less than one that comes and goes."""
BEHIND = 1.05
"""What lies this many times as far away as a point that isn't there may be in its place."""

_NEAR, _FARTHER, _AGREEMENT = float32(NEAR), float32(FARTHER), float32(AGREEMENT)
_ZERO, _HALF, _ONE = float32(0), float32(0.5), float32(1)

Array = np.ndarray


@compiled
def outlines(depth: Array, label: Array) -> Array:
    """The pixels (H, W) bool at whose side something farther away shows."""
    height, width = depth.shape
    outline = np.zeros((height, width), np.bool_)
    for row in range(height):
        for line in range(max(row - 1, 0), min(row + 2, height)):
            for across in (-1, 0, 1):
                here, there = slice(max(-across, 0), width - max(across, 0)), slice(max(across, 0), width - max(-across, 0))
                _mark(depth[row, here], label[row, here], depth[line, there], label[line, there], outline[row, here])
    return outline


@compiled
def _mark(depth: Array, label: Array, other: Array, its_label: Array, outline: Array) -> None:
    """Mark the pixels of a line that have something farther away in another; as simple as it is for vector instructions."""
    for j in range(len(outline)):
        z, beyond = depth[j], other[j]
        farther = (beyond > z * _FARTHER) | ((its_label[j] != label[j]) & (beyond > z)) | (beyond == _ZERO)
        outline[j] |= farther & (z > _ZERO)


@compiled
def vote(
    depth: Array, label: Array, outline: Array, rays: tuple[Array, Array, Array], focal: float, pinholes: Pinholes,
    motion: Motion, shown: tuple[Array, Array, Array], generated: bool, votes: Array,
) -> None:  # fmt: skip
    """Add what a source's cameras say to ``votes`` (2, H, W) float32, for and against the points of depth and label (H, W) at
    outlines.

    rays: along_row (3, W), along_column (3, H) and shift (3,) of the target camera, focal: its pixels; shown: label (M,) and
    inverse_depth (M, 3) of the source's pixels and focal (S,) of its cameras. Coarser pixels than the target's count for less;
    generated pixels contradict nobody. The sky does: what is bright is taken for it, too, yet real frames gain 0.1 to 0.3 dB.
    """
    along_row, along_column, shift = rays
    linear, offset, visible, height, width = pinholes
    entry, rotation, moved = motion
    label_there, inverse_depth, focal_there = shown
    right, low = float32(width) - _HALF, float32(height) - _HALF
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            if not outline[row, column]:
                continue
            metres, of = depth[row, column], label[row, column]
            start = (
                float32(along_column[0, row] + along_row[0, column]) * metres + shift[0],
                float32(along_column[1, row] + along_row[1, column]) * metres + shift[1],
                float32(along_column[2, row] + along_row[2, column]) * metres + shift[2],
            )
            for view in range(len(linear)):
                point, box = start, entry[view, of]
                # Who doesn't know an agent has looked at its place when it was elsewhere, or was not there at all.
                if box == -2 or (box == -1 and not visible[view]):
                    continue
                if box >= 0:
                    x, y = coordinate(rotation, moved, box, 0, start), coordinate(rotation, moved, box, 1, start)
                    point = x, y, coordinate(rotation, moved, box, 2, start)
                z = coordinate(linear, offset, view, 2, point)
                if not z > _NEAR:
                    continue
                u, v = coordinate(linear, offset, view, 0, point) / z, coordinate(linear, offset, view, 1, point) / z
                if not (u >= _HALF and v >= _HALF and u < right and v < low):
                    continue
                u, v = u - _HALF, v - _HALF
                fineness = focal_there[view] / z * metres / focal
                say = min(fineness * fineness, _ONE)
                left, top = int32(u), int32(v)
                for down in range(2):
                    beside_v = v - float32(top + down)
                    for across in range(2):
                        beside_u = u - float32(left + across)
                        there = (view * height + top + down) * width + left + across
                        if label_there[there] == UNUSED:
                            continue
                        here = inverse_depth[there, 0] * z
                        slope = inverse_depth[there, 1] * beside_u + inverse_depth[there, 2] * beside_v
                        off, off_there = here - _ONE, here + slope * z - _ONE
                        weight = say * (_ONE - abs(beside_u)) * (_ONE - abs(beside_v))
                        if label_there[there] == of and min(abs(off), abs(off_there)) < _AGREEMENT:
                            votes[0, row, column] += weight
                        elif max(off, off_there) < -_AGREEMENT and not generated:
                            votes[1, row, column] += weight
