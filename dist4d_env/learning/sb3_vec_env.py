"""Stable-Baselines3's ``VecEnv`` over ``DiST4DVectorEnv``: N environments, one batched call of simulator and world a step.

venv = gym.make_vec("DiST4D-nuScenes-v0", num_envs=8, vectorization_mode="vector_entry_point", world="none", ...)
model = PPO("MultiInputPolicy", SB3VecEnv(venv))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvWrapper

from dist4d_env.envs.lazy_dict import LazyDict
from dist4d_env.errors import ConfigError
from dist4d_env.learning.views import View, batch_of_one


class SB3VecEnv(VecEnv):
    """The vector environment as Stable-Baselines3 wants it.

    Gymnasium's vector environments begin an ended episode at the *next* step; SB3 expects the first observation of the new
    episode at once, the last one of the old in ``info["terminal_observation"]`` and ``info["TimeLimit.truncated"]``. So ended
    environments are reset here, all in one call, through ``reset_mask``. Each plays the episodes that it would play alone with
    its seed.

    starts: gives the reset options of an environment that begins, such as ``{"scenario": ...}`` (``learning.disturbed_starts``),
    instead of those set by ``set_options``; environments then begin one by one.
    infos: "all" hands every environment's info on as a dict; "ended" only that of episodes which end, which is a good deal faster
    (training needs no others; "TimeLimit.truncated" is there either way).
    """

    def __init__(
        self, venv: gym.vector.VectorEnv, infos: str = "all", starts: Callable[[], dict[str, Any]] | None = None
    ) -> None:
        """venv: ``AutoresetMode.NEXT_STEP`` with ``reset_mask``. Raises ConfigError for another mode or unknown ``infos``."""
        if venv.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
            raise ConfigError("SB3VecEnv takes a vector environment of AutoresetMode.NEXT_STEP, such as DiST4DVectorEnv")
        if infos not in ("all", "ended"):
            raise ConfigError(f"infos={infos!r} is unknown: choose 'all' or 'ended'")
        self.venv: Any = venv
        self._infos, self._starts = infos, starts
        self._actions: np.ndarray | None = None
        super().__init__(venv.num_envs, venv.single_observation_space, venv.single_action_space)

    def reset(self) -> dict[str, np.ndarray] | np.ndarray:
        """Begin N episodes with the seeds and options set by ``seed`` and ``set_options``."""
        if any(options != self._options[0] for options in self._options):
            raise ConfigError("the episodes of a vector environment share their reset options: set the same for all")
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        observations, infos = self.venv.reset(seed=seeds, options=self._options[0] or None)
        self.reset_infos = [info_of(infos, index) for index in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        if self._starts is not None:
            observations = self._begin(np.ones(self.num_envs, bool))
        return _copied(observations)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = np.asarray(actions)

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations, rewards, dones and infos of the decision handed to ``step_async``."""
        assert self._actions is not None
        observations, rewards, terminated, truncated, batched = self.venv.step(self._actions)
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in range(self.num_envs) if self._infos == "all" else np.flatnonzero(ended).tolist():
            infos[index] = info_of(batched, index)
        for index, cut in enumerate((truncated & ~terminated).tolist()):
            infos[index]["TimeLimit.truncated"] = cut
        if ended.any():
            for index in np.flatnonzero(ended).tolist():
                infos[index]["terminal_observation"] = _row(observations, index)
            observations = self._begin(ended)
        return _copied(observations), rewards.astype(np.float32), ended, infos

    def _begin(self, chosen: np.ndarray) -> Any:
        """New episodes for the environments of a mask (N,); the observations of all."""
        rows = np.flatnonzero(chosen).tolist()
        masks = [chosen] if self._starts is None else [np.arange(self.num_envs) == row for row in rows]
        for mask in masks:
            options = {} if self._starts is None else self._starts()
            observations, infos = self.venv.reset(options={"reset_mask": mask, **options})
            for index in np.flatnonzero(mask).tolist():
                self.reset_infos[index] = info_of(infos, index)
        return observations

    def close(self) -> None:
        self.venv.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return cast(Sequence[np.ndarray | None], self.venv.render())

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the single environments; AttributeError where they have none."""
        return [getattr(env, attr_name) for env in self._envs(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        for env in self._envs(indices):
            setattr(env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any) -> list[Any]:
        """Calls a method of the single environments."""
        return [getattr(env, method_name)(*method_args, **method_kwargs) for env in self._envs(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """The environments of a vector environment are bare."""
        return [False for _ in self._get_indices(indices)]

    def _envs(self, indices: VecEnvIndices) -> list[Any]:
        return [self.venv.unwrapped.envs[index] for index in self._get_indices(indices)]


def info_of(infos: Mapping[str, Any], index: int) -> dict[str, Any]:
    """One environment's info out of Gymnasium's batched ones: entries marked by their ``_key`` masks, nested dicts likewise."""
    own: dict[str, Any] = {}
    for key, value in infos.items():
        if key.startswith("_") or not infos.get(f"_{key}", _ALL)[index]:
            continue
        if isinstance(value, LazyDict):  # metrics of the whole episode: computed only if read
            own[key] = LazyDict(partial(info_of, value, index))
        else:
            own[key] = info_of(value, index) if isinstance(value, Mapping) else value[index]
    return own


def _row(observations: Any, index: int) -> Any:
    """One environment's observation, a copy."""
    if isinstance(observations, Mapping):
        return {key: value[index].copy() for key, value in observations.items()}
    return observations[index].copy()


def _copied(observations: Any) -> Any:
    """A batch of observations that the vector environment will not write into."""
    if isinstance(observations, Mapping):
        return {key: value.copy() for key, value in observations.items()}
    return observations.copy()


class _Always:
    def __getitem__(self, index: int) -> bool:
        return True


_ALL = _Always()


class ViewVecEnv(VecEnvWrapper):
    """The environments through a policy's ``View``: observations become its features, its numbers become actions.

    reward_scale: factor of the rewards, so that values are about 1, which is what the value's layers learn fastest.
    """

    def __init__(self, venv: VecEnv, view: View, reward_scale: float = 1.0) -> None:
        self.view, self.reward_scale = view, reward_scale
        self._observations: dict[str, np.ndarray] = {}
        super().__init__(venv, view.observation_space, view.action_space)

    def reset(self) -> dict[str, np.ndarray]:
        self._observations = cast(dict[str, np.ndarray], self.venv.reset())
        return self.view.observe(self._observations)

    def step_async(self, actions: np.ndarray) -> None:
        self.venv.step_async(self.view.act(actions, self._observations))

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, dones, infos = self.venv.step_wait()
        self._observations = cast(dict[str, np.ndarray], observations)
        for index in np.flatnonzero(dones):
            last = self.view.observe(batch_of_one(infos[index]["terminal_observation"]))
            infos[index]["terminal_observation"] = {key: value[0] for key, value in last.items()}
        return self.view.observe(self._observations), rewards * np.float32(self.reward_scale), dones, infos
