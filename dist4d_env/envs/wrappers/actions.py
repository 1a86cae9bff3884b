"""Action wrappers for single environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from dist4d_env.errors import ActionError, ConfigError, shown

PEDALS = (-1.0, -0.5, -0.15, 0.0, 0.3, 0.8)
WHEELS = (-0.5, -0.1, 0.0, 0.1, 0.5)


class ActionRepeat(gym.Wrapper, RecordConstructorArgs):
    """Takes every action ``times`` times, or until the episode ends: rewards and ``info["reward_terms"]`` are summed,
    ``info["clipped"]`` is that of any, the last observation is seen. For "controls" and "discrete"; a "trajectory" is followed
    for longer with a longer ``decision_dt``."""

    def __init__(self, env: gym.Env, times: int = 2) -> None:
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise ConfigError(f"times={shown(times)} must be a whole number of at least 1")
        RecordConstructorArgs.__init__(self, times=times)
        gym.Wrapper.__init__(self, env)
        self.times = times

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        total, terms, clipped = 0.0, dict[str, float](), False
        for _ in range(self.times):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total, clipped = total + float(reward), clipped or info.get("clipped", False)
            terms = {name: terms.get(name, 0.0) + value for name, value in info.get("reward_terms", {}).items()}
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, {**info, "reward_terms": terms, "clipped": clipped}


class DiscreteControls(gym.ActionWrapper, RecordConstructorArgs):
    """ "controls" as ``Discrete``: every pair of one of ``pedals`` and one of ``wheels`` (both in [-1, 1]), index p * W + w.

    Unlike ``action="discrete"`` the wheels turn by a rate, and the values are yours. Raises ConfigError for values out of range
    or another action space.
    """

    def __init__(self, env: gym.Env, pedals: Sequence[float] = PEDALS, wheels: Sequence[float] = WHEELS) -> None:
        self._grid = control_grid(env.action_space, pedals, wheels)
        RecordConstructorArgs.__init__(self, pedals=tuple(pedals), wheels=tuple(wheels))
        gym.ActionWrapper.__init__(self, env)
        self.action_space = spaces.Discrete(len(self._grid))

    def action(self, action: Any) -> np.ndarray:
        """Raises ActionError for an action that is no index."""
        return self._grid[checked_index(action, self.action_space)]


def control_grid(space: spaces.Space, pedals: Sequence[float], wheels: Sequence[float]) -> np.ndarray:
    """(P * W, 2) float32 controls. Raises ConfigError."""
    if not isinstance(space, spaces.Box) or space.shape != (2,):
        raise ConfigError("DiscreteControls takes an environment of action='controls'")
    try:
        grid = np.array([(pedal, wheel) for pedal in pedals for wheel in wheels], np.float32)
    except (TypeError, ValueError):
        grid = np.zeros(0, np.float32)
    if not len(grid) or not (np.abs(grid) <= 1).all():
        given = f"pedals={shown(pedals)} and wheels={shown(wheels)}"
        raise ConfigError(f"{given} must be numbers in [-1, 1], at least one of each")
    return grid


def checked_index(action: Any, space: spaces.Space) -> Any:
    """The index, or indices, of an action. Raises ActionError."""
    try:
        values = np.asarray(action)
    except (TypeError, ValueError, RuntimeError):
        values = np.array(None)
    count = space.n if isinstance(space, spaces.Discrete) else 0
    if values.dtype.kind not in "iu" or (values < 0).any() or (values >= count).any():
        raise ActionError(f"action {shown(action)} must be a whole number from 0 to {count - 1}")
    return values
