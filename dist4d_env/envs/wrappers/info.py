"""A wrapper that gives ``info`` the same keys and types at every step, for single environments."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from dist4d_env.metrics.driving.suite import METRICS


class UniformInfo(gym.Wrapper, RecordConstructorArgs):
    """``info`` with the same keys and types at every step, for recorders that store it as columns:
    ``minari.DataCollector(UniformInfo(env), record_infos=True)``.

    Numbers that are not known are nan instead of None, ``ended_by`` is "" while the episode runs, the sources of ``world`` are
    one text, "log,log,log" and so on, and ``final`` has all its metrics at every step, not valid until the end. ``timing_ms`` is
    left out: durations differ from run to run.
    """

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, uniform_info(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        *outcome, info = self.env.step(action)
        return *outcome, uniform_info(info)


def uniform_info(info: dict[str, Any]) -> dict[str, Any]:
    """An ``info`` of a single environment as ``UniformInfo`` gives it."""
    metrics: dict[str, Any] = {name: _number(value) for name, value in info["metrics"].items() if name != "final"}
    final = info["metrics"]["final"] or {name: {"value": None, "valid": False} for name in METRICS}
    metrics["final"] = {name: {"value": _number(each["value"]), "valid": each["valid"]} for name, each in final.items()}
    world = {**info["world"], "source": ",".join(info["world"]["source"])}
    kept = {name: value for name, value in info.items() if name != "timing_ms"}
    return {**kept, "metrics": metrics, "world": world, "ended_by": info["ended_by"] or ""}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
