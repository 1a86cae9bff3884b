"""One small environment for the runner's tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.evaluation.episode_log import EpisodeLog


@pytest.fixture(scope="session")
def env(town_dataroot: Path) -> Iterator[gym.Env]:
    """The test town without pictures, followed plans, three seconds."""
    made = gym.make(
        "DiST4D-nuScenes-v0", dataroot=str(town_dataroot), scenes="val", world="none", action="trajectory", horizon=3.0,
        observation=("ego", "route", "agents"),
    )  # fmt: skip
    yield made
    made.close()


@pytest.fixture(scope="session")
def log(env):
    """An episode of the lane follower."""
    from dist4d_env.evaluation.runner import RunOptions, run_episode
    from dist4d_env.planners.lane_follower import LaneFollower

    return run_episode(env, LaneFollower(), 0, RunOptions("town-val-0000", 0.0, plan_limit=600.0))


def stopped_at(log: EpisodeLog, ticks: int, outcome: str = "wrong_way") -> EpisodeLog:
    """The episode as if it had ended after so many ticks."""
    arrays = ("time", "ego", "position", "yaw", "velocity", "valid", "expert")
    trace = replace(log.trace, **{name: getattr(log.trace, name)[:ticks] for name in arrays})
    kept = log.plans.step < ticks
    plans = replace(log.plans, step=log.plans.step[kept], poses=log.plans.poses[kept])
    return replace(log, outcome=outcome, trace=trace, plans=plans)


@pytest.fixture(scope="session")
def early(log) -> EpisodeLog:
    """The lane follower's episode, ended halfway."""
    return stopped_at(log, len(log.trace.time) // 2)
