"""Where on the map the ego is: across lanes, off the road, against the traffic (nuPlan's ego areas)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.maps import Lane, SceneMap

AGAINST = math.radians(120)
"""A lane is driven the wrong way where heading and lane differ by more than this."""


def ego_corners(ego: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
    """Footprint corners (..., 4, 2), front-left, rear-left, rear-right, front-right, of ego rows (..., 7)."""
    front, back = vehicle.rear_axle_to_center + vehicle.length / 2, vehicle.rear_axle_to_center - vehicle.length / 2
    ahead = np.array([front, back, back, front])
    left = np.array([0.5, 0.5, -0.5, -0.5]) * vehicle.width
    cos, sin = deterministic.cos(ego[..., 2, None]), deterministic.sin(ego[..., 2, None])
    corners = np.empty((*ego.shape[:-1], 4, 2))
    corners[..., 0] = ego[..., 0, None] + cos * ahead - sin * left
    corners[..., 1] = ego[..., 1, None] + sin * ahead + cos * left
    return corners


def off_drivable(scene_map: SceneMap, corners: np.ndarray) -> np.ndarray:
    """(...) whether some corner of footprints (..., 4, 2) lies neither on the drivable area nor in a car park."""
    return corners_off(scene_map, corners).any(-1)


def corners_off(scene_map: SceneMap, corners: np.ndarray) -> np.ndarray:
    """(...) whether points (..., 2) lie neither on the drivable area nor in a car park."""
    outside = ~scene_map.on_drivable(corners)
    if outside.any() and scene_map.layers.get("carpark_area"):
        points = corners[outside]
        parked = np.zeros(len(points), bool)
        hits = scene_map.trees["carpark_area"].query(shapely.points(points), predicate="intersects")
        parked[hits[0]] = True
        outside[outside] = ~parked
    return outside


def lanes_holding(scene_map: SceneMap, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair (point, lane), as two arrays (K,) of indices, in which a lane's polygon holds a point (M, 2).

    Lanes are counted in the order of ``SceneMap.lanes``; the same answer as the tree's own predicate, several times as fast.
    """
    tree = scene_map.trees["lane"]
    point, lane = tree.query(shapely.points(points))
    shapely.prepare(tree.geometries)
    inside = shapely.intersects_xy(tree.geometries[lane], points[point, 0], points[point, 1])
    return point[inside], lane[inside]


