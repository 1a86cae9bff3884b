"""Vector maps of a scene: shapely geometry, lane graph, and queries of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from shapely import STRtree
from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.raster import BEVRaster

BEV_LAYERS = (
    "drivable_area",
    "ped_crossing",
    "walkway",
    "stop_line",
    "carpark_area",
    "road_divider",
    "lane_divider",
    "road_block",
)
"""Channels of the BEV raster, in the order of the DiST-4D paper's map condition."""

_TURN_COST = 2.0  # m that a radian of disagreement with a lane's heading counts for
_CANDIDATES = 48  # centreline points looked at before all are


@dataclass(frozen=True)
class Lane:
    """A lane or lane connector. centerline: (P, 3) x, y, heading about every metre, along the driving direction.

    speed_limit: m/s, None where the data set has none (as nuScenes).
    """

    token: str
    is_connector: bool
    centerline: np.ndarray
    polygon: BaseGeometry
    predecessors: tuple[str, ...]
    successors: tuple[str, ...]
    speed_limit: float | None = None


@dataclass(frozen=True)
class SceneMap:
    """The map around one scene's log, global frame. ``make_map`` builds one.

    layers: geometries per BEV_LAYERS name (polygons, for dividers line strings); lanes: by token; missing: names of layers
    the data set does not have here (never invented); drivable: union of the drivable area, prepared; trees: an STRtree per
    layer over its geometries in order, and "lane" over the lanes' polygons in the order of ``lanes``.
    intersections: union of the road segments marked as intersection, or where no segment is marked of the lane connectors.
    """

    location: str
    layers: dict[str, tuple[BaseGeometry, ...]]
    lanes: dict[str, Lane]
    missing: frozenset[str]
    drivable: BaseGeometry
    trees: dict[str, STRtree]
    intersections: BaseGeometry = field(default_factory=MultiPolygon)

    def on_drivable(self, points: np.ndarray) -> np.ndarray:
        """Whether points (..., 2) lie on the drivable area (its edge included)."""
        return _covered(self.drivable, points)

    def in_intersection(self, points: np.ndarray) -> np.ndarray:
        """Whether points (..., 2) lie in an intersection."""
        return _covered(self.intersections, points)

    def lanes_at(self, x: float, y: float) -> tuple[Lane, ...]:
        """The lanes and connectors whose polygon holds the point, in the order of ``lanes``."""
        hits = np.sort(self.trees["lane"].query(shapely.points(x, y), predicate="intersects"))
        return tuple(self._lane_list[i] for i in hits)

    def lanes_along(self, points: np.ndarray) -> list[tuple[Lane, ...]]:
        """``lanes_at`` for every point (N, 2) of a path at once."""
        point, lane = self.trees["lane"].query(shapely.points(points), predicate="intersects")
        found: list[list[Lane]] = [[] for _ in points]
        for row in np.lexsort((lane, point)).tolist():
            found[point[row]].append(self._lane_list[lane[row]])
        return [tuple(lanes) for lanes in found]

    def nearest_lane_point(self, x: float, y: float, yaw: float | None = None, radius: float = 50.0) -> tuple[Lane, int] | None:
        """The lane whose centreline is nearest, and the nearest row of it; None only if there is none within ``radius`` metres.

        With a heading, a radian of disagreement counts as two metres: among crossing and opposing lanes the one driven in wins.
        """
        points, owner, row = self._lane_points
        distance = np.hypot(points[:, 0] - x, points[:, 1] - y)
        cost = np.where(distance <= radius, distance, np.inf)
        if yaw is not None:
            cost = cost + _TURN_COST * np.abs((points[:, 2] - yaw + np.pi) % (2 * np.pi) - np.pi)
        if not len(cost) or not np.isfinite(cost[best := int(np.argmin(cost))]):
            return None
        return self._lane_list[owner[best]], int(row[best])

    def lane_points_along(self, poses: np.ndarray, radius: float = 50.0) -> np.ndarray:
        """The centreline points (N, 3) x, y, heading that ``nearest_lane_point`` finds for x, y, heading (N, 3), nan for none."""
        points, _, _ = self._lane_points
        chosen = np.full((len(poses), 3), np.nan)
        if not len(points):
            return chosen
        count = min(_CANDIDATES, len(points))
        distance, row = self._lane_tree.query(poses[:, :2], np.arange(1, count + 1), distance_upper_bound=radius)
        row = np.sort(row, axis=1)  # of equal costs the first row wins, as it does in nearest_lane_point
        near = points[np.minimum(row, len(points) - 1)]  # (N, count, 3)
        dx, dy, turn = np.moveaxis(near - poses[:, None], -1, 0)
        cost = np.hypot(dx, dy) + _TURN_COST * np.abs((turn + np.pi) % (2 * np.pi) - np.pi)
        cost[row == len(points)] = np.inf
        best, index = cost.min(1), np.arange(len(poses))
        known = np.isfinite(best)
        chosen[known] = near[index, cost.argmin(1)][known]
        # Where a candidate that was not fetched might still be cheaper, all are looked at.
        for i in np.flatnonzero(known & np.isfinite(distance[:, -1]) & (best > distance[:, -1])).tolist():
            x, y, yaw = poses[i].tolist()
            found = self.nearest_lane_point(x, y, yaw, radius)
            if found is not None:
                chosen[i] = found[0].centerline[found[1]]
        return chosen

    def lanes_beside(self, poses: np.ndarray, nearest: float = 2.2, farthest: float = 5.0, turned: float = 0.25) -> np.ndarray:
        """(N, 2) metres to the left of poses (N, 3) x, y, heading at which the nearest centreline runs the same way on the left
        (positive) and on the right (negative), between ``nearest`` and ``farthest`` and turned at most so far; nan for none."""
        points, _, _ = self._lane_points
        found = np.full((len(poses), 2), np.nan)
        if not len(points) or not len(poses):
            return found
        count = min(_CANDIDATES, len(points))
        _, row = self._lane_tree.query(poses[:, :2], np.arange(1, count + 1), distance_upper_bound=farthest + 1.0)
        near = points[np.minimum(row, len(points) - 1)]  # (N, count, 3)
        dx, dy, turn = np.moveaxis(near - poses[:, None], -1, 0)
        cos, sin = deterministic.cos(poses[:, 2:]), deterministic.sin(poses[:, 2:])
        along, left = cos * dx + sin * dy, cos * dy - sin * dx
        fits = (row < len(points)) & (np.abs(along) <= 1.0) & (np.abs((turn + np.pi) % (2 * np.pi) - np.pi) < turned)
        for column, sign in enumerate((1.0, -1.0)):
            offset = np.where(fits & (sign * left >= nearest) & (sign * left <= farthest), sign * left, np.inf).min(1)
            found[:, column] = np.where(np.isfinite(offset), sign * offset, np.nan)
        return found

    def bev(self, global_from_ego: np.ndarray) -> np.ndarray:
        """The map around a pose (4, 4) as (8, 200, 200) uint8 of 0 and 1, one channel per BEV_LAYERS name, 0.5 m cells.

        Aligned with the ego: row 0 is 50 m ahead and the last row 50 m behind, column 0 is 50 m to the left. Cell (r, c) has its
        centre at x = 49.75 - r / 2, y = 49.75 - c / 2 in the ego frame.
        """
        return self._raster(global_from_ego)

    @cached_property
    def _raster(self) -> BEVRaster:
        return BEVRaster([self.layers.get(name, ()) for name in BEV_LAYERS])

    @cached_property
    def _lane_list(self) -> list[Lane]:
        return list(self.lanes.values())

    @cached_property
    def _lane_tree(self) -> Any:
        """A k-d tree over ``_lane_points``."""
        from scipy.spatial import cKDTree

        return cKDTree(self._lane_points[0][:, :2])

    @cached_property
    def _lane_points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every centreline point (M, 3), the index of its lane (M,) and its row there (M,)."""
        lengths = [len(lane.centerline) for lane in self._lane_list]
        points = np.concatenate([np.zeros((0, 3)), *(lane.centerline for lane in self._lane_list)])
        rows = np.concatenate([np.zeros(0, int), *(np.arange(n) for n in lengths)])
        return points, np.repeat(np.arange(len(lengths)), lengths), rows


def make_map(
    location: str,
    layers: Mapping[str, Iterable[BaseGeometry]],
    lanes: Iterable[Lane] = (),
    missing: Iterable[str] = (),
    intersections: Iterable[BaseGeometry] = (),
) -> SceneMap:
    """Builds a SceneMap from its geometry: unions, indices and the rest are derived here. Absent layers come out empty."""
    complete = {name: tuple(layers.get(name, ())) for name in BEV_LAYERS}
    by_token = {lane.token: lane for lane in lanes}
    marked = tuple(intersections)
    connectors = tuple(lane.polygon for lane in by_token.values() if lane.is_connector)
    unions = _union(complete["drivable_area"]), _union(marked or connectors)
    return with_unions(location, complete, by_token, missing, unions)


def with_unions(
    location: str,
    layers: dict[str, tuple[BaseGeometry, ...]],
    lanes: dict[str, Lane],
    missing: Iterable[str],
    unions: tuple[BaseGeometry, BaseGeometry],
) -> SceneMap:
    """A SceneMap of all layers, the lanes by token and the two unions ``drivable`` and ``intersections``, which take a while."""
    trees = {name: STRtree(geometries) for name, geometries in layers.items()}
    trees["lane"] = STRtree([lane.polygon for lane in lanes.values()])
    for union in unions:
        shapely.prepare(union)
    return SceneMap(location, layers, lanes, frozenset(missing), unions[0], trees, unions[1])


def _union(polygons: tuple[BaseGeometry, ...]) -> BaseGeometry:
    return shapely.union_all(polygons) if polygons else MultiPolygon()


def _covered(area: BaseGeometry, points: np.ndarray) -> np.ndarray:
    shapely.prepare(area)  # free if prepared already; an unpickled geometry is not
    points = np.asarray(points, float)
    return shapely.intersects_xy(area, points[..., 0], points[..., 1])
