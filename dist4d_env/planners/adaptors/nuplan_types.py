"""nuPlan's planner inputs as plain values with its names: states, tracked objects, history, initialization."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import cached_property
from typing import Any

import numpy as np
import shapely

from dist4d_env.geometry.boxes import rectangle_corners


@dataclass(frozen=True)
class Point2D:
    """Metres, global."""

    x: float
    y: float

    @property
    def array(self) -> np.ndarray:
        return np.array([self.x, self.y])

    def __iter__(self) -> Any:
        return iter((self.x, self.y))


@dataclass(frozen=True)
class StateSE2(Point2D):
    """A pose in the plane: metres and radians, global."""

    heading: float

    @property
    def point(self) -> Point2D:
        return Point2D(self.x, self.y)

    def __iter__(self) -> Any:
        return iter((self.x, self.y, self.heading))

    def serialize(self) -> list[float]:
        return [self.x, self.y, self.heading]


@dataclass(frozen=True)
class StateVector2D(Point2D):
    """A velocity or an acceleration."""

    def magnitude(self) -> float:
        return math.hypot(self.x, self.y)


@dataclass(frozen=True)
class TimePoint:
    """Microseconds since the scene's first keyframe."""

    time_us: int

    @property
    def time_s(self) -> float:
        return self.time_us * 1e-6


class Halved:
    """Half sizes of what has a length and a width."""

    length: float
    width: float

    @property
    def half_length(self) -> float:
        return self.length / 2

    @property
    def half_width(self) -> float:
        return self.width / 2


@dataclass(frozen=True)
class OrientedBox(Halved):
    """A footprint: its centre and its full length, width and height in metres."""

    center: StateSE2
    length: float
    width: float
    height: float

    @cached_property
    def geometry(self) -> shapely.Polygon:
        center = self.center
        return shapely.Polygon(rectangle_corners(center.x, center.y, center.heading, self.length, self.width))

    def all_corners(self) -> list[Point2D]:
        return [Point2D(x, y) for x, y in list(self.geometry.exterior.coords)[:4]]


@dataclass(frozen=True)
class VehicleSize(Halved):
    """nuPlan's ``VehicleParameters`` for this ego: metres."""

    width: float
    length: float
    height: float
    wheel_base: float
    rear_axle_to_center: float
    vehicle_name: str = "ego"
    vehicle_type: str = "car"

    @property
    def front_length(self) -> float:
        return self.length / 2 + self.rear_axle_to_center

    @property
    def rear_length(self) -> float:
        return self.length / 2 - self.rear_axle_to_center


@dataclass(frozen=True)
class DynamicCarState:
    """Velocity and acceleration of the rear axle in the ego's own directions (x forward); angular_velocity in rad/s."""

    rear_axle_velocity_2d: StateVector2D
    rear_axle_acceleration_2d: StateVector2D
    angular_velocity: float
    rear_axle_to_center_dist: float
    angular_acceleration: float = 0.0
    tire_steering_rate: float = 0.0

    @property
    def center_velocity_2d(self) -> StateVector2D:
        velocity = self.rear_axle_velocity_2d
        return StateVector2D(velocity.x, velocity.y + self.angular_velocity * self.rear_axle_to_center_dist)

    @property
    def center_acceleration_2d(self) -> StateVector2D:
        accel, rate, arm = self.rear_axle_acceleration_2d, self.angular_velocity, self.rear_axle_to_center_dist
        return StateVector2D(accel.x - rate**2 * arm, accel.y + self.angular_acceleration * arm)

    @property
    def speed(self) -> float:
        return self.center_velocity_2d.magnitude()

    @property
    def acceleration(self) -> float:
        return self.center_acceleration_2d.magnitude()


@dataclass(frozen=True)
class CarFootprint(OrientedBox):
    """The ego's box with the pose of its rear axle."""

    rear_axle: StateSE2
    vehicle_parameters: VehicleSize

    @property
    def oriented_box(self) -> OrientedBox:
        return self


@dataclass(frozen=True)
class NuplanEgoState:
    """The ego at one instant."""

    car_footprint: CarFootprint
    dynamic_car_state: DynamicCarState
    tire_steering_angle: float
    time_point: TimePoint
    is_in_auto_mode: bool = True

    @property
    def rear_axle(self) -> StateSE2:
        return self.car_footprint.rear_axle

    @property
    def center(self) -> StateSE2:
        return self.car_footprint.center

    @property
    def time_us(self) -> int:
        return self.time_point.time_us

    @property
    def time_seconds(self) -> float:
        return self.time_point.time_s


