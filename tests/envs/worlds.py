"""The worlds that every test of the environment runs through, and what it means that two outcomes are the same."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

WORLDS = (
    {"world": "none"},
    {"world": "oracle"},
    {"world": "replay"},
    {"world": "dist4d", "weights": "splat"},
    {"world": "dist4d", "weights": "tiny"},
    {"world": "dist4d", "weights": "tiny", "memory": "history"},
)


def name_of(settings: dict[str, str]) -> str:
    """A test id."""
    return "-".join(settings.values())


EVERY_WORLD = pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            world, id=name_of(world), marks=[pytest.mark.medium] * (world.get("weights") == "tiny" or world["world"] == "oracle")
        )
        for world in WORLDS
    ],
)
"""Each of them; those that take long only in the whole suite."""


def assert_same(first: Any, second: Any, where: str = "outcome") -> None:
    """Equal bit for bit, through dicts and tuples; how long something took is not compared."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first.keys() - {"timing_ms"}:
            assert_same(first[key], second[key], f"{where}[{key!r}]")
    elif isinstance(first, tuple | list):
        assert len(first) == len(second), where
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same(a, b, f"{where}[{index}]")
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype and first.shape == second.shape, where
        assert np.array_equal(first, second), where
    else:
        assert first == second, where


def info_of(infos: dict[str, Any], index: int) -> dict[str, Any]:
    """One row's info out of the batched one, as it is alone: None, or no metrics, where a mask says that there is nothing."""
    own = {key: value for key, value in infos.items() if not key.startswith("_")}
    known = {key: infos.get(f"_{key}", np.ones(99, bool))[index] for key in own}
    return {
        key: ({} if key == "final" else None)
        if not known[key]
        else info_of(value, index)
        if isinstance(value, dict)
        else value[index]
        for key, value in own.items()
    }


def play(env: gym.Env, actions: list[Any]) -> list[Any]:
    """The outcome of every step until the episode ends or the actions do."""
    outcomes = []
    for action in actions:
        outcomes.append(env.step(action))
        if outcomes[-1][2] or outcomes[-1][3]:
            break
    return outcomes


def actions_of(env: gym.Env, count: int, seed: int = 0) -> list[Any]:
    """Actions that keep the car on the road for a while: half throttle and a wavering wheel."""
    random = np.random.default_rng(seed)
    return [np.array([0.3, random.uniform(-0.2, 0.2)], np.float32) for _ in range(count)]
