"""Logged tracks as paths: where an agent is after so many metres, and when the log had it there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.scenes.scene import TICK, Tracks

SPACING = 0.5
"""Metres between the samples of a path."""


@dataclass(frozen=True)
class Paths:
    """Paths of M tracks over the T rows of the log.

    samples: (M, P, 6) every 0.5 m x, y, z, yaw (unwrapped) and the unit vector along the path, the last (past its end) repeated;
    end: (M,) length in metres; schedule: (M, T) arc length at every row, constant before the first and after the last valid one;
    pace: (M, T) m/s from each row to the next, at the last valid one still that before; first, last: (M,) valid rows.
    """

    samples: np.ndarray
    end: np.ndarray
    schedule: np.ndarray
    pace: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, tracks: Tracks, indices: np.ndarray) -> Paths:
        """The paths of some tracks, each with two or more valid rows; gaps in between are bridged evenly."""
        rows = np.arange(len(tracks.time))
        schedule, paths, ends = np.zeros((len(indices), len(rows))), [], []
        for mover, index in enumerate(indices):
            here = np.flatnonzero(tracks.valid[index])
            points = np.column_stack([tracks.position[index, here], np.unwrap(tracks.yaw[index, here])])
            arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points[:, :2], axis=0).T))])
            schedule[mover] = np.interp(rows, here, arc)
            ends.append((here[0], here[-1]))
            samples = np.arange(0.0, arc[-1] + SPACING, SPACING)
            path = np.column_stack([np.interp(samples, arc, column) for column in points.T])
            rest = arc[-1] - samples[-2]
            if rest > 1e-6:  # the last sample lies past the end: on the line to it, so that the end itself is met
                path[-1] = path[-2] + (points[-1] - path[-2]) * SPACING / rest
            paths.append(np.column_stack([path, _directions(path)]))
        longest = max((len(path) for path in paths), default=2)
        padded = [np.concatenate([path, np.repeat(path[-1:], longest - len(path), axis=0)]) for path in paths]
        first, last = np.array(ends, int).reshape(-1, 2).T
        pace = np.diff(schedule, axis=1, append=schedule[:, -1:]) / TICK
        movers = np.arange(len(indices))
        pace[movers, last] = pace[movers, last - 1]
        return cls(np.array(padded).reshape(-1, longest, 6), schedule[:, -1].copy(), schedule, pace, first, last)


def _directions(path: np.ndarray) -> np.ndarray:
    """(P, 2) unit vectors along a path (P, >=4); where it does not move, along its yaw."""
    step = np.diff(path[:, :2], axis=0, append=path[-1:, :2])
    if len(path) > 1:
        step[-1] = step[-2]
    length = np.hypot(step[:, 0], step[:, 1])[:, None]
    facing = np.column_stack([deterministic.cos(path[:, 3]), deterministic.sin(path[:, 3])])
    return np.where(length > 1e-6, step / np.maximum(length, 1e-6), facing)
