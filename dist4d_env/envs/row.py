"""One of N episodes to look at, render, snapshot and restore: what an environment and each row of a vector one share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from dist4d_env.data.contract import Dataset
from dist4d_env.envs.config import EnvConfig
from dist4d_env.envs.episodes import Episodes, EpisodeSnapshot
from dist4d_env.envs.info import episode_info
from dist4d_env.envs.rendering import render_dashboard
from dist4d_env.envs.rewards import reward_terms
from dist4d_env.errors import ConfigError, shown
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.simulation.state import EpisodeState
from dist4d_env.worlds.contract import World, WorldInfo, WorldState


@dataclass(frozen=True)
class EpisodeView:
    """The present instant of an episode, for readers.

    scenario: scene, start and what differs from the log; end_time: seconds since the scene's first keyframe; state: of the
    simulator; values: the running metrics; touched: tracks that the ego has touched; world, frame, world_info: what the world
    showed; plan: (K, 3) x, y, heading where the ego means to go, in the ego frame; ended_by: None while it runs.
    """

    scenario: Scenario
    end_time: float
    policy_seed: int
    state: EpisodeState
    values: Mapping[str, float]
    touched: frozenset[int]
    world: WorldState
    frame: RGBDFrame | None
    world_info: WorldInfo
    plan: np.ndarray
    ended_by: str | None


@dataclass(frozen=True)
class Snapshot:
    """What ``snapshot`` hands out: the episode and the state of the environment's random generator."""

    settings: Mapping[str, Any]
    episode: EpisodeSnapshot | None
    random_state: Mapping[str, Any]


class EpisodeRow:
    """One row of ``Episodes``."""

    render_mode: str | None = None

    def __init__(self, episodes: Episodes, row: int) -> None:
        self._episodes, self._row = episodes, row
        self.render_mode = episodes.config.render_mode

    @property
    def config(self) -> EnvConfig:
        """The keywords that the environment was made with."""
        return self._episodes.config

    @property
    def dataset(self) -> Dataset:
        """The data set that it plays in."""
        return self._episodes.dataset

    @property
    def scene_names(self) -> list[str]:
        """The scenes that are drawn from."""
        return self._episodes.scene_names

    def scene_at(self) -> SceneAt:
        """What is true now, as the world is told, with nothing anticipated. Raises ResetNeeded before the first reset."""
        self._require_episode("look at what is true")
        (truth,) = self._episodes.simulator.scenes_at(self._episodes.now.take(np.array([self._row])), 0)
        return truth

    @property
    def episode(self) -> EpisodeView:
        """The current episode as values. Raises ResetNeeded before the first reset."""
        self._require_episode("look at the episode")
        episodes, row = self._episodes, self._row
        episode, running = episodes.episodes[row], episodes.bookkeeping
        return EpisodeView(
            scenario=episode.scenario,
            end_time=episode.end_time,
            policy_seed=episode.policy_seed,
            state=episodes.single(row),
            values={name: float(value[row]) for name, value in running.values.items()},
            touched=frozenset(np.flatnonzero(running.touched[row]).tolist()),
            world=episode.world,
            frame=episode.frame,
            world_info=episode.world_info,
            plan=episode.plan,
            ended_by=episode.ended_by,
        )

    @property
    def scene(self) -> Scene:
        """The current episode's scene, with the scenario's edits; ``scene.recorded`` is without."""
        self._require_episode("look at the scene")
        return self._episodes.episodes[self._row].scene

    def trace(self) -> EpisodeTrace:
        """The current episode so far as arrays, for the metrics of whole episodes."""
        self._require_episode("trace")
        return self._episodes.trace(self._row)

    def open_world(self) -> World:
        """The world, unless the environment has been closed."""
        return self._episodes.open_world()

    @property
    def rig(self) -> CameraRig:
        """The cameras, in the data set's order, which all scenes of an environment share."""
        return self._episodes.rig

    @property
    def generator(self) -> np.random.Generator:
        """The random generator that draws what begins."""
        return self._episodes.random[self._row]

    @property
    def shows_pictures(self) -> bool:
        """Whether the world makes frames."""
        return self._episodes.traits.shows_pictures

    @property
    def foresight(self) -> int:
        """How many decisions ahead the world or a picture of the plan wants to know."""
        return self._episodes.foresight

    def render(self) -> np.ndarray | None:
        """The dashboard of the current instant (H, W, 3) uint8; None and a warning without a render mode."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: choose one when making the environment, render_mode='rgb_array'")
            return None
        episode = self.episode
        terms = reward_terms(self._episodes.bookkeeping.values, self.config.decision_dt)
        info = episode_info(self._episodes, self._row, terms, {})
        return render_dashboard(episode.frame, info, episode.state, self.scene, episode.plan)

    def snapshot(self) -> Snapshot:
        """The environment's state as an immutable value, its random generator included; see ``restore``."""
        self._episodes.require_open()
        started = self._row < len(self._episodes.episodes)
        episode = self._episodes.snapshot(self._row) if started else None
        return Snapshot(self._settings(), episode, self.generator.bit_generator.state)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this environment or of one made with the same keywords; it continues bit-identically.

        The keywords that what happens depends on must be equal (ConfigError): data set, world and what it is made of, size,
        traffic, decision_dt, horizon and reward. Observation, action, termination, device and so on may differ.
        """
        self._episodes.require_open()
        if not isinstance(snapshot, Snapshot):
            raise ConfigError(f"restore takes what snapshot() returned, not a {type(snapshot).__name__}")
        for name, value in self._settings().items():
            other = snapshot.settings.get(name)
            if other is not value and not np.all(other == value):  # objects may compare as arrays do
                taken, here = shown(snapshot.settings.get(name)), shown(value)
                raise ConfigError(f"the snapshot was taken with {name}={taken}, this environment has {name}={here}")
        if snapshot.episode is None:
            self._episodes.forget(self._row)
        else:
            self._episodes.restore(self._row, snapshot.episode)
        self.generator.bit_generator.state = snapshot.random_state

    def _settings(self) -> dict[str, Any]:
        """The keywords that a snapshot goes with."""
        names = ("world", "weights", "memory", "traffic", "decision_dt", "horizon", "reward")
        own = {name: getattr(self.config, name) for name in names}
        return {"dataroot": self.dataset.dataroot, "version": self.dataset.version, "size": self._episodes.size, **own}

    def _require_episode(self, purpose: str) -> None:
        self._episodes.require_open()
        if self._row >= len(self._episodes.episodes):
            raise ResetNeeded(f"call reset() first: there is no episode to {purpose}")
