"""The map around a scene, and its traffic lights, from 123D's map objects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from dist4d_env.data.location import RADIUS, cut, region_around
from dist4d_env.geometry import deterministic
from dist4d_env.scenes.lights import AMBER, GREEN, NO_LIGHTS, RED, UNKNOWN, TrafficLights
from dist4d_env.scenes.maps import Lane, SceneMap, make_map

AREAS = {
    "drivable_area": "GENERIC_DRIVABLE",
    "ped_crossing": "CROSSWALK",
    "walkway": "WALKWAY",
    "stop_line": "STOP_ZONE",
    "carpark_area": "CARPARK",
    "road_block": "LANE_GROUP",
}
"""123D's layers of surfaces by the layer that they are here."""
_DRIVABLE = ("GENERIC_DRIVABLE", "LANE", "LANE_GROUP", "INTERSECTION", "CARPARK")
_LAYERS = (*dict.fromkeys((*AREAS.values(), *_DRIVABLE)), "ROAD_LINE")
_COVERED = 0.9  # share of the lanes' centrelines on the generic drivable area from which on that is the whole drivable area
_STATE = {"GREEN": GREEN, "YELLOW": AMBER, "RED": RED}  # a light that is off is not known to forbid anything
_HALF_WIDTH = (1.5, 3.0)  # m, least and most, of a stop line


def map_around(source: Any, location: str, path: np.ndarray, radius: float = RADIUS) -> SceneMap:
    """The part of a map (py123d's ``MapAPI``) within ``radius`` metres of a path (P, 2); lanes that reach in are kept whole.

    Yellow lines divide roads, other painted lines lanes. Lanes of intersections are connectors, bicycle lanes are none at all.
    Where the generic drivable area leaves lanes out, as nuPlan's does, lanes, their groups, intersections and car parks are
    drivable, too, as for NAVSIM.
    """
    region = region_around(path, radius)
    there = {layer.name for layer in source.get_available_map_layers()}
    found = source.query(region, list(_LAYERS), predicate="intersects")
    objects = {layer.name: sorted(items, key=lambda item: item.object_id) for layer, items in found.items()}
    surfaces = {name: _inside(map(_polygon, objects[name]), region) for name in _LAYERS if name != "ROAD_LINE"}
    lanes = _lanes(source, objects["LANE"])
    layers = {name: surfaces[layer] for name, layer in AREAS.items()}
    layers["road_block"] = _inside((_polygon(group) for group in objects["LANE_GROUP"] if group.intersection_id is None), region)
    x, y = np.concatenate([np.zeros((0, 3)), *(lane.centerline for lane in lanes)])[:, :2].T
    here = shapely.intersects_xy(region, x, y)
    covered = shapely.intersects_xy(shapely.union_all(surfaces["GENERIC_DRIVABLE"]), x[here], y[here])
    if len(covered) and covered.mean() < _COVERED:
        layers["drivable_area"] = tuple(area for layer in _DRIVABLE for area in surfaces[layer])
    layers |= _dividers(objects["ROAD_LINE"], region)
    missing = {name for name, layer in AREAS.items() if layer not in there and not layers[name]}
    missing |= {"road_divider", "lane_divider"} if "ROAD_LINE" not in there else set()
    return make_map(location, layers, lanes, missing, surfaces["INTERSECTION"])


def _polygon(surface: Any) -> BaseGeometry:
    """A valid polygon or multipolygon in two dimensions."""
    flat = shapely.force_2d(surface.shapely_polygon)
    return flat if shapely.is_valid(flat) else shapely.buffer(flat, 0)


def _inside(geometries: Iterable[BaseGeometry], region: BaseGeometry) -> tuple[BaseGeometry, ...]:
    return cut(np.array(list(geometries), dtype=object), region)


def _dividers(lines: Iterable[Any], region: BaseGeometry) -> dict[str, tuple[BaseGeometry, ...]]:
    sorted_out: dict[str, list[BaseGeometry]] = {"road_divider": [], "lane_divider": []}
    for line in lines:
        kind = line.road_line_type.name
        if kind != "NONE":
            name = "road_divider" if "YELLOW" in kind else "lane_divider"
            sorted_out[name].append(shapely.linestrings(line.polyline.array[:, :2]))
    return {name: _inside(strings, region) for name, strings in sorted_out.items()}


