"""The vector environment: N episodes, one batched simulator step and one call of the world for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dist4d_env.envs.config import read_keywords
from dist4d_env.envs.driving import METADATA, rendering_metadata
from dist4d_env.envs.episodes import Episodes
from dist4d_env.envs.info import vector_info
from dist4d_env.envs.row import EpisodeRow, Snapshot
from dist4d_env.errors import ActionError, ConfigError
from dist4d_env.worlds.stopwatch import Stopwatch


class DiST4DVectorEnv(VectorEnv):
    """``gym.make_vec("DiST4D-nuScenes-v0", num_envs=N, vectorization_mode="vector_entry_point", **keywords)``.

    Keywords, spaces and infos are those of ``DiST4DDrivingEnv``, batched as Gymnasium batches them. Every ``reset`` and ``step``
    is one batched call of simulator, metrics and world. Each row plays bit for bit as it would alone with its seed; an episode
    that has ended begins anew at the next step, whose action is ignored (``AutoresetMode.NEXT_STEP``).

    Observations are written into arrays that are kept; copy=False hands out these themselves, to be overwritten by the next
    step. max_episode_steps: decisions of an episode at most, as in ``gym.make``. ``info["metrics"]["final"]`` is computed when it
    is first looked into. ``envs`` are the rows, to look at, render,
    snapshot and restore; where a row has ``starts``, it gives the reset options of every episode that begins there without any.
    """

    metadata = {**METADATA, "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (declared so by Gymnasium)

    envs: tuple[_VectorRow, ...] = ()

    def __init__(self, num_envs: int = 1, copy: bool = True, max_episode_steps: int | None = None, **keywords: Any) -> None:
        """Raises ConfigError, DataError or WeightsError."""
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ConfigError(f"num_envs={num_envs!r} must be a whole number of at least 1")
        if keywords.get("render_mode") == "human":
            raise ConfigError("render_mode='human' shows one episode: use it with gym.make, or 'rgb_array' here")
        self.num_envs, self.config, self._copy = int(num_envs), read_keywords(keywords), bool(copy)
        self._episodes = Episodes(self.config, self.num_envs)
        self._episodes.most_decisions = _most_decisions(max_episode_steps)
        self.envs = tuple(_VectorRow(self, row) for row in range(self.num_envs))
        self.render_mode = self.config.render_mode
        self.metadata = {**rendering_metadata(self.config.decision_dt), "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space, self.single_action_space = self._episodes.observation_space, self._episodes.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.rig = self._episodes.rig
        self._ended: np.ndarray | None = None
        self._restored: set[int] = set()

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
        options, watch = dict(options or {}), Stopwatch()
        rows = self._chosen(options.pop("reset_mask", None))
        for row in rows.tolist():
            if seeds[row] is not None:
                self._episodes.random[row], _ = seeding.np_random(seeds[row])
        terms = self._episodes.reset(rows, [options or self._start(row) for row in rows.tolist()], watch)
        self._ended = np.zeros(self.num_envs, bool) if self._ended is None else self._ended
        self._ended[rows] = False
        return self._observed(rows, terms, watch)

    def step(self, actions: Any) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One decision each. Raises ActionError, before anything has moved, if one of the actions cannot be taken."""
        self._episodes.open_world()
        if self._ended is None:
            raise ResetNeeded("call reset() before the first step()")
        try:
            actions = np.array(actions)
        except ValueError as error:
            raise ActionError(f"the actions of {self.num_envs} environments make no array: {error}") from error
        if actions.shape[:1] != (self.num_envs,):
            raise ActionError(f"{self.num_envs} environments take as many actions, not an array of shape {actions.shape}")
        watch, begins = Stopwatch(), self._ended
        actions[begins] = 0  # not looked at
        terms, rewards, terminated, truncated = self._episodes.step(actions, begins, self._start, watch)
        self._ended = terminated | truncated
        observations, infos = self._observed(np.arange(self.num_envs), terms, watch)
        return observations, rewards, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray | None, ...]:  # type: ignore[override]
        """The dashboards of all rows."""
        return tuple(row.render() for row in self.envs)

    def close_extras(self, **keywords: Any) -> None:
        """Let go of scenes and models."""
        if hasattr(self, "_episodes"):  # Gymnasium closes also what could not be made
            self._episodes.close()
        self._ended = None

    def restored(self, row: int) -> None:
        """A row has been restored: it goes on, or begins anew at the next step if its episode is over."""
        if not self._episodes.episodes:  # a snapshot from before the first reset
            self._ended = None
        elif self._ended is not None:
            self._ended[row] = self._episodes.episodes[row].ended_by is not None
            self._restored.add(row)

    def require_reset(self) -> None:
        """Raises ResetNeeded before the first reset: there are no other episodes to restore one beside."""
        if self._ended is None:
            raise ResetNeeded("call reset() for all environments before restoring one of them")

    def _start(self, row: int) -> dict[str, Any]:
        """The reset options of a row where none are given."""
        starts = self.envs[row].starts
        return {} if starts is None else starts()

    def _chosen(self, mask: Any) -> np.ndarray:
        """Indices of the environments that a reset is for. Raises ConfigError."""
        if mask is None:
            return np.arange(self.num_envs)
        if self._ended is None:
            raise ResetNeeded("call reset() for all environments before some of them with reset_mask")
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ConfigError(f"reset_mask={mask!r} must be {self.num_envs} truth values, at least one of them true")
        return np.flatnonzero(mask)

    def _observed(
        self, rows: np.ndarray, terms: Mapping[str, np.ndarray], watch: Stopwatch
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The observations of all environments and the infos of those that were reset or stepped."""
        with watch("observation"):
            observations = self._episodes.observe(sorted({*rows.tolist(), *self._restored}))
        self._restored.clear()
        shown = np.zeros(self.num_envs, bool)
        shown[rows] = True
        share = {stage: value / len(rows) for stage, value in watch.milliseconds.items()}
        info = vector_info(self._episodes, shown, terms, share, self._add_info)
        return {key: value.copy() for key, value in observations.items()} if self._copy else dict(observations), info


def _most_decisions(steps: Any) -> int | None:
    """``max_episode_steps`` as Gymnasium means it: None and -1 limit nothing. Raises ConfigError."""
    if steps is None or steps == -1:
        return None
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise ConfigError(f"max_episode_steps={steps!r} must be a whole number of at least 1")
    return int(steps)


class _VectorRow(EpisodeRow):
    """A row of a vector environment, which learns when it is restored. starts: draws reset options for episodes without."""

    starts: Callable[[], dict[str, Any]] | None = None

    def __init__(self, venv: DiST4DVectorEnv, row: int) -> None:
        super().__init__(venv._episodes, row)
        self._venv = venv

    def restore(self, snapshot: Snapshot) -> None:
        self._venv.require_reset()
        super().restore(snapshot)
        self._venv.restored(self._row)
