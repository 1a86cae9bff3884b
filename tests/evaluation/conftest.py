"""One small environment for the runner's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

import dist4d_env  # noqa: F401 (registers the environment)


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
    from dist4d_env.planner import LaneFollower

    return run_episode(env, LaneFollower(), 0, RunOptions("town-val-0000", 0.0))
