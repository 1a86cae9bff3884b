"""Where a scenario's edits measure from: the route, the logged ego's progress along it, and the ground."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import TICK, Scene

_GROUND_NEIGHBOURS = 6


class EditFrame:
    """A scene seen from a scenario's start. ``start``: seconds since the scene's first keyframe, on its 10 Hz grid.

    row: the row of the start; time: (T,) seconds after the start of every row of the log.
    """

    def __init__(self, scene: Scene, start: float, vehicle: VehicleParameters | None = None) -> None:
        self.scene, self.route, self.vehicle = scene, scene.route, vehicle or VehicleParameters()
        self.row = round(start / TICK)
        if not 0 <= self.row < len(scene.ego.time):
            raise ConfigError(f"start={start} s lies outside {scene.name}, which lasts {scene.duration:.1f} s")
        self.time = (np.arange(len(scene.ego.time)) - self.row) * TICK

    @cached_property
    def ego(self) -> np.ndarray:
        """(T, 3) x, y, yaw of the centre of the logged ego's box."""
        pose = self.scene.ego.global_from_ego
        yaw = yaw_of(pose)
        ahead = self.vehicle.rear_axle_to_center
        return np.column_stack(
            [pose[:, 0, 3] + ahead * deterministic.cos(yaw), pose[:, 1, 3] + ahead * deterministic.sin(yaw), yaw]
        )

    @cached_property
    def ego_arc(self) -> np.ndarray:
        """(T,) arc length on the route of the centre of the logged ego's box."""
        return self.route.follow(self.ego[:, :2])

    @property
    def origin(self) -> float:
        """Arc length that ``ahead`` is counted from."""
        return float(self.ego_arc[self.row])

    def row_after(self, seconds: float) -> int:
        """The first row not earlier than so many seconds after the start. Raises ConfigError past the log's end."""
        row = self.row + math.ceil(seconds / TICK - 1e-6)
        if row >= len(self.time):
            raise ConfigError(f"{seconds:g} s after the start is past the end of {self.scene.name} ({self.time[-1]:.1f} s)")
        return row

    def ego_arc_after(self, seconds: float) -> float:
        """Arc length of the logged ego so many seconds after the start, at its last speed past the log's end."""
        beyond = max(seconds - float(self.time[-1]), 0.0)
        return float(np.interp(seconds, self.time, self.ego_arc)) + beyond * max(float(self.scene.ego.speed[-1]), 0.0)

    def arrival(self, ahead: float, edit: str) -> float:
        """Seconds after the start at which the front of the logged ego is ``ahead`` metres along the route.

        Raises ConfigError, naming the edit, where it never gets there.
        """
        arc = np.maximum.accumulate(self.ego_arc[self.row :]) + self.vehicle.length / 2
        wanted = self.origin + ahead
        if not arc[0] < wanted <= arc[-1]:
            raise ConfigError(
                f"{edit}: the logged ego of {self.scene.name} does not pass {ahead:g} m ahead of the start (its front covers "
                f"{arc[0] - self.origin:.1f} to {arc[-1] - self.origin:.1f} m): choose ahead between them"
            )
        return float(np.interp(wanted, arc + 1e-9 * np.arange(len(arc)), self.time[self.row :]))

    def place(self, arc: np.ndarray, lateral: np.ndarray) -> np.ndarray:
        """(N, 3) x, y and the route's heading at arc lengths (N,) and offsets to the left (N,); past its ends straight on."""
        arc, lateral = np.broadcast_arrays(np.asarray(arc, float), np.asarray(lateral, float))
        poses = self.route.sample(arc)
        beyond = arc - np.clip(arc, 0.0, self.route.length)
        cos, sin = deterministic.cos(poses[:, 2]), deterministic.sin(poses[:, 2])
        x = poses[:, 0] + cos * beyond - sin * lateral
        y = poses[:, 1] + sin * beyond + cos * lateral
        return np.column_stack([x, y, poses[:, 2]])

    def ground(self, xy: np.ndarray) -> np.ndarray:
        """(N,) height of the ground at points (N, 2): that below the logged ego and below the nearest standing boxes.

        The nearest samples count with the inverse of their squared distance.
        """
        spots = self._ground_samples
        square = ((xy[:, None] - spots[:, :2]) ** 2).sum(-1)  # (N, S)
        nearest = np.argsort(square, axis=1, kind="stable")[:, :_GROUND_NEIGHBOURS]
        weight = 1 / (np.take_along_axis(square, nearest, 1) + 0.01)
        return (weight * spots[nearest, 2]).sum(1) / weight.sum(1)

    @cached_property
    def _ground_samples(self) -> np.ndarray:
        """(S, 3) points known to be on the ground: below the logged ego every half second and below boxes at the start."""
        log = self.scene.ego.global_from_ego[::5, :3, 3]
        tracks = self.scene.recorded.tracks
        here = np.flatnonzero(tracks.valid[:, self.row])
        below = tracks.position[here, self.row] - np.array([0, 0, 0.5]) * tracks.size[here, 2:]
        return np.concatenate([log, below])
