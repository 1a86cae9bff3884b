"""Episodes and maps packed for drawing in a page: integers, differences from tick to tick, gzip, base64."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from shapely.geometry import LineString, box
from shapely.geometry.base import BaseGeometry

from dist4d_env.evaluation.episode_log import EpisodeLog, forward_cameras
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.scenes.scene import Scene

STRIDE = 2
"""Ticks from one drawn instant to the next; pages draw what lies between by interpolation."""
RADIUS = 60.0  # m, agents that never come so near are not drawn
AROUND = 70.0  # m of map on either side of the logged path
_MILLI, _CENTI, _DECI = 1000, 100, 10
_LAYERS = {"drivable_area": "road", "carpark_area": "road", "ped_crossing": "crossing", "lane_divider": "divider"}


def origin_of(scene: Scene) -> np.ndarray:
    """(2,) whole metres that a scene's drawings are relative to."""
    return np.round(scene.ego.global_from_ego[0, :2, 3])


def pack(content: Any) -> str:
    """JSON, compressed, as text that HTML can hold. The same content gives the same text."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def unpack(text: str) -> Any:
    """What ``pack`` packed."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def replay(log: EpisodeLog, scene: Scene) -> dict[str, Any]:
    """An episode for drawing, relative to ``origin_of`` its scene. Lengths in centimetres, angles in milliradians, rows every
    STRIDE ticks, each relative to the last.

    ego: x, y, heading, speed (cm/s), acceleration (cm/s^2), lateral acceleration; agents: category, size, track, first row, then
    x, y, heading, one row for those that stand; plans: per decision its tick and x, y in decimetres in the ego frame; expert: the
    logged path in decimetres; lights: stop lines of traffic lights near the path, x, y, x, y in decimetres, then the row and the
    state of every change; steps: series per decision; front: what made the front camera's frame.
    """
    trace, origin, front = log.trace, origin_of(scene), front_sources(log, scene)
    rows = np.arange(0, len(trace.time), STRIDE)
    ego = trace.ego[rows]
    columns = (*(ego[:, :2] - origin).T * _CENTI, np.unwrap(ego[:, 2]) * _MILLI, *(ego[:, 3:5].T * _CENTI),
               ego[:, 3] * ego[:, 6] * _CENTI)  # fmt: skip
    series = ("time_to_contact", "route_offset", "log_deviation", "speed_limit")
    expert_speed = np.hypot(*np.gradient(trace.expert[:, :2], 0.1, axis=0).T) if len(rows) > 1 else np.zeros(len(trace.time))
    return {
        "start": round(float(trace.time[0]), 3),
        "dt": 0.1 * STRIDE,
        "vehicle": [round(v * _CENTI) for v in (trace.vehicle.length, trace.vehicle.width, trace.vehicle.rear_axle_to_center)],
        "ego": [_differences(column) for column in columns],
        "expertSpeed": _differences(expert_speed[rows] * _CENTI),
        "agents": list(_agents(log, rows, origin)),
        "expert": [_differences(column) for column in (trace.expert[::10, :2] - origin).T * _DECI],
        "lights": list(_lights(log, rows, origin)),
        "plans": [
            [int(step), *np.round(poses[:, :2] * _DECI).astype(int).ravel().tolist()]
            for step, poses in zip(log.plans.step, log.plans.poses, strict=True)
        ],
        "steps": {
            "time": [round(step.time - float(trace.time[0]), 2) for step in log.steps],
            "deviation": [round(step.deviation_m, 2) for step in log.steps],
            "trust": [round(step.trust, 3) for step in log.steps],
            **{name: [_rounded(step.metrics.get(name)) for step in log.steps] for name in series},
        },
        "front": front or [""] * len(log.steps),
    }


def front_sources(log: EpisodeLog, scene: Scene) -> list[str]:
    """What made the front camera's frame at every step; empty in a world without pictures."""
    ahead = forward_cameras(scene.rig)
    front = ahead[len(ahead) // 2]
    return [step.source[min(front, len(step.source) - 1)] for step in log.steps if step.source]


def scene_drawing(scene: Scene) -> dict[str, list[list[int]]]:
    """The map around a scene's logged path: per style, rings and lines of x, y in decimetres relative to ``origin_of``."""
    drawn: dict[str, list[list[int]]] = {style: [] for style in _LAYERS.values()}
    if scene.map is None:
        return drawn
    origin = origin_of(scene)
    path = scene.ego.global_from_ego[:, :2, 3]
    around = LineString(path).buffer(AROUND) if np.ptp(path, 0).max() > 1 else box(*(path[0] - AROUND), *(path[0] + AROUND))
    for layer, style in _LAYERS.items():
        for geometry in scene.map.layers[layer]:
            if geometry.intersects(around):
                for line in _lines(geometry.intersection(around).simplify(0.15)):
                    drawn[style].append(np.round((line - origin) * _DECI).astype(int).ravel().tolist())
    return drawn


def _agents(log: EpisodeLog, rows: np.ndarray, origin: np.ndarray) -> Iterator[list[Any]]:
    """Every stretch of time in which an agent is there, for those that come within RADIUS."""
    trace = log.trace
    away = np.hypot(*np.moveaxis(trace.position[rows, :, :2] - trace.ego[rows, None, :2], -1, 0))
    near = (trace.valid[rows] & (away < RADIUS)).any(0)
    for track in np.flatnonzero(near).tolist():
        there = np.flatnonzero(trace.valid[rows, track])
        for stretch in np.split(there, np.flatnonzero(np.diff(there) > 1) + 1):
            place = trace.position[rows[stretch], track, :2]
            pose = np.column_stack([(place - origin) * _CENTI, np.unwrap(trace.yaw[rows[stretch], track]) * _MILLI])
            if np.ptp(pose, axis=0).max() < 1:
                pose = pose[:1]
            size = [round(float(side) * _CENTI) for side in trace.size[track, :2]]
            head = [CATEGORIES[trace.category[track]], *size, track, int(stretch[0]), len(stretch)]
            yield [*head, *(_differences(column) for column in pose.T)]


def _lights(log: EpisodeLog, rows: np.ndarray, origin: np.ndarray) -> Iterator[list[int]]:
    """Every traffic light whose stop line the ego comes within RADIUS of."""
    lights, path = log.trace.lights, log.trace.ego[rows, None, :2]
    near = (np.hypot(*np.moveaxis(lights.stop_line.mean(1) - path, -1, 0)) < RADIUS).any(0)
    for light in np.flatnonzero(near).tolist():
        state = lights.rows(rows)[light]
        changes = np.flatnonzero(np.diff(state, prepend=-1))
        line = np.round((lights.stop_line[light] - origin) * _DECI).astype(int)
        yield [*line.ravel().tolist(), *np.stack([changes, state[changes]], -1).ravel().tolist()]


def _differences(values: np.ndarray) -> list[int]:
    """The first value, then each one's difference from the one before, as whole numbers that add up without drift."""
    whole = np.round(values).astype(int)
    return [int(whole[0]), *np.diff(whole).tolist()]


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(value, 2)


def _lines(geometry: BaseGeometry) -> Sequence[np.ndarray]:
    """The rings of polygons and the points of lines, (P, 2) each."""
    if geometry.is_empty:
        return []
    if hasattr(geometry, "geoms"):
        return [line for part in geometry.geoms for line in _lines(part)]
    if geometry.geom_type == "Polygon":
        return [np.asarray(ring.coords)[:, :2] for ring in (geometry.exterior, *geometry.interiors)]
    return [np.asarray(geometry.coords)[:, :2]] if geometry.geom_type == "LineString" else []
