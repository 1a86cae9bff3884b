"""Environments on the small test town."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import dist4d_env  # noqa: F401  (registers the environment)

MakeEnv = Callable[..., gym.Env]


@pytest.fixture
def make_env(town_dataroot: Path) -> Iterator[MakeEnv]:
    """Makes environments on the test town, world "none" and a horizon of 2 s unless said otherwise, and closes them."""
    made: list[gym.Env] = []

    def make(world: str = "none", **keywords: Any) -> gym.Env:
        groups = ("ego", "route") if world == "none" else ("cameras", "depth", "ego", "route")
        settings = {"dataroot": str(town_dataroot), "scenes": "val", "horizon": 2.0, "observation": groups, **keywords}
        made.append(gym.make("DiST4D-nuScenes-v0", world=world, **settings))
        return made[-1]

    yield make
    for env in made:
        env.close()
