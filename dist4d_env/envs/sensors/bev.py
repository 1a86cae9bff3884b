"""The sensor "bev": map, agents and route as a bird's-eye raster around the ego."""

from __future__ import annotations

import cv2
import numpy as np
from gymnasium import spaces

from dist4d_env.envs.sensors.contract import Instant
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, VEHICLES, VULNERABLE, rectangle_corners
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.scenes.maps import BEV_LAYERS
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.state import EpisodeState

BEV_CHANNELS = (*BEV_LAYERS, "vehicles", "vulnerable", "objects", "route")
BEV_CELLS, BEV_RESOLUTION = 200, 0.5
LIGHTS = (255, 85, 170, 255)
"""Values of a stop line whose traffic light is unknown, green, amber or red: how much it asks to stop."""


class BirdsEye:
    """``"bev"`` (12, 200, 200) uint8, 0 or 255, stop lines with a traffic light as LIGHTS says: 0.5 m cells, row 0 is 50 m ahead,
    column 0 is 50 m to the left."""

    def space(self, scene: Scene, size: tuple[int, int]) -> dict[str, spaces.Space]:
        """The raster."""
        return {"bev": spaces.Box(0, 255, (len(BEV_CHANNELS), BEV_CELLS, BEV_CELLS), np.uint8)}

    def observe(self, now: Instant, out: dict[str, np.ndarray]) -> None:
        """The rasters of the new instants."""
        for row in now.rows:
            out["bev"][row] = bev_raster(now.scenes[row], now.single(row), now.route_ahead[row])


def bev_raster(scene: Scene, state: EpisodeState, route_ahead: np.ndarray) -> np.ndarray:
    """The ``"bev"`` observation (C, 200, 200) uint8: row 0 is 50 m ahead of the ego, column 0 is 50 m to its left."""
    raster = np.zeros((len(BEV_CHANNELS), BEV_CELLS, BEV_CELLS), np.uint8)
    ego, boxes = state.ego, state.boxes
    if scene.map is not None:
        raster[: len(BEV_LAYERS)] = np.where(scene.map.bev(pose_from_xy_yaw(ego.x, ego.y, ego.yaw)) > 0, 255, 0)
    cos, sin = deterministic.cos(ego.yaw), deterministic.sin(ego.yaw)
    turn = np.array([[cos, -sin], [sin, cos]])
    for line, light in zip(scene.lights.stop_line, state.lights, strict=True):
        if LIGHTS[light] < 255 and np.abs(line - (ego.x, ego.y)).max() < BEV_CELLS:
            mark = np.zeros((BEV_CELLS, BEV_CELLS), np.uint8)
            cv2.polylines(mark, [_cells((line - (ego.x, ego.y)) @ turn)], False, 1, 3, shift=4)
            stop = raster[BEV_CHANNELS.index("stop_line")]
            stop[(mark > 0) & (stop > 0)] = LIGHTS[light]
    if len(boxes):
        corners = rectangle_corners(boxes.position[:, 0], boxes.position[:, 1], boxes.yaw, boxes.size[:, 0], boxes.size[:, 1])
        corners = _cells((corners - (ego.x, ego.y)) @ turn)  # (N, 4, 2)
        inside = ((corners >= 0) & (corners < BEV_CELLS * 16)).any((1, 2))
        for outline, category in zip(corners[inside], boxes.category[inside], strict=True):
            name = CATEGORIES[category]
            group = "vehicles" if name in VEHICLES else "vulnerable" if name in VULNERABLE else "objects"
            cv2.fillPoly(raster[BEV_CHANNELS.index(group)], [outline], 255, shift=4)
    cv2.polylines(raster[BEV_CHANNELS.index("route")], [_cells(route_ahead)], False, 255, 3, shift=4)
    return raster


def _cells(points: np.ndarray) -> np.ndarray:
    """Ego-frame metres (..., 2) to raster (column, row) with four fractional bits, cell centres at whole numbers."""
    half = BEV_CELLS * BEV_RESOLUTION / 2
    cells = np.stack([half - points[..., 1], half - points[..., 0]], -1) / BEV_RESOLUTION - 0.5
    return np.round(np.clip(cells, -1e4, 1e4) * 16).astype(np.int32)
