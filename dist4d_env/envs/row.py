"""One of N episodes to look at, render, snapshot and restore: what an environment and each row of a vector one share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from dist4d_env.envs.episodes import Episodes, EpisodeSnapshot
from dist4d_env.envs.info import episode_info
from dist4d_env.envs.rendering import render_dashboard
from dist4d_env.envs.rewards import reward_terms
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import Scene
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

    dataroot: str
    settings: Mapping[str, Any]
    episode: EpisodeSnapshot | None
    random_state: Mapping[str, Any]


class EpisodeRow:
    """One row of ``Episodes``."""

    render_mode: str | None = None

    def __init__(self, episodes: Episodes, row: int) -> None:
        self._episodes, self._row = episodes, row
        self.config, self.dataset, self.scene_names = episodes.config, episodes.dataset, episodes.scene_names
        self.render_mode = episodes.config.render_mode

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
        begun = self._row < len(self._episodes.episodes)
        episode = self._episodes.snapshot(self._row) if begun else None
        return Snapshot(self.dataset.dataroot, self._settings(), episode, self.generator.bit_generator.state)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this environment or of one made with the same keywords; it continues bit-identically."""
        if not isinstance(snapshot, Snapshot):
            raise ConfigError(f"restore takes what snapshot() returned, not a {type(snapshot).__name__}")
        if snapshot.dataroot != self.dataset.dataroot:
            raise ConfigError(f"the snapshot belongs to {snapshot.dataroot}, this environment to {self.dataset.dataroot}")
        for name, value in self._settings().items():
            if snapshot.settings[name] != value:
                raise ConfigError(
                    f"the snapshot was taken with {name}={snapshot.settings[name]!r}, this environment has {value!r}"
                )
        if snapshot.episode is None:
            self._episodes.forget(self._row)
        else:
            self._episodes.restore(self._row, snapshot.episode)
        self.generator.bit_generator.state = snapshot.random_state

    def _settings(self) -> dict[str, Any]:
        """The keywords that a snapshot goes with."""
        names = ("world", "weights", "memory", "traffic", "decision_dt", "horizon", "reward")
        return {name: getattr(self.config, name) for name in names} | {"size": self._episodes.size}

    def _require_episode(self, purpose: str) -> None:
        if self._row >= len(self._episodes.episodes):
            raise ResetNeeded(f"call reset() first: there is no episode to {purpose}")
