"""Obstacles from depth images: points above the road, clustered into boxes and tracked from decision to decision."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from dist4d_env.geometry.cameras import CameraRig, ego_points
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.planners.observed_agents import Agents, rotation
from dist4d_env.planners.seen_boxes import NARROW, Box, boxes_of, clusters
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.simulation.ego import EgoState

_FARTHEST, _BESIDE = 60.0, 14.0
"""Metres from the ego, and from the ego's route, within which points count."""
_LOWEST, _TILT, _HIGHEST = 0.3, 0.01, 2.3  # m above the road; the lower bound rises with distance, as errors of depth do
_CELL, _PIXELS = 0.5, 40.0  # m of the grid that joins points, at least, and what it is in pixels of the cameras' focal length
_SPECK = 3  # points that are an obstacle; fewer are stray pixels at the edges of things
_OFF_ROAD, _VERGE = 1.5, 6.0
"""Metres: what is larger and stands off the drivable area is a building or a hedge, and only so near the route it counts."""
_FASTEST, _NARROW_FASTEST, _PULL = 16.0, 8.0, 5.0
"""m/s at most of what is seen for the second time and of narrow things among it; m/s^2 by which known speeds change."""
_SLACK = 1.0  # m by which a place found anew may be off
_TRIM, _STILL = 0.8, 0.06  # share of nearest points that two looks are compared by; m by which motion must explain them better
_CALM = 0.5  # m/s below which something stands
_FRESH = 0.7  # share of a new speed in the kept one
_PATIENCE = 1.0  # s that something out of sight is believed to go on


@dataclass(frozen=True)
class _Track:
    box: Box
    velocity: np.ndarray
    looks: int
    seen: float

    def moved(self, time: float) -> np.ndarray:
        """(2,) by how much it has moved since it was seen."""
        return self.velocity * (time - self.seen)


class SeenObstacles:
    """Boxes with velocities of what stands on, or may step onto, the road, from depth alone.

    The rig's ``views`` of the cameras are used; route: (R, 2) the points of the ego's route; scene_map tells roads from yards,
    None takes all for road. What is seen for the first time is taken to stand; at the episode's first instant, when nothing can
    be known, what is ahead on the route is taken to keep the ego's speed.
    """

    def __init__(self, rig: CameraRig, route: np.ndarray, scene_map: SceneMap | None, vehicle: VehicleParameters) -> None:
        self._rig, self._route, self._map, self._vehicle = rig, route, scene_map, vehicle
        self._tracks: list[_Track] = []
        self._begun = False

    def look(self, depth: np.ndarray, intrinsics: np.ndarray, views: np.ndarray, ego: EgoState, time: float) -> Agents:
        """What is there now. depth: (V, H, W) z-depth in m of the cameras ``views`` (V,) of the rig; intrinsics: (V, 3, 3)."""
        points = ego_points(depth, intrinsics, self._rig.ego_from_camera[views])
        cell = max(_CELL, _PIXELS / float(intrinsics[:, 0, 0].min()))
        boxes = self._boxes(points[self._above_road(points)][:, :2], ego, cell)
        self._tracks = self._followed(boxes, ego, time)
        self._begun = True
        return _as_agents(self._tracks, time)

    def _above_road(self, points: np.ndarray) -> np.ndarray:
        x, y, z = points.T
        away = np.hypot(x, y)
        front = self._vehicle.rear_axle_to_center + self._vehicle.length / 2
        own = (x < front) & (x > front - self._vehicle.length) & (np.abs(y) < self._vehicle.width / 2)
        return (away < _FARTHEST) & (z > _LOWEST + _TILT * away) & (z < _HIGHEST) & ~own

    def _boxes(self, points: np.ndarray, ego: EgoState, cell: float) -> list[Box]:
        """Boxes of points (P, 2) in the ego frame; those on and off the road are clustered apart."""
        global_from_ego = rotation(ego.yaw)
        place = points @ global_from_ego.T + (ego.x, ego.y)
        away = self._from_route(place, ego)
        points, place, away = (values[away < _BESIDE] for values in (points, place, away))
        road = np.ones(len(points), bool) if self._map is None else self._map.on_drivable(place)
        beside = clusters(points[~road & (away < _VERGE)], cell)
        groups = clusters(points[road], cell) + [group for group in beside if np.ptp(group, axis=0).max() < _OFF_ROAD]
        groups = [group for group in groups if len(group) >= _SPECK]
        middles = [global_from_ego @ group.mean(0) + (ego.x, ego.y) for group in groups]
        return boxes_of(groups, [self._route_yaw(middle) - ego.yaw for middle in middles], ego)

    def _route_yaw(self, place: np.ndarray) -> float:
        """Radians of the route's direction where it is nearest to a place (2,), all global."""
        x, y = self._route_direction(int(np.argmin(((self._route - place) ** 2).sum(1))))
        return math.atan2(y, x)

    def _route_direction(self, nearest: int) -> np.ndarray:
        """(2,) unit vector along the route at one of its points."""
        before, after = self._route[max(nearest - 1, 0)], self._route[min(nearest + 1, len(self._route) - 1)]
        return np.asarray((after - before) / max(float(np.hypot(*(after - before))), 1e-6))

    def _from_route(self, place: np.ndarray, ego: EgoState) -> np.ndarray:
        """(P,) metres from the route, infinite beyond ``_BESIDE``; 0 where no route is near."""
        around = self._route[np.hypot(self._route[:, 0] - ego.x, self._route[:, 1] - ego.y) < _FARTHEST + _BESIDE]
        if not len(around) or not len(place):
            return np.zeros(len(place))
        from scipy.spatial import cKDTree

        return np.asarray(cKDTree(around).query(place, distance_upper_bound=_BESIDE)[0])

    def _followed(self, boxes: list[Box], ego: EgoState, time: float) -> list[_Track]:
        """Each box as the continuation of the track that it is nearest to, nearest pairs first; others are new."""
        tracks, result, free = self._tracks, [], set(range(len(boxes)))
        lost = set(range(len(tracks)))
        for distance, index, number in sorted(
            (float(np.hypot(*(box.near - track.box.near - track.moved(time)))), index, number)
            for index, track in enumerate(tracks)
            for number, box in enumerate(boxes)
        ):
            if index in lost and number in free and distance <= _reach(tracks[index], boxes[number], time):
                lost.discard(index)
                free.discard(number)
                result.append(_continued(tracks[index], boxes[number], time))
        result += [_Track(boxes[number], self._first_guess(boxes[number], ego), 1, time) for number in sorted(free)]
        return result + [tracks[i] for i in sorted(lost) if tracks[i].looks > 1 and time - tracks[i].seen < _PATIENCE]

    def _first_guess(self, box: Box, ego: EgoState) -> np.ndarray:
        """(2,) m/s of what has not been seen before."""
        away = np.hypot(*(self._route - box.near).T)
        nearest = int(np.argmin(away))
        if self._begun or away[nearest] > self._vehicle.width or box.size.min() < NARROW[0]:
            return np.zeros(2)
        return ego.speed * self._route_direction(nearest)


