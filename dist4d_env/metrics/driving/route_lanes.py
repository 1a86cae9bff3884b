"""Lanes on a route: those it runs over, parallel ones in the same direction, and the connectors between them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from dist4d_env.geometry import deterministic
from dist4d_env.scenes.maps import Lane, SceneMap
from dist4d_env.scenes.route import Route

_BESIDE = (1.5, 6.0)  # m between the centrelines of neighbouring lanes
_ALIGNED = math.radians(30)
_SHARED = 3  # centreline points, about a metre apart, that run side by side
_known: dict[tuple[int, Hashable], Any] = {}


def lanes_on_route(scene_map: SceneMap | None, lanes: tuple[str, ...]) -> frozenset[str]:
    """Tokens of the lanes that count as the route over ``lanes``, cached per map and route.

    NAVSIM takes all lanes of the route's road blocks; nuScenes maps know no road blocks that hold a lane's neighbours, so these
    are found by their geometry: lanes whose centreline runs 1.5 m to 6 m beside one on the route in the same direction, theirs
    in turn, and the connectors that lead from a lane of these to another.
    """
    if scene_map is None or not lanes:
        return frozenset()
    key = (id(scene_map), lanes)
    if key not in _known:
        _keep(scene_map, key, _widened(scene_map, lanes))
    return _known[key]


def route_area(scene_map: SceneMap | None, on_route: frozenset[str], route: Route) -> RouteArea:
    """The ``RouteArea`` of a map and a route, cached; without a map it has the route alone.

    Its lines are the centrelines of the lanes the route runs over and, where it runs outside the lanes, the route itself.
    """
    key = (id(route), (id(scene_map), on_route))
    if key not in _known:
        lanes = scene_map.lanes if scene_map is not None else {}
        polygons = [lane.polygon for token, lane in lanes.items() if token in on_route]
        area = shapely.union_all(polygons) if polygons else shapely.Polygon()
        lines = [lanes[token].centerline[:, :2] for token in route.lanes if token in lanes]
        held = shapely.intersects_xy(area, route.points[:, 0], route.points[:, 1])
        runs = np.split(route.points, np.flatnonzero(np.diff(held)) + 1)
        lines += runs[int(held[0]) :: 2]  # runs inside and outside lanes alternate
        _keep(route, key, (RouteArea(area, tuple(lines)), scene_map))  # with the map, so that its id stays its own
    return _known[key][0]


def _keep(owner: Any, key: tuple[int, Hashable], value: Any) -> None:
    """Keep a value for as long as its owner lives; maps are neither hashable nor to be written into."""
    _known[key] = value
    weakref.finalize(owner, _known.pop, key, None)


@dataclass(frozen=True)
class RouteArea:
    """area: union of the lanes on the route; lines: (P, 2) the centrelines that lane keeping measures from."""

    area: BaseGeometry
    lines: tuple[np.ndarray, ...]

    def holds(self, points: np.ndarray) -> np.ndarray:
        """(...) whether points (..., 2) lie in a lane on the route."""
        shapely.prepare(self.area)
        return shapely.intersects_xy(self.area, points[..., 0], points[..., 1])

    def offset(self, points: np.ndarray) -> np.ndarray:
        """(...) metres from points (..., 2) to the nearest centreline; the two segments at its nearest corner are measured."""
        pieces, tree = self._pieces
        nearest = tree.query(points)[1]
        away = [_distance(points, pieces[nearest + side]) for side in (0, 1)]  # the piece that ends there and the one that starts
        return np.minimum(*away)

    @cached_property
    def _pieces(self) -> tuple[np.ndarray, Any]:
        """(M + 1, 4) lines between corners, number i ending at corner i (of no length where a centreline begins); a k-d tree of
        the M corners."""
        from scipy.spatial import cKDTree

        corners = np.concatenate(self.lines)
        begins = np.cumsum([0, *(len(line) for line in self.lines[:-1])])
        pieces = np.concatenate([np.roll(corners, 1, axis=0), corners], 1)
        pieces[begins, :2] = corners[begins]
        closing = np.concatenate([corners[-1], corners[-1]])[None]
        return np.concatenate([pieces, closing]), cKDTree(corners)


def _distance(points: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """(...) metres from points (..., 2) to lines (..., 4)."""
    along, away = pieces[..., 2:] - pieces[..., :2], points - pieces[..., :2]
    squared = (along**2).sum(-1)
    share = np.clip((away * along).sum(-1) / np.where(squared > 0, squared, 1.0), 0.0, 1.0)
    return np.hypot(*np.moveaxis(away - share[..., None] * along, -1, 0))


def _widened(scene_map: SceneMap, lanes: Iterable[str]) -> frozenset[str]:
    found = {token for token in lanes if token in scene_map.lanes}
    fresh = [scene_map.lanes[token] for token in found]
    every = list(scene_map.lanes.values())
    while fresh:
        lane = fresh.pop()
        if lane.is_connector:
            continue
        for row in scene_map.trees["lane"].query(lane.polygon.buffer(1.0), predicate="intersects").tolist():
            other = every[row]
            if not other.is_connector and other.token not in found and _beside(lane, other):
                found.add(other.token)
                fresh.append(other)
    for lane in every:
        if lane.is_connector and found.intersection(lane.predecessors) and found.intersection(lane.successors):
            found.add(lane.token)
    return frozenset(found)


def _beside(lane: Lane, other: Lane) -> bool:
    """Whether some metres of another lane's centreline run beside this one's in the same direction."""
    ours, theirs = lane.centerline, other.centerline
    dx, dy = theirs[:, 0, None] - ours[:, 0], theirs[:, 1, None] - ours[:, 1]
    nearest = np.argmin(dx * dx + dy * dy, axis=1)
    rows = np.arange(len(theirs))
    dx, dy, heading = dx[rows, nearest], dy[rows, nearest], ours[nearest, 2]
    along = np.abs(deterministic.cos(heading) * dx + deterministic.sin(heading) * dy)
    aside = np.abs(deterministic.cos(heading) * dy - deterministic.sin(heading) * dx)
    turn = np.abs((theirs[:, 2] - heading + math.pi) % (2 * math.pi) - math.pi)
    return int(((along < 1.0) & (aside > _BESIDE[0]) & (aside < _BESIDE[1]) & (turn < _ALIGNED)).sum()) >= _SHARED
