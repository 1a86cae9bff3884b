"""The bird's-eye view: map, agents, route, plan and ego, heading up."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import cv2
import numpy as np
from shapely.geometry.base import BaseGeometry

from dist4d_env.envs.drawing import Colour
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, VEHICLES, Boxes, rectangle_corners
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.lights import AMBER, GREEN, RED, UNKNOWN
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.state import EpisodeState

BACKGROUND: Colour = (17, 19, 24)
GROUND = {"walkway": (37, 41, 48), "drivable": (54, 59, 68), "carpark_area": (47, 53, 66), "ped_crossing": (92, 96, 106)}
LINES = {"lane_divider": (138, 146, 158), "road_divider": (214, 168, 74), "stop_line": (196, 96, 88)}
LIGHTS: dict[int, Colour] = {GREEN: (64, 214, 122), AMBER: (255, 190, 60), RED: (255, 64, 56), UNKNOWN: (150, 156, 166)}
ROUTE: Colour = (46, 132, 118)
PLAN: Colour = (102, 224, 255)
EGO, ARROW = (240, 246, 255), (70, 92, 120)
AGENTS: dict[str, Colour] = {
    **dict.fromkeys(VEHICLES, (255, 158, 74)),
    **dict.fromkeys(("motorcycle", "bicycle"), (255, 98, 128)),
    "pedestrian": (96, 156, 255),
    **dict.fromkeys(("traffic_cone", "barrier", "other"), (172, 152, 120)),
}
SHIFT = 4
"""Fractional bits of the coordinates handed to OpenCV, so that slow motion is smooth."""


@dataclass(frozen=True)
class View:
    """Which ground is seen. Metres ahead of and behind the ego's rear axle; the width follows from the picture."""

    ahead: float = 50.0
    behind: float = 25.0

    def pixels_from_global(self, height: int, width: int, x: float, y: float, yaw: float) -> np.ndarray:
        """(2, 3) affine from global metres to (column, row), the ego heading up."""
        scale = height / (self.ahead + self.behind)
        cos, sin = deterministic.cos(yaw), deterministic.sin(yaw)
        ego_from_global = np.array([[cos, sin, -cos * x - sin * y], [-sin, cos, sin * x - cos * y], [0, 0, 1.0]])
        pixels_from_ego = np.array([[0, -scale, width / 2], [-scale, 0, self.ahead * scale]])
        return pixels_from_ego @ ego_from_global


def draw_birdseye(
    scene: Scene,
    state: EpisodeState,
    height: int,
    width: int,
    plan: np.ndarray | None = None,
    view: View | None = None,
) -> np.ndarray:
    """The scene around the ego as (height, width, 3) uint8, stop lines in the colour of their light. plan: (N, >=2) points ahead
    in the ego frame, metres."""
    view, vehicle, ego = view or View(), VehicleParameters(), state.ego
    pixels = view.pixels_from_global(height, width, ego.x, ego.y, ego.yaw)
    scale = height / (view.ahead + view.behind)
    image = np.empty((height, width, 3), np.uint8)
    image[...] = BACKGROUND
    if scene.map is not None:
        _draw_map(image, scene.map, pixels, scale)
    _draw_line(image, _transform(pixels, scene.route.points), ROUTE, max(2, round(0.9 * scale)), opacity=0.75)
    for line, light in zip(scene.lights.stop_line, state.lights, strict=True):
        _draw_line(image, _transform(pixels, line), LIGHTS[int(light)], max(2, round(0.5 * scale)))
    _draw_agents(image, state.boxes, pixels)
    if plan is not None and len(plan):
        cos, sin = deterministic.cos(ego.yaw), deterministic.sin(ego.yaw)
        ahead = np.asarray(plan, float)[:, :2] @ np.array([[cos, sin], [-sin, cos]]) + (ego.x, ego.y)
        path = _transform(pixels, np.vstack([(ego.x, ego.y), ahead]))
        _draw_line(image, path, PLAN, max(1, round(0.35 * scale)))
        for point in path[1:]:
            cv2.circle(image, _fixed(point), round(0.42 * scale * 2**SHIFT), PLAN, -1, cv2.LINE_AA, SHIFT)
    _draw_ego(image, state, vehicle, pixels)
    return image


