"""What the agent sees: the observation space and the arrays that fill it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from gymnasium import spaces

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, Boxes, rectangle_corners
from dist4d_env.geometry.cameras import RING
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.transforms import pose_from_xy_yaw, wrap_angle
from dist4d_env.metrics.driving.running import Running
from dist4d_env.scenes.maps import BEV_LAYERS
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.state import EgoState, SimState

EGO_LOW = np.array([0, -20, -20, -5, -2, -50, -np.pi, 0, -1, 0], np.float32)
EGO_HIGH = np.array([70, 20, 20, 5, 2, 50, np.pi, 70, 1, 1000], np.float32)
ROUTE_POINTS = 20
ROUTE_REACH = 200.0
AGENTS = 64
AGENT_RADIUS = 100.0
AGENT_LOW = np.array([-AGENT_RADIUS, -AGENT_RADIUS, -np.pi, 0, 0, -70, -70, 0, 0], np.float32)
AGENT_HIGH = np.array([AGENT_RADIUS, AGENT_RADIUS, np.pi, 40, 20, 70, 70, len(CATEGORIES) - 1, 1], np.float32)
VEHICLES = frozenset(CATEGORIES.index(name) for name in ("car", "truck", "bus", "trailer", "construction_vehicle"))
VULNERABLE = frozenset(CATEGORIES.index(name) for name in ("motorcycle", "bicycle", "pedestrian"))
BEV_CHANNELS = (*BEV_LAYERS, "vehicles", "vulnerable", "objects", "route")
BEV_CELLS, BEV_RESOLUTION = 200, 0.5
TURN = np.radians(20)
"""Heading change of the route over the next 25 m from which the command reads left or right."""


def observation_space(groups: tuple[str, ...], size: tuple[int, int]) -> spaces.Dict:
    """The space of the chosen groups for images of ``size`` (height, width); bounds are finite."""
    keys: dict[str, spaces.Space] = {}
    for name in RING:
        if "cameras" in groups:
            keys[name] = spaces.Box(0, 255, (*size, 3), np.uint8)
        if "depth" in groups:
            keys[f"{name}/depth"] = spaces.Box(0, FAR, (*size, 1), np.float32)
    if "ego" in groups:
        keys["ego"] = spaces.Box(EGO_LOW, EGO_HIGH, dtype=np.float32)
    if "route" in groups:
        keys["route"] = spaces.Box(-ROUTE_REACH, ROUTE_REACH, (ROUTE_POINTS, 2), np.float32)
    if "agents" in groups:
        keys["agents"] = spaces.Box(np.tile(AGENT_LOW, (AGENTS, 1)), np.tile(AGENT_HIGH, (AGENTS, 1)), dtype=np.float32)
    if "bev" in groups:
        keys["bev"] = spaces.Box(0, 255, (len(BEV_CHANNELS), BEV_CELLS, BEV_CELLS), np.uint8)
    return spaces.Dict(keys)


@dataclass(frozen=True)
class Observer:
    """Turns the simulator's truth and the world's frame into one observation. Every value is clipped to the space's bounds."""

    groups: tuple[str, ...]
    end_time: float  # s, when the episode is over

    def __call__(self, scene: Scene, state: SimState, running: Running, frame: RGBDFrame | None) -> dict[str, np.ndarray]:
        """The observation of one instant, keys as in ``observation_space``; the arrays are the caller's own."""
        keys: dict[str, np.ndarray] = {}
        for index, name in enumerate(RING):
            if "cameras" in self.groups and frame is not None:
                keys[name] = frame.rgb[index].copy()
            if "depth" in self.groups and frame is not None:
                keys[f"{name}/depth"] = np.clip(frame.depth[index, ..., None], 0, FAR)
        ego = state.ego
        route_ahead = scene.route.ahead(pose_from_xy_yaw(ego.x, ego.y, ego.yaw), ROUTE_POINTS, near=running.route_position)
        if "ego" in self.groups:
            keys["ego"] = ego_features(scene, state, running, route_ahead, self.end_time)
        if "route" in self.groups:
            keys["route"] = np.clip(route_ahead, -ROUTE_REACH, ROUTE_REACH).astype(np.float32)
        if "agents" in self.groups:
            keys["agents"] = agent_features(state.boxes, state.ego)
        if "bev" in self.groups:
            keys["bev"] = bev_raster(scene, state, route_ahead)
        return keys


def ego_features(scene: Scene, state: SimState, running: Running, route_ahead: np.ndarray, end_time: float) -> np.ndarray:
    """The ``"ego"`` observation (10,) float32; its columns stand in ``DiST4DDrivingEnv``."""
    ego = state.ego
    heading = scene.route.at(running.route_position)[2]
    limit = running.values["speed_limit"]
    features = [
        ego.speed,
        ego.acceleration,
        ego.speed * ego.yaw_rate,
        ego.yaw_rate,
        ego.steering,
        running.values["route_offset"],
        wrap_angle(ego.yaw - heading),
        0.0 if np.isnan(limit) else limit,
        _command(route_ahead),
        end_time - state.time,
    ]
    return np.clip(np.array(features, np.float32), EGO_LOW, EGO_HIGH)


