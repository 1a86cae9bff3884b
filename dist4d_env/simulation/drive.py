"""Egos driven over many ticks: by commands, along references, along plans."""

from __future__ import annotations

import math

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation import kernels
from dist4d_env.simulation.actions import global_plans
from dist4d_env.simulation.commands import Commands
from dist4d_env.simulation.ego import EgoState, ego_rows
from dist4d_env.simulation.tracker import GAINS, References
from dist4d_env.simulation.vehicle import VehicleDynamics, constants


def drive(
    ego: np.ndarray,
    commands: Commands,
    tick: np.ndarray,
    ticks: int,
    vehicle: VehicleParameters | None = None,
    dynamics: VehicleDynamics | None = None,
    fades: float = math.nan,
) -> np.ndarray:
    """Ego rows (B, ticks, 7), the start excluded, of egos (B, 7) that carry out their commands from the ticks (B,) on.

    fades: a factor by which, in place of commanded controls, the present acceleration fades each tick while the wheels are held;
    references are followed all the same.
    """
    vehicle, dynamics = vehicle or VehicleParameters(), dynamics or VehicleDynamics()
    followed = commands.references or NOTHING
    controls = commands.acceleration, commands.steering_rate, commands.steering, commands.follows
    reference = followed.start_tick, followed.poses, followed.speed, followed.curvature
    return kernels.drive(
        kernels.contiguous(ego),
        kernels.contiguous(tick),
        ticks,
        *map(kernels.contiguous, controls),
        tuple(map(kernels.contiguous, reference)),
        (fades, TICK + dynamics.acceleration_lag),
        constants(vehicle, dynamics, TICK),
        TICK,
        GAINS,
    )


NOTHING = References(np.zeros(0, int), np.zeros((0, 1, 3)), np.zeros((0, 0)), np.zeros((0, 0)))
"""What is followed where no ego follows a reference."""


def drive_along(
    start: np.ndarray, references: References, ticks: int, vehicle: VehicleParameters, dynamics: VehicleDynamics
) -> np.ndarray:
    """Ego rows (B, ticks + 1, 7), the start included, from rows (B, 7) or (1, 7) at tick 0, each following its reference."""
    start = np.broadcast_to(start, (len(references), 7))
    rows = drive(start, Commands.following(references), np.zeros(len(references), int), ticks, vehicle, dynamics)
    return np.concatenate([start[:, None], rows], 1)


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
