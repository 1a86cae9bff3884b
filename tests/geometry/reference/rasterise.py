"""Fragments to depth: the nearest surface of each pixel, and what lies on it averaged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from dist4d_env.geometry.fragments import Fragments

from dist4d_env.geometry.box_motion import STATIC

LEAST_BITS = 0x3D000000
"""Bits of the float 0.03: no depth is nearer, and what is left of a depth's bits fits below FRINGE."""
FRINGE = 1 << 60
NOTHING = np.iinfo(np.int64).max
UNITS = 2.0**36
"""Weights are summed as whole numbers of this part of one, so that their sums do not depend on the order."""


def rasterise(fragments: Fragments, pixels: int, size: tuple[int, int], core: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth (pixels,) float32, 0 in holes, and the label (pixels,) int32 of the box that each pixel shows, STATIC elsewhere.

    pixels: V H W. The nearest fragment of a pixel wins, one whose core covers the pixel's centre before any that only reaches it
    with its rim; the inverse depths of its surface's fragments are averaged with tent weights.
    """
    z, label = fragments.z, fragments.label
    # Positive floats order like their bits; the fragment's number below them makes every key unique, whatever the order.
    key = (z.view(np.int32).astype(np.int64) - LEAST_BITS) << 32 | np.arange(len(z))
    nearest = np.full(pixels, NOTHING)
    covers = []
    for index, pixel, weight, fringe in _cover(fragments, core, size):
        np.minimum.at(nearest, pixel.ravel(), (fringe + key[index]).ravel())
        covers.append((index, pixel, weight))
    hit = nearest != NOTHING
    if not hit.any():
        return np.zeros(pixels, np.float32), np.full(pixels, STATIC, np.int32)

    winner = np.where(hit, nearest & 0xFFFFFFFF, 0)
    behind, front = (z + fragments.slack)[winner], label[winner]
    inverse_z = 1 / z
    landed, weights, inverses = [], [], []
    for index, pixel, weight in covers:
        same = np.flatnonzero((z[index] <= behind.take(pixel)) & (label[index] == front.take(pixel)))
        landed.append(pixel.take(same))
        weights.append(_whole(weight.take(same)))
        inverses.append(_whole((weight * inverse_z[index]).take(same)))
    where = np.concatenate(landed)
    total = np.bincount(where, np.concatenate(weights), pixels)
    inverse = np.bincount(where, np.concatenate(inverses), pixels)
    depth = np.divide(total, inverse, out=np.zeros(pixels), where=hit).astype(np.float32)
    return depth, np.where(hit, front, np.int32(STATIC))


def _whole(weights: np.ndarray) -> np.ndarray:
    """Float64 whole numbers of UNITS, whose sums are exact."""
    return np.floor(weights.astype(np.float64) * UNITS)


def _cover(
    fragments: Fragments, core: float, size: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """The pixels that footprints cover, fragments of equally many rows and columns together.

    Yields fragment (n,), pixel in the flattened (V, H, W) (rows, columns, n), tent weight (rows, columns, n) float32 and fringe
    (rows, columns, n), FRINGE where the pixel's centre lies outside of the footprint's core, else 0.
    """
    height, width = size
    u, v, half_u, half_v = fragments.u, fragments.v, fragments.half_u, fragments.half_v
    left, columns = _span(u, half_u, width)
    top, rows = _span(v, half_v, height)
    first = ((fragments.camera * height + top) * width + left).astype(np.int64)
    start_u, start_v = left.astype(np.float32) + np.float32(0.5) - u, top.astype(np.float32) + np.float32(0.5) - v
    sharp_u, sharp_v = 1 / half_u, 1 / half_v
    widest = int(columns.max(initial=0)) + 1
    shape = np.where((columns > 0) & (rows > 0), rows * widest + columns, 0).astype(np.uint16)
    order = np.argsort(shape, kind="stable")
    ends = np.cumsum(np.bincount(shape))
    for code in np.flatnonzero(np.diff(ends, prepend=0)):
        if not code:
            continue  # out of the image
        index = order[ends[code - 1] : ends[code]]
        down, across = np.divmod(code, widest)
        pixel = first[index] + (width * np.arange(down)[:, None, None] + np.arange(across)[:, None])
        sharp_column, sharp_row = sharp_u[index], sharp_v[index]
        off_u = np.abs(start_u[index] + np.arange(across, dtype=np.float32)[:, None]) * sharp_column
        off_v = np.abs(start_v[index] + np.arange(down, dtype=np.float32)[:, None]) * sharp_row
        density = sharp_column * sharp_row  # finer fragments count for more
        tent_v = density * (np.float32(1.02) - off_v)
        weight = tent_v[:, None] * (np.float32(1.02) - off_u)
        fringe = ((off_u > core) | (off_v > core)[:, None]) * FRINGE
        yield index, pixel, weight, fringe


def _span(centre: np.ndarray, half: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel and number of pixels (n,) int32 whose centres lie within ``half`` of ``centre``, inside [0, limit)."""
    first = np.maximum(np.ceil(centre - half - np.float32(0.5)), 0).astype(np.int32)
    last = np.minimum(np.floor(centre + half - np.float32(0.5)), limit - 1).astype(np.int32)
    return first, np.maximum(last - first + 1, 0)