def across_lanes(scene_map: SceneMap, corners: np.ndarray) -> np.ndarray:
    """(...) whether a footprint (..., 4, 2) stands in more than one lane and wholly in none."""
    count = math.prod(corners.shape[:-2])
    point, lane = lanes_holding(scene_map, corners.reshape(-1, 2))
    # One entry per footprint and lane that hold each other's: how many of the four corners.
    pair, held = np.unique(point // 4 * len(scene_map.lanes) + lane, return_counts=True)
    footprint = pair // max(len(scene_map.lanes), 1)
    lanes = np.bincount(footprint, minlength=count)
    whole = np.bincount(footprint, weights=held == 4, minlength=count) > 0
    return ((lanes > 1) & ~whole).reshape(corners.shape[:-2])


def out_of_lane(scene_map: SceneMap | None, ego: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
    """(...) whether egos (..., 7) stand across lanes or with a corner off the drivable area; never without a map."""
    if scene_map is None:
        return np.zeros(ego.shape[:-1], bool)
    corners = ego_corners(ego, vehicle)
    return across_lanes(scene_map, corners) | off_drivable(scene_map, corners)


def wrong_way(scene_map: SceneMap, points: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """(M,) whether box centres (M, 2) with headings (M,) lie in lanes that all run against them.

    Never in an intersection, where lanes of all directions lie over each other, nor where there is no lane.
    """
    point, lane = lanes_holding(scene_map, points)
    lanes = list(scene_map.lanes.values())
    against = np.zeros(len(point), bool)
    for index in np.unique(lane).tolist():
        rows = lane == index
        here = point[rows]
        against[rows] = _against(lanes[index], points[here], yaw[here])
    held, opposed = (np.bincount(point, weights, len(points)) for weights in (None, against))
    wrong = (held > 0) & (opposed == held)
    wrong[wrong] = ~scene_map.in_intersection(points[wrong])
    return wrong


def _against(lane: Lane, points: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """(M,) whether a lane runs against headings (M,) where it is nearest to points (M, 2)."""
    line = lane.centerline
    dx, dy = points[:, 0, None] - line[:, 0], points[:, 1, None] - line[:, 1]
    heading = line[np.argmin(dx * dx + dy * dy, axis=1), 2]
    return np.abs((yaw - heading + math.pi) % (2 * math.pi) - math.pi) > AGAINST


def speed_limit(lanes: Iterable[Lane]) -> float | None:
    """The highest limit (m/s) of the lanes that state one."""
    return max((lane.speed_limit for lane in lanes if lane.speed_limit is not None), default=None)


@dataclass(frozen=True)
class _Road:
    """A map, and of its lanes in order the centrelines and the speed limits (L,), nan where none is stated."""

    map: SceneMap
    lines: list[np.ndarray]
    limits: np.ndarray

    @classmethod
    def of(cls, scene_map: SceneMap) -> _Road:
        lanes = list(scene_map.lanes.values())
        limits = np.array([np.nan if lane.speed_limit is None else lane.speed_limit for lane in lanes], float)
        return cls(scene_map, [lane.centerline for lane in lanes], limits)


class Areas:
    """Several scenes' maps, None where a scene has none; ``scene`` (B,) in every method says which one each question is about."""

    def __init__(self) -> None:
        self._roads: list[_Road] = []
        self._road_of = np.zeros(0, int)  # per scene, -1 without a map
        self._shared: dict[int, int] = {}  # edited scenes share their map

    def add(self, scene_map: SceneMap | None) -> None:
        """One more scene's map."""
        road = -1
        if scene_map is not None:
            road = self._shared.setdefault(id(scene_map), len(self._roads))
            if road == len(self._roads):
                self._roads.append(_Road.of(scene_map))
        self._road_of = np.append(self._road_of, road)

    def known(self, scene: np.ndarray) -> np.ndarray:
        """(B,) whether there is a map."""
        return self._road_of[scene] >= 0

    def corners_off(self, scene: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """(B, n, 4) which corners of footprints (B, n, 4, 2) are off the road; none where there is no map."""
        outside = np.zeros(corners.shape[:-1], bool)
        for road, rows in self._groups(scene):
            outside[rows] = corners_off(road.map, corners[rows])
        return outside

    def out_of_lane(self, scene: np.ndarray, ego: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
        """(B,) whether egos (B, 7) stand across lanes or off the road; False where there is no map."""
        out = np.zeros(len(scene), bool)
        for road, rows in self._groups(scene):
            out[rows] = out_of_lane(road.map, ego[rows], vehicle)
        return out

    def lanes(self, scene: np.ndarray, points: np.ndarray, yaw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of box centres (B, 2) with headings (B,): whether they lie in lanes that all run against them (``wrong_way``),
        and the highest speed limit of the lanes they lie in, nan where none is stated. False and nan where there is no map."""
        limit, inside, along = np.full(len(scene), np.nan), np.zeros(len(scene), bool), np.zeros(len(scene), bool)
        owners, lines = [np.zeros(0, int)], []
        for road, rows in self._groups(scene):
            point, lane = lanes_holding(road.map, points[rows])
            np.fmax.at(limit, rows[point], road.limits[lane])
            owners.append(rows[point])
            lines += [road.lines[index] for index in lane.tolist()]
        owner = np.concatenate(owners)
        turn = np.abs((yaw[owner] - _nearest_heading(lines, points[owner]) + np.pi) % (2 * np.pi) - np.pi)
        inside[owner] = True
        along[owner[turn <= AGAINST]] = True
        against = inside & ~along
        for road, rows in self._groups(scene, np.flatnonzero(against)):
            against[rows] = ~road.map.in_intersection(points[rows])
        return against, limit

    def _groups(self, scene: np.ndarray, rows: np.ndarray | None = None) -> list[tuple[_Road, np.ndarray]]:
        """Each map that is asked about, with the rows that do."""
        rows = np.arange(len(scene)) if rows is None else rows
        number = self._road_of[scene[rows]]
        if len(rows) and (number == number[0]).all():
            return [(self._roads[number[0]], rows)] if number[0] >= 0 else []
        order = np.argsort(number, kind="stable")
        cuts = np.flatnonzero(np.diff(number[order])) + 1
        parts = np.split(order, cuts) if len(order) else []
        return [(self._roads[number[part[0]]], rows[part]) for part in parts if number[part[0]] >= 0]


def _nearest_heading(lines: Sequence[np.ndarray], points: np.ndarray) -> np.ndarray:
    """(K,) the headings of centrelines (P_k, 3) at their points nearest to places (K, 2), of equally near ones the first."""
    if not lines:
        return np.zeros(0)
    length = np.array([len(line) for line in lines])
    begin, pair, line = np.cumsum(length) - length, np.repeat(np.arange(len(lines)), length), np.concatenate(lines)
    dx, dy = points[pair, 0] - line[:, 0], points[pair, 1] - line[:, 1]
    distance = dx * dx + dy * dy
    least = np.flatnonzero(distance == np.minimum.reduceat(distance, begin)[pair])
    return line[least[np.searchsorted(least, begin)], 2]