def _transform(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ pixels[:, :2].T + pixels[:, 2]


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(np.asarray(points) * 2**SHIFT).astype(np.int32)


def _draw_line(image: np.ndarray, path: np.ndarray, colour: Colour, width: int, opacity: float = 1.0) -> None:
    target = image if opacity == 1.0 else image.copy()
    cv2.polylines(target, [_fixed(path)], False, colour, width, cv2.LINE_AA, SHIFT)
    if target is not image:
        cv2.addWeighted(target, opacity, image, 1 - opacity, 0, dst=image)


def _draw_agents(image: np.ndarray, boxes: Boxes, pixels: np.ndarray) -> None:
    if len(boxes) == 0:
        return
    corners = rectangle_corners(boxes.position[:, 0], boxes.position[:, 1], boxes.yaw, boxes.size[:, 0], boxes.size[:, 1])
    outlines = _transform(pixels, corners)  # (N, 4, 2) from front-left counter-clockwise
    noses = _transform(pixels, np.stack([boxes.position[:, :2], corners[:, [0, 3]].mean(1)], 1))
    for outline, nose, category in zip(outlines, noses, boxes.category, strict=True):
        if (outline.max(0) < 0).any() or (outline.min(0) > (image.shape[1], image.shape[0])).any():
            continue
        colour = AGENTS[CATEGORIES[category]]
        cv2.fillPoly(image, [_fixed(outline)], tuple(int(0.62 * c) for c in colour), cv2.LINE_AA, SHIFT)
        cv2.polylines(image, [_fixed(outline)], True, colour, 1, cv2.LINE_AA, SHIFT)
        cv2.polylines(image, [_fixed(nose)], False, colour, 1, cv2.LINE_AA, SHIFT)


def _draw_ego(image: np.ndarray, state: EpisodeState, vehicle: VehicleParameters, pixels: np.ndarray) -> None:
    ego = state.ego
    x = ego.x + vehicle.rear_axle_to_center * deterministic.cos(ego.yaw)
    y = ego.y + vehicle.rear_axle_to_center * deterministic.sin(ego.yaw)
    outline = _transform(pixels, rectangle_corners(x, y, ego.yaw, vehicle.length, vehicle.width))
    cv2.fillPoly(image, [_fixed(outline)], EGO, cv2.LINE_AA, SHIFT)
    centre, nose = outline.mean(0), outline[[0, 3]].mean(0)
    wings = centre + 0.7 * (outline[[1, 2]] - outline[[1, 2]].mean(0))
    cv2.fillPoly(image, [_fixed(np.vstack([centre + 0.75 * (nose - centre), wings]))], ARROW, cv2.LINE_AA, SHIFT)


def _draw_map(image: np.ndarray, scene_map: SceneMap, pixels: np.ndarray, scale: float) -> None:
    shapes = _shapes(scene_map)
    for layer, colour in GROUND.items():
        for rings in _visible(shapes.get(layer, ()), pixels, image.shape):
            cv2.fillPoly(image, rings, colour, cv2.LINE_AA, SHIFT)
    for layer, colour in LINES.items():
        for rings in _visible(shapes.get(layer, ()), pixels, image.shape):
            cv2.polylines(image, rings, layer == "stop_line", colour, max(1, round(0.12 * scale)), cv2.LINE_AA, SHIFT)


def _visible(shapes: tuple[tuple[np.ndarray, ...], ...], pixels: np.ndarray, shape: tuple[int, ...]) -> list[list[np.ndarray]]:
    """The shapes that touch the picture, as OpenCV point lists; holes follow their outline (fillPoly is even-odd)."""
    shown = []
    for rings in shapes:
        outline = _transform(pixels, rings[0])
        if (outline.max(0) < 0).any() or (outline.min(0) > (shape[1], shape[0])).any():
            continue
        shown.append([_fixed(outline), *(_fixed(_transform(pixels, hole)) for hole in rings[1:])])
    return shown


_CACHE: dict[int, tuple[weakref.ref[SceneMap], dict[str, tuple[tuple[np.ndarray, ...], ...]]]] = {}


def _shapes(scene_map: SceneMap) -> dict[str, tuple[tuple[np.ndarray, ...], ...]]:
    """Coordinates of every layer, read from shapely once per map."""
    kept = _CACHE.get(id(scene_map))
    if kept is None or kept[0]() is not scene_map:
        layers = {**scene_map.layers, "drivable": (scene_map.drivable,)}
        shapes = {name: tuple(ring for geometry in layer for ring in _rings(geometry)) for name, layer in layers.items()}
        key = id(scene_map)
        kept = _CACHE[key] = (weakref.ref(scene_map, lambda _: _CACHE.pop(key, None)), shapes)
    return kept[1]


def _rings(geometry: BaseGeometry) -> list[tuple[np.ndarray, ...]]:
    """Outline and holes of each polygon, or the points of each line, in x and y."""
    if geometry.is_empty:
        return []
    if hasattr(geometry, "geoms"):
        return [ring for part in geometry.geoms for ring in _rings(part)]
    lines = [geometry.exterior, *geometry.interiors] if geometry.geom_type == "Polygon" else [geometry]
    return [tuple(np.asarray(line.coords)[:, :2] for line in lines)] if geometry.geom_type in ("Polygon", "LineString") else []
