"""A straight road along x with a logged ego and tracks made by formula, for every test that drives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from shapely.geometry import box

from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.scenes.lights import NO_LIGHTS, TrafficLights
from dist4d_env.scenes.maps import Lane, SceneMap, make_map
from dist4d_env.scenes.route import Route
from dist4d_env.scenes.scene import TICK, EgoLog, Scene, Tracks

WEST, EAST = -50.0, 400.0
NO_CAMERAS = CameraRig((), np.zeros((0, 3, 3)), np.zeros((0, 4, 4)), 64, 112)


@dataclass(frozen=True)
class Agent:
    """A track: category, where it is at t = 0, its velocity, size; first, last: seconds between which it is annotated."""

    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0
    category: str = "car"
    length: float = 4.5
    width: float = 2.0
    yaw: float = 0.0
    first: float = 0.0
    last: float = 1e9


def lane(token: str, y: float, heading: float = 0.0, speed_limit: float | None = None, width: float = 3.5) -> Lane:
    """A lane along x (or against it, heading pi) whose middle is at y."""
    x = np.arange(WEST, EAST + 1)
    line = np.column_stack([x if heading == 0 else x[::-1], np.full(len(x), y), np.full(len(x), heading)])
    return Lane(token, False, line, box(WEST, y - width / 2, EAST, y + width / 2), (), (), speed_limit)


def road_map(speed_limit: float | None = None, oncoming: bool = True) -> SceneMap:
    """Lanes A (y = 0) and B (3.5) along x, C (7) against it; all of it drivable."""
    lanes = [lane("A", 0.0, 0.0, speed_limit), lane("B", 3.5, 0.0, speed_limit), lane("C", 7.0, np.pi if oncoming else 0.0)]
    return make_map("road", {"drivable_area": [box(WEST, -1.75, EAST, 8.75)]}, lanes)


def tracks_of(*agents: Agent, duration: float = 10.0) -> Tracks:
    """Tracks of agents at constant velocity."""
    time = np.arange(round(duration / TICK) + 1) * TICK
    count = len(agents)
    position, velocity = np.zeros((count, len(time), 3)), np.zeros((count, len(time), 2))
    yaw, valid = np.zeros((count, len(time))), np.zeros((count, len(time)), bool)
    for row, a in enumerate(agents):
        valid[row] = (time >= a.first - 1e-6) & (time <= a.last + 1e-6)
        here = np.column_stack([a.x + a.vx * time, a.y + a.vy * time, np.full(len(time), 0.8)])
        position[row], velocity[row], yaw[row] = np.where(valid[row][:, None], here, 0), (a.vx, a.vy), a.yaw
    return Tracks(
        instance=tuple(f"agent-{row}" for row in range(count)),
        name=tuple(a.category for a in agents),
        category=np.array([CATEGORIES.index(a.category) for a in agents], np.int8),
        size=np.array([(a.length, a.width, 1.6) for a in agents]).reshape(-1, 3),
        time=time,
        position=position,
        yaw=yaw,
        velocity=velocity,
        valid=valid,
    )


def make_scene(
    *agents: Agent,
    speed: float = 8.0,
    duration: float = 10.0,
    scene_map: SceneMap | None = None,
    name: str = "road",
    lights: TrafficLights = NO_LIGHTS,
) -> Scene:
    """A scene whose ego drives along y = 0 at constant speed from x = 0. It has no sensors."""
    tracks = tracks_of(*agents, duration=duration)
    count = len(tracks.time)
    poses = np.stack([pose_from_xy_yaw(speed * t, 0.0, 0.0) for t in tracks.time])
    ego = EgoLog(tracks.time, poses, np.full(count, speed), np.zeros(count), np.zeros(count))
    points = np.column_stack([np.arange(0.0, EAST), np.zeros(round(EAST))])
    route = Route.through(points, ("A",), log_length=speed * duration)
    made = Scene(name, name, "nowhere", "", "by-formula", "v0", NO_CAMERAS, ego, tracks, scene_map, route, None)  # type: ignore[arg-type]
    return replace(made, lights=lights)


def light_at(x: float, states: np.ndarray) -> TrafficLights:
    """One light over lane A (y = 0) for those who drive along x; states: (T,)."""
    line = np.array([[[x, 1.75], [x, -1.75]]])
    heads = np.array([[x, -3.0, 3.0, np.pi]])
    return TrafficLights(("light",), (("A",),), line, np.asarray(states, np.int8)[None], heads, np.zeros(1, int))
