"""The hand-made world of NAVSIM's golden values as maps, routes, agents and simulated egos."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from shapely import from_wkt
from shapely.geometry import box

from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.plans.scene import PlanScene
from dist4d_env.scenes.maps import Lane, SceneMap, make_map
from dist4d_env.scenes.route import Route
from dist4d_env.simulation.vehicle import VehicleDynamics
from tests.simulation.road import lane

KINDS = {"vehicle": "car", "traffic_cone": "traffic_cone", "pedestrian": "pedestrian"}
FORMS = ("faithful", "corrected")
PARTS = {
    "NC": "no_at_fault_collision",
    "DAC": "drivable_area_compliance",
    "DDC": "driving_direction_compliance",
    "EP": "ego_progress",
    "TTC": "time_to_collision",
    "LK": "lane_keeping",
    "comfort": "comfort",
}
"""The original's names of sub-scores, and ours."""
UNLIMITED = VehicleDynamics(
    min_acceleration=-100, max_acceleration=100, max_steering=math.pi / 3, max_steering_rate=100, reverse=True
)
"""NAVSIM's bicycle knows no limits but the steering angle's."""


def read(stored_data: Path, version: str) -> dict[str, Any]:
    return json.loads((stored_data / "golden" / f"navsim_{version}.json").read_text())


def vehicle_of(data: dict[str, Any]) -> VehicleParameters:
    car = data["vehicle"]
    return VehicleParameters(
        car["length"], car["width"], 1.777, car["wheel_base"], (car["front_length"] - car["rear_length"]) / 2
    )


def simulated(data: dict[str, Any]) -> np.ndarray:
    """(10, 41, 7) the original's own ego rows, plan by plan."""
    ego = np.zeros((len(data["plans"]), 41, 7))
    for plan, name in enumerate(data["plans"]):
        for column, key in enumerate(("x", "y", "heading", "speed", "acceleration", "steering")):
            ego[plan, :, column] = data["simulated"][name][key]
    ego[..., 6] = ego[..., 3] * np.tan(ego[..., 5]) / data["vehicle"]["wheel_base"]
    return ego


def road_of_golden() -> tuple[SceneMap, Route]:
    lanes = [lane("A", 0.0), lane("B", 3.5), lane("C", 7.0, np.pi)]
    x = np.arange(-50.0, 201.0)
    route = Route.through(np.column_stack([x, np.zeros(len(x))]), ("A",))
    return make_map("golden", {"drivable_area": [box(-50, -1.75, 200, 8.75)]}, lanes), route


def scene_of(data: dict[str, Any], world: str) -> PlanScene:
    """One of the eight worlds for 5 s; lanes A and B are on the route, as the original was told."""
    objects = data["worlds"][world]
    count, rows = len(objects), 51
    speed, heading = (np.array([o[key] for o in objects]).reshape(count) for key in ("speed", "heading"))
    velocity = np.column_stack([speed * np.cos(heading), speed * np.sin(heading)])
    start = np.array([(o["x"], o["y"]) for o in objects]).reshape(count, 2)
    scene_map, route = road_of_golden()
    return PlanScene(
        position=start + np.arange(rows)[:, None, None] * 0.1 * velocity,
        yaw=np.broadcast_to(heading, (rows, count)),
        velocity=np.broadcast_to(velocity, (rows, count, 2)),
        valid=np.ones((rows, count), bool),
        size=np.array([(o["length"], o["width"]) for o in objects]).reshape(count, 2),
        category=np.array([CATEGORIES.index(KINDS[o["type"]]) for o in objects], np.int8),
        map=scene_map,
        route=route,
        vehicle=vehicle_of(data),
        on_route=frozenset("AB"),
    )


def worlds(stored_data: Path, version: str, mode: str) -> list[tuple[dict[str, Any], np.ndarray, PlanScene]]:
    """The crossroads of one file: the case as stored, its driven plans (12, 41, 7), and the agents and map around them."""
    path = stored_data / "golden" / "worlds" / f"navsim_{version}_{mode}.json.gz"
    cases = json.loads(gzip.decompress(path.read_bytes()))["cases"]
    return [(case, np.array(case["ego"]["rows"]), _crossroads(case)) for case in cases]


def _crossroads(case: dict[str, Any]) -> PlanScene:
    agents, ground, route = case["agents"], case["map"], case["route"]
    lanes = [
        Lane(lane["token"], lane["is_connector"], np.array(lane["centerline"]), from_wkt(lane["polygon"]), (), ())
        for lane in ground["lanes"]
    ]
    layers = {name: [from_wkt(polygon) for polygon in ground[name]] for name in ("drivable_area", "carpark_area")}
    return PlanScene(
        **{name: np.array(agents[name]) for name in ("position", "yaw", "velocity", "valid")},
        size=np.array(agents["size_length_width"]),
        category=np.array([CATEGORIES.index(name) for name in agents["category"]], np.int8),
        map=make_map("crossroads", layers, lanes, intersections=[from_wkt(ground["intersections"])]),
        route=Route.through(np.array(route["points"]), tuple(route["lanes"])),
        vehicle=VehicleParameters(**case["vehicle"]),
        on_route=frozenset(route["lanes_on_route"]),
    )
