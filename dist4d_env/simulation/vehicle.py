"""The ego's motion: a kinematic bicycle on the rear axle behind lagging actuators."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.simulation import kernels


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
    given = map(kernels.contiguous, (ego, acceleration, steering))
    return kernels.advance_all(*given, constants(vehicle, dynamics, dt), dt)


@lru_cache(maxsize=64)
def constants(vehicle: VehicleParameters, dynamics: VehicleDynamics, dt: float) -> tuple[float, ...]:
    """What ``kernels`` want to know of a car: wheelbase, by which shares acceleration and wheels near what is commanded within
    ``dt``, the limits of acceleration, of the front wheel angle and of its change, and whether it may reverse."""
    return (
        vehicle.wheelbase,
        dt / (dt + dynamics.acceleration_lag),
        dt / (dt + dynamics.steering_lag),
        dynamics.min_acceleration,
        dynamics.max_acceleration,
        dynamics.max_steering,
        dynamics.max_steering_rate * dt,
        float(dynamics.reverse),
    )
