"""The whole vector map of one location as shapely geometry, and the part of it around a scene."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from dist4d_env.data.arclines import discretize
from dist4d_env.data.array_files import Arrays, read_arrays, write_arrays
from dist4d_env.data.tables import Kind, by_token, number, numbers, printable, shown, tokens, wrong
from dist4d_env.errors import DataError
from dist4d_env.scenes.maps import BEV_LAYERS, Lane, SceneMap, make_map

RADIUS = 200.0
"""Metres around the logged path that a scene's map covers: the route beyond its end (150 m) and a view around that."""
REMEDY = "fetch the map expansion (v1.3) again"
_MARGIN = 1000.0  # m beyond its canvas that a map may reach, and a lane from its polygon
_LINES = ("road_divider", "lane_divider")
_CROSSED, _LANES = "intersections", "lanes"
_AREAS = ("road_block", "ped_crossing", "walkway", "stop_line", "carpark_area")
Records = Sequence[Mapping[str, Any]]


def _rings(value: Any) -> bool:
    return type(value) is list and all(type(ring) is dict and tokens(ring.get("node_tokens")) for ring in value)


_TOKEN = Kind("a token", printable)
_FLAG = Kind("true or false", lambda value: type(value) is bool)
_SPEED = Kind("a speed above 0 and below 100 m/s", lambda value: value is None or number(value, 0.1, 100), optional=True)
_COORDINATE = Kind("a number in metres", lambda value: number(value, -1e8, 1e8))
_NODES = Kind("a list of tokens", tokens, "node")
_AREA = {"token": _TOKEN, "polygon_token": Kind("a token", printable, "polygon")}
_LINE = {"token": _TOKEN, "line_token": Kind("a token", printable, "line")}
_FIELDS: Mapping[str, Mapping[str, Kind]] = {
    "polygon": {"token": _TOKEN, "exterior_node_tokens": _NODES, "holes": Kind("a list of rings of nodes", _rings, "node")},
    "line": {"token": _TOKEN, "node_tokens": _NODES},
    "drivable_area": {"token": _TOKEN, "polygon_tokens": Kind("a list of tokens", tokens, "polygon")},
    "road_segment": {**_AREA, "is_intersection": _FLAG},
    "lane": {**_AREA, "speed_limit": _SPEED},
    "lane_connector": {**_AREA, "speed_limit": _SPEED},
    **dict.fromkeys(_AREAS, _AREA),
    **dict.fromkeys(_LINES, _LINE),
}
_ARC: Mapping[str, Kind] = {
    "start_pose": Kind("x, y, heading", lambda value: numbers(value, 3)),
    "shape": Kind("three letters of L, S, R", lambda value: type(value) is str and len(value) == 3 and set(value) <= set("LSR")),
    "radius": Kind("a radius above 0", lambda value: number(value, 1e-3, 1e9)),
    "segment_length": Kind("three lengths below 10 km", lambda value: numbers(value, 3, 0, 1e4)),
}


class LaneRecord(NamedTuple):
    """What a map says of a lane apart from its geometry."""

    token: str
    is_connector: bool
    incoming: tuple[str, ...]
    outgoing: tuple[str, ...]
    speed_limit: float | None


class Shapes:
    """Geometries that are found by where they are. bounds: (N, 4) west, south, east, north, NaN for an empty one."""

    def __init__(self, geometries: np.ndarray) -> None:
        self._geometries, self.bounds = geometries, shapely.bounds(geometries).reshape(-1, 4)

    def pick(self, rows: np.ndarray) -> np.ndarray:
        """The geometries of some rows."""
        return self._geometries[rows]

    def reaching(self, region: BaseGeometry) -> tuple[np.ndarray, np.ndarray]:
        """Rows and geometries of those that reach into a region, in order."""
        (west, south, east, north), (x0, y0, x1, y1) = self.bounds.T, region.bounds
        near = np.flatnonzero((west <= x1) & (east >= x0) & (south <= y1) & (north >= y0))
        found = self.pick(near)
        shapely.prepare(region)
        inside = shapely.intersects(region, found)
        return near[inside], found[inside]

    def arrays(self, name: str) -> Arrays:
        """What ``StoredShapes`` reads."""
        return {f"{name}.bounds": self.bounds, **pack(self._geometries, name)}


