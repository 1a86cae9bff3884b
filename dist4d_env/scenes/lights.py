"""Traffic lights of a scene: their stop lines, the lanes they control, and their states over time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

STATES = ("unknown", "green", "amber", "red")
UNKNOWN, GREEN, AMBER, RED = range(len(STATES))
LAMPS, LAMP_SPACING = (RED, AMBER, GREEN), 0.36
"""The states by the lamps of a head, from the top one down, and metres from one to the next."""


@dataclass(frozen=True)
class TrafficLights:
    """G traffic lights, global frame.

    token: (G) the data set's names; lanes: (G) tokens of the lanes that each controls: those entered over its stop line;
    stop_line: (G, 2, 2) x, y of its left and its right end as seen by those who come; state: (G, T) int8 into STATES at the rows
    of the scene's 10 Hz log, each holding until the next row; heads: (K, 4) x, y, z of the middle of each head of lamps and the
    direction that it faces; head_light: (K,) which light a head shows.
    """

    token: tuple[str, ...]
    lanes: tuple[tuple[str, ...], ...]
    stop_line: np.ndarray
    state: np.ndarray
    heads: np.ndarray
    head_light: np.ndarray

    def __len__(self) -> int:
        return len(self.token)

    def rows(self, row: np.ndarray) -> np.ndarray:
        """(G, N) the states at rows (N,) of the log; before the first and after the last row those of that row."""
        return self.state[:, np.clip(row, 0, self.state.shape[1] - 1)]

    def seen_at(self, row: np.ndarray) -> TrafficLights:
        """The same lights with their states at rows (N,) of the log alone."""
        return replace(self, state=self.rows(row))

    @property
    def unseen(self) -> TrafficLights:
        """The same lights with nothing known of their states."""
        return replace(self, state=np.full((len(self), 1), UNKNOWN, np.int8))

    def met(self, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where a path (P, 2) crosses stop lines in the direction that they are meant for: metres (M,) from its first point,
        rising, and which lights (M,)."""
        step = np.diff(path, axis=0)
        length = np.hypot(step[:, 0], step[:, 1])
        piece, light, share = crossed(path[:-1], path[1:], self.stop_line)
        at = (np.cumsum(length) - length)[piece] + share * length[piece]
        order = np.lexsort((light, at))
        return at[order], light[order]


NO_LIGHTS = TrafficLights((), (), np.zeros((0, 2, 2)), np.zeros((0, 1), np.int8), np.zeros((0, 4)), np.zeros(0, int))
"""Of a scene that has none."""


def crossed(start: np.ndarray, end: np.ndarray, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves from points (P, 2) to points (P, 2) that go over stop lines (G, 2, 2) the way these are meant: index of the move and
    of the line, and the share of the move that lies before the line, (M,) each."""
    dx, dy = (end - start).T[:, :, None]
    ax, ay = (lines[None, :, 0] - start[:, None]).transpose(2, 0, 1)
    ex, ey = (lines[:, 1] - lines[:, 0]).T
    turn = dx * ey - dy * ex  # below zero: with the left end to the left
    with np.errstate(divide="ignore", invalid="ignore"):
        along, across = (ax * ey - ay * ex) / turn, (ax * dy - ay * dx) / turn
    move, line = np.nonzero((turn < 0) & (along >= 0) & (along < 1) & (across >= 0) & (across <= 1))
    return move, line, along[move, line]


def must_stop(state: ArrayLike, distance: ArrayLike, speed: ArrayLike, braking: float, hardest: float) -> np.ndarray:
    """(...) whether a driver ``distance`` metres before a stop line has to stop at it: at red wherever that is possible at all,
    at amber where it is without haste. braking, hardest: m/s^2 that mean the one and the other."""
    state, distance = np.asarray(state), np.asarray(distance)
    needed = np.square(speed) / (2 * np.maximum(distance, 1e-3))
    return (distance >= 0) & (((state == RED) & (needed <= hardest)) | ((state == AMBER) & (needed <= braking)))
