"""Arc-line paths: how nuScenes stores lane centrelines, as Dubins pieces of two arcs and a straight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dist4d_env.geometry import deterministic

_TURN = {"L": 1.0, "S": 0.0, "R": -1.0}


def discretize(paths: Sequence[Mapping[str, Any]], spacing: float = 1.0) -> np.ndarray:
    """Points (P, 3) x, y, heading, at most ``spacing`` metres apart, both ends included, of a lane's ``arcline_path_3`` records.

    Each record starts at its own start pose and runs through three segments whose curvature is +1 / radius for "L", -1 / radius
    for "R" and 0 for "S". Segments of no length leave no trace.
    """
    points: list[np.ndarray] = []
    for path in paths:
        lengths = np.asarray(path["segment_length"], float)
        curvatures = np.array([_TURN[letter] for letter in path["shape"]]) / path["radius"]
        bounds = np.concatenate([[0.0], np.cumsum(lengths)])
        s = np.linspace(0.0, bounds[-1], int(np.ceil(bounds[-1] / spacing - 1e-9)) + 1)
        heading = np.concatenate([[path["start_pose"][2]], path["start_pose"][2] + np.cumsum(lengths * curvatures)])
        corner = np.asarray(path["start_pose"][:2], float)
        x, y, yaw = np.empty_like(s), np.empty_like(s), np.empty_like(s)
        for i in range(len(lengths)):
            here = (s >= bounds[i]) & (s <= bounds[i + 1])
            inside = np.append(s[here] - bounds[i], lengths[i])  # the last entry carries the corner to the next segment
            half = inside * curvatures[i] / 2
            chord = inside * np.sinc(half / np.pi)
            across = heading[i] + half
            xs, ys = corner[0] + chord * deterministic.cos(across), corner[1] + chord * deterministic.sin(across)
            x[here], y[here], yaw[here] = xs[:-1], ys[:-1], heading[i] + 2 * half[:-1]
            corner = np.array([xs[-1], ys[-1]])
        points.append(np.stack([x, y, yaw], -1))
    if not points:
        return np.zeros((0, 3))
    joined = np.concatenate(points)
    fresh = np.concatenate([[True], np.hypot(*np.diff(joined[:, :2], axis=0).T) > 0.1])  # ends shared by neighbouring records
    joined = joined[fresh]
    joined[:, 2] = np.unwrap(joined[:, 2])
    return joined
