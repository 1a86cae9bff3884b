"""The ego's motion: a kinematic bicycle on the rear axle behind lagging actuators."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.simulation.state import EgoState


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
    ego: EgoState, acceleration: float, steering: float, vehicle: VehicleParameters, dynamics: VehicleDynamics, dt: float
) -> EgoState:
    """One Euler step of ``dt`` seconds towards a commanded acceleration (m/s^2) and front wheel angle (rad).

    The commands pass the limits and the lag first. Position and heading then integrate the old speed, heading and steering, the
    speed integrates the new acceleration: the integration order of nuPlan's kinematic bicycle model, so that its traces are
    reproduced. The acceleration kept is the one that really happened, so a car at rest under brakes reports zero.
    """
    wanted = min(max(acceleration, dynamics.min_acceleration), dynamics.max_acceleration)
    accel = ego.acceleration + dt / (dt + dynamics.acceleration_lag) * (wanted - ego.acceleration)
    wanted = min(max(steering, -dynamics.max_steering), dynamics.max_steering)
    turn = dt / (dt + dynamics.steering_lag) * (wanted - ego.steering)
    reach = dynamics.max_steering_rate * dt
    angle = ego.steering + min(max(turn, -reach), reach)

    speed = ego.speed + accel * dt
    if speed < 0 and not dynamics.reverse:
        speed, accel = 0.0, -ego.speed / dt
    yaw = ego.yaw + ego.speed * math.tan(ego.steering) / vehicle.wheelbase * dt
    return EgoState(
        x=ego.x + ego.speed * math.cos(ego.yaw) * dt,
        y=ego.y + ego.speed * math.sin(ego.yaw) * dt,
        yaw=(yaw + math.pi) % (2 * math.pi) - math.pi,
        speed=speed,
        acceleration=accel,
        steering=angle,
        yaw_rate=speed * math.tan(angle) / vehicle.wheelbase,
    )