class TrackedObjectType(Enum):
    """nuPlan's classes. Members equal those of nuPlan's own enumeration, which compares names and values."""

    VEHICLE = 0
    PEDESTRIAN = 1
    BICYCLE = 2
    TRAFFIC_CONE = 3
    BARRIER = 4
    CZONE_SIGN = 5
    GENERIC_OBJECT = 6
    EGO = 7

    def __eq__(self, other: object) -> bool:
        return getattr(other, "name", None) == self.name and getattr(other, "value", None) == self.value

    def __hash__(self) -> int:
        return hash((self.name, self.value))


AGENT_TYPES = (TrackedObjectType.VEHICLE, TrackedObjectType.PEDESTRIAN, TrackedObjectType.BICYCLE)


@dataclass(frozen=True)
class TrackedObject:
    """Another road user or thing. track_token: the same in every frame; velocity: global directions."""

    tracked_object_type: TrackedObjectType
    box: OrientedBox
    velocity: StateVector2D
    track_token: str
    angular_velocity: float = 0.0

    @property
    def center(self) -> StateSE2:
        return self.box.center

    @property
    def token(self) -> str:
        return self.track_token


@dataclass(frozen=True)
class TrackedObjects:
    """All of them at one instant."""

    tracked_objects: list[TrackedObject]

    def __iter__(self) -> Any:
        return iter(self.tracked_objects)

    def __len__(self) -> int:
        return len(self.tracked_objects)

    def get_tracked_objects_of_type(self, kind: Any) -> list[TrackedObject]:
        return [thing for thing in self.tracked_objects if thing.tracked_object_type == kind]

    def get_tracked_objects_of_types(self, kinds: Iterable[Any]) -> list[TrackedObject]:
        wanted = list(kinds)
        return [thing for thing in self.tracked_objects if any(thing.tracked_object_type == kind for kind in wanted)]

    def get_agents(self) -> list[TrackedObject]:
        return self.get_tracked_objects_of_types(AGENT_TYPES)

    def get_static_objects(self) -> list[TrackedObject]:
        return [thing for thing in self.tracked_objects if thing.tracked_object_type not in AGENT_TYPES]


@dataclass(frozen=True)
class DetectionsTracks:
    """nuPlan's observation of that name."""

    tracked_objects: TrackedObjects


@dataclass(frozen=True)
class SimulationHistoryBuffer:
    """Ego states and observations, oldest first, ``sample_interval`` seconds apart."""

    ego_state_buffer: deque[NuplanEgoState]
    observations_buffer: deque[DetectionsTracks]
    sample_interval: float

    @property
    def ego_states(self) -> list[NuplanEgoState]:
        return list(self.ego_state_buffer)

    @property
    def observations(self) -> list[DetectionsTracks]:
        return list(self.observations_buffer)

    @property
    def current_state(self) -> tuple[NuplanEgoState, DetectionsTracks]:
        return self.ego_state_buffer[-1], self.observations_buffer[-1]

    @property
    def size(self) -> int:
        return len(self.ego_state_buffer)

    @property
    def duration(self) -> float:
        return (self.size - 1) * self.sample_interval

    def __len__(self) -> int:
        return self.size


@dataclass(frozen=True)
class SimulationIteration:
    """index: decisions since the episode's start."""

    time_point: TimePoint
    index: int

    @property
    def time_us(self) -> int:
        return self.time_point.time_us

    @property
    def time_s(self) -> float:
        return self.time_point.time_s


class TrafficLightStatusType(IntEnum):
    """nuPlan's states of a traffic light."""

    GREEN = 0
    YELLOW = 1
    RED = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class TrafficLightStatusData:
    """lane_connector_id: the token of a lane that is entered over the light's stop line; timestamp: microseconds."""

    status: TrafficLightStatusType
    lane_connector_id: str
    timestamp: int


@dataclass(frozen=True)
class NuplanInput:
    """nuPlan's ``PlannerInput``. traffic_light_data: of every lane that a traffic light controls, in scenes that have some."""

    iteration: SimulationIteration
    history: SimulationHistoryBuffer
    traffic_light_data: list[TrafficLightStatusData]


@dataclass(frozen=True)
class PlannerInitialization:
    """route_roadblock_ids: the tokens of the lanes that the route runs over (each lane is a road block of its own);
    mission_goal: the route's end; map_api: see ``NuplanMap``."""

    route_roadblock_ids: list[str]
    mission_goal: StateSE2
    map_api: Any
