"""Traces made by hand on the straight road."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.scenes.route import Route
from tests.simulation.road import EAST, Agent, road_map, tracks_of

ROAD = road_map()


def straight(speed: float = 8.0, y: float = 0.0, steps: int = 41, x: float = 0.0) -> np.ndarray:
    """(T, 7) an ego at constant speed along x."""
    ego = np.zeros((steps, 7))
    ego[:, 0], ego[:, 1], ego[:, 3] = x + speed * 0.1 * np.arange(steps), y, speed
    return ego


def make_trace(
    ego: np.ndarray | None = None,
    *agents: Agent,
    scene_map: SceneMap | None = ROAD,
    vehicle: VehicleParameters | None = None,
    expert_speed: float = 8.0,
) -> EpisodeTrace:
    """A trace of an ego (T, 7) among agents, the route along y = 0, the logged ego at constant speed on it."""
    ego = straight() if ego is None else ego
    steps = len(ego)
    tracks = tracks_of(*agents, duration=(steps - 1) * 0.1)
    points = np.column_stack([np.arange(-20.0, EAST), np.zeros(round(EAST) + 20)])
    return EpisodeTrace(
        time=tracks.time,
        ego=ego,
        position=tracks.position.swapaxes(0, 1),
        yaw=tracks.yaw.T,
        velocity=tracks.velocity.swapaxes(0, 1),
        valid=tracks.valid.T,
        size=tracks.size,
        category=tracks.category,
        expert=straight(expert_speed, steps=steps)[:, :3],
        map=scene_map,
        route=Route.through(points, log_length=120.0),
        vehicle=vehicle or VehicleParameters(),
    )
