"""Whether planned ego boxes hit agents: on the grid that nuScenes planners are scored with, and exactly.

All of it in a frame with x forward and y to the left whose origin is the LiDAR's at the time of the plan.
"""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.metrics.driving.rectangles import overlap

LENGTH, WIDTH, AHEAD = 4.084, 1.85, 0.5
"""The ego's box, and how far its centre lies ahead of the LiDAR."""
CELL, REACH = 0.5, 50.0
"""Metres per cell of the grid, and how far it reaches to all sides."""


def ego_cells() -> np.ndarray:
    """(32, 2) rows (forward) and columns (left) of the cells whose centres lie in the ego's box, standing at the origin."""
    first = CELL / 2 - REACH
    low, high = ((np.array([sign * LENGTH / 2 + AHEAD, sign * WIDTH / 2]) - first) / CELL for sign in (-1, 1))
    rows, columns = (np.arange(np.ceil(a), np.floor(b) + 1) for a, b in zip(low, high, strict=True))
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


EGO_CELLS = ego_cells()


def occupancy(position: np.ndarray, yaw: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(200, 200) bool: the cells that boxes (N, 2), (N,), (N, 2) length and width, cover.

    As the originals draw them: corners moved by half a cell and rounded to whole cells, the edge belongs to the box.
    """
    import cv2

    count = round(2 * REACH / CELL)
    image = np.zeros((count, count), np.uint8)
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
    ahead, left = np.moveaxis(signs * size[:, None], -1, 0)
    cos, sin = deterministic.cos(yaw)[:, None], deterministic.sin(yaw)[:, None]
    corners = position[:, None] + np.stack([cos * ahead - sin * left, sin * ahead + cos * left], -1)
    cells = np.round((corners + REACH) / CELL).astype(np.int32)
    for polygon in cells[..., ::-1]:  # OpenCV wants the column first
        cv2.fillPoly(image, [polygon], 1)
    return image.astype(bool)


def grid_hits(path: np.ndarray, occupied: np.ndarray) -> np.ndarray:
    """(P,) whether the ego's cells, moved along a path (P, 2) and never turned, meet occupied ones (P, 200, 200).

    Cells that leave the grid are clipped to its edge, as in the originals.
    """
    index = np.clip(np.trunc(path[:, None] / CELL + EGO_CELLS).astype(int), 0, occupied.shape[-1] - 1)
    return occupied[np.arange(len(path))[:, None], index[..., 0], index[..., 1]].any(1)


def exact_hits(path: np.ndarray, position: np.ndarray, yaw: np.ndarray, size: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(P,) whether the ego's box, turned to the headings of a path (P, 3), overlaps boxes (P, N, 2), (P, N), (N, 2), where they
    count (P, N)."""
    heading = path[:, 2]
    center = path[:, :2] + AHEAD * np.stack([deterministic.cos(heading), deterministic.sin(heading)], -1)
    hit = overlap(center[:, None], heading[:, None], np.array([LENGTH, WIDTH]), position, yaw, size)
    return (hit & counts).any(1)


def headings(path: np.ndarray, least: float = 0.1) -> np.ndarray:
    """(..., P, 3) a path (..., P, 2) from the origin with the directions of its steps; a step shorter than ``least`` metres keeps
    the direction before it, at first straight on. A path (..., P, 3) is taken as it is."""
    if path.shape[-1] == 3:
        return path
    step = np.diff(path, axis=-2, prepend=0.0)
    direction, moved = deterministic.arctan2(step[..., 1], step[..., 0]), np.hypot(step[..., 0], step[..., 1]) >= least
    index = np.where(moved, np.arange(1, path.shape[-2] + 1), 0)
    last = np.maximum.accumulate(index, axis=-1)
    known = np.concatenate([np.zeros((*direction.shape[:-1], 1)), direction], -1)
    return np.concatenate([path, np.take_along_axis(known, last, -1)[..., None]], -1)