def _command(route_ahead: np.ndarray) -> float:
    """-1 right, 0 straight on, 1 left: how the route turns over the next 25 m."""
    step = np.diff(route_ahead[[0, 1, 9, 10]], axis=0)
    turn = wrap_angle(deterministic.arctan2(step[2, 1], step[2, 0]) - deterministic.arctan2(step[0, 1], step[0, 0]))
    return float(np.sign(turn) * (abs(turn) > TURN))


def agent_features(boxes: Boxes, ego: EgoState) -> np.ndarray:
    """The ``"agents"`` observation (64, 9) float32: the nearest agents within 100 m, nearest first, padded with zeros."""
    features = np.zeros((AGENTS, len(AGENT_LOW)), np.float32)
    cos, sin = deterministic.cos(ego.yaw), deterministic.sin(ego.yaw)
    (dx, dy, _), (vx, vy) = (boxes.position - (ego.x, ego.y, 0.0)).T, boxes.velocity.T
    ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
    distance = np.hypot(ahead, left)
    order = np.argsort(distance, kind="stable")
    order = order[distance[order] < AGENT_RADIUS][:AGENTS]
    columns = [
        ahead,
        left,
        wrap_angle(boxes.yaw - ego.yaw),
        *boxes.size[:, :2].T,
        cos * vx + sin * vy,
        cos * vy - sin * vx,
        boxes.category,
        np.ones(len(boxes)),
    ]
    features[: len(order)] = np.clip(np.stack(columns, 1)[order], AGENT_LOW, AGENT_HIGH)
    return features


def agent_features_batch(out: np.ndarray, crowd: AgentArrays, size: np.ndarray, category: np.ndarray, ego: np.ndarray) -> None:
    """Writes ``agent_features`` of many egos (B, 7) into ``out`` (B, 64, 9), each bit for bit as alone.

    crowd: their agents (B, M), of size (B, M, 3) and category (B, M).
    """
    x, y, yaw = ego[:, :3].T[..., None]
    cos, sin = deterministic.cos(yaw), deterministic.sin(yaw)
    dx, dy, (vx, vy) = crowd.values[0] - x, crowd.values[1] - y, crowd.values[4:]
    ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
    distance = np.where(crowd.valid, np.hypot(ahead, left), np.inf)
    order = np.argsort(distance, axis=1, kind="stable")[:, :AGENTS]
    columns = np.empty((*distance.shape, len(AGENT_LOW)))
    columns[..., 0], columns[..., 1], columns[..., 2] = ahead, left, wrap_angle(crowd.yaw - yaw)
    columns[..., 3:5] = size[..., :2]
    columns[..., 5], columns[..., 6] = cos * vx + sin * vy, cos * vy - sin * vx
    columns[..., 7], columns[..., 8] = category, 1.0
    rows = np.arange(len(ego))[:, None]
    near = distance[rows, order] < AGENT_RADIUS
    count = order.shape[1]
    out[:, :count] = np.where(near[..., None], np.clip(columns[rows, order], AGENT_LOW, AGENT_HIGH), 0.0)
    out[:, count:] = 0.0


def bev_raster(scene: Scene, state: SimState, route_ahead: np.ndarray) -> np.ndarray:
    """The ``"bev"`` observation (C, 200, 200) uint8, 0 or 255: row 0 is 50 m ahead of the ego, column 0 is 50 m to its left."""
    raster = np.zeros((len(BEV_CHANNELS), BEV_CELLS, BEV_CELLS), np.uint8)
    ego, boxes = state.ego, state.boxes
    if scene.map is not None:
        raster[: len(BEV_LAYERS)] = np.where(scene.map.bev(pose_from_xy_yaw(ego.x, ego.y, ego.yaw)) > 0, 255, 0)
    cos, sin = deterministic.cos(ego.yaw), deterministic.sin(ego.yaw)
    if len(boxes):
        corners = rectangle_corners(boxes.position[:, 0], boxes.position[:, 1], boxes.yaw, boxes.size[:, 0], boxes.size[:, 1])
        corners = _cells((corners - (ego.x, ego.y)) @ np.array([[cos, -sin], [sin, cos]]))  # (N, 4, 2)
        inside = ((corners >= 0) & (corners < BEV_CELLS * 16)).any((1, 2))
        for outline, category in zip(corners[inside], boxes.category[inside], strict=True):
            group = "vehicles" if category in VEHICLES else "vulnerable" if category in VULNERABLE else "objects"
            cv2.fillPoly(raster[BEV_CHANNELS.index(group)], [outline], 255, shift=4)
    cv2.polylines(raster[BEV_CHANNELS.index("route")], [_cells(route_ahead)], False, 255, 3, shift=4)
    return raster


def _cells(points: np.ndarray) -> np.ndarray:
    """Ego-frame metres (..., 2) to raster (column, row) with four fractional bits, cell centres at whole numbers."""
    half = BEV_CELLS * BEV_RESOLUTION / 2
    cells = np.stack([half - points[..., 1], half - points[..., 0]], -1) / BEV_RESOLUTION - 0.5
    return np.round(np.clip(cells, -1e4, 1e4) * 16).astype(np.int32)
