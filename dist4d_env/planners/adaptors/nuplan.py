"""nuPlan-style planners: two seconds of history in, a trajectory of global states out."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, Boxes
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.planners.adaptors.common import AdaptorError, History, Moment
from dist4d_env.planners.adaptors.nuplan_map import NuplanMap
from dist4d_env.planners.adaptors.nuplan_types import (
    CarFootprint,
    DetectionsTracks,
    DynamicCarState,
    NuplanEgoState,
    NuplanInput,
    OrientedBox,
    PlannerInitialization,
    SimulationHistoryBuffer,
    SimulationIteration,
    StateSE2,
    StateVector2D,
    TimePoint,
    TrackedObject,
    TrackedObjects,
    TrackedObjectType,
    TrafficLightStatusData,
    TrafficLightStatusType,
    VehicleSize,
)  # fmt: skip
from dist4d_env.planners.contract import Plan, PlannerContext, PlannerInput, PlannerNeeds, in_ego_frame
from dist4d_env.scenes.lights import STATES
from dist4d_env.simulation.ego import EgoState

HISTORY, STEP, REACH = 2.0, 0.5, 4.0
"""Seconds of history in the planner's input; seconds between the poses taken from its trajectory, and up to when."""

_TYPES = {
    "motorcycle": "BICYCLE", "bicycle": "BICYCLE", "pedestrian": "PEDESTRIAN", "traffic_cone": "TRAFFIC_CONE",
    "barrier": "BARRIER", "other": "GENERIC_OBJECT",
}  # fmt: skip
_STATUS = {"unknown": "UNKNOWN", "green": "GREEN", "amber": "YELLOW", "red": "RED"}


class NuplanPlanner:
    """Drives a nuPlan-style planner: ``initialize(initialization)`` and ``compute_planner_trajectory(planner_input)``.

    Its input is nuPlan's: the true boxes of the agents now and over the last two seconds (so it counts as privileged), the map
    and the route, and what traffic lights show now, but nothing of the future. The trajectory it returns is an object with
    ``get_sampled_trajectory()`` or a list of states; a state has ``rear_axle`` with x, y, heading (global) and
    ``time_point.time_us`` or ``time_us``.

    Raises ConfigError for an object that is no such planner, AdaptorError for what is no trajectory.
    """

    requires = PlannerNeeds(history=4, map=True, privileged=True)

    def __init__(self, planner: Any, vehicle: VehicleParameters | None = None) -> None:
        missing = [name for name in ("initialize", "compute_planner_trajectory") if not callable(getattr(planner, name, None))]
        if missing:
            raise ConfigError(f"{type(planner).__name__} has no {' and no '.join(missing)}: it is no nuPlan-style planner")
        if getattr(planner, "requires_scenario", False):
            name = type(planner).__name__
            raise ConfigError(f"{name} requires nuPlan's scenario, the recorded future included, which no planner is given")
        self.planner, self.vehicle = planner, vehicle or VehicleParameters()

    def reset(self, context: PlannerContext, seed: int) -> None:
        self._interval, self._index = context.decision_dt, 0
        self._instances, self._lanes = context.scene.tracks.instance, context.scene.lights.lanes
        self._history = History(HISTORY)
        route = context.scene.route
        goal = StateSE2(*route.at(route.length))
        self.planner.initialize(PlannerInitialization(list(route.lanes), goal, NuplanMap(context.scene.map)))

    def plan(self, observation: PlannerInput) -> Plan:
        self._history.add(observation)
        result = self.planner.compute_planner_trajectory(self.planner_input())
        self._index += 1
        return _plan(result, observation, type(self.planner).__name__)

    def planner_input(self) -> NuplanInput:
        """What the planner is given now."""
        moments = self._history.last(round(HISTORY / self._interval) + 1, self._interval)
        buffer = SimulationHistoryBuffer(
            deque(nuplan_ego(moment.ego, moment.time, self.vehicle) for moment in moments),
            deque(self._tracks(moment) for moment in moments),
            self._interval,
        )
        now = _time_point(moments[-1].time)
        return NuplanInput(SimulationIteration(now, self._index), buffer, light_data(moments[-1].lights, self._lanes, now))

    def _tracks(self, moment: Moment) -> DetectionsTracks:
        if moment.boxes is None:
            raise AdaptorError("a nuPlan planner needs the true boxes: give it the state (PlannerNeeds.privileged)")
        return DetectionsTracks(TrackedObjects(tracked_objects(moment.boxes, self._instances)))


