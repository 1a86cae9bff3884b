"""The wrappers for ``gym.make_vec``: the same names and arguments, N environments at once.

There is no ``ActionRepeat`` here: episodes end at different times, and a longer ``decision_dt`` does the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from dist4d_env.envs.wrappers.actions import PEDALS, WHEELS, checked_index, control_grid
from dist4d_env.envs.wrappers.history import Stack
from dist4d_env.envs.wrappers.transforms import BirdsEye, CameraStack, Flat, Vectors


class _Transformed(gym.vector.VectorWrapper):
    """Observations, also the last ones that SAME_STEP puts into infos, go through a transform."""

    def __init__(self, env: gym.vector.VectorEnv, transform: Any) -> None:
        super().__init__(env)
        self._transform = transform
        self.single_observation_space = transform.space(env.single_observation_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._transform(observations), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        if "final_obs" in infos:
            for row in np.flatnonzero(infos["_final_obs"]).tolist():
                infos["final_obs"][row] = self._transform(infos["final_obs"][row])
        return self._transform(observations), rewards, terminated, truncated, infos


class StackCameras(_Transformed):
    """See ``wrappers.StackCameras``."""

    def __init__(self, env: gym.vector.VectorEnv, layout: str = "mosaic", depth: str = "none") -> None:
        super().__init__(env, CameraStack(env.unwrapped.rig, layout, depth))


class BirdsEyeView(_Transformed):
    """See ``wrappers.BirdsEyeView``."""

    def __init__(self, env: gym.vector.VectorEnv, cells: int = 100) -> None:
        super().__init__(env, BirdsEye(cells))


class VectorOnly(_Transformed):
    """See ``wrappers.VectorOnly``."""

    def __init__(self, env: gym.vector.VectorEnv, agents: int = 16) -> None:
        super().__init__(env, Vectors(agents))


class FlatVectors(_Transformed):
    """See ``wrappers.FlatVectors``."""

    def __init__(self, env: gym.vector.VectorEnv) -> None:
        super().__init__(env, Flat())


class FrameHistory(gym.vector.VectorWrapper):
    """See ``wrappers.FrameHistory``; the past of an episode that begins anew is filled with its first observation."""

    def __init__(self, env: gym.vector.VectorEnv, frames: int = 4, keys: tuple[str, ...] | None = None) -> None:
        super().__init__(env)
        self._stack = Stack(env.single_observation_space, frames, keys)
        self.single_observation_space = self._stack.space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._past: list[Any] = []
        self._ended = np.zeros(self.num_envs, bool)
        self._mode = env.metadata["autoreset_mode"]

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observations, infos = self.env.reset(seed=seed, options=options)
        started = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        self._past = (
            [_copy(observations) for _ in range(self._stack.frames)] if started.all() else self._refilled(observations, started)
        )
        self._ended &= ~started
        return self._stack(self._past), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        before, self._past = self._past, [*self._past[1:], _copy(observations)]
        ended, started = terminated | truncated, self._ended  # by NEXT_STEP those begin anew that had ended before
        if self._mode is AutoresetMode.SAME_STEP:
            started = ended
            for row in np.flatnonzero(ended).tolist():
                past = [_row(frame, row) for frame in before[1:]]
                infos["final_obs"][row] = self._stack([*past, infos["final_obs"][row]])
        if started.any():
            self._past = self._refilled(observations, started)
        self._ended = ended if self._mode is AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, bool)
        return self._stack(self._past), rewards, terminated, truncated, infos

    def _refilled(self, observations: Any, started: np.ndarray) -> list[Any]:
        """The past with the rows of ``started`` filled with their first observations."""
        past = [_copy(frame) for frame in self._past]
        for frame in past:
            if isinstance(frame, dict):
                for name, rows in frame.items():
                    rows[started] = observations[name][started]
            else:
                frame[started] = observations[started]
        return past


class DiscreteControls(gym.vector.VectorActionWrapper):
    """See ``wrappers.DiscreteControls``."""

    def __init__(self, env: gym.vector.VectorEnv, pedals: Sequence[float] = PEDALS, wheels: Sequence[float] = WHEELS) -> None:
        super().__init__(env)
        self._grid = control_grid(env.single_action_space, pedals, wheels)
        self.single_action_space = spaces.Discrete(len(self._grid))
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: Any) -> Any:
        """Raises ActionError for actions that are no indices."""
        return self._grid[checked_index(actions, self.single_action_space)]


def _row(observations: Any, row: int) -> Any:
    """One environment's part of a batched observation."""
    return {name: rows[row] for name, rows in observations.items()} if isinstance(observations, dict) else observations[row]


def _copy(observations: Any) -> Any:
    """A copy that the environments do not write into."""
    return {name: rows.copy() for name, rows in observations.items()} if isinstance(observations, dict) else observations.copy()
