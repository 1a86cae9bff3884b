"""Exact overlap of moving rectangles over time (separating axes)."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.boxes import rectangle_corners


def overlapping_pairs(
    position: np.ndarray, yaw: np.ndarray, size: np.ndarray, valid: np.ndarray, margin: float = 0.0
) -> list[tuple[int, int, int]]:
    """All (first time index, i, j), i < j, whose footprints meet at some time, in order of time.

    position: (N, T, 2); yaw: (N, T); size: (N, 2) length, width; valid: (N, T). Each footprint is grown by ``margin`` all round.
    """
    length, width = size[:, 0] + 2 * margin, size[:, 1] + 2 * margin
    reach = np.hypot(length, width) / 2
    found = []
    for i in range(len(position) - 1):
        later = slice(i + 1, None)
        distance = np.hypot(*np.moveaxis(position[later] - position[i], -1, 0))  # (M, T)
        near = (distance < (reach[later] + reach[i])[:, None]) & valid[later] & valid[i]
        other, time = np.nonzero(near)
        if not len(other):
            continue
        other = other + i + 1
        a = rectangle_corners(position[i, time, 0], position[i, time, 1], yaw[i, time], length[i], width[i])
        b = rectangle_corners(position[other, time, 0], position[other, time, 1], yaw[other, time], length[other], width[other])
        meets = rectangles_meet(a, b)
        for j in np.unique(other[meets]):
            found.append((int(time[meets & (other == j)].min()), i, int(j)))
    return sorted(found)


def rectangles_meet(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether rectangles (..., 4, 2) share more than their outline (...)."""
    apart = np.zeros(a.shape[:-2], bool)
    for rectangle in (a, b):
        for side in (0, 1):
            axis = rectangle[..., side + 1, :] - rectangle[..., side, :]
            pa, pb = np.einsum("...ki,...i->...k", a, axis), np.einsum("...ki,...i->...k", b, axis)
            apart |= (pa.max(-1) <= pb.min(-1)) | (pb.max(-1) <= pa.min(-1))
    return ~apart
