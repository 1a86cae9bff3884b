"""Random worlds round a crossroads, and the same worlds somewhere else."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import shapely
from shapely.geometry import box

from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.route_lanes import lanes_on_route
from dist4d_env.metrics.driving.trace import EpisodeTrace, Plans
from dist4d_env.metrics.plans.scene import PlanScene
from dist4d_env.scenes.lights import GREEN, RED, TrafficLights
from dist4d_env.scenes.maps import Lane, SceneMap, make_map
from dist4d_env.scenes.route import Route
from dist4d_env.simulation.drive import simulate_plans
from dist4d_env.simulation.ego import EgoState

CAR = VehicleParameters()


@dataclass(frozen=True)
class Motion:
    """Everything turned about the origin, then moved."""

    angle: float
    shift: tuple[float, float]

    def points(self, points: np.ndarray) -> np.ndarray:
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return points @ np.array([[cos, sin], [-sin, cos]]) + self.shift

    def vectors(self, vectors: np.ndarray) -> np.ndarray:
        return self.points(vectors) - self.shift

    def poses(self, rows: np.ndarray) -> np.ndarray:
        """Rows (..., 3 or more) that begin with x, y, yaw."""
        moved = np.array(rows)
        moved[..., :2], moved[..., 2] = self.points(rows[..., :2]), rows[..., 2] + self.angle
        return moved

    def map(self, here: SceneMap) -> SceneMap:
        layers = {name: [shapely.transform(shape, self.points) for shape in shapes] for name, shapes in here.layers.items()}
        lanes = [
            replace(lane, centerline=self.poses(lane.centerline), polygon=shapely.transform(lane.polygon, self.points))
            for lane in here.lanes.values()
        ]
        return make_map(here.location, layers, lanes, here.missing)

    def route(self, route: Route) -> Route:
        return replace(route, points=self.points(route.points))

    def lights(self, lights: TrafficLights) -> TrafficLights:
        return replace(lights, stop_line=self.points(lights.stop_line))

    def scene(self, scene: PlanScene) -> PlanScene:
        return replace(
            scene,
            position=self.points(scene.position),
            yaw=scene.yaw + self.angle,
            velocity=self.vectors(scene.velocity),
            map=self.map(scene.map),
            route=self.route(scene.route),
            history=None if scene.history is None else self.poses(scene.history),
            lights=self.lights(scene.lights),
        )

    def trace(self, trace: EpisodeTrace) -> EpisodeTrace:
        position = np.array(trace.position)
        position[..., :2] = self.points(position[..., :2])
        return replace(
            trace,
            ego=self.poses(trace.ego),
            position=position,
            yaw=trace.yaw + self.angle,
            velocity=self.vectors(trace.velocity),
            expert=self.poses(trace.expert),
            map=self.map(trace.map),
            route=self.route(trace.route),
            lights=self.lights(trace.lights),
        )


def crossroads() -> tuple[SceneMap, Route]:
    """Two lanes east (A, B) and one west (C), cut by an intersection from x = 28 to 40 with a road north; a car park."""

    def strip(token: str, first: float, last: float, y: float, connector: bool = False, before=(), after=()) -> Lane:
        x = np.arange(first, last + 0.5, 1.0)
        line = np.column_stack([x, np.full(len(x), y), np.zeros(len(x))])
        return Lane(token, connector, line, box(first, y - 1.75, last, y + 1.75), before, after, 9.0)

    def west(token: str, first: float, last: float, connector: bool = False) -> Lane:
        lane = strip(token, first, last, 7.0, connector)
        return replace(lane, centerline=lane.centerline[::-1] + np.array([0, 0, np.pi]))

    y = np.arange(-40.0, 60.0)
    north = Lane("N", True, np.column_stack([np.full(len(y), 34.0), y, np.full(len(y), np.pi / 2)]), box(32, -40, 36, 60), (), ())
    lanes = [
        strip("A1", -60, 28, 0.0, after=("A2",)),
        strip("A2", 28, 40, 0.0, True, ("A1",), ("A3",)),
        strip("A3", 40, 160, 0.0),
        strip("B1", -60, 28, 3.5, after=("B2",)),
        strip("B2", 28, 40, 3.5, True, ("B1",), ("B3",)),
        strip("B3", 40, 160, 3.5),
        west("C1", -60, 28),
        west("C2", 28, 40, True),
        west("C3", 40, 160),
        north,
    ]
    road = [box(-60, -1.75, 160, 8.75), box(30, -40, 38, 60)]
    x = np.arange(-50.0, 151.0)
    route = Route.through(np.column_stack([x, np.zeros(len(x))]), ("A1", "A2", "A3"), log_length=150.0)
    return make_map("crossroads", {"drivable_area": road, "carpark_area": [box(5, -6, 25, -1.75)]}, lanes), route


def random_lights(random: np.random.Generator, rows: int) -> TrafficLights:
    """One before the intersection for each lane that goes east, which turns from red to green some time."""
    lines = np.array([[[28.0, y + 1.75], [28.0, y - 1.75]] for y in (0.0, 3.5)])
    states = np.where(np.arange(rows) < random.integers(0, rows, (2, 1)), RED, GREEN).astype(np.int8)
    return TrafficLights(("A", "B"), (("A2",), ("B2",)), lines, states, np.zeros((0, 4)), np.zeros(0, int))


def random_agents(random: np.random.Generator, rows: int, count: int = 14) -> dict[str, np.ndarray]:
    """Agents of all kinds on and beside the road at constant velocity, some gone for a while."""
    start = np.column_stack([random.uniform(-25, 70, count), random.uniform(-7, 10, count)])
    yaw = np.where(random.random(count) < 0.5, 0.0, np.pi) + random.normal(0, 0.4, count)
    speed = np.where(random.random(count) < 0.4, 0.0, random.uniform(0.5, 13.0, count))
    velocity = speed[:, None] * np.column_stack([np.cos(yaw), np.sin(yaw)])
    present = random.random((rows, count)) > 0.02
    size = np.column_stack([random.uniform(0.4, 6.0, count), random.uniform(0.4, 2.3, count), random.uniform(0.5, 3, count)])
    return {
        "position": start + np.arange(rows)[:, None, None] * 0.1 * velocity,
        "yaw": np.broadcast_to(yaw, (rows, count)),
        "velocity": np.broadcast_to(velocity, (rows, count, 2)),
        "valid": present,
        "size": size,
        "category": random.integers(0, len(CATEGORIES), count).astype(np.int8),
    }


def random_plans(random: np.random.Generator, count: int, speed: float) -> np.ndarray:
    """(count, 8, 3) plans that speed up, slow down and turn aside."""
    ahead = 0.5 * np.arange(1, 9)
    pull, turn = random.uniform(-6.0, 4.0, (count, 1)), random.normal(0, 0.06, (count, 1))
    metres = np.maximum.accumulate(np.maximum(speed * ahead + pull * ahead**2 / 2, 0.0), axis=1)
    heading = turn * ahead
    return np.stack([metres * np.cos(heading / 2), metres * np.sin(heading / 2), heading], -1)


def random_scene(seed: int, plans: int = 12) -> tuple[PlanScene, np.ndarray]:
    """A world of 5 s and ego rows (plans, 41, 7) of cars that drive through it."""
    random = np.random.default_rng(seed)
    scene_map, route = crossroads()
    agents = random_agents(random, 51)
    ego = EgoState(*random.normal(0, 0.3, 2), random.normal(0, 0.02), random.uniform(2, 12), random.normal(0, 0.5), 0.0, 0.0)
    past = np.zeros((15, 7))
    past[:, 0], past[:, 1] = ego.x + 0.1 * ego.speed * np.arange(-15, 0), ego.y
    past[:, 2], past[:, 3] = ego.yaw, ego.speed
    scene = PlanScene(
        **{**agents, "size": agents["size"][:, :2]},
        map=scene_map,
        route=route,
        vehicle=CAR,
        on_route=lanes_on_route(scene_map, route.lanes),
        history=past,
        lights=random_lights(random, 51),
    )
    return scene, simulate_plans(ego, random_plans(random, plans, ego.speed))


def random_trace(seed: int, steps: int = 61) -> tuple[EpisodeTrace, Plans]:
    """An episode of 6 s that follows one plan while it makes others, and the plans."""
    random = np.random.default_rng(seed)
    scene_map, route = crossroads()
    agents = random_agents(random, steps)
    height = np.full((*agents["yaw"].shape, 1), 0.8)
    ego = EgoState(*random.normal(0, 0.3, 2), random.normal(0, 0.02), random.uniform(2, 12), 0.0, 0.0, 0.0)
    driven = simulate_plans(ego, random_plans(random, 1, ego.speed), ticks=steps - 1)[0]
    expert = np.column_stack([ego.x + 0.7 * np.arange(steps), np.zeros((steps, 2))])
    issued = np.arange(0, steps - 1, 5)
    poses = np.concatenate([random_plans(random, 1, driven[step, 3]) for step in issued])
    trace = EpisodeTrace(
        time=np.arange(steps) * 0.1,
        ego=driven,
        **{**agents, "position": np.concatenate([agents["position"], height], -1)},
        expert=expert,
        map=scene_map,
        route=route,
        vehicle=CAR,
        lights=random_lights(random, steps),
    )
    return trace, Plans(issued, poses)