def _lanes(source: Any, found: Iterable[Any]) -> list[Lane]:
    driven = [(lane, centerline) for lane in found if lane.lane_type.name != "BIKE_LANE" and len(centerline := _centerline(lane))]
    known = {lane.object_id for lane, _ in driven}
    return [
        Lane(
            token=str(lane.object_id),
            is_connector=_in_intersection(source, lane),
            centerline=centerline,
            polygon=_polygon(lane),
            predecessors=tuple(str(other) for other in lane.predecessor_ids if other in known),
            successors=tuple(str(other) for other in lane.successor_ids if other in known),
            speed_limit=lane.speed_limit_mps or None,
        )
        for lane, centerline in driven
    ]


def _in_intersection(source: Any, lane: Any) -> bool:
    group = None if lane.lane_group_id is None else source.get_map_object_in_layer(lane.lane_group_id, "LANE_GROUP")
    return group is not None and group.intersection_id is not None


def _centerline(lane: Any) -> np.ndarray:
    """(P, 3) x, y, heading about every metre, ends included; none where the lane has no length."""
    line = np.asarray(lane.centerline.array, float)[:, :2]
    line = line[np.concatenate([[True], np.hypot(*np.diff(line, axis=0).T) > 1e-3])]
    if len(line) < 2:
        return np.zeros((0, 3))
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.linspace(0.0, s[-1], int(np.ceil(s[-1] - 1e-6)) + 1)
    points = np.stack([np.interp(at, s, line[:, axis]) for axis in (0, 1)], -1)
    step = np.gradient(points, axis=0, edge_order=2 if len(points) > 2 else 1)
    return np.column_stack([points, np.unwrap(deterministic.arctan2(step[:, 1], step[:, 0]))])


def lights_along(
    shown: Sequence[dict[int, str]], time: np.ndarray, rows: np.ndarray, scene_map: SceneMap, route: Sequence[str]
) -> TrafficLights:
    """Traffic lights from what the lights of lanes show: 123D ties a light to a lane and knows no place of it.

    shown: per instant of time (F,) the status by id of a lane; rows: (T,) times of the log's rows. A stop line lies where a lane
    begins. Lanes that follow the same one share it, and their light: that of the lane on the route if there is one; else what all
    agree on, and unknown where they do not (an arrow for those who turn).
    """
    lanes = dict.fromkeys(str(lane) for status in shown for lane in status if str(lane) in scene_map.lanes)
    if not lanes:
        return NO_LIGHTS
    begun: dict[str, list[str]] = defaultdict(list)
    for token in lanes:
        begun[next(iter(scene_map.lanes[token].predecessors), token)].append(token)
    states = {token: np.array([_STATE.get(status.get(int(token), ""), UNKNOWN) for status in shown], np.int8) for token in lanes}
    at = np.clip(np.searchsorted(time, rows + 1e-6, side="right") - 1, 0, len(time) - 1)
    groups = list(begun.values())
    merged = []
    for tokens in groups:
        ours = [token for token in tokens if token in route] or tokens
        known = np.stack([states[token] for token in ours])
        most = known.max(0)
        merged.append(np.where(((known == most) | (known == UNKNOWN)).all(0), most, UNKNOWN)[at])
    line = np.stack([_stop_line(scene_map.lanes[tokens[0]]) for tokens in groups])
    return TrafficLights(
        token=tuple(tokens[0] for tokens in groups),
        lanes=tuple(tuple(tokens) for tokens in groups),
        stop_line=line,
        state=np.stack(merged),
        heads=np.zeros((0, 4)),
        head_light=np.zeros(0, int),
    )


def _stop_line(lane: Lane) -> np.ndarray:
    """(2, 2) its left and its right end, across the beginning of a lane."""
    x, y, yaw = lane.centerline[0]
    length = np.hypot(*np.diff(lane.centerline[:, :2], axis=0).T).sum()
    half = float(np.clip(lane.polygon.area / length / 2, *_HALF_WIDTH))
    across = half * np.array([-deterministic.sin(yaw), deterministic.cos(yaw)])
    return np.array([x, y]) + np.stack([across, -across])
