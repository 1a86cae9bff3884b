"""PlanScene: the agents' next seconds, the map and the route that plans are scored against."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.recording import log_rows
from dist4d_env.metrics.driving.rectangles import contacts, ego_centers
from dist4d_env.metrics.driving.route_lanes import RouteArea, lanes_on_route, route_area
from dist4d_env.metrics.driving.trace import EpisodeTrace, require_agents, require_finite
from dist4d_env.scenes.lights import NO_LIGHTS, TrafficLights
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.scenes.route import Route
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.state import EpisodeState

FUTURE = 50
"""Ticks ahead that plans of 4 s are scored against: NAVSIM v1's time to collision looks 0.9 s past their end."""
PAST = 15
"""Ticks of driving before a plan that NAVSIM v2's comfort looks at."""


@dataclass(frozen=True)
class PlanScene:
    """The next ticks at 10 Hz, row 0 is now; global frame.

    Over N agents: position (T, N, 2) centres, yaw (T, N), velocity (T, N, 2), valid (T, N), size (N, 2) length and width,
    category (N,) int8 into CATEGORIES. on_route: tokens of the lanes that count as the route. history: (H, 7) ego rows before
    now, oldest first, None where the past is not known. track: (N,) the agents' identities (``Boxes.token``), their index if
    None. near: arc length on the route around which the ego is, for routes that cross themselves; None: anywhere. lights: with
    their states at the same ticks, the last of which holds on. ConfigError
    where the history or an agent that exists is not finite, or an agent has no size.
    """

    position: np.ndarray
    yaw: np.ndarray
    velocity: np.ndarray
    valid: np.ndarray
    size: np.ndarray
    category: np.ndarray
    map: SceneMap | None
    route: Route
    vehicle: VehicleParameters
    on_route: frozenset[str]
    history: np.ndarray | None = None
    track: np.ndarray | None = None
    near: float | None = None
    lights: TrafficLights = NO_LIGHTS

    def __post_init__(self) -> None:
        require_finite("the scene of a plan", history=self.history)
        rows = {"position": self.position, "yaw": self.yaw, "velocity": self.velocity}
        require_agents("the scene of a plan", self.valid, self.size, **rows)

    @classmethod
    def forecast(
        cls,
        state: EpisodeState,
        scene: Scene,
        vehicle: VehicleParameters | None = None,
        ticks: int = FUTURE,
        history: np.ndarray | None = None,
    ) -> PlanScene:
        """Forecast from the present state: every agent at constant velocity and heading for ``ticks`` more ticks, traffic lights
        as they are."""
        boxes = state.boxes
        time = np.arange(ticks + 1)[:, None, None] * TICK
        shape = (ticks + 1, len(boxes))
        return cls(
            position=boxes.position[:, :2] + time * boxes.velocity,
            yaw=np.broadcast_to(boxes.yaw, shape),
            velocity=np.broadcast_to(boxes.velocity, (*shape, 2)),
            valid=np.ones(shape, bool),
            size=boxes.size[:, :2],
            category=boxes.category,
            map=scene.map,
            route=scene.route,
            vehicle=vehicle or VehicleParameters(),
            on_route=lanes_on_route(scene.map, scene.route.lanes),
            history=history,
            track=boxes.token,
            lights=replace(scene.lights, state=state.lights[:, None]),
        )

    @classmethod
    def logged(cls, scene: Scene, time: float, vehicle: VehicleParameters | None = None, ticks: int = FUTURE) -> PlanScene:
        """The recording from ``time`` seconds on, with the recorded ego as the past; fewer rows where the log ends."""
        row, tracks, vehicle = round(time / TICK), scene.tracks, vehicle or VehicleParameters()
        rows = slice(row, row + ticks + 1)
        return cls(
            position=tracks.position[:, rows, :2].swapaxes(0, 1),
            yaw=tracks.yaw[:, rows].T,
            velocity=tracks.velocity[:, rows].swapaxes(0, 1),
            valid=tracks.valid[:, rows].T,
            size=tracks.size[:, :2],
            category=tracks.category,
            map=scene.map,
            route=scene.route,
            vehicle=vehicle,
            on_route=lanes_on_route(scene.map, scene.route.lanes),
            history=log_rows(scene, vehicle)[max(row - PAST, 0) : row],
            lights=scene.lights.seen_at(np.arange(row, row + ticks + 1)),
        )

    @classmethod
    def happened(cls, trace: EpisodeTrace, step: int, ticks: int = FUTURE) -> PlanScene:
        """The episode itself from a step on, its own past included; fewer rows where it ends."""
        rows, trace = slice(step, step + ticks + 1), trace.at_ticks()
        return cls(
            position=trace.position[rows, :, :2],
            yaw=trace.yaw[rows],
            velocity=trace.velocity[rows],
            valid=trace.valid[rows],
            size=trace.size[:, :2],
            category=trace.category,
            map=trace.map,
            route=trace.route,
            vehicle=trace.vehicle,
            on_route=lanes_on_route(trace.map, trace.route.lanes),
            history=trace.ego[max(step - PAST, 0) : step],
            near=float(trace.route_position[step]),
            lights=trace.lights.seen_at(np.arange(step, step + ticks + 1)),
        )

    def until(self, rows: int) -> PlanScene:
        """The first rows only."""
        cut = {name: getattr(self, name)[:rows] for name in ("position", "yaw", "velocity", "valid")}
        return replace(self, **cut)

    def cleared(self, ego: np.ndarray) -> PlanScene:
        """Without the agents that touch an ego (7,) in the first row, which the simulation of NAVSIM v2 removes for good."""
        own, center = np.array([self.vehicle.length, self.vehicle.width]), ego_centers(ego, self.vehicle)[None, None]
        now = self.until(1)
        _, _, track = contacts(center, ego[None, None, 2], own, now.position, now.yaw, now.size, now.valid)
        valid = self.valid.copy()
        valid[:, track] = False
        return replace(self, valid=valid)

    @property
    def area(self) -> RouteArea:
        """The lanes on the route as geometry."""
        return route_area(self.map, self.on_route, self.route)
