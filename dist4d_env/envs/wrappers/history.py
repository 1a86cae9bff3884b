"""Frame history: the last few observations as one."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from dist4d_env.errors import ConfigError


class FrameHistory(gym.Wrapper, RecordConstructorArgs):
    """The last ``frames`` observations side by side, oldest first; at the start the first one fills the past.

    Images are put together along their channels (the last axis, or the first where that is the smallest), everything else
    along its first axis. keys: of a Dict observation, which have a history (None: all); the others stay as they are. Raises
    ConfigError for keys that are not there.
    """

    def __init__(self, env: gym.Env, frames: int = 4, keys: tuple[str, ...] | None = None) -> None:
        RecordConstructorArgs.__init__(self, frames=frames, keys=keys)
        gym.Wrapper.__init__(self, env)
        self._stack = Stack(env.observation_space, frames, keys)
        self.observation_space = self._stack.space
        self._past: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._past = [observation] * self._stack.frames
        return self._stack(self._past), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._past = [*self._past[1:], observation]
        return self._stack(self._past), reward, terminated, truncated, info


class Stack:
    """Puts observations of a space together; ``space`` is what comes out. Leading batch axes go through."""

    def __init__(self, space: spaces.Space, frames: int, keys: tuple[str, ...] | None) -> None:
        if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
            raise ConfigError(f"frames={frames!r} must be a whole number of at least 1")
        self.frames = frames
        self._single = not isinstance(space, spaces.Dict)
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
        unknown = [] if keys is None else [key for key in keys if key not in parts]
        if unknown or (self._single and keys is not None):
            there = "no keys" if self._single else ", ".join(parts)
            raise ConfigError(f"FrameHistory(keys={keys!r}): the observation has {there}")
        self._axis = {name: _axis(part) for name, part in parts.items() if keys is None or name in keys}
        made = {name: self._stacked(name, part) for name, part in parts.items()}
        self.space: spaces.Space = made[""] if self._single else spaces.Dict(made)

    def __call__(self, past: list[Any]) -> Any:
        """past: ``frames`` observations, oldest first."""
        if self._single:
            return np.concatenate(past, self._axis[""])
        newest = past[-1]
        return {
            name: np.concatenate([frame[name] for frame in past], self._axis[name]) if name in self._axis else newest[name]
            for name in newest
        }

    def _stacked(self, name: str, part: spaces.Space) -> spaces.Space:
        if name not in self._axis:
            return part
        assert isinstance(part, spaces.Box)
        low, high = (np.concatenate([bound] * self.frames, self._axis[name]) for bound in (part.low, part.high))
        return spaces.Box(low, high, dtype=low.dtype.type)


def _axis(part: spaces.Space) -> int:
    """Counted from the end, so that batches may lie before."""
    if not isinstance(part, spaces.Box):
        raise ConfigError(f"FrameHistory takes arrays, not {type(part).__name__}")
    image = len(part.shape) == 3 and part.shape[0] > min(part.shape)
    return -1 if image else -len(part.shape)
