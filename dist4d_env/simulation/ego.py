"""Ego states: as rows of arrays, and one of them as a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

X, Y, YAW, SPEED, ACCELERATION, STEERING, YAW_RATE = range(7)
"""Columns of an ego row."""


@dataclass(frozen=True)
class EgoState:
    """Rear-axle state in the global frame: metres, radians, m/s, m/s^2; steering is the front wheel angle, positive left."""

    x: float
    y: float
    yaw: float
    speed: float
    acceleration: float
    steering: float
    yaw_rate: float


def ego_rows(egos: Sequence[EgoState]) -> np.ndarray:
    """(B, 7) the rows of some ego states."""
    return np.array([(e.x, e.y, e.yaw, e.speed, e.acceleration, e.steering, e.yaw_rate) for e in egos], float).reshape(-1, 7)


def ego_state(row: np.ndarray) -> EgoState:
    """The ego state of one row (7,)."""
    return EgoState(*row.tolist())


# numpy has vectorised versions of these that differ from the C library's in the last bit, and which it uses depends on the
# processor and on how many numbers there are: one episode and one of many must not differ.


def cosines(angles: np.ndarray) -> np.ndarray:
    """(B,) ``math.cos`` of each."""
    return np.array([*map(math.cos, angles.tolist())])


def sines(angles: np.ndarray) -> np.ndarray:
    """(B,) ``math.sin`` of each."""
    return np.array([*map(math.sin, angles.tolist())])


def hypotenuses(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(B,) ``math.hypot`` of each pair."""
    return np.array([*map(math.hypot, x.tolist(), y.tolist())])
