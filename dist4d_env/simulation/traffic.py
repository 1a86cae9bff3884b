"""Logged traffic: the recorded tracks played back, one ``Boxes`` per tick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.scenes.scene import TICK, Tracks
from dist4d_env.simulation.state import EgoState


class Traffic(Protocol):
    """Agents over the tracks of one scene. Rows count the 10 Hz grid of the log; all methods are pure."""

    def start(self, row: int) -> tuple[Boxes, np.ndarray, np.ndarray]:
        """Boxes, path positions (N,) and path speeds (N,) at a row, as logged."""
        ...

    def step(
        self, row: int, ego: EgoState, boxes: Boxes, position: np.ndarray, speed: np.ndarray
    ) -> tuple[Boxes, np.ndarray, np.ndarray]:
        """The same one tick later: from ``row`` to ``row + 1``, with the ego where it was at ``row``."""
        ...

    def anticipate(self, row: int, position: np.ndarray, speed: np.ndarray, rows: Sequence[int]) -> tuple[Boxes, ...]:
        """What is expected at later rows if nobody's mind changes."""
        ...


def row_of(time: float) -> int:
    """The row of the 10 Hz grid nearest to a time in seconds."""
    return round(time / TICK)


def boxes_by_row(tracks: Tracks) -> tuple[Boxes, ...]:
    """The annotated objects of every row of the log."""
    rows = []
    for row in range(len(tracks.time)):
        here = np.flatnonzero(tracks.valid[:, row])
        rows.append(
            Boxes(
                token=here.astype(np.int64),
                category=tracks.category[here],
                position=tracks.position[here, row],
                size=tracks.size[here],
                yaw=tracks.yaw[here, row],
                velocity=tracks.velocity[here, row],
            )
        )
    return tuple(rows)


def no_boxes() -> Boxes:
    """An empty street."""
    return Boxes(np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 2)))


class ReplayTraffic:
    """Every track exactly as logged; where a track or the log ends, the agent is gone."""

    def __init__(self, tracks: Tracks) -> None:
        self._rows = boxes_by_row(tracks)
        self._nothing = no_boxes()
        self._path = np.zeros(len(tracks))  # replayed agents have no state of their own

    def _at(self, row: int) -> Boxes:
        return self._rows[row] if 0 <= row < len(self._rows) else self._nothing

    def start(self, row: int) -> tuple[Boxes, np.ndarray, np.ndarray]:
        return self._at(row), self._path, self._path

    def step(
        self, row: int, ego: EgoState, boxes: Boxes, position: np.ndarray, speed: np.ndarray
    ) -> tuple[Boxes, np.ndarray, np.ndarray]:
        return self._at(row + 1), position, speed

    def anticipate(self, row: int, position: np.ndarray, speed: np.ndarray, rows: Sequence[int]) -> tuple[Boxes, ...]:
        return tuple(self._at(later) for later in rows)
