"""The map around a scene and its route as a file, for the next time that somebody opens the scene."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from dist4d_env.data.array_files import Arrays, parts_of, put_together, read_arrays, write_arrays
from dist4d_env.data.location import pack, unpack
from dist4d_env.scenes.maps import Lane, SceneMap, with_unions
from dist4d_env.scenes.route import Route

_OF_LANE = [field.name for field in fields(Lane) if field.name not in ("centerline", "polygon")]


def write_place(path: Path, scene_map: SceneMap, route: Route) -> None:
    """Stores both; the file appears whole or not at all."""
    lanes = list(scene_map.lanes.values())
    arrays: Arrays = pack([scene_map.drivable, scene_map.intersections], "unions") | pack(
        [lane.polygon for lane in lanes], "lanes"
    )
    for name, geometries in scene_map.layers.items():
        arrays |= pack(geometries, f"layers.{name}")
    arrays["points"] = np.concatenate([np.zeros((0, 3)), *(lane.centerline for lane in lanes)])
    arrays["ends"] = np.cumsum([0, *(len(lane.centerline) for lane in lanes)])
    of_route, rest_of_route = parts_of(route)
    arrays |= {f"route.{name}": array for name, array in of_route.items()}
    rest = {
        "location": scene_map.location, "layers": list(scene_map.layers), "missing": sorted(scene_map.missing),
        "lanes": [[getattr(lane, name) for name in _OF_LANE] for lane in lanes],
        "route": rest_of_route,
    }  # fmt: skip
    write_arrays(path, arrays, rest)


def read_place(path: Path) -> tuple[SceneMap, Route]:
    """What ``write_place`` stored. Raises DataError for a damaged file, FileNotFoundError where there is none."""
    arrays, rest = read_arrays(path)
    points, ends = arrays["points"], arrays["ends"].tolist()
    lanes: dict[str, Lane] = {}
    for row, (about, polygon) in enumerate(zip(rest["lanes"], unpack(arrays, "lanes"), strict=True)):
        about = dict(zip(_OF_LANE, about, strict=True))
        lanes[about["token"]] = Lane(**about, polygon=polygon, centerline=points[ends[row] : ends[row + 1]])
    drivable, intersections = unpack(arrays, "unions")
    layers = {name: tuple(unpack(arrays, f"layers.{name}")) for name in rest["layers"]}
    route = put_together(Route, arrays, rest["route"], "route.")
    unions = drivable, intersections
    return with_unions(rest["location"], layers, lanes, rest["missing"], unions), route
