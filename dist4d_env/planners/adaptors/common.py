"""Shared by the adaptors: the driving command, LiDAR points, the recent past at evenly spaced instants, and their exception."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dist4d_env.errors import DiST4DError
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.planners.contract import PlannerInput
from dist4d_env.scenes.route import Route
from dist4d_env.simulation.ego import EgoState

Command = Literal["left", "forward", "right"]

LOOK_AHEAD, TURN_OFFSET = 20.0, 2.0
"""Metres along the route, and metres to the side there, from which the command is a turn (NAVSIM's distances)."""


class AdaptorError(DiST4DError):
    """A wrapped planner returned something that is no trajectory, or asks for what this simulator cannot give."""


def driving_command(route: Route, position: float) -> Command:
    """Where the route goes from the arc length ``position`` (m): "left" or "right" if 20 m on it lies 2 m or more to that side.

    Seen from the route itself, so that an ego that drives beside it gets no other command. The recorded speed and the recorded
    future of the ego, which data sets make their commands from, are not looked at.
    """
    pose = pose_from_xy_yaw(*route.at(position))
    side = float(route.ahead(pose, 1, LOOK_AHEAD, near=position)[0, 1])
    if abs(side) < TURN_OFFSET:
        return "forward"
    return "left" if side > 0 else "right"


def lidar_points(observation: Mapping[str, Any]) -> np.ndarray:
    """(P, 4) float32 x, y, z in the ego frame and intensity: the valid rows of an observation's "lidar"."""
    rows = np.asarray(observation["lidar"], np.float32)
    return rows[rows[:, 4] > 0.5, :4]


@dataclass(frozen=True)
class Moment:
    """One instant. time: s; ego: global rear axle; observation: the environment's; boxes: agents, None where not given; lights:
    (G,) states of the scene's traffic lights, empty where not given."""

    time: float
    ego: EgoState
    observation: Mapping[str, Any]
    boxes: Boxes | None
    lights: np.ndarray


class History:
    """The planner inputs of the last ``span`` seconds."""

    def __init__(self, span: float) -> None:
        self._span = span
        self._moments: deque[Moment] = deque()

    def add(self, given: PlannerInput) -> None:
        """Remember one decision's input. Inputs come in order of time."""
        boxes = None if given.state is None else given.state.boxes
        self._moments.append(Moment(given.time, given.ego, given.observation, boxes, given.lights))
        while given.time - self._moments[0].time > self._span + 1e-6:
            self._moments.popleft()

    def last(self, count: int, spacing: float) -> list[Moment]:
        """``count`` moments ``spacing`` seconds apart, oldest first, the newest last.

        Before the episode's start the first instant is extrapolated: ego and agents driven backwards at their speed and turn
        rate, with the observation of the start.
        """
        now = self._moments[-1].time
        return [self._at(now - index * spacing) for index in range(count - 1, -1, -1)]

    def _at(self, time: float) -> Moment:
        nearest = min(self._moments, key=lambda moment: abs(moment.time - time))
        if time > nearest.time - 1e-6 or nearest is not self._moments[0]:
            return nearest
        before = nearest.time - time
        boxes = nearest.boxes
        if boxes is not None:
            back = np.column_stack([boxes.velocity * before, np.zeros(len(boxes))])
            boxes = replace(boxes, position=boxes.position - back)
        return replace(nearest, time=time, ego=driven_back(nearest.ego, before), boxes=boxes)


def driven_back(ego: EgoState, seconds: float) -> EgoState:
    """Where the ego was if its speed and yaw rate have been what they are, on the arc that they make."""
    yaw = ego.yaw - ego.yaw_rate * seconds
    middle = ego.yaw - ego.yaw_rate * seconds / 2
    chord = ego.speed * seconds * float(np.sinc(ego.yaw_rate * seconds / (2 * math.pi)))
    wrapped = (yaw + math.pi) % (2 * math.pi) - math.pi
    return replace(ego, x=ego.x - chord * math.cos(middle), y=ego.y - chord * math.sin(middle), yaw=wrapped, acceleration=0.0)
