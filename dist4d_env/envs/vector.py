"""The vector environment: N episodes, one batched simulator step and one call of the world for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dist4d_env.envs.config import read_keywords, read_reset_options, read_seed, whole
from dist4d_env.envs.driving import METADATA, rendering_metadata
from dist4d_env.envs.episodes import Episodes
from dist4d_env.envs.info import vector_info
from dist4d_env.envs.row import EpisodeRow, Snapshot
from dist4d_env.errors import ConfigError, shown
from dist4d_env.progress import FirstTime
from dist4d_env.worlds.stopwatch import Stopwatch

MOST_ENVS = 65_536


class DiST4DVectorEnv(VectorEnv):
    """``gym.make_vec("DiST4D-nuScenes-v0", num_envs=N, vectorization_mode="vector_entry_point", **keywords)``.

    Keywords, spaces and infos are those of ``DiST4DDrivingEnv``, batched as Gymnasium batches them. Every ``reset`` and ``step``
    is one batched call of simulator, metrics and world. Each row plays bit for bit as it would alone with its seed; an episode
    that has ended begins anew as ``autoreset_mode`` says, Gymnasium's ``AutoresetMode`` or the name of one: by NEXT_STEP, the
    default, at the next step, whose action is ignored; by SAME_STEP at once, its last observation and info standing in
    ``info["final_obs"]`` and ``info["final_info"]``; by DISABLED when ``reset`` is called with a mask of those that have ended.

    Observations are written into arrays that are kept; copy=False hands out these themselves, to be overwritten by the next
    step. max_episode_steps: decisions of an episode at most, as in ``gym.make``. ``info["metrics"]["final"]`` is computed when it
    is first looked into. ``envs`` are the rows, to look at, render, snapshot and restore, also by ``call``, ``get_attr`` and
    ``set_attr``; where a row has ``starts``, it gives the reset options of every episode that begins there without any.

    Pickles and copies as the single environment does.
    """

    metadata = {**METADATA, "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (declared so by Gymnasium)

    envs: tuple[_VectorRow, ...] = ()

    def __init__(
        self,
        num_envs: int = 1,
        copy: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        **keywords: Any,
    ) -> None:
        """Raises ConfigError, DataError or WeightsError."""
        count = whole(num_envs)
        if count is None or not 1 <= count <= MOST_ENVS:
            raise ConfigError(f"num_envs={shown(num_envs)} must be a whole number from 1 to {MOST_ENVS}")
        if not isinstance(copy, bool | np.bool_):
            raise ConfigError(f"copy={shown(copy)} must be True or False")
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        if keywords.get("render_mode") == "human":
            raise ConfigError("render_mode='human' shows one episode: use it with gym.make, or 'rgb_array' here")
        self.num_envs, self.config, self._copy = count, read_keywords(keywords), bool(copy)
        with FirstTime("making the environment"):
            self._episodes = Episodes(self.config, self.num_envs)
        self._episodes.most_decisions = _most_decisions(max_episode_steps)
        self.envs = tuple(_VectorRow(self, row) for row in range(self.num_envs))
        self.render_mode = self.config.render_mode
        self.metadata = {**rendering_metadata(self.config.decision_dt), "autoreset_mode": self.autoreset_mode}
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
        self._episodes.require_open()
        seeds, options, watch = self._seeds(seed), {} if options is None else options, Stopwatch()
        mask = options.get("reset_mask") if isinstance(options, Mapping) else None
        rows = self._chosen(mask)
        if isinstance(options, Mapping):
            options = {name: value for name, value in options.items() if name != "reset_mask"}
        options = read_reset_options(options)
        for row in rows.tolist():
            if seeds[row] is not None:
                self._episodes.random[row], _ = seeding.np_random(seeds[row])
        with FirstTime("beginning an episode"):
            terms = self._episodes.reset(rows, [options or self._start(row) for row in rows.tolist()], watch)
        self._ended = np.zeros(self.num_envs, bool) if self._ended is None else self._ended
        self._ended[rows] = False
        return self._observed(rows, terms, watch)

    def step(self, actions: Any) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One decision each. Raises, before anything has moved, ActionError if one of the actions cannot be taken and ResetNeeded
        if an episode has ended that does not begin by itself."""
        self._episodes.require_open()
        if self._ended is None:
            raise ResetNeeded("call reset() before the first step()")
        watch, begins = Stopwatch(), self._ended
        if begins.any():
            if self.autoreset_mode is not AutoresetMode.NEXT_STEP:
                over = ", ".join(map(str, np.flatnonzero(begins).tolist()))
                raise ResetNeeded(f"the episodes of {over} are over: call reset(options={{'reset_mask': mask}}) for them")
            actions = _without(actions, begins)
        with FirstTime("the first decision"):
            terms, rewards, terminated, truncated = self._episodes.step(actions, begins, self._start, watch)
        self._ended = terminated | truncated
        everyone = np.arange(self.num_envs)
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._ended.any():
            return self._begun_at_once(terms, rewards, terminated, truncated, watch)
        observations, infos = self._observed(everyone, terms, watch)
        return observations, rewards, terminated, truncated, infos

    def _begun_at_once(
        self,
        terms: Mapping[str, np.ndarray],
        rewards: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        watch: Stopwatch,
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """The outcome of a step with new episodes where some have ended, reported as Gymnasium defines it."""
        ended = terminated | truncated
        rows = np.flatnonzero(ended)
        with watch("observation"):
            seen = self._episodes.observe(range(self.num_envs))
            final_obs = np.full(self.num_envs, None, dtype=object)
            for row in rows.tolist():
                final_obs[row] = {key: value[row].copy() for key, value in seen.items()}
        share = _shares(watch, self.num_envs)
        final_info = vector_info(self._episodes, ended, terms, share, self._add_info)
        self._restored.clear()
        self._episodes.reset(rows, [self._start(row) for row in rows.tolist()], watch)
        self._ended = np.zeros(self.num_envs, bool)
        ahead = {name: np.where(ended, 0.0, term) for name, term in terms.items()}
        observations, infos = self._observed(rows, ahead, watch, shown=np.ones(self.num_envs, bool))
        infos |= {"final_obs": final_obs, "_final_obs": ended.copy(), "final_info": final_info, "_final_info": ended.copy()}
        return observations, rewards, terminated, truncated, infos

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random generators of all rows, which draw what begins."""
        return tuple(self._episodes.random)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """An attribute of every row; where it is a method, what it returns."""
        self._episodes.require_open()
        found = [getattr(row, name) for row in self.envs]
        return tuple(each(*args, **kwargs) if callable(each) else each for each in found)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of every row."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute of every row; a list or tuple has one value for each, all else is for all. Raises ConfigError."""
        self._episodes.require_open()
        values = values if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(values) != self.num_envs:
            raise ConfigError(
                f"{len(values)} values of {name} for {self.num_envs} environments: give one for each, or one for all"
            )
        for row, value in zip(self.envs, values, strict=True):
            setattr(row, name, value)

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
        self._episodes.require_open()
        if self._ended is None:
            raise ResetNeeded("call reset() for all environments before restoring one of them")

    def _seeds(self, seed: Any) -> list[int | None]:
        """The seed of each row. Raises ConfigError."""
        if seed is None or whole(seed) is not None:
            first = read_seed(seed)
            return [None if first is None else first + row for row in range(self.num_envs)]
        if not isinstance(seed, list | tuple | range | np.ndarray) or getattr(seed, "ndim", 1) != 1:
            raise ConfigError(f"seed={shown(seed)} must be a whole number of at least 0, one for each environment, or None")
        if len(seed) != self.num_envs:
            raise ConfigError(f"{len(seed)} seeds for {self.num_envs} environments: give one for each, or a single number")
        return [read_seed(each) for each in seed]

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
        if not isinstance(mask, np.ndarray):
            listed = isinstance(mask, list | tuple) and all(isinstance(each, bool | np.bool_) for each in mask)
            mask = np.array(mask if listed else [])
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ConfigError(f"options['reset_mask'] must be {self.num_envs} truth values, at least one of them true")
        return np.flatnonzero(mask)

    def _observed(
        self, rows: np.ndarray, terms: Mapping[str, np.ndarray], watch: Stopwatch, shown: np.ndarray | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The observations of all environments, of some rows anew, and the infos of these or of those that are ``shown`` (N,)."""
        with watch("observation"):
            observations = self._episodes.observe(sorted({*rows.tolist(), *self._restored}))
        self._restored.clear()
        if shown is None:
            shown = np.zeros(self.num_envs, bool)
            shown[rows] = True
        share = _shares(watch, np.count_nonzero(shown))
        info = vector_info(self._episodes, shown, terms, share, self._add_info)
        return {key: value.copy() for key, value in observations.items()} if self._copy else dict(observations), info


def _shares(watch: Stopwatch, count: int) -> dict[str, float]:
    """What each of so many episodes took of the milliseconds per stage of a call for all of them."""
    return {stage: value / count for stage, value in watch.milliseconds.items()}


def _most_decisions(steps: Any) -> int | None:
    """``max_episode_steps`` as Gymnasium means it: None and -1 limit nothing. Raises ConfigError."""
    count = whole(steps)
    if steps is None or count == -1:
        return None
    if count is None or count < 1:
        raise ConfigError(f"max_episode_steps={shown(steps)} must be a whole number of at least 1")
    return count


def _autoreset_mode(mode: Any) -> AutoresetMode:
    """By itself, its name or Gymnasium's text for it. Raises ConfigError."""
    for each in AutoresetMode:
        if mode is each or (isinstance(mode, str) and mode in (each.name, each.value)):
            return each
    names = ", ".join(each.name for each in AutoresetMode)
    raise ConfigError(f"autoreset_mode={shown(mode)} is unknown: choose one of {names}")


def _without(actions: Any, begins: np.ndarray) -> Any:
    """The actions with those of ``begins`` (N,), which are not looked at, at zero; what makes no array of numbers as it is."""
    try:
        actions = np.array(actions)
    except (ValueError, TypeError, RuntimeError):
        return actions
    if actions.dtype.kind in "fiub" and actions.shape[:1] == begins.shape:
        actions[begins] = 0
    return actions


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
