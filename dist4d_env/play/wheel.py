"""Who holds the wheel: a hand, by pedal and wheel, or a planner."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.imagination import rest_of
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import input_of, reset_planner, to_action
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.planners.contract import Plan, Planner, finite_numbers, guarded
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.actions import STEERING_RATE
from dist4d_env.simulation.ego import EgoState
from dist4d_env.simulation.state import EpisodeState

HAND = "hand"
PLAN_EVERY = 5
"""Ticks between a planner's decisions, half a second as in the benchmarks."""
_MOST_WHEEL, _MOST_LATERAL = 0.5, 4.0
"""Front wheel angle in radians that a hand can ask for, and the lateral acceleration in m/s^2 that it keeps below."""


@dataclass(frozen=True)
class Decision:
    """What the ego does next. kind: "controls" or "trajectory", as the environment's ``action``; by: whose decision it is."""

    kind: str
    action: np.ndarray
    by: str = HAND


def by_hand(pedal: float, wheel: float, ego: EgoState, vehicle: VehicleParameters) -> Decision:
    """Pedals and wheel in [-1, 1] (positive: accelerate, left). The wheel stands for an angle, which the front wheels turn to at
    the rate that the environment allows; the faster the car, the smaller it is."""
    lock = min(_MOST_WHEEL, math.atan(vehicle.wheelbase * _MOST_LATERAL / max(ego.speed, 1.0) ** 2))
    rate = (min(max(wheel, -1.0), 1.0) * lock - ego.steering) / TICK / STEERING_RATE
    return Decision("controls", np.array([min(max(pedal, -1.0), 1.0), min(max(rate, -1.0), 1.0)]))


class Pilot:
    """A planner at the wheel. It plans every half second and follows its plan in between."""

    def __init__(self, name: str, driving: DiST4DDrivingEnv) -> None:
        """driving: at the instant at which it takes over. Raises ConfigError for a planner that cannot drive here, and
        PlannerFailure."""
        self.name = name
        self._planner: Planner = make_planner(name)
        needs = self._planner.requires
        if needs.imagination or needs.lidar:
            what = "imagines frames" if needs.imagination else "needs LiDAR"
            raise ConfigError(f"planner {name!r} {what}, which play does not offer: choose another, such as lane or pdm_closed")
        self._reset(driving)

    def _reset(self, driving: DiST4DDrivingEnv) -> None:
        """The planner begins at the present instant, without memory."""
        self._issued: tuple[EpisodeState, Any] | None = None
        self._latest = driving.episode.state.tick - 1  # that it knows of
        reset_planner(driving, self._planner, PLAN_EVERY * TICK)

    @property
    def needs_pictures(self) -> bool:
        """Whether ``decide`` wants a frame."""
        return self._planner.requires.cameras

    def decide(self, driving: DiST4DDrivingEnv, frame: RGBDFrame | None) -> Decision:
        """driving: at the present instant; after going back the planner begins anew there, for what it remembers has not been.
        Raises PlannerFailure."""
        state = driving.episode.state
        if state.tick <= self._latest:
            self._reset(driving)
        self._latest = state.tick
        if self._issued is None or state.tick - self._issued[0].tick >= PLAN_EVERY:
            seen: dict[str, Any] = driving.observation()
            if frame is not None:
                for index, camera in enumerate(driving.rig.names):
                    seen |= {camera: frame.rgb[index], f"{camera}/depth": frame.depth[index, ..., None]}
            self._issued = state, guarded(self._planner.plan, input_of(state, self._planner.requires, seen))
        issued, plan = self._issued
        if not isinstance(plan, Plan) and _is_pair(plan):
            return Decision("controls", np.clip(finite_numbers(plan, "controls that are"), -1, 1).astype(float), self.name)
        poses = to_action(plan, "trajectory")
        rest = poses if issued is state else rest_of(Plan(poses), issued, state)
        return Decision("trajectory", to_action(rest, "trajectory"), self.name)


def _is_pair(answer: Any) -> bool:
    """Whether a planner answered with two numbers, as controls are."""
    try:
        return np.shape(answer) == (2,)
    except ValueError:  # rows of different lengths
        return False


def elsewhere(forward: float, left: float, up: float, yaw: float) -> np.ndarray:
    """(4, 4) ego_from_viewer of a viewer who has left the car: metres in the ego frame, radians to the left."""
    offset = np.eye(4)
    offset[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    offset[:3, 3] = forward, left, up
    return offset
