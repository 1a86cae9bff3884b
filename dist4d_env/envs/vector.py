"""N environments stepped together: one batched simulator step and one call of the world for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, create_empty_array

from dist4d_env.envs.batched_step import Answer
from dist4d_env.envs.driving import METADATA
from dist4d_env.envs.members import Member
from dist4d_env.envs.timing import Stopwatch
from dist4d_env.envs.vector_episodes import Episodes, first_instant, with_first_instants
from dist4d_env.envs.vector_information import vector_info
from dist4d_env.envs.vector_observations import write_pictures, write_vectors
from dist4d_env.envs.vector_outcomes import all_terms, end_episodes, final_metrics, judged_before, weighted_sum_batch
from dist4d_env.envs.vector_world import ask_world
from dist4d_env.errors import ActionError, ConfigError
from dist4d_env.simulation.commands import parse_actions


class DiST4DVectorEnv(gym.vector.VectorEnv):
    """``gym.make_vec("DiST4D-nuScenes-v0", num_envs=N, vectorization_mode="vector_entry_point", **keywords)``.

    Keywords, spaces and infos are those of ``DiST4DDrivingEnv``, batched as Gymnasium batches them. Data, maps and models are
    held once; simulation, running metrics, rewards and vector observations are worked out for all N in arrays, and every
    ``reset`` and ``step`` is one batched call of the world. Each member plays bit for bit as it would alone with its seed; an
    episode that has ended begins anew at the next step, whose action is ignored (``AutoresetMode.NEXT_STEP``).

    Observations are written into arrays that are kept; copy=False hands out these themselves, to be overwritten by the next
    step. ``info["metrics"]["final"]`` is worked out when it is first looked into.
    """

    metadata = {**METADATA, "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (declared so by Gymnasium)

    envs: tuple[Member, ...] = ()

    def __init__(self, num_envs: int = 1, copy: bool = True, **keywords: Any) -> None:
        """Raises ConfigError, DataError or WeightsError."""
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ConfigError(f"num_envs={num_envs!r} must be a whole number of at least 1")
        if keywords.get("render_mode") == "human":
            raise ConfigError("render_mode='human' shows one episode: use it with gym.make, or 'rgb_array' here")
        first = Member(**keywords)
        self.envs = (first, *(first.sibling() for _ in range(num_envs - 1)))  # type: ignore[arg-type]
        self.num_envs, self.config, self._copy = int(num_envs), first.config, bool(copy)
        self.render_mode = first.render_mode
        self.metadata = {**first.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space, self.single_action_space = first.observation_space, first.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._seen: dict[str, Any] = create_empty_array(self.single_observation_space, self.num_envs)  # type: ignore[assignment]
        self._episodes, self._weights = Episodes(), first.weights
        self._ended: np.ndarray | None = None

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
        options, watch, episodes = dict(options or {}), Stopwatch(), self._episodes
        rows = self._chosen(options.pop("reset_mask", None))
        self._take_back()
        with watch("scene"):
            beginnings = {row: self.envs[row].begin(seeds[row], options) for row in rows.tolist()}
        with watch("simulation"):
            anew = episodes.begun([*beginnings.values()])
            state = anew if episodes.state is None else episodes.state.put(rows, anew)
        answers = ask_world(self.envs[0], episodes, state, rows, beginnings, watch)
        with watch("metrics"):
            running = episodes.metrics.update(None, np.ones(len(rows), bool), anew.scene, first_instant(anew, 1))
            running = running if episodes.running is None else episodes.running.put(rows, running)
            episodes.begin(beginnings, state, running)
            self._keep(rows, answers)
            terms = all_terms(episodes, self._weights, dict.fromkeys(beginnings), self.config.decision_dt)
        self._ended = np.zeros(self.num_envs, bool) if self._ended is None else self._ended
        self._ended[rows] = False
        return self._tell(rows, terms, watch)

    def step(self, actions: Any) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One decision each. Raises ActionError, before anything has moved, if one of the actions cannot be taken."""
        if self._ended is None:
            raise ResetNeeded("call reset() before the first step()")
        try:
            actions = np.array(actions)
        except ValueError as error:
            raise ActionError(f"the actions of {self.num_envs} environments make no array: {error}") from error
        if actions.shape[:1] != (self.num_envs,):
            raise ActionError(f"{self.num_envs} environments take as many actions, not an array of shape {actions.shape}")
        self._take_back()
        watch, episodes, begins, everyone = Stopwatch(), self._episodes, self._ended, np.arange(self.num_envs)
        before, rows = episodes.now, np.flatnonzero(begins)
        with watch("simulation"):
            actions[rows] = 0  # not looked at
            commands = parse_actions(self.config.action, actions, before.ego, before.tick)
        with watch("scene"):
            beginnings = {row: self.envs[row].begin(None, None) for row in rows.tolist()}
        with watch("simulation"):
            anew = episodes.begun([*beginnings.values()]) if beginnings else None
            state, ticks = episodes.simulator.execute(episodes.now, commands)
            if anew is not None:
                state, ticks = state.put(rows, anew), with_first_instants(ticks, rows, anew)
        answers = ask_world(self.envs[0], episodes, state, everyone, beginnings, watch)
        with watch("metrics"):
            judged = judged_before(episodes, self._weights, beginnings)
            running = episodes.metrics.update(episodes.running, begins, state.scene, ticks)
            episodes.go_on(beginnings, state, running, ticks)
            self._keep(everyone, answers)
            terms = all_terms(episodes, self._weights, judged, self.config.decision_dt)
            rewards = np.where(begins, 0.0, weighted_sum_batch(terms, self._weights, self.num_envs))
            terminations, truncations = end_episodes(episodes, begins, self.config)
        self._ended = terminations | truncations
        observations, infos = self._tell(everyone, terms, watch)
        return observations, rewards, terminations, truncations, infos

    def render(self) -> tuple[np.ndarray | None, ...]:  # type: ignore[override]
        """The dashboards of all members."""
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **keywords: Any) -> None:
        """Let go of scenes and models."""
        for env in self.envs:
            env.close()
        self._episodes, self._ended = Episodes(), None

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

    def _take_back(self) -> None:
        """Members that were restored, reset or stepped by themselves: the arrays follow them."""
        for index, env in enumerate(self.envs):
            if env.changed and self._ended is not None:
                episode = env.episode
                self._episodes.restored(index, episode, env.room(episode.scenario))
                self._ended[index] = episode.ended_by is not None
                env.follow(partial(self._episodes.episode, index))

    def _keep(self, rows: np.ndarray, answers: Sequence[tuple[Answer, np.ndarray]]) -> None:
        """The episodes with what the world said; members look at them from now on."""
        for row, ((world, frame, world_info), plan) in zip(rows.tolist(), answers, strict=True):
            played = self._episodes.played[row]
            played.world, played.frame, played.world_info, played.plan = world, frame, world_info, plan
            self.envs[row].follow(partial(self._episodes.episode, row))

    def _tell(
        self, rows: np.ndarray, terms: Mapping[str, np.ndarray], watch: Stopwatch
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The observations of all environments and the infos of those that were reset or stepped."""
        episodes, seen = self._episodes, self._seen
        with watch("observation"):
            end_time = np.array([played.end_time for played in episodes.played])
            ahead = write_vectors(seen, episodes, end_time)
            write_pictures(seen, rows.tolist(), episodes, ahead)
        told = np.zeros(self.num_envs, bool)
        told[rows] = True
        share = {stage: value / len(rows) for stage, value in watch.milliseconds.items()}
        info = vector_info(told, episodes, terms, share)
        if "ended_by" in info:
            final = final_metrics(episodes, info["_ended_by"], self._add_info)
            info["metrics"] |= {"final": final, "_final": info["_ended_by"].copy()}
        return {key: value.copy() for key, value in seen.items()} if self._copy else dict(seen), info
