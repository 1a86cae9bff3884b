"""The ego's motion: a kinematic bicycle on the rear axle behind lagging actuators."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.simulation.ego import ACCELERATION, SPEED, STEERING, YAW, YAW_RATE, X, Y, cosines, sines, tangents
from dist4d_env.simulation.tracker import wrap


@dataclass(frozen=True)
class VehicleDynamics:
    """How fast the actuators answer and how far they reach.

    acceleration_lag, steering_lag: seconds, first-order low-pass of the commands (0.2 s and 0.05 s as in nuPlan);
    min_acceleration, max_acceleration: m/s^2, a full brake on dry asphalt and a small car's strongest pull; max_steering: front
    wheel angle in radians (0.6 gives the Zoe's 10.6 m turning circle); max_steering_rate: rad/s at the wheel; reverse: whether
    the speed may fall below zero (by default a braking car stops and stays).
    """

    acceleration_lag: float = 0.2
    steering_lag: float = 0.05
    min_acceleration: float = -8.0
    max_acceleration: float = 4.0
    max_steering: float = 0.6
    max_steering_rate: float = 0.8
    reverse: bool = False

    def __post_init__(self) -> None:
        if self.acceleration_lag < 0 or self.steering_lag < 0:
            raise ConfigError("vehicle dynamics: lags are seconds and cannot be negative")
        if not self.min_acceleration < 0 < self.max_acceleration:
            raise ConfigError("vehicle dynamics: min_acceleration must be below zero and max_acceleration above it")
        if not 0 < self.max_steering < math.pi / 2 or self.max_steering_rate <= 0:
            raise ConfigError("vehicle dynamics: max_steering must lie in (0, pi/2) and max_steering_rate above zero")


def advance(
    ego: np.ndarray,
    acceleration: np.ndarray,
    steering: np.ndarray,
    vehicle: VehicleParameters,
    dynamics: VehicleDynamics,
    dt: float,
) -> np.ndarray:
    """One Euler step of ``dt`` seconds of egos (B, 7) towards accelerations (B,) in m/s^2 and front wheel angles (B,) in rad.

    The commands pass the limits and the lag first. Position and heading then integrate the old speed, heading and steering, the
    speed integrates the new acceleration: the integration order of nuPlan's kinematic bicycle model, so that its traces are
    reproduced. The acceleration kept is the one that really happened, so a car at rest under brakes reports zero.
    """
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
    after = np.empty_like(ego)
    after[:, X] = x + speed * cosines(yaw) * dt
    after[:, Y] = y + speed * sines(yaw) * dt
    after[:, YAW] = wrap(yaw + speed * tangents(angle) / vehicle.wheelbase * dt)
    after[:, SPEED], after[:, ACCELERATION], after[:, STEERING] = new_speed, new_accel, new_angle
    after[:, YAW_RATE] = new_speed * tangents(new_angle) / vehicle.wheelbase
    return after
