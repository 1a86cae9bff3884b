"""An episode as one immutable value, the snapshot around it, and the seeds it grows from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.metrics.driving.running import Running
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.simulation.state import SimState
from dist4d_env.worlds.contract import WorldInfo, WorldState


@dataclass(frozen=True)
class Seeds:
    """The streams of one episode. scenario, traffic: generators; noise, policy: whole numbers for the world and the planner."""

    scenario: np.random.Generator
    traffic: np.random.Generator
    noise: int
    policy: int

    @classmethod
    def draw(cls, random: np.random.Generator) -> Seeds:
        """Spawn the four streams from one number of the environment's generator."""
        scenario, traffic, noise, policy = np.random.SeedSequence(int(random.integers(2**63))).spawn(4)
        number = [int(stream.generate_state(1, np.uint64)[0] >> np.uint64(1)) for stream in (noise, policy)]
        return cls(np.random.default_rng(scenario), np.random.default_rng(traffic), *number)


@dataclass(frozen=True)
class Episode:
    """Everything that belongs to a running episode.

    scenario: scene, start and what differs from the log; end_time: seconds since the scene's first keyframe; plan: (K, 3) x, y,
    heading where the ego means to go, in the ego frame; ended_by: what ended the episode, None while it runs.
    """

    scenario: Scenario
    end_time: float
    policy_seed: int
    state: SimState
    world: WorldState
    frame: RGBDFrame | None
    world_info: WorldInfo
    running: Running
    plan: np.ndarray
    ended_by: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """What ``DiST4DDrivingEnv.snapshot`` hands out: the episode and the state of the environment's random generator."""

    dataroot: str
    episode: Episode | None
    random_state: Mapping[str, Any]
