"""Scenarios played without pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.evaluation.runner import guarded, to_action, visible_scene
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.planners.contract import Planner, PlannerContext, PlannerInput
from dist4d_env.scenes.scenario import Scenario

_BRAKE = 6.0


@dataclass(frozen=True)
class Outcome:
    """ended_by: as in ``info``; seconds: how long it took; bad_start: something touched the ego, or it was off the road, when the
    episode began; trace: all of it; values: running values after the last decision."""

    ended_by: str
    seconds: float
    bad_start: bool
    trace: EpisodeTrace
    values: dict[str, float]


def make_env(dataroot: str | None, version: str | None, scenes: Any = "val", **keywords: Any) -> DiST4DDrivingEnv:
    """An environment without pictures that takes trajectories."""
    settings = {"observation": ("ego", "route", "agents"), "action": "trajectory", "world": "none", **keywords}
    return DiST4DDrivingEnv(dataroot=dataroot, version=version, scenes=scenes, **settings)


def drive(env: DiST4DDrivingEnv, scenario: Scenario, planner: Planner | None, seed: int = 0) -> Outcome:
    """Plays a scenario to its end; without a planner the ego brakes as hard as it can from the start on.

    Raises PlannerFailure where the planner raises or returns what is no plan.
    """
    observation, info = env.reset(seed=seed, options={"scenario": scenario})
    start, values = env.episode.state, env.episode.values
    bad_start = bool(env.episode.touched) or values["off_road"] == 1.0
    if planner is not None:
        horizon = env.episode.end_time - start.time
        context = PlannerContext(visible_scene(env.scene, planner.requires), env.config.decision_dt, horizon)
        guarded(planner.reset, context, env.episode.policy_seed)
    while info["ended_by"] is None:
        state = env.episode.state
        if planner is None:
            action: Any = _braking(state.ego.speed)
        else:
            given = PlannerInput(state.time, state.ego, observation, state if planner.requires.privileged else None)
            action = to_action(guarded(planner.plan, given), "trajectory")
        observation, _, _, _, info = env.step(action)
    return Outcome(info["ended_by"], env.episode.state.time - start.time, bad_start, env.trace(), dict(env.episode.values))


def _braking(speed: float) -> np.ndarray:
    """A plan (8, 3) that goes straight on and brakes to a stand."""
    time = np.minimum(0.5 * np.arange(1, 9), speed / _BRAKE)
    driven = speed * time - _BRAKE * time**2 / 2
    return np.column_stack([driven, np.zeros(8), np.zeros(8)]).astype(np.float32)
