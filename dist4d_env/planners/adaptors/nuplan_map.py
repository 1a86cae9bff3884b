"""A scene's map behind the calls that nuPlan's planners make most: lanes, road blocks, areas and their objects at a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely

from dist4d_env.planners.adaptors.common import AdaptorError
from dist4d_env.planners.adaptors.nuplan_types import StateSE2
from dist4d_env.scenes.maps import Lane, SceneMap

LANES = {"LANE": False, "LANE_CONNECTOR": True, "ROADBLOCK": False, "ROADBLOCK_CONNECTOR": True}
"""Layers made of lanes, and whether of lane connectors; nuScenes has no road blocks, so each lane is one of its own."""

AREAS = {
    "DRIVABLE_AREA": "drivable_area", "CROSSWALK": "ped_crossing", "WALKWAYS": "walkway", "CARPARK_AREA": "carpark_area",
    "STOP_LINE": "stop_line",
}  # fmt: skip
"""Layers made of areas, and what nuScenes calls them."""


@dataclass(eq=False)
class AreaObject:
    """An area without connections."""

    id: str
    polygon: shapely.Polygon

    def contains_point(self, point: Any) -> bool:
        return bool(shapely.covers(self.polygon, shapely.Point(point.x, point.y)))


@dataclass(frozen=True, eq=False)
class BaselinePath:
    """A lane's centreline."""

    discrete_path: list[StateSE2]

    @cached_property
    def linestring(self) -> shapely.LineString:
        return shapely.LineString([(pose.x, pose.y) for pose in self.discrete_path])

    @property
    def length(self) -> float:
        return float(self.linestring.length)

    def get_nearest_arc_length_from_position(self, point: Any) -> float:
        return float(self.linestring.project(shapely.Point(point.x, point.y)))

    def get_nearest_pose_from_position(self, point: Any) -> StateSE2:
        offsets = [(pose.x - point.x) ** 2 + (pose.y - point.y) ** 2 for pose in self.discrete_path]
        return self.discrete_path[int(np.argmin(offsets))]


class LaneObject(AreaObject):
    """A lane or lane connector, which is also the only lane of its own road block."""

    def __init__(self, lane: Lane, of: NuplanMap) -> None:
        super().__init__(lane.token, lane.polygon)
        self._lane, self._map = lane, of

    @cached_property
    def baseline_path(self) -> BaselinePath:
        return BaselinePath([StateSE2(*map(float, pose)) for pose in self._lane.centerline])

    @property
    def speed_limit_mps(self) -> float | None:
        return self._lane.speed_limit

    @property
    def incoming_edges(self) -> list[LaneObject]:
        return [self._map.lane(token) for token in self._lane.predecessors]

    @property
    def outgoing_edges(self) -> list[LaneObject]:
        return [self._map.lane(token) for token in self._lane.successors]

    @property
    def interior_edges(self) -> list[LaneObject]:
        return [self]

    @property
    def parent(self) -> LaneObject:
        return self

    def get_roadblock_id(self) -> str:
        return self.id


class NuplanMap:
    """``map_api`` for a scene's map. Layers are nuPlan's ``SemanticMapLayer`` or anything else that has such a name.

    Raises AdaptorError for layers that nuScenes maps do not have and where the scene has no map at all.
    """

    def __init__(self, scene_map: SceneMap | None) -> None:
        self._scene_map = scene_map
        self._lanes: dict[str, LaneObject] = {}

    @property
    def map_name(self) -> str:
        return self._known.location

    def get_available_map_objects(self) -> list[str]:
        """The names of the layers."""
        return [*LANES, *AREAS]

    def lane(self, token: str) -> LaneObject:
        """The lane or lane connector of a token."""
        if token not in self._lanes:
            self._lanes[token] = LaneObject(self._known.lanes[token], self)
        return self._lanes[token]

    def get_map_object(self, object_id: str, layer: Any) -> AreaObject | None:
        """An object by its token, None where the layer has no such object."""
        name = self._layer(layer)
        if name in LANES:
            lane = self._known.lanes.get(object_id)
            return self.lane(object_id) if lane is not None and lane.is_connector == LANES[name] else None
        return next((area for area in self._areas(name) if area.id == object_id), None)

    def get_all_map_objects(self, point: Any, layer: Any) -> list[AreaObject]:
        """The objects that hold a point."""
        name = self._layer(layer)
        if name in LANES:
            lanes = self._known.lanes_at(point.x, point.y)
            return [self.lane(lane.token) for lane in lanes if lane.is_connector == LANES[name]]
        return [area for area in self._areas(name) if area.contains_point(point)]

    def get_one_map_object(self, point: Any, layer: Any) -> AreaObject | None:
        """The first of them, if any."""
        return next(iter(self.get_all_map_objects(point, layer)), None)

    def is_in_layer(self, point: Any, layer: Any) -> bool:
        """Whether any object of a layer holds a point."""
        return bool(self.get_all_map_objects(point, layer))

    def get_proximal_map_objects(self, point: Any, radius: float, layers: Sequence[Any]) -> dict[Any, list[AreaObject]]:
        """The objects of some layers within a radius in metres, by the layer as given."""
        here = shapely.Point(point.x, point.y)
        return {layer: [thing for thing in self._all(layer) if thing.polygon.distance(here) <= radius] for layer in layers}

    def get_distance_to_nearest_map_object(self, point: Any, layer: Any) -> tuple[str | None, float | None]:
        """Token of and metres to the nearest object of a layer."""
        here = shapely.Point(point.x, point.y)
        things = self._all(layer)
        if not things:
            return None, None
        nearest = min(things, key=lambda thing: thing.polygon.distance(here))
        return nearest.id, float(nearest.polygon.distance(here))

    @property
    def _known(self) -> SceneMap:
        if self._scene_map is None:
            raise AdaptorError("the planner asks for the map, but this scene has none: fetch the map expansion")
        return self._scene_map

    def _layer(self, layer: Any) -> str:
        name = str(getattr(layer, "name", layer))
        if name not in LANES and name not in AREAS:
            raise AdaptorError(f"nuScenes maps have no layer {name}: there are {', '.join(self.get_available_map_objects())}")
        return name

    def _areas(self, name: str) -> list[AreaObject]:
        return [AreaObject(f"{name}-{row}", polygon) for row, polygon in enumerate(self._known.layers.get(AREAS[name], ()))]

    def _all(self, layer: Any) -> list[AreaObject]:
        name = self._layer(layer)
        if name in AREAS:
            return self._areas(name)
        return [self.lane(token) for token, lane in self._known.lanes.items() if lane.is_connector == LANES[name]]
