"""Traces: driven and logged episodes as the arrays that metrics look at."""

from __future__ import annotations

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.agents import AgentArrays


def trace_of(scene: Scene, vehicle: VehicleParameters, row: np.ndarray, ego: np.ndarray, agents: AgentArrays) -> EpisodeTrace:
    """A trace of one episode from its log rows (T,), egos (T, 7) and agents (T, M), M at least the scene's tracks."""
    time, here = row * TICK, agents[:, : len(scene.tracks)]
    return EpisodeTrace(
        time=time,
        ego=ego,
        position=here.position,
        yaw=here.yaw,
        velocity=here.velocity,
        valid=here.valid,
        size=scene.tracks.size,
        category=scene.tracks.category,
        expert=expert_poses(scene, time),
        map=scene.map,
        route=scene.route,
        vehicle=vehicle,
        lights=scene.lights.seen_at(row),
    )


def expert_poses(scene: Scene, time: np.ndarray) -> np.ndarray:
    """(T, 3) logged x, y, yaw at times on the 10 Hz grid, clamped to the log's end."""
    row = np.clip(np.round(time / TICK).astype(int), 0, len(scene.ego.time) - 1)
    pose = scene.ego.global_from_ego[row]
    return np.column_stack([pose[:, :2, 3], yaw_of(pose)])


def logged_progress(scene: Scene, vehicle: VehicleParameters, begin: float, end: float) -> float:
    """Metres of the route that the logged ego covers from ``begin`` to ``end`` seconds (its log's end is where it stays): the
    reference of an episode that is meant to last from the one to the other."""
    times = begin + TICK * np.arange(round((end - begin) / TICK) + 1)
    position = scene.route.follow(ego_centers(expert_poses(scene, times), vehicle))
    return float(position[-1] - position[0])


def log_rows(scene: Scene, vehicle: VehicleParameters) -> np.ndarray:
    """(T, 7) the recorded ego at 10 Hz as ``EpisodeTrace.ego`` has it: speed, acceleration and yaw rate of the log, the front
    wheel angle that goes with them (zero below 0.5 m/s, where the yaw rate is noise)."""
    log = scene.ego
    speed = np.maximum(log.speed, 0.0)
    steering = np.where(speed > 0.5, deterministic.arctan(vehicle.wheelbase * log.yaw_rate / np.maximum(speed, 0.5)), 0.0)
    pose = log.global_from_ego
    return np.column_stack([pose[:, :2, 3], yaw_of(pose), speed, log.acceleration, steering, log.yaw_rate])


def log_trace(
    scene: Scene, start: float = 0.0, end: float | None = None, vehicle: VehicleParameters | None = None
) -> EpisodeTrace:
    """The recorded ego among the recorded agents from ``start`` to ``end`` seconds (the log's end) as an episode: the human.

    Times are moved to the nearest tick. ConfigError if fewer than two ticks of the log lie between them.
    """
    vehicle, last = vehicle or VehicleParameters(), len(scene.ego.time) - 1
    first, stop = max(round(start / TICK), 0), last if end is None else min(round(end / TICK), last)
    if stop <= first:
        raise ConfigError(f"{scene.name} was recorded from 0 to {scene.duration:.1f} s: nothing between {start} and {end} s")
    rows, tracks = slice(first, stop + 1), scene.tracks
    ego = log_rows(scene, vehicle)[rows]
    return EpisodeTrace(
        time=scene.ego.time[rows],
        ego=ego,
        position=tracks.position[:, rows].swapaxes(0, 1),
        yaw=tracks.yaw[:, rows].T,
        velocity=tracks.velocity[:, rows].swapaxes(0, 1),
        valid=tracks.valid[:, rows].T,
        size=tracks.size,
        category=tracks.category,
        expert=ego[:, :3],
        map=scene.map,
        route=scene.route,
        vehicle=vehicle,
        lights=scene.lights.seen_at(np.arange(first, stop + 1)),
    )
