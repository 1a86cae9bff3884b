"""From simulator states to the arrays that metrics look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.state import EgoState, SimState, Ticks


def trace_of(
    scene: Scene, vehicle: VehicleParameters, time: np.ndarray, ego: Sequence[EgoState], boxes: Sequence[Boxes]
) -> EpisodeTrace:
    """Stacks T instants; rows of tracks that did not exist are invalid and zero."""
    rows, tracks = len(time), len(scene.tracks)
    position, yaw = np.zeros((rows, tracks, 3)), np.zeros((rows, tracks))
    velocity, valid = np.zeros((rows, tracks, 2)), np.zeros((rows, tracks), bool)
    for row, here in enumerate(boxes):
        position[row, here.token], yaw[row, here.token] = here.position, here.yaw
        velocity[row, here.token], valid[row, here.token] = here.velocity, True
    return EpisodeTrace(
        time=time,
        ego=np.array([(e.x, e.y, e.yaw, e.speed, e.acceleration, e.steering, e.yaw_rate) for e in ego]),
        position=position,
        yaw=yaw,
        velocity=velocity,
        valid=valid,
        size=scene.tracks.size,
        category=scene.tracks.category,
        expert=expert_poses(scene, time),
        map=scene.map,
        route=scene.route,
        vehicle=vehicle,
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
    )


@dataclass(frozen=True)
class Recording:
    """An episode so far, as values: its first state and every decision's ticks."""

    start: SimState
    decisions: tuple[Ticks, ...] = ()

    def extended(self, ticks: Ticks) -> Recording:
        """The recording with one more decision."""
        return Recording(self.start, (*self.decisions, ticks))

    def trace(self, scene: Scene, vehicle: VehicleParameters) -> EpisodeTrace:
        """The episode as arrays, the start included."""
        time = np.concatenate([[self.start.time], *(ticks.time for ticks in self.decisions)])
        ego = [self.start.ego, *(ego for ticks in self.decisions for ego in ticks.ego)]
        boxes = [self.start.boxes, *(here for ticks in self.decisions for here in ticks.boxes)]
        return trace_of(scene, vehicle, time, ego, boxes)
