"""The maps of several scenes asked about many egos at once; answers as those of ``areas``, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.areas import AGAINST, lanes_holding, off_drivable, out_of_lane
from dist4d_env.scenes.maps import SceneMap


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

    def __init__(self, maps: Sequence[SceneMap | None] = ()) -> None:
        self._roads: list[_Road] = []
        self._road_of = np.zeros(0, int)  # per scene, -1 without a map
        self._shared: dict[int, int] = {}  # edited scenes share their map
        for scene_map in maps:
            self.add(scene_map)

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

    def off_drivable(self, scene: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """(B,) whether, in any of footprints (B, n, 4, 2), a corner is off the road; False where there is no map."""
        outside = np.zeros(len(scene), bool)
        for road, rows in self._groups(scene):
            outside[rows] = off_drivable(road.map, corners[rows]).any(-1)
        return outside

    def out_of_lane(self, scene: np.ndarray, ego: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
        """(B,) whether egos (B, 7) stand across lanes or off the road; False where there is no map."""
        out = np.zeros(len(scene), bool)
        for road, rows in self._groups(scene):
            out[rows] = out_of_lane(road.map, ego[rows], vehicle)
        return out

    def lanes(self, scene: np.ndarray, points: np.ndarray, yaw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of box centres (B, 2) with headings (B,): whether they lie in lanes that all run against them (``areas.wrong_way``),
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
