"""Values of metrics: the episode trace as arrays, the plans issued in it, and a metric's result."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.rectangles import contacts, ego_centers
from dist4d_env.scenes.maps import Lane, SceneMap
from dist4d_env.scenes.route import Route


@dataclass(frozen=True)
class EpisodeTrace:
    """An episode at 10 Hz, the start included, global frame.

    time: (T,); ego: (T, 7) x, y, yaw, speed, acceleration, steering, yaw_rate of the rear axle; agents over the N tracks of the
    scene: position (T, N, 3) centres, yaw (T, N), velocity (T, N, 2), valid (T, N), size (N, 3) length, width, height,
    category (N,) int8 into CATEGORIES; expert: (T, 3) logged x, y, yaw at the same times (clamped to the log's end).
    """

    time: np.ndarray
    ego: np.ndarray
    position: np.ndarray
    yaw: np.ndarray
    velocity: np.ndarray
    valid: np.ndarray
    size: np.ndarray
    category: np.ndarray
    expert: np.ndarray
    map: SceneMap | None
    route: Route
    vehicle: VehicleParameters

    @cached_property
    def center(self) -> np.ndarray:
        """(T, 2) centres of the ego's box."""
        return ego_centers(self.ego, self.vehicle)

    @cached_property
    def contact(self) -> np.ndarray:
        """(T, N) which tracks touch the ego's footprint at which step."""
        own, hits = np.array([self.vehicle.length, self.vehicle.width]), np.zeros(self.valid.shape, bool)
        there = self.position[..., :2], self.yaw, self.size[:, :2], self.valid
        _, step, track = contacts(self.center[None], self.ego[None, :, 2], own, *there)
        hits[step, track] = True
        return hits

    @cached_property
    def expert_position(self) -> np.ndarray:
        """``route_position`` of the logged ego at the same times."""
        return self.route.follow(ego_centers(self.expert, self.vehicle))

    @cached_property
    def route_position(self) -> np.ndarray:
        """(T,) arc length on the route of the ego's box centre, in metres, followed in time."""
        return self.route.follow(self.center)

    @cached_property
    def lanes(self) -> list[tuple[Lane, ...]]:
        """The lanes that hold the ego's box centre, step by step; none without a map."""
        return [()] * len(self.time) if self.map is None else self.map.lanes_along(self.center)


@dataclass(frozen=True)
class Plans:
    """The plans issued during an episode, for scores of plans instead of the driven path.

    step: (K,) tick of the trace at which each plan was issued; poses: (K, P, 3) x, y, heading in the ego frame of that tick, at
    dt, 2 dt, ... seconds after it.
    """

    step: np.ndarray
    poses: np.ndarray
    dt: float = 0.5


@dataclass(frozen=True)
class MetricResult:
    """A metric's value, whether it could be computed, and the step and object that caused it."""

    value: float
    valid: bool
    details: dict[str, Any] = field(default_factory=dict)
