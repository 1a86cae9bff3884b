"""Layouts as a nuScenes map: the map expansion file that ``NuScenesMap`` reads, and the drivable-area mask."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from dist4d_env.geometry.transforms import wrap_angle
from dist4d_env.scenes.lights import LAMP_SPACING
from dist4d_env.town.layout import CELL
from dist4d_env.town.model import Layout, Signal, TownLane
from dist4d_env.town.paths import ArcPath

MASK_METRES = 0.1
"""Side of a mask pixel, the devkit's native one."""

_LAYERS = (
    "polygon", "line", "node", "drivable_area", "road_segment", "road_block", "lane", "lane_connector", "ped_crossing", "walkway",
    "stop_line", "carpark_area", "road_divider", "lane_divider", "traffic_light",
)  # fmt: skip


@dataclass(frozen=True)
class MapTokens:
    """The tokens that a layout's lanes and traffic lights have got, in its own order."""

    lanes: list[str]
    lights: list[str]


class MapFile:
    """Collects layouts of one location and turns them into the tables of a map expansion file (version 1.3).

    Lanes and connectors carry one key more than nuScenes' own: ``speed_limit`` in m/s.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self.tables: dict[str, Any] = {name: [] for name in _LAYERS}
        self.tables["arcline_path_3"], self.tables["connectivity"] = {}, {}
        self.extent = (0.0, 0.0)
        self._count = 0

    def content(self) -> dict[str, Any]:
        return {"version": "1.3", "canvas_edge": list(self.extent), **self.tables}

    def add(self, layout: Layout) -> MapTokens:
        """Adds all layers of a layout (its coordinates are the location's own)."""
        self.extent = layout.extent
        tables = self.tables
        drivable = self._token()
        tables["drivable_area"].append({"token": drivable, "polygon_tokens": [self._polygon(p) for p in layout.road]})
        junctions = unary_union(layout.intersections)
        segments: list[tuple[str, Polygon]] = []
        for shape, is_junction in [(p, True) for p in layout.intersections] + [
            (part, False) for road in layout.road for part in _polygons(road.difference(junctions)) if part.area > 20.0
        ]:
            record = {"polygon_token": self._polygon(shape), "is_intersection": is_junction, "drivable_area_token": drivable}
            segments.append((self._put("road_segment", record), shape))
        lanes = self._lanes(layout)
        blocks: list[tuple[str, Polygon]] = []
        for block in _road_blocks(layout):
            ends = [self._line(LineString(list(block.exterior.coords)[k : k + 2])) for k in (0, 2)]
            record = {"polygon_token": self._polygon(block), "from_edge_line_token": ends[0], "to_edge_line_token": ends[1]}
            blocks.append((self._put("road_block", record | {"road_segment_token": _holder(block, segments)}), block))
        lights = [self._traffic_light(signal, blocks) for signal in layout.signals]
        for name, shapes in (("ped_crossing", layout.crossings), ("walkway", layout.walkways), ("carpark_area", layout.carparks)):
            for shape in shapes:
                extra: dict[str, Any] = {"road_segment_token": _holder(shape, segments)} if name == "ped_crossing" else {}
                extra = extra | ({"orientation": 0.0, "road_block_token": None} if name == "carpark_area" else {})
                self._put(name, {"polygon_token": self._polygon(shape)} | extra)
        self._stop_lines(layout, lights)
        for marking in layout.markings:
            if marking.kind == "lane_divider":
                self._put("lane_divider", {"line_token": self._line(marking.line), "lane_divider_segments": []})
            elif marking.kind == "road_divider":
                record = {"line_token": self._line(marking.line), "road_segment_token": _holder(marking.line, segments)}
                self._put("road_divider", record)
        return MapTokens(lanes, lights)

    def _stop_lines(self, layout: Layout, lights: list[str]) -> None:
        """Those with a traffic light name it; there is a line for every crossing, in the same order."""
        of_crossing = {signal.crossing: light for signal, light in zip(layout.signals, lights, strict=True)}
        for number, marking in enumerate(marking for marking in layout.markings if marking.kind == "stop_line"):
            shape, light = marking.line.buffer(marking.width / 2, cap_style="flat"), of_crossing.get(number)
            kind = "STOP_SIGN" if light is None else "TRAFFIC_LIGHT"
            cues: dict[str, Any] = {"ped_crossing_tokens": [], "traffic_light_tokens": [light] if light else []}
            record = {"polygon_token": self._polygon(shape), "stop_line_type": kind, "road_block_token": None}
            self._put("stop_line", record | cues)

    def _traffic_light(self, signal: Signal, blocks: list[tuple[str, Polygon]]) -> str:
        """Its head beside the stop line, as nuScenes describes one."""
        head, across = signal.heads[0], signal.line[1] - signal.line[0]
        before = signal.line.mean(0) + np.array([across[1], -across[0]]) / np.hypot(*across)
        zero = dict.fromkeys(("tx", "ty", "rx", "ry", "rz"), 0.0)
        items = [
            {
                "color": colour,
                "shape": "CIRCLE",
                "rel_pos": {**zero, "tz": LAMP_SPACING * (1 - place)},
                "to_road_block_tokens": [],
            }
            for place, colour in enumerate(("RED", "YELLOW", "GREEN"))
        ]
        x, y, z = head.middle
        record = {
            "line_token": self._line(LineString(signal.line)), "traffic_light_type": "VERTICAL", "items": items,
            "from_road_block_token": next((token for token, area in blocks if area.contains(Point(before))), None),
            "pose": {"tx": x, "ty": y, "tz": z, "rx": 0.0, "ry": 0.0, "rz": float(wrap_angle(head.facing))},
        }  # fmt: skip
        return self._put("traffic_light", record)

    def _lanes(self, layout: Layout) -> list[str]:
        tokens = [self._token() for _ in layout.lanes]
        before: list[list[str]] = [[] for _ in tokens]
        for i, lane in enumerate(layout.lanes):
            for j in lane.successors:
                before[j].append(tokens[i])
        for i, lane in enumerate(layout.lanes):
            area = self._polygon(lane.polygon)
            record: dict[str, Any] = {"token": tokens[i], "polygon_token": area, "speed_limit": lane.speed_limit}
            if not lane.is_connector:
                edges = {
                    "from_edge_line_token": self._line(_across(lane, 0)), "to_edge_line_token": self._line(_across(lane, -1)),
                }  # fmt: skip
                record |= {"lane_type": "CAR", **edges, "left_lane_divider_segments": [], "right_lane_divider_segments": []}
            self.tables["lane_connector" if lane.is_connector else "lane"].append(record)
            self.tables["arcline_path_3"][tokens[i]] = arclines(lane)
            self.tables["connectivity"][tokens[i]] = {"incoming": before[i], "outgoing": [tokens[j] for j in lane.successors]}
        return tokens

    def _token(self) -> str:
        self._count += 1
        name = hashlib.md5(f"{self.location}/{self._count}".encode(), usedforsecurity=False).hexdigest()
        return f"{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:]}"

    def _put(self, table: str, record: dict[str, Any]) -> str:
        token = self._token()
        self.tables[table].append({"token": token, **record})
        return token

    def _nodes(self, points: np.ndarray) -> list[str]:
        return [self._put("node", {"x": round(float(x), 4), "y": round(float(y), 4)}) for x, y in points]

    def _polygon(self, shape: Polygon) -> str:
        shape = shape.simplify(0.005)
        exterior = self._nodes(np.array(shape.exterior.coords)[:-1])
        holes = [{"node_tokens": self._nodes(np.array(hole.coords)[:-1])} for hole in shape.interiors]
        return self._put("polygon", {"exterior_node_tokens": exterior, "holes": holes})

    def _line(self, line: LineString) -> str:
        return self._put("line", {"node_tokens": self._nodes(np.array(line.simplify(0.005).coords))})


def arclines(lane: TownLane) -> list[dict[str, Any]]:
    """The lane's pieces as Dubins records of nuScenes: each piece is the first or the middle segment of a record of its own."""
    x, y, yaw = (float(v) for v in lane.centerline[0])
    path = ArcPath((x, y, yaw), lane.pieces)
    records, begin = [], 0.0
    for length, curvature in lane.pieces:
        poses = path.at(np.array([begin, begin + length]))
        poses[:, 2] = wrap_angle(poses[:, 2])
        shape, lengths = ("LSL" if curvature > 0 else "RSR", [length, 0.0, 0.0]) if curvature else ("LSL", [0.0, length, 0.0])
        radius = 1.0 / abs(curvature) if curvature else 999.999
        ends = {"start_pose": poses[0].tolist(), "end_pose": poses[1].tolist()}
        records.append({**ends, "shape": shape, "radius": radius, "segment_length": lengths})
        begin += length
    return records


def _across(lane: TownLane, row: int) -> LineString:
    """The lane's edge at its first (0) or last (-1) point, from left to right."""
    x, y, yaw = lane.centerline[row]
    normal = np.array([-np.sin(yaw), np.cos(yaw)]) * lane.width / 2
    return LineString([np.array([x, y]) + normal, np.array([x, y]) - normal])


def _road_blocks(layout: Layout) -> list[Polygon]:
    """The lanes of one road that run the same way, side by side, as one area."""
    lanes = [lane for lane in layout.lanes if not lane.is_connector]
    groups: list[list[TownLane]] = []
    for lane in lanes:
        for group in groups:
            first, here = group[-1].centerline[0], lane.centerline[0]
            same_way = abs(wrap_angle(first[2] - here[2])) < 0.1
            if same_way and np.hypot(*(first[:2] - here[:2])) < 1.2 * lane.width:
                group.append(lane)
                break
        else:
            groups.append([lane])
    blocks = [unary_union([lane.polygon.buffer(0.03, join_style="mitre") for lane in group]) for group in groups]
    return [part for block in blocks for part in _polygons(block)]


def _polygons(geometry: BaseGeometry) -> list[Polygon]:
    return [part for part in getattr(geometry, "geoms", [geometry]) if isinstance(part, Polygon)]


def _holder(shape: BaseGeometry, segments: list[tuple[str, Polygon]]) -> str | None:
    """The road segment that a shape's middle lies in."""
    middle = shape.interpolate(0.5, normalized=True) if isinstance(shape, LineString) else shape.representative_point()
    return next((token for token, area in segments if area.contains(middle)), None)


def write_mask(path: Path, layouts: list[Layout]) -> None:
    """A black and white 8-bit PNG of drivable area and walkways, 0.1 m a pixel, row 0 in the north, cropped to the cells in use.

    Drawn and compressed one row of cells at a time, so that large canvases need little memory.
    """
    cells = {_cell(layout): layout for layout in layouts}
    columns, rows = np.max(list(cells), axis=0) + 1
    side = round(CELL / MASK_METRES)
    path.parent.mkdir(parents=True, exist_ok=True)
    packer = zlib.compressobj(3)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", columns * side, rows * side, 8, 0, 0, 0, 0))
        for row in reversed(range(rows)):
            band = np.zeros((side, 1 + columns * side), np.uint8)  # the first byte of each line names its filter: none
            for column in range(columns):
                if (column, row) in cells:
                    band[:, 1 + column * side : 1 + (column + 1) * side] = _draw(cells[column, row], column, row, side)
            _chunk(file, b"IDAT", packer.compress(band.tobytes()))
        _chunk(file, b"IDAT", packer.flush())
        _chunk(file, b"IEND", b"")


def _cell(layout: Layout) -> tuple[int, int]:
    column, row = np.floor(np.array(layout.road[0].centroid.coords[0]) / CELL).astype(int)
    return int(column), int(row)


def _draw(layout: Layout, column: int, row: int, side: int) -> np.ndarray:
    import cv2

    image = np.zeros((side, side), np.uint8)
    for shape in (*layout.road, *layout.walkways):
        points = (np.array(shape.exterior.coords) - (column * CELL, row * CELL)) / MASK_METRES
        points[:, 1] = side - points[:, 1]
        cv2.fillPoly(image, [np.floor(points).astype(np.int32)], 255)
    return image


def _chunk(file: BinaryIO, name: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content)))
