"""The whole vector map of one location as shapely geometry, and the part of it around a scene."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from shapely import STRtree
from shapely.geometry.base import BaseGeometry

from dist4d_env.data.arclines import discretize
from dist4d_env.scenes.maps import BEV_LAYERS, Lane, SceneMap, make_map

RADIUS = 200.0
"""Metres around the logged path that a scene's map covers: the route beyond its end (150 m) and a view around that."""
_LINES = ("road_divider", "lane_divider")
Records = Sequence[Mapping[str, Any]]


class LocationMap:
    """Geometry of a nuScenes map expansion, built once from its tables (as ``NuScenesMap`` holds them) and cropped per scene.

    tables: the lists and dicts of the map file by name. A lane or lane connector record may carry ``speed_limit`` in m/s, an
    addition to the nuScenes format.
    """

    def __init__(self, location: str, tables: Mapping[str, Any]) -> None:
        self.location = location
        self._xy = np.array([(node["x"], node["y"]) for node in tables["node"]], float).reshape(-1, 2)
        self._node = {node["token"]: i for i, node in enumerate(tables["node"])}
        self._polygon = {record["token"]: record for record in tables["polygon"]}
        self._line = {record["token"]: record for record in tables["line"]}
        self._arclines: Mapping[str, Any] = tables["arcline_path_3"]
        self._connectivity: Mapping[str, Any] = tables["connectivity"]
        layers = {name: self._geometries(name, tables[name]) for name in BEV_LAYERS}
        self.missing = frozenset(name for name, geometries in layers.items() if not len(geometries))
        self._layers = {name: (geometries, STRtree(geometries)) for name, geometries in layers.items()}
        marked = self._geometries("road_segment", [r for r in tables["road_segment"] if r["is_intersection"]])
        self._intersections = marked, STRtree(marked)
        # A lane without a centreline cannot be driven; nuScenes has a handful.
        self._lane_records = [
            (record, connector)
            for connector, name in ((False, "lane"), (True, "lane_connector"))
            for record in tables[name]
            if self._arclines.get(record["token"])
        ]
        self._lane_polygons = self._polygons([record["polygon_token"] for record, _ in self._lane_records], keep_empty=True)
        self._lane_tree = STRtree(self._lane_polygons)

    def around(self, path: np.ndarray, radius: float = RADIUS) -> SceneMap:
        """The map within ``radius`` metres of a path (P, 2): areas and lines are cut there, lanes that reach in are kept whole.

        Connections to lanes outside are left out, so that every token in the lane graph can be looked up.
        """
        line = shapely.linestrings(path) if len(path) > 1 else shapely.points(path[0])
        region = shapely.buffer(shapely.simplify(line, 1.0), radius, quad_segs=8)
        layers = {name: _cut(geometries, tree, region) for name, (geometries, tree) in self._layers.items()}
        rows = np.sort(self._lane_tree.query(region, predicate="intersects"))
        tokens = {self._lane_records[row][0]["token"] for row in rows}
        lanes = [self._lane(row, tokens) for row in rows]
        return make_map(self.location, layers, lanes, self.missing, _cut(*self._intersections, region))

    def _lane(self, row: int, known: set[str]) -> Lane:
        record, connector = self._lane_records[row]
        token = record["token"]
        links = self._connectivity.get(token, {})
        return Lane(
            token=token,
            is_connector=connector,
            centerline=discretize(self._arclines[token]),
            polygon=self._lane_polygons[row],
            predecessors=tuple(other for other in links.get("incoming", ()) if other in known),
            successors=tuple(other for other in links.get("outgoing", ()) if other in known),
            speed_limit=record.get("speed_limit"),
        )

    def _geometries(self, layer: str, records: Records) -> np.ndarray:
        if layer in _LINES:
            return self._line_strings([record["line_token"] for record in records])
        if layer == "drivable_area":
            return self._polygons([token for record in records for token in record["polygon_tokens"]])
        return self._polygons([record["polygon_token"] for record in records])

    def _line_strings(self, tokens: Iterable[str]) -> np.ndarray:
        nodes = [[self._node[node] for node in self._line[token]["node_tokens"]] for token in tokens]
        return np.array([shapely.linestrings(self._xy[rows]) for rows in nodes if len(rows) > 1], dtype=object)

    def _polygons(self, tokens: Sequence[str], keep_empty: bool = False) -> np.ndarray:
        """Valid polygons or multipolygons; records of fewer than three nodes hold no area and are dropped unless asked for."""
        polygons = []
        for token in tokens:
            record = self._polygon[token]
            rings = [record["exterior_node_tokens"], *(hole["node_tokens"] for hole in record["holes"])]
            coordinates = [self._xy[[self._node[node] for node in ring]] for ring in rings if len(ring) > 2]
            polygons.append(shapely.Polygon(coordinates[0], coordinates[1:]) if len(rings[0]) > 2 else shapely.Polygon())
        array = np.array(polygons, dtype=object)
        broken = ~shapely.is_valid(array)
        array[broken] = shapely.buffer(array[broken], 0)
        return array if keep_empty else array[~shapely.is_empty(array)]


def _cut(geometries: np.ndarray, tree: STRtree, region: BaseGeometry) -> tuple[BaseGeometry, ...]:
    """The parts inside a region of the geometries that reach into it, in the order of the table."""
    rows = np.sort(tree.query(region, predicate="intersects"))
    inside = geometries[rows]
    shapely.prepare(region)
    crossing = ~shapely.covers(region, inside)
    inside[crossing] = shapely.intersection(inside[crossing], region)
    return tuple(geometry for geometry in inside if not geometry.is_empty)
