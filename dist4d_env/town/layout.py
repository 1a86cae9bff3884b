"""From a street plan to a layout: kerbs, lanes, markings, crossings, walkways and what stands along them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from shapely.geometry import LineString, Point, Polygon, box
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from dist4d_env.town.actors import Strip
from dist4d_env.town.furniture import furnish
from dist4d_env.town.junctions import CORNER, CROSSING, STOP, RoadLane, arms_at, road_lanes, trims, turns_at
from dist4d_env.town.model import Layout, Marking, TownLane
from dist4d_env.town.paths import ArcPath
from dist4d_env.town.pedestrians import FootStreet
from dist4d_env.town.plans import SPLIT_FAMILIES, Plan, Road, make_plan
from dist4d_env.town.signals import STOP_LINE, signals_of

CELL = 480.0
"""Side of the square that each layout has to itself on its map's canvas."""
COLUMNS, ROWS = 8, 16
LOCATIONS = {"train": "boston-seaport", "val": "singapore-onenorth", "test": "singapore-hollandvillage"}
"""One official location per split, because nuScenes' map reader knows no others."""


def cell_origin(cell: int) -> tuple[float, float]:
    """South-west corner of a layout's cell on the canvas."""
    return (cell % COLUMNS) * CELL, (cell // COLUMNS) * CELL


@dataclass(frozen=True)
class Town:
    """A layout, and what traffic needs to know of it beyond what is drawn: parking strips and streets to walk along."""

    layout: Layout
    strips: tuple[Strip, ...]
    streets: tuple[FootStreet, ...]


def make_town(split: str, number: int, seed: int) -> Town:
    """Layout ``number`` of a split; ``seed`` is the seed of its own random stream (same arguments, same layout)."""
    with np.errstate(divide="ignore", invalid="ignore"):  # GEOS raises floating-point flags inside exact buffers
        return _make_town(split, number, seed)


def _make_town(split: str, number: int, seed: int) -> Town:
    rng = np.random.default_rng(seed)
    west, south = cell_origin(number)
    families = SPLIT_FAMILIES[split]
    plan = make_plan(families[number % len(families)], rng, (west + CELL / 2, south + CELL / 2))
    cell = box(west, south, west + CELL, south + CELL)

    cut = trims(plan)
    lanes = [lane for index, road in enumerate(plan.roads) for lane in road_lanes(index, road, cut[index])]
    turns = [turn for node in range(len(plan.nodes)) for turn in turns_at(plan, node, lanes)]

    ends = [_open_ends(road) for road in plan.roads]
    strips = [
        road.path.section(begin, road.path.length - end).strip(road.left, -road.right)
        for road, (begin, end) in zip(plan.roads, cut, strict=True)
    ]
    whole = unary_union([road.path.strip(road.left, -road.right) for road in plan.roads])
    drivable = whole.buffer(CORNER, quad_segs=8, join_style="mitre").buffer(-CORNER, quad_segs=8).union(whole)
    corners = _pieces(drivable.difference(unary_union(strips).buffer(0.02, join_style="mitre")), 2.0)
    walkways = _walkways(plan, cut, drivable, corners, unary_union([end for pair in ends for end in pair]))
    crossings, stops = _crossings_and_stops(plan, cut)

    buildings, props, carparks = furnish(plan, cut, drivable, walkways, crossings, cell, rng)
    layout = Layout(
        seed=seed,
        name=LOCATIONS[split],
        lanes=_town_lanes(plan, lanes, turns),
        road=tuple(strips) + tuple(corners),
        intersections=tuple(_intersections(plan, cut, drivable)),
        crossings=tuple(crossings),
        walkways=tuple(walkways),
        carparks=tuple(carparks),
        markings=tuple(_lines(plan, cut) + stops),
        buildings=tuple(buildings),
        props=tuple(props),
        extent=(COLUMNS * CELL, ROWS * CELL),
        signals=signals_of(plan, lanes, turns, drivable),
    )
    return Town(layout, tuple(_parking(plan, cut)), tuple(_streets(plan, cut)))


def _parking(plan: Plan, cut: np.ndarray) -> list[Strip]:
    """Middle lines of the parking strips, kept clear of the junctions."""
    strips = []
    for (begin, end), road in zip(cut, plan.roads, strict=True):
        low = begin + STOP + 5.0 if road.begin >= 0 else 2.0
        high = road.path.length - (end + STOP + 5.0 if road.end >= 0 else 2.0)
        if high - low < 8.0:
            continue
        middle = road.path.section(low, high)
        if road.parking_right:
            strips.append(Strip(middle.offset(-(road.right - 0.15 - road.parking_right / 2))))
        if road.parking_left:
            strips.append(Strip(middle.offset(road.left - 0.15 - road.parking_left / 2).reverse()))
    return strips


def _streets(plan: Plan, cut: np.ndarray) -> list[FootStreet]:
    """Every road between its corners, with the crossings at its ends (numbered as in ``Layout.crossings``)."""
    numbers = [(arm.road, arm.at_begin) for node in range(len(plan.nodes)) for arm in arms_at(plan, node)]
    streets = []
    for index, ((begin, end), road) in enumerate(zip(cut, plan.roads, strict=True)):
        length = road.path.length - begin - end
        middle = sum(CROSSING) / 2
        places = [(middle, numbers.index((index, True)))] if road.begin >= 0 else []
        places += [(length - middle, numbers.index((index, False)))] if road.end >= 0 else []
        path = road.path.section(begin, road.path.length - end)
        streets.append(FootStreet(path, road.left, road.right, plan.sidewalk, tuple(places)))
    return streets


def _pieces(geometry: BaseGeometry, least: float) -> list[Polygon]:
    """Polygons of at least ``least`` square metres, grown by 3 cm so that they overlap what they were cut from."""
    parts = getattr(geometry, "geoms", [geometry])
    return [part.buffer(0.03, join_style="mitre") for part in parts if isinstance(part, Polygon) and part.area >= least]


def _open_ends(road: Road) -> list[BaseGeometry]:
    """Rectangles beyond a road's open ends: no walkway runs round the end of a street."""
    poses = ([road.path.reverse().end] if road.begin < 0 else []) + ([road.path.end] if road.end < 0 else [])
    reach = max(road.left, road.right) + 10.0
    return [ArcPath(pose, ((20.0, 0.0),)).strip(reach, -reach) for pose in poses]


def _walkways(plan: Plan, cut: np.ndarray, drivable: BaseGeometry, corners: list[Polygon], beyond: BaseGeometry) -> list[Polygon]:
    """Strips along each side of each road, and the rounded pieces round the corners; none of them has a hole."""
    wide = plan.sidewalk
    strips = []
    for (begin, end), road in zip(cut, plan.roads, strict=True):
        middle = road.path.section(begin, road.path.length - end)
        strips.append(middle.strip(road.left + wide, road.left))
        strips.append(middle.strip(-road.right, -road.right - wide))
    band = drivable.buffer(wide, quad_segs=8).difference(drivable).difference(beyond)
    taken = unary_union([*strips, drivable])
    strips = [part for strip in strips for part in _pieces(strip.difference(unary_union(corners)), 1.0)]
    return strips + _pieces(band.difference(taken.buffer(0.02)), 0.5)


def _intersections(plan: Plan, cut: np.ndarray, drivable: BaseGeometry) -> list[Polygon]:
    """The drivable area between the stop lines of each node."""
    areas = []
    for node, centre in enumerate(plan.nodes):
        arms = arms_at(plan, node)
        outline = []
        for arm in arms:
            road = plan.roads[arm.road]
            s = arm.corner + STOP if arm.at_begin else road.path.length - arm.corner - STOP
            across = road.path.at(s)
            normal = np.array([-np.sin(across[2]), np.cos(across[2])])
            outline += [across[:2] + normal * road.left, across[:2] - normal * road.right]
        hull = Polygon(np.array(outline)).convex_hull if len(outline) > 4 else Point(centre).buffer(10.0)
        area = hull.intersection(drivable)
        parts = getattr(area, "geoms", [area])
        areas.append(max((p for p in parts if isinstance(p, Polygon)), key=lambda p: p.area))
    return areas


def _crossings_and_stops(plan: Plan, cut: np.ndarray) -> tuple[list[Polygon], list[Marking]]:
    crossings, stops = [], []
    for node in range(len(plan.nodes)):
        for arm in arms_at(plan, node):
            road = plan.roads[arm.road]
            outwards = road.path if arm.at_begin else road.path.reverse()
            if outwards.length < arm.corner + STOP:
                raise ValueError(f"the {plan.family} plan has a road of {outwards.length:.0f} m, all taken by its junctions")
            crossings.append(outwards.section(arm.corner + CROSSING[0], arm.corner + CROSSING[1]).strip(arm.left, -arm.right))
            # Right-hand traffic: looking outwards, vehicles come in on the left.
            incoming = road.backward if arm.at_begin else road.forward
            x, y, yaw = outwards.at(arm.corner + STOP_LINE)
            normal = np.array([-np.sin(yaw), np.cos(yaw)])
            line = LineString([(x, y) + normal * 0.15, (x, y) + normal * incoming * road.lane_width])
            stops.append(Marking(line, 0.4, "white", False, "stop_line"))
    return crossings, stops


def _lines(plan: Plan, cut: np.ndarray) -> list[Marking]:
    """Dividers and edge lines of each road between its stop lines."""
    markings = []

    def paint(path: ArcPath, offset: float, width: float, colour: str, dashed: bool, kind: str) -> None:
        markings.append(Marking(LineString(path.offset(offset).sample(1.0)[:, :2]), width, colour, dashed, kind))

    for (begin, end), road in zip(cut, plan.roads, strict=True):
        low = begin + STOP if road.begin >= 0 else 0.0
        high = road.path.length - (end + STOP if road.end >= 0 else 0.0)
        path = road.path.section(low, high)
        if road.forward + road.backward > 2:
            paint(path, 0.12, 0.12, "yellow", False, "road_divider")
            paint(path, -0.12, 0.12, "yellow", False, "road_divider")
        else:
            paint(path, 0.0, 0.14, "yellow", True, "road_divider")
        for j in range(1, road.forward):
            paint(path, -j * road.lane_width, 0.13, "white", True, "lane_divider")
        for j in range(1, road.backward):
            paint(path, j * road.lane_width, 0.13, "white", True, "lane_divider")
        if road.parking_right or road.forward > 1:
            paint(path, -road.forward * road.lane_width, 0.12, "white", False, "edge")
        if road.parking_left or road.backward > 1:
            paint(path, road.backward * road.lane_width, 0.12, "white", False, "edge")
    return markings


def _town_lanes(plan: Plan, lanes: list[RoadLane], turns: list[tuple[int, int, ArcPath]]) -> tuple[TownLane, ...]:
    """Road lanes first, connectors after them."""
    following: list[list[int]] = [[] for _ in lanes]
    for index, (incoming, _, _) in enumerate(turns):
        following[incoming].append(len(lanes) + index)
    result = []
    for index, lane in enumerate(lanes):
        road = plan.roads[lane.road]
        result.append(_town_lane(lane.path, road.lane_width, False, tuple(following[index]), road.speed_limit))
    for incoming, outgoing, path in turns:
        width = min(plan.roads[lanes[i].road].lane_width for i in (incoming, outgoing))
        limit = min(plan.roads[lanes[i].road].speed_limit for i in (incoming, outgoing))
        result.append(_town_lane(path, width, True, (outgoing,), limit))
    return tuple(result)


def _town_lane(path: ArcPath, width: float, connector: bool, successors: tuple[int, ...], limit: float) -> TownLane:
    return TownLane(path.sample(1.0), width, path.strip(width / 2, -width / 2), connector, successors, limit, path.pieces)
