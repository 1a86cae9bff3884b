"""A straight street along x, made by hand: 14 m of road, two lanes a direction, an ego on it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from shapely.geometry import LineString, box

from dist4d_env.geometry.boxes import CATEGORIES, Boxes
from dist4d_env.scenes.lights import NO_LIGHTS, TrafficLights
from dist4d_env.scenes.maps import make_map
from dist4d_env.scenes.route import Route
from dist4d_env.simulation.ego import EgoState
from dist4d_env.simulation.state import EpisodeState
from dist4d_env.town.sensors import town_rig

LINE = np.array([[[58.0, 3.5], [58.0, -7.0]]])
"""The stop line of ``street(light=True)``."""


def street(route: np.ndarray | None = None, light: bool = False) -> SimpleNamespace:
    """What observations and pictures need of a scene. route: (P, 2), along y = 0 by default; light: with a traffic light before
    the crossing."""
    layers = {
        "drivable_area": [box(-50, -7, 250, 7)],
        "walkway": [box(-50, 7, 250, 10), box(-50, -10, 250, -7)],
        "ped_crossing": [box(60, -7, 64, 7)],
        "road_divider": [LineString([(-50, 3.5), (250, 3.5)])],
        "lane_divider": [LineString([(-50, -3.5), (250, -3.5)])],
    }
    points = np.stack([np.arange(0.0, 200.0), np.zeros(200)], 1) if route is None else route
    lights = NO_LIGHTS
    if light:
        layers["stop_line"] = [box(57.8, -7, 58.2, 3.5)]
        heads, state = np.array([[58.0, -8.0, 3.0, np.pi]]), np.zeros((1, 1), np.int8)
        lights = TrafficLights(("light",), ((),), LINE, state, heads, np.zeros(1, int))
    scene_map, rig, way = make_map("street", layers), town_rig(64, 112), Route.through(points)
    return SimpleNamespace(name="street", version="made-by-hand", map=scene_map, route=way, rig=rig, lights=lights)


def boxes_at(*rows: tuple[str, float, float, float]) -> Boxes:
    """Boxes of 4 x 2 m from category, x, y and yaw, all moving at 5 m/s along their heading."""
    x, y, yaw = (np.array([row[i] for row in rows], float) for i in (1, 2, 3))
    return Boxes(
        token=np.arange(len(rows)),
        category=np.array([CATEGORIES.index(row[0]) for row in rows], np.int8),
        position=np.stack([x, y, np.full(len(rows), 0.8)], 1).reshape(-1, 3),
        size=np.tile([4.0, 2.0, 1.6], (len(rows), 1)),
        yaw=yaw,
        velocity=5.0 * np.stack([np.cos(yaw), np.sin(yaw)], 1).reshape(-1, 2),
    )


def state_at(x: float, y: float, yaw: float, boxes: Boxes | None = None, speed: float = 8.0) -> EpisodeState:
    """The ego there, with these boxes around it."""
    ego = EgoState(x, y, yaw, speed, 0.5, 0.1, 0.05)
    return EpisodeState(0, 2.0, ego, boxes if boxes is not None else boxes_at())
