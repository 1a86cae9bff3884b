"""Neighbouring cameras of a rig, from where the cameras look."""

from __future__ import annotations

import numpy as np

WIDEST_GAP = np.pi
"""Angle between two viewing directions from which on cameras are not neighbours, even if none looks in between."""


def neighbours(ego_from_camera: np.ndarray) -> np.ndarray:
    """Indices (V, 2) of each camera's left (next counter-clockwise) and right (next clockwise) neighbour by yaw.

    ego_from_camera: (V, 4, 4). Cameras that look the same way are ordered by how far to the left they stand. A camera with one
    neighbour, at the end of a fan, has it on both sides; a camera with none, alone on its rig or looking away from all others,
    is its own.
    """
    ahead, position = ego_from_camera[:, :2, 2], ego_from_camera[:, :2, 3]
    yaw = np.arctan2(ahead[:, 1], ahead[:, 0])
    leftward = position[:, 1] * ahead[:, 0] - position[:, 0] * ahead[:, 1]
    order = np.lexsort([leftward, np.round(yaw, 6)])  # counter-clockwise, from behind
    gap = np.diff(yaw[order], append=yaw[order[0]] + 2 * np.pi)
    near = gap < WIDEST_GAP  # (V,) the next one in order is a neighbour
    left, right = np.where(near, np.roll(order, -1), -1), np.where(np.roll(near, 1), np.roll(order, 1), -1)
    pairs = np.stack([left, right], -1)
    pairs = np.where(pairs < 0, pairs[:, ::-1], pairs)
    found = np.empty((len(order), 2), np.int64)
    found[order] = np.where(pairs < 0, order[:, None], pairs)
    return found


def reading_order(ego_from_camera: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Rows of cameras as a person would lay out their images: those that look ahead, then those that look back, each row from the
    car's left to its right. ego_from_camera: (V, 4, 4)."""
    yaw = np.arctan2(ego_from_camera[:, 1, 2], ego_from_camera[:, 0, 2])
    ahead = np.abs(yaw) <= np.pi / 2 + 1e-6
    order = np.argsort(np.where(ahead, -yaw, yaw % (2 * np.pi)), kind="stable").tolist()
    rows = tuple(tuple(view for view in order if ahead[view] == front) for front in (True, False))
    return tuple(row for row in rows if row)
