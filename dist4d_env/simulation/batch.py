"""Tracker and bicycle over rows of egos, each bit for bit as ``tracker`` and ``vehicle`` move one alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.actions import global_plans
from dist4d_env.simulation.rows import (
    ACCELERATION,
    SPEED,
    STEERING,
    YAW,
    X,
    Y,
    cosines,
    ego_rows,
    sines,
    tangents,
)
from dist4d_env.simulation.state import EgoState, Reference
from dist4d_env.simulation.tracker import (
    DT,
    HORIZON,
    LATERAL_Q,
    LATERAL_R,
    LONGITUDINAL_Q,
    LONGITUDINAL_R,
    STOPPING_GAIN,
    STOPPING_SPEED,
    fit_profiles,
    wrap,
)
from dist4d_env.simulation.vehicle import VehicleDynamics


@dataclass(frozen=True)
class References:
    """What ``Reference`` is, B times: start_tick (B,); poses (B, P, 3); speed, curvature (B, P - 1).

    A shorter one is filled up with its last pose and values, which is what stands past its end anyway.
    """

    start_tick: np.ndarray
    poses: np.ndarray
    speed: np.ndarray
    curvature: np.ndarray

    @classmethod
    def of(cls, references: Sequence[Reference]) -> References:
        """Some references side by side."""
        poses = _filled([reference.poses for reference in references])
        speed, curvature = _filled([r.speed for r in references]), _filled([r.curvature for r in references])
        return cls(np.array([reference.start_tick for reference in references], int), poses, speed, curvature)

    @classmethod
    def fitted(cls, poses: np.ndarray, start_tick: np.ndarray) -> References:
        """The references to global poses (B, P, 3) every 0.1 s from the ticks (B,) on."""
        return cls(start_tick, *fit_profiles(poses))

    def __len__(self) -> int:
        return len(self.start_tick)

    def __getitem__(self, index: int) -> Reference:
        return Reference(int(self.start_tick[index]), self.poses[index], self.speed[index], self.curvature[index])

    def take(self, rows: np.ndarray) -> References:
        """Those of some rows."""
        return References(self.start_tick[rows], self.poses[rows], self.speed[rows], self.curvature[rows])


def _filled(values: list[np.ndarray]) -> np.ndarray:
    longest = max(map(len, values))
    return np.stack([np.concatenate([v, np.repeat(v[-1:], longest - len(v), axis=0)]) for v in values])


def track_rows(ego: np.ndarray, references: References, tick: np.ndarray, wheelbase: float) -> tuple[np.ndarray, np.ndarray]:
    """``tracker.track`` for ego rows (B, 7) at ticks (B,): accelerations (B,) in m/s^2 and steering rates (B,) in rad/s."""
    rows = np.arange(len(ego))
    index, last = np.maximum(tick - references.start_tick, 0), references.speed.shape[1] - 1
    speed, steering = ego[:, SPEED], ego[:, STEERING]
    wanted = references.speed[rows, np.minimum(index + HORIZON, last)]
    span = HORIZON * DT
    acceleration = -span * LONGITUDINAL_Q / (span * span * LONGITUDINAL_Q + LONGITUDINAL_R) * (speed - wanted)

    x, y, heading = references.poses[rows, np.minimum(index, last + 1)].T
    cos, sin = cosines(heading), sines(heading)
    side = -sin * (ego[:, X] - x) + cos * (ego[:, Y] - y)
    turned = wrap(ego[:, YAW] - heading)
    step = np.arange(HORIZON)[:, None]
    curvature = references.curvature[rows, np.minimum(index + step, last)]  # (HORIZON, B)
    distance = (speed + acceleration * step * DT) * DT
    # What happens if the steering rate is zero, and what each unit of the rate adds, one step after the other.
    turned = _running_sum(turned, distance * (steering / wheelbase - curvature))
    side = _running_sum(side, distance * turned[:-1])[-1]
    nothing = np.zeros(len(ego))
    turned_gain = _running_sum(nothing, distance * _STEERING_GAIN[:-1] / wheelbase)
    side_gain = _running_sum(nothing, distance * turned_gain[:-1])[-1]
    turned, turned_gain, steering_gain = turned[-1], turned_gain[-1], float(_STEERING_GAIN[-1, 0])
    q_side, q_turned, q_steering = LATERAL_Q
    pull = q_side * side_gain * side + q_turned * turned_gain * wrap(turned) + q_steering * steering_gain * steering
    stiffness = q_side * (side_gain * side_gain) + q_turned * (turned_gain * turned_gain)
    stiffness += q_steering * (steering_gain * steering_gain) + LATERAL_R

    standing = (speed <= STOPPING_SPEED) & (wanted <= STOPPING_SPEED)
    return np.where(standing, -STOPPING_GAIN * (speed - wanted), acceleration), np.where(standing, 0.0, -pull / stiffness)


_STEERING_GAIN = np.cumsum([0.0] + [DT] * HORIZON)[:, None]
"""(HORIZON + 1, 1) s, how far a steering rate of one has turned the wheels after each step."""


def _running_sum(start: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(n + 1, B) a start (B,) and what it becomes by adding n steps (n, B) one after the other."""
    return np.add.accumulate(np.concatenate([start[None], steps]), axis=0)


