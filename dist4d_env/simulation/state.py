"""Frozen simulator state and what a step leaves behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.boxes import Boxes


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


@dataclass(frozen=True)
class Reference:
    """A trajectory to follow and the profiles fitted to it.

    start_tick: the simulator tick of the first pose; poses: (P, 3) x, y, unwrapped heading, global, every 0.1 s;
    speed, curvature: (P - 1,) smooth profiles in m/s and 1/m.
    """

    start_tick: int
    poses: np.ndarray
    speed: np.ndarray
    curvature: np.ndarray


@dataclass(frozen=True)
class Command:
    """What the ego has been told to do, in physical units; it stands until the next decision.

    Either ``reference`` is followed by the tracker, or ``acceleration`` (m/s^2) is commanded together with a front wheel angle
    ``steering`` (rad) or, where that is None, a ``steering_rate`` (rad/s).
    """

    acceleration: float = 0.0
    steering_rate: float = 0.0
    steering: float | None = None
    reference: Reference | None = None


@dataclass(frozen=True)
class SimState:
    """Everything that changes while an episode runs. Values only: keeping one is a snapshot.

    tick: since the episode's start; time: seconds since the scene's first keyframe; ego: now; boxes: the agents that exist now;
    path_position and path_speed: (N,) per track, used by reactive traffic (arc length along the logged path and its rate);
    command: the last decision's, None before the first.
    """

    tick: int
    time: float
    ego: EgoState
    boxes: Boxes
    path_position: np.ndarray
    path_speed: np.ndarray
    command: Command | None = None


@dataclass(frozen=True)
class Ticks:
    """What happened during one decision, tick by tick (the start excluded, the end included), for metrics and rendering."""

    time: np.ndarray  # (n,)
    ego: tuple[EgoState, ...]
    boxes: tuple[Boxes, ...]