class StoredShapes(Shapes):
    """Geometries in arrays, which become objects when they are picked."""

    def __init__(self, arrays: Arrays, name: str) -> None:
        self.bounds, self._arrays, self._name = arrays[f"{name}.bounds"], arrays, name

    def pick(self, rows: np.ndarray) -> np.ndarray:
        return unpack(self._arrays, self._name, rows.tolist())


def pack(geometries: Sequence[BaseGeometry] | np.ndarray, name: str) -> Arrays:
    """Geometries as arrays: their WKB, which keeps every bit of their coordinates, in a row, and where each ends."""
    texts = [shapely.to_wkb(geometry) for geometry in geometries]
    ends = np.cumsum([0, *map(len, texts)])
    return {f"{name}.wkb": np.frombuffer(b"".join(texts), np.uint8), f"{name}.ends": ends}


def unpack(arrays: Arrays, name: str, rows: Iterable[int] | None = None) -> np.ndarray:
    """(N,) the geometries that ``pack`` put into arrays, or those of some rows."""
    ends, content = arrays[f"{name}.ends"].tolist(), arrays[f"{name}.wkb"]
    rows = range(len(ends) - 1) if rows is None else rows
    return np.array(shapely.from_wkb([content[ends[row] : ends[row + 1]].tobytes() for row in rows]), dtype=object)