def nuplan_ego(ego: EgoState, time: float, vehicle: VehicleParameters) -> NuplanEgoState:
    """An ego state (global, rear axle) in nuPlan's terms."""
    cos, sin = deterministic.cos(ego.yaw), deterministic.sin(ego.yaw)
    arm = vehicle.rear_axle_to_center
    center = StateSE2(float(ego.x + arm * cos), float(ego.y + arm * sin), ego.yaw)
    size = VehicleSize(vehicle.width, vehicle.length, vehicle.height, vehicle.wheelbase, arm)
    footprint = CarFootprint(center, size.length, size.width, size.height, StateSE2(ego.x, ego.y, ego.yaw), size)
    velocity, acceleration = StateVector2D(ego.speed, 0.0), StateVector2D(ego.acceleration, ego.speed * ego.yaw_rate)
    return NuplanEgoState(footprint, DynamicCarState(velocity, acceleration, ego.yaw_rate, arm), ego.steering, _time_point(time))


def tracked_objects(boxes: Boxes, instances: tuple[str, ...]) -> list[TrackedObject]:
    """Boxes (global) in nuPlan's terms; ``instances`` names each ``Boxes.token``."""
    rows = zip(boxes.token, boxes.category, boxes.position, boxes.size, boxes.yaw, boxes.velocity, strict=True)
    return [
        TrackedObject(
            TrackedObjectType[_TYPES.get(CATEGORIES[category], "VEHICLE")],
            OrientedBox(StateSE2(float(position[0]), float(position[1]), float(yaw)), *map(float, size)),
            StateVector2D(*map(float, velocity)),
            instances[token] if token < len(instances) else str(token),
        )
        for token, category, position, size, yaw, velocity in rows
    ]


def light_data(lights: np.ndarray, lanes: tuple[tuple[str, ...], ...], now: TimePoint) -> list[TrafficLightStatusData]:
    """States (G,) of the lights that control so many lanes each, in nuPlan's terms."""
    return [
        TrafficLightStatusData(TrafficLightStatusType[_STATUS[STATES[state]]], lane, now.time_us)
        for state, controlled in zip(lights.tolist(), lanes, strict=True)
        for lane in controlled
    ]


def _plan(result: Any, given: PlannerInput, name: str) -> Plan:
    """A trajectory of states as poses every 0.5 s in the ego frame, up to 4 s or as far as it reaches."""
    states = result.get_sampled_trajectory() if hasattr(result, "get_sampled_trajectory") else result
    if not isinstance(states, list | tuple) or len(states) < 2:
        raise AdaptorError(
            f"{name}.compute_planner_trajectory returned a {type(result).__name__} without at least two sampled states: "
            "return an object with get_sampled_trajectory() or a list of states"
        )
    rows = np.array([_row(state, name) for state in states])
    if not np.isfinite(rows).all() or not (np.diff(rows[:, 0]) > 0).all():
        raise AdaptorError(f"{name}.compute_planner_trajectory returned states that are not finite or not in order of time")
    times = given.time + STEP * np.arange(1, round(REACH / STEP) + 1)
    times = times[times <= rows[-1, 0] + 1e-3]
    if not len(times) or rows[0, 0] > times[0]:
        first, last = rows[0, 0] - given.time, rows[-1, 0] - given.time
        raise AdaptorError(
            f"{name}.compute_planner_trajectory returned states from {first:.2f} s to {last:.2f} s from now: they must span the "
            f"next {STEP} s at least; is the time in microseconds, counted as the history's?"
        )
    rows[:, 3] = np.unwrap(rows[:, 3])
    poses = np.column_stack([np.interp(times, rows[:, 0], column) for column in rows[:, 1:].T])
    return Plan(in_ego_frame(poses, given.ego), STEP)


def _row(state: Any, name: str) -> tuple[float, float, float, float]:
    """Time in seconds, x, y, heading of one state."""
    pose = getattr(state, "rear_axle", state)
    time = getattr(state, "time_point", state)
    try:
        return time.time_us * 1e-6, float(pose.x), float(pose.y), float(pose.heading)
    except AttributeError as error:
        raise AdaptorError(
            f"{name}.compute_planner_trajectory returned a state that is not understood ({error}): a state has rear_axle "
            "(x, y, heading) and time_point.time_us"
        ) from error


def _time_point(time: float) -> TimePoint:
    return TimePoint(round(time * 1e6))