def _reach(track: _Track, box: Box, time: float) -> float:
    """Metres from where a track is expected within which a box may be its continuation."""
    wide = min(track.box.size.max(), box.size.max()) > NARROW[1]
    change = (_FASTEST if wide else _NARROW_FASTEST) if track.looks == 1 else _PULL
    return _SLACK + change * (time - track.seen)


def _continued(track: _Track, box: Box, time: float) -> _Track:
    """A track with what is seen of it now: it has moved as explains both looks best, where standing does not do as well."""
    gone = time - track.seen
    if gone <= 0.0:  # the same instant again says nothing about motion
        return replace(track, box=box)
    moves = [box.near - track.box.near, box.points.mean(0) - track.box.points.mean(0)]
    if track.looks > 1:
        moves.append(track.moved(time))
    costs = [_apart(track.box.points + move, box.points) for move in moves]
    best = int(np.argmin(costs))
    stands = _apart(track.box.points, box.points) < costs[best] + _STILL
    velocity = np.zeros(2) if stands else moves[best] / gone
    if track.velocity.any():
        velocity = _FRESH * velocity + (1 - _FRESH) * track.velocity
    return _Track(box, velocity if np.hypot(*velocity) >= _CALM else np.zeros(2), track.looks + 1, time)


def _apart(before: np.ndarray, now: np.ndarray) -> float:
    """Metres between two sets of points (P, 2) and (Q, 2), over the nearest of both."""
    squared = ((before[:, None] - now) ** 2).sum(-1)
    parts = [np.sort(np.sqrt(squared.min(axis))) for axis in (0, 1)]
    return float(np.mean([part[: max(int(_TRIM * len(part)), 1)].mean() for part in parts]))


def _as_agents(tracks: list[_Track], time: float) -> Agents:
    count = len(tracks)
    return Agents(
        position=np.array([track.box.center + track.moved(time) for track in tracks]).reshape(count, 2),
        yaw=np.array([track.box.yaw for track in tracks]),
        velocity=np.array([track.velocity for track in tracks]).reshape(count, 2),
        size=np.array([track.box.size for track in tracks]).reshape(count, 2),
        category=np.zeros(count, int),
    )