class LocationMap:
    """Geometry of a nuScenes map expansion, built once from its tables (as ``NuScenesMap`` holds them) and cropped per scene.

    tables: the lists and dicts of the map file by name. A lane or lane connector record may carry ``speed_limit`` in m/s, an
    addition to the nuScenes format.
    """

    _layers: Mapping[str, Shapes]
    _intersections: Shapes
    _lane_polygons: Shapes
    _lanes: Sequence[LaneRecord]
    _centerline: Callable[[int], np.ndarray]

    def __init__(self, location: str, tables: Any) -> None:
        self.location, self._tables = location, tables
        if type(tables) is not dict:
            raise self._error(f"a map is a dict of tables, not {shown(tables)}")
        if type(version := tables.get("version")) is not str or version < "1.3":
            raise self._error(f"version {shown(version)} is outdated")
        self._index = {layer: self._by_token(layer) for layer in ("node", *_FIELDS)}
        self._xy = self._nodes(tables["node"])
        for layer in _FIELDS:
            self._check(layer)
        self._arclines, self._connectivity = self._table("arcline_path_3", dict), self._table("connectivity", dict)
        self._layers = {name: Shapes(self._geometries(name, tables[name])) for name in BEV_LAYERS}
        marked = [record for record in tables["road_segment"] if record["is_intersection"]]
        self._intersections = Shapes(self._geometries("road_segment", marked))
        # A lane without a centreline cannot be driven; nuScenes has a handful.
        records = [
            (record, connector)
            for connector, name in ((False, "lane"), (True, "lane_connector"))
            for record in tables[name]
            if self._arclines_of(record["token"])
        ]
        self._lane_polygons = Shapes(self._polygons([record["polygon_token"] for record, _ in records], keep_empty=True))
        self._lanes = [self._lane_record(record, connector) for record, connector in records]
        self._centerline = cache(lambda row: discretize(self._arclines[self._lanes[row].token]))

    @classmethod
    def stored(cls, path: Path) -> LocationMap:
        """The map that ``store`` has written, mapped into memory: of its geometry only that is made which is asked for."""
        arrays, rest = read_arrays(path)
        found = object.__new__(cls)
        found.location = rest["location"]
        layers = {name: StoredShapes(arrays, name) for name in (*BEV_LAYERS, _CROSSED, _LANES)}
        found._intersections, found._lane_polygons = layers.pop(_CROSSED), layers.pop(_LANES)
        found._layers = dict(layers)
        found._lanes = [LaneRecord(*record) for record in rest["lanes"]]
        points, ends = arrays["points"], arrays["ends"].tolist()
        found._centerline = lambda row: points[ends[row] : ends[row + 1]]
        return found

    def store(self, path: Path) -> None:
        """Writes the map for ``stored``; the file appears whole or not at all."""
        arrays: Arrays = {}
        for name, shapes in {**self._layers, _CROSSED: self._intersections, _LANES: self._lane_polygons}.items():
            arrays |= shapes.arrays(name)
        lines = [self._centerline(row) for row in range(len(self._lanes))]
        arrays["points"] = np.concatenate([np.zeros((0, 3)), *lines])
        arrays["ends"] = np.cumsum([0, *map(len, lines)])
        write_arrays(path, arrays, {"location": self.location, "lanes": self._lanes})

    @property
    def missing(self) -> frozenset[str]:
        """Layers without any geometry."""
        return frozenset(name for name, shapes in self._layers.items() if not len(shapes.bounds))

    def _error(self, words: str) -> DataError:
        return DataError(f"maps/expansion/{self.location}.json: {words}; {REMEDY}")

    def _table(self, name: str, kind: type) -> Any:
        if name not in self._tables:
            raise self._error(f"the map lacks {name!r}")
        if type(self._tables[name]) is not kind:
            raise self._error(f"{name} is no {kind.__name__}, but {shown(self._tables[name])}")
        return self._tables[name]

    def _by_token(self, layer: str) -> dict[str, int]:
        rows = self._table(layer, list)
        index = by_token(rows)
        if len(index) < len(rows):
            row = next(i for i, row in enumerate(rows) if type(row) is not dict or index.get(str(row.get("token"))) != i)
            raise self._error(f"{layer} row {row}: it has no token, or that of another row")
        return index

    def _nodes(self, nodes: list[dict[str, Any]]) -> np.ndarray:
        """(N, 2) x, y of the nodes."""
        canvas, fields = self._tables.get("canvas_edge"), {"x": _COORDINATE, "y": _COORDINATE}
        if canvas is not None and not numbers(canvas, 2, 0):
            raise self._error(f"canvas_edge {shown(canvas)} is not a width and height")
        try:
            xy = np.array([(node["x"], node["y"]) for node in nodes]).reshape(-1, 2)
        except (KeyError, ValueError):
            xy = np.array(None)
        if xy.dtype.kind not in "if" or not (np.abs(xy) < 1e8).all():
            for row, node in enumerate(nodes):
                if words := wrong(fields, node):
                    raise self._error(f"node row {row}: {words}")
        if canvas is not None and len(outside := np.flatnonzero(~self._near_canvas(xy))):
            raise self._error(f"node row {outside[0]}: x, y lie more than {_MARGIN:.0f} m outside canvas_edge {shown(canvas)}")
        return xy

    def _near_canvas(self, xy: np.ndarray) -> np.ndarray:
        return ((xy > -_MARGIN) & (xy < np.add(self._tables["canvas_edge"], _MARGIN))).all(-1)

    def _check(self, layer: str) -> None:
        """Raises DataError for the first record of a layer that is wrong, or refers to what is not there."""
        links = [(name, kind.target) for name, kind in _FIELDS[layer].items() if kind.target]
        for row, record in enumerate(self._tables[layer]):
            words = wrong(_FIELDS[layer], record)
            for name, target in links if not words else ():
                value = record[name]
                named = [value] if type(value) is str else value
                if name == "holes":
                    named = [token for ring in value for token in ring["node_tokens"]]
                if not all(map(self._index[target].__contains__, named)):
                    absent = next(token for token in named if token not in self._index[target])
                    words = f"{name}: {shown(absent)} is in no row of {target}"
            if words:
                raise self._error(f"{layer} row {row}: {words}")

    def _arclines_of(self, lane: str) -> list[dict[str, Any]]:
        """The records of a lane's centreline, none if it has none; its connections are checked with them."""
        paths = self._arclines.get(lane, [])
        if type(paths) is not list:
            raise self._error(f"arcline_path_3 of {shown(lane)} is {shown(paths)}, no list of paths")
        for path in paths:
            if words := wrong(_ARC, path) if type(path) is dict else f"{shown(path)} is no path":
                raise self._error(f"arcline_path_3 of {shown(lane)}: {words}")
        links = self._connectivity.get(lane, {})
        if type(links) is not dict or not all(tokens(links.get(name, [])) for name in ("incoming", "outgoing")):
            raise self._error(f"connectivity of {shown(lane)} is {shown(links)}, not lists of lanes")
        return paths

    def around(self, path: np.ndarray, radius: float = RADIUS) -> SceneMap:
        """The map within ``radius`` metres of a path (P, 2): areas and lines are cut there, lanes that reach in are kept whole.

        Connections to lanes outside are left out, so that every token in the lane graph can be looked up.
        """
        region = region_around(path, radius)
        layers = {name: _cut(shapes, region) for name, shapes in self._layers.items()}
        rows, polygons = self._lane_polygons.reaching(region)
        known = {self._lanes[row].token for row in rows.tolist()}
        lanes = [self._lane(row, polygon, known) for row, polygon in zip(rows.tolist(), polygons, strict=True)]
        return make_map(self.location, layers, lanes, self.missing, _cut(self._intersections, region))

    def _lane_record(self, record: Mapping[str, Any], connector: bool) -> LaneRecord:
        links = self._connectivity.get(record["token"], {})
        incoming, outgoing = (tuple(links.get(name, ())) for name in ("incoming", "outgoing"))
        return LaneRecord(record["token"], connector, incoming, outgoing, record.get("speed_limit"))

    def _lane(self, row: int, polygon: BaseGeometry, known: set[str]) -> Lane:
        record, centerline = self._lanes[row], self._centerline(row)
        west, south, east, north = polygon.bounds  # NaN where the polygon is empty
        (x, y), wide = centerline[0, :2], _MARGIN
        if x < west - wide or x > east + wide or y < south - wide or y > north + wide:
            words = f"starts {_MARGIN:.0f} m and more from the polygon of its lane"
            raise self._error(f"arcline_path_3 of {shown(record.token)} {words}")
        return Lane(
            token=record.token,
            is_connector=record.is_connector,
            centerline=centerline,
            polygon=polygon,
            predecessors=tuple(other for other in record.incoming if other in known),
            successors=tuple(other for other in record.outgoing if other in known),
            speed_limit=record.speed_limit,
        )

    def _geometries(self, layer: str, records: Records) -> np.ndarray:
        if layer in _LINES:
            return self._line_strings([record["line_token"] for record in records])
        if layer == "drivable_area":
            return self._polygons([token for record in records for token in record["polygon_tokens"]])
        return self._polygons([record["polygon_token"] for record in records])

    def _line_strings(self, tokens: Iterable[str]) -> np.ndarray:
        records = (self._tables["line"][self._index["line"][token]] for token in tokens)
        nodes = [[self._index["node"][node] for node in record["node_tokens"]] for record in records]
        return np.array([shapely.linestrings(self._xy[rows]) for rows in nodes if len(rows) > 1], dtype=object)

    def _polygons(self, tokens: Sequence[str], keep_empty: bool = False) -> np.ndarray:
        """Valid polygons or multipolygons; records of fewer than three nodes hold no area and are dropped unless asked for."""
        polygons = []
        for token in tokens:
            record = self._tables["polygon"][self._index["polygon"][token]]
            rings = [record["exterior_node_tokens"], *(hole["node_tokens"] for hole in record["holes"])]
            coordinates = [self._xy[[self._index["node"][node] for node in ring]] for ring in rings if len(ring) > 2]
            polygons.append(shapely.Polygon(coordinates[0], coordinates[1:]) if len(rings[0]) > 2 else shapely.Polygon())
        array = np.array(polygons, dtype=object)
        broken = ~shapely.is_valid(array)
        array[broken] = shapely.buffer(array[broken], 0)
        return array if keep_empty else array[~shapely.is_empty(array)]


def region_around(path: np.ndarray, radius: float) -> BaseGeometry:
    """What lies within ``radius`` metres of a path (P, 2)."""
    line = shapely.linestrings(path) if len(path) > 1 else shapely.points(path[0])
    return shapely.buffer(shapely.simplify(line, 1.0), radius, quad_segs=8)


def cut(geometries: np.ndarray, region: BaseGeometry) -> tuple[BaseGeometry, ...]:
    """The parts of geometries (N,) that lie inside a region, in their order."""
    shapely.prepare(region)
    inside = geometries.copy()
    crossing = ~shapely.covers(region, inside)
    inside[crossing] = shapely.intersection(inside[crossing], region)
    return tuple(geometry for geometry in inside if not geometry.is_empty)


def _cut(shapes: Shapes, region: BaseGeometry) -> tuple[BaseGeometry, ...]:
    """The same of those that reach into the region."""
    return cut(shapes.reaching(region)[1], region)
