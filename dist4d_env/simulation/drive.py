"""Egos driven over many ticks: by commands, along references, along plans."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.actions import global_plans
from dist4d_env.simulation.commands import Commands
from dist4d_env.simulation.ego import STEERING, EgoState, ego_rows
from dist4d_env.simulation.tracker import References, track
from dist4d_env.simulation.vehicle import VehicleDynamics, advance


def drive(
    ego: np.ndarray,
    commands: Commands,
    tick: np.ndarray,
    ticks: int,
    vehicle: VehicleParameters | None = None,
    dynamics: VehicleDynamics | None = None,
) -> np.ndarray:
    """Ego rows (B, ticks, 7), the start excluded, of egos (B, 7) that carry out their commands from the ticks (B,) on."""
    vehicle, dynamics = vehicle or VehicleParameters(), dynamics or VehicleDynamics()
    following = np.flatnonzero(commands.follows)
    references = None
    if commands.references is not None and len(following):
        references = commands.references.take(following)
    rows = np.empty((len(ego), ticks, 7))
    for index in range(ticks):
        turned = ego[:, STEERING] + commands.steering_rate * TICK
        acceleration, steering = commands.acceleration, np.where(np.isnan(commands.steering), turned, commands.steering)
        if references is not None:
            pull, rate = track(ego[following], references, tick[following] + index, vehicle.wheelbase)
            acceleration = acceleration.copy()
            acceleration[following], steering[following] = pull, ego[following, STEERING] + rate * TICK
        ego = rows[:, index] = advance(ego, acceleration, steering, vehicle, dynamics, TICK)
    return rows


def drive_along(
    start: np.ndarray, references: References, ticks: int, vehicle: VehicleParameters, dynamics: VehicleDynamics
) -> np.ndarray:
    """Ego rows (B, ticks + 1, 7), the start included, from rows (B, 7) or (1, 7) at tick 0, each following its reference."""
    rows = np.empty((len(references), ticks + 1, 7))
    rows[:, 0] = start
    for tick in range(ticks):
        now = np.ascontiguousarray(rows[:, tick])
        acceleration, rate = track(now, references, np.full(len(now), tick), vehicle.wheelbase)
        rows[:, tick + 1] = advance(now, acceleration, now[:, STEERING] + rate * TICK, vehicle, dynamics, TICK)
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
