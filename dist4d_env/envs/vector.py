"""N environments whose worlds are stepped together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from dist4d_env.envs.driving import METADATA, DiST4DDrivingEnv
from dist4d_env.envs.turns import Turn, play
from dist4d_env.errors import ActionError, ConfigError


class DiST4DVectorEnv(gym.vector.VectorEnv):
    """``gym.make_vec("DiST4D-nuScenes-v0", num_envs=N, vectorization_mode="vector_entry_point", **keywords)``.

    Keywords, spaces and infos are those of ``DiST4DDrivingEnv``, batched as Gymnasium batches them. Data, maps and models are
    held once, and every ``reset`` and ``step`` is one batched call of the world. Each member plays bit for bit as it would alone
    with its seed; an episode that has ended begins anew at the next step, whose action is ignored (``AutoresetMode.NEXT_STEP``).
    """

    metadata = {**METADATA, "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (declared so by Gymnasium)

    envs: tuple[DiST4DDrivingEnv, ...] = ()

    def __init__(self, num_envs: int = 1, **keywords: Any) -> None:
        """Raises ConfigError, DataError or WeightsError."""
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ConfigError(f"num_envs={num_envs!r} must be a whole number of at least 1")
        if keywords.get("render_mode") == "human":
            raise ConfigError("render_mode='human' shows one episode: use it with gym.make, or 'rgb_array' here")
        first = DiST4DDrivingEnv(**keywords)
        self.envs = (first, *(first.sibling() for _ in range(num_envs - 1)))
        self.num_envs = int(num_envs)
        self.render_mode = first.render_mode
        self.metadata = {**first.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space, self.single_action_space = first.observation_space, first.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._ended: np.ndarray | None = None
        self._observations: list[dict[str, np.ndarray]] = [{}] * self.num_envs

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin N episodes. seed: one for each, or a number that stands for seed, seed + 1, ...; options: for all of them.

        options["reset_mask"], (N,) bool as in Gymnasium, begins only those, at once; the others keep episode and observation.
        """
        if seed is None or isinstance(seed, int | np.integer):
            seeds: list[int | None] = [None if seed is None else int(seed) + index for index in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ConfigError(f"{len(seeds)} seeds for {self.num_envs} environments: give one for each, or a single number")
        options = dict(options or {})
        chosen = self._chosen(options.pop("reset_mask", None))
        turns = [self.envs[index].beginning(seeds[index], options) for index in chosen]
        infos: dict[str, Any] = {}
        for index, (observation, info) in zip(chosen, play(self.envs[0].open_world(), turns), strict=True):
            self._observations[index], infos = observation, self._add_info(infos, info, index)
        self._ended = np.zeros(self.num_envs, bool) if self._ended is None else self._ended
        self._ended[chosen] = False
        return self._batch(self._observations), infos

    def step(
        self, actions: Any
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One decision each. Raises ActionError, before anything has moved, if one of the actions cannot be taken."""
        if self._ended is None:
            raise ResetNeeded("call reset() before the first step()")
        if np.shape(actions)[:1] != (self.num_envs,):
            raise ActionError(f"{self.num_envs} environments take as many actions, not an array of shape {np.shape(actions)}")
        turns: list[Turn] = [
            env.beginning(None, None) if ended else env.decision(action)
            for env, ended, action in zip(self.envs, self._ended, iterate(self.action_space, np.asarray(actions)), strict=True)
        ]
        results = play(self.envs[0].open_world(), turns)
        played = [(r[0], 0.0, False, False, r[1]) if began else r for r, began in zip(results, self._ended, strict=True)]
        observations, rewards, terminated, truncated, infos = zip(*played, strict=True)
        terminations, truncations = np.array(terminated, bool), np.array(truncated, bool)
        self._ended = terminations | truncations
        self._observations = list(observations)
        return self._batch(observations), np.array(rewards, np.float64), terminations, truncations, self._merge(infos)

    def render(self) -> tuple[np.ndarray | None, ...]:  # type: ignore[override]
        """The dashboards of all members."""
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **keywords: Any) -> None:
        """Let go of scenes and models."""
        for env in self.envs:
            env.close()

    def _chosen(self, mask: Any) -> list[int]:
        """Indices of the environments that a reset is for. Raises ConfigError."""
        if mask is None:
            return list(range(self.num_envs))
        if self._ended is None:
            raise ResetNeeded("call reset() for all environments before some of them with reset_mask")
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ConfigError(f"reset_mask={mask!r} must be {self.num_envs} truth values, at least one of them true")
        return np.flatnonzero(mask).tolist()

    def _batch(self, observations: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        empty = create_empty_array(self.single_observation_space, self.num_envs)
        return concatenate(self.single_observation_space, observations, empty)  # type: ignore[return-value]

    def _merge(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for index, info in enumerate(infos):
            merged = self._add_info(merged, info, index)
        return merged
