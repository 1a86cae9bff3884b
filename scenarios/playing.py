"""Scenarios played without pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.evaluation.episode_log import PLANNER_ERROR
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.metrics.driving.areas import ego_corners, off_drivable
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.planners.contract import Plan, Planner, PlannerContext, PlannerFailure, PlannerInput, PlannerNeeds
from dist4d_env.scenes.scenario import Scenario


class Braking:
    """A planner that keeps its heading and brakes to a stand with 6 m/s^2."""

    requires = PlannerNeeds()

    def reset(self, context: PlannerContext, seed: int) -> None:
        """Nothing is kept between episodes."""

    def plan(self, observation: PlannerInput) -> Plan:
        """Eight poses every 0.5 s."""
        speed = observation.ego.speed
        time = np.minimum(0.5 * np.arange(1, 9), speed / 6.0)
        driven = speed * time - 6.0 * time**2 / 2
        return Plan(np.column_stack([driven, np.zeros(8), np.zeros(8)]))


@dataclass(frozen=True)
class Outcome:
    """ended_by: as in ``info``; seconds: duration; bad_start: something touched the ego, or it was off the road, when the episode
    began; trace: the whole episode."""

    ended_by: str
    seconds: float
    bad_start: bool
    trace: EpisodeTrace


def make_env(dataroot: str | None, version: str | None, scenes: Any = "val", **keywords: Any) -> DiST4DDrivingEnv:
    """An environment without pictures that takes trajectories."""
    settings = {"observation": ("ego", "route", "agents"), "action": "trajectory", "world": "none", **keywords}
    return DiST4DDrivingEnv(dataroot=dataroot, version=version, scenes=scenes, **settings)


def drive(env: DiST4DDrivingEnv, scenario: Scenario, planner: Planner, seed: int = 0) -> Outcome:
    """Plays a scenario to its end. Raises PlannerFailure where the planner raises or returns something that is no plan."""
    log = run_episode(env, planner, seed, RunOptions(plan_limit=math.inf, scenario=scenario))
    if log.outcome == PLANNER_ERROR:
        raise PlannerFailure(log.error)
    trace = log.trace
    off = trace.map is not None and bool(off_drivable(trace.map, ego_corners(trace.ego[0], trace.vehicle)))
    return Outcome(log.outcome, float(trace.time[-1] - trace.time[0]), bool(trace.contact[0].any()) or off, trace)