def advance_rows(
    ego: np.ndarray,
    acceleration: np.ndarray,
    steering: np.ndarray,
    vehicle: VehicleParameters,
    dynamics: VehicleDynamics,
    dt: float,
) -> np.ndarray:
    """``vehicle.advance`` for ego rows (B, 7) and commands (B,): the rows ``dt`` seconds later."""
    x, y, yaw, speed, accel, angle, _ = ego.T
    wanted = np.minimum(np.maximum(acceleration, dynamics.min_acceleration), dynamics.max_acceleration)
    new_accel = accel + dt / (dt + dynamics.acceleration_lag) * (wanted - accel)
    wanted = np.minimum(np.maximum(steering, -dynamics.max_steering), dynamics.max_steering)
    turn = dt / (dt + dynamics.steering_lag) * (wanted - angle)
    reach = dynamics.max_steering_rate * dt
    new_angle = angle + np.minimum(np.maximum(turn, -reach), reach)

    new_speed = speed + new_accel * dt
    if not dynamics.reverse:
        stops = new_speed < 0
        new_speed, new_accel = np.where(stops, 0.0, new_speed), np.where(stops, -speed / dt, new_accel)
    turned = yaw + speed * tangents(angle) / vehicle.wheelbase * dt
    after = np.empty_like(ego)
    after[:, X] = x + speed * cosines(yaw) * dt
    after[:, Y] = y + speed * sines(yaw) * dt
    after[:, YAW] = wrap(turned)
    after[:, SPEED], after[:, ACCELERATION], after[:, STEERING] = new_speed, new_accel, new_angle
    after[:, 6] = new_speed * tangents(new_angle) / vehicle.wheelbase
    return after


def drive_along(
    start: np.ndarray, references: References, ticks: int, vehicle: VehicleParameters, dynamics: VehicleDynamics
) -> np.ndarray:
    """Ego rows (B, ticks + 1, 7), the start included, from rows (B, 7) or (1, 7) at tick 0, each following its reference."""
    rows = np.empty((len(references), ticks + 1, 7))
    rows[:, 0] = start
    for tick in range(ticks):
        now = np.ascontiguousarray(rows[:, tick])
        acceleration, rate = track_rows(now, references, np.full(len(now), tick), vehicle.wheelbase)
        rows[:, tick + 1] = advance_rows(now, acceleration, now[:, STEERING] + rate * TICK, vehicle, dynamics, TICK)
    return rows


def simulate_plans(
    ego: EgoState,
    plans: np.ndarray,
    dt: float = 0.5,
    ticks: int = 40,
    vehicle: VehicleParameters | None = None,
    dynamics: VehicleDynamics | None = None,
) -> np.ndarray:
    """Ego rows (B, ticks + 1, 7), the start included, of one ego that follows each of B plans for ``ticks`` ticks of 0.1 s.

    plans: (B, P, 3) x, y, heading in the ego frame at dt, 2 dt, ... seconds, over at least 0.3 s. Driven by the LQR tracker and
    the bicycle bit for bit as ``Simulator.execute`` drives each plan alone; past its end a plan's last speed and curvature stand.
    """
    plans, start = np.asarray(plans, float), ego_rows([ego])
    if not len(plans):
        return np.empty((0, ticks + 1, 7))
    references = References.fitted(global_plans(plans, dt, start[:, :3]), np.zeros(len(plans), int))
    return drive_along(start, references, ticks, vehicle or VehicleParameters(), dynamics or VehicleDynamics())
