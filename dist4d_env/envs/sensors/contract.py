"""The contract of sensors: the groups that an observation is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from gymnasium import spaces

from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.metrics.driving.running import Running
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.ego import YAW, X, Y
from dist4d_env.simulation.routes import Routes
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.simulation.state import EpisodeState, SimState, single
from dist4d_env.worlds.contract import World, WorldState


@dataclass(frozen=True)
class Instant:
    """What sensors look at: the present instant of N episodes.

    rows: those that are new, which pictures and rasters are made for; state, running: of all N; scenes: N, with their edits;
    size: (N, M, 3) and category (N, M) of the tracks; frames: N frames of the world, None where it shows no pictures;
    world_states: N states of the world; truths: of ``rows``, in their order, computed where one is looked at; end_time: (N,) s,
    when each episode is over.
    """

    rows: Sequence[int]
    state: SimState
    running: Running
    scenes: Sequence[Scene]
    size: np.ndarray
    category: np.ndarray
    frames: Sequence[RGBDFrame | None]
    world: World
    world_states: Sequence[WorldState]
    truths: Sequence[SceneAt]
    end_time: np.ndarray
    routes: Routes

    @property
    def ego(self) -> np.ndarray:
        """(N, 7) as in ``simulation.ego``."""
        return self.state.ego

    @property
    def agents(self) -> AgentArrays:
        """(N, M)."""
        return self.state.agents

    @cached_property
    def route_ahead(self) -> np.ndarray:
        """(N, 20, 2) metres in the ego frame: the route 2.5, 5, ... 50 m ahead."""
        ego = self.ego
        return self.routes.ahead(self.state.scene, ego[:, X], ego[:, Y], ego[:, YAW], self.running.route_position)

    def single(self, row: int) -> EpisodeState:
        """One episode's state."""
        return single(self.state, row, self.scenes[row])


class Sensor(Protocol):
    """One group of an observation. A sensor that needs_pictures is refused in worlds without them.

    ``needs_pictures`` and ``default`` (whether it belongs to the observation of environments that name none) may be left out.
    """

    def space(self, scene: Scene, size: tuple[int, int]) -> dict[str, spaces.Space]:
        """Its keys and their spaces, with finite bounds, for the rig of a scene, its cameras shown at a size (height,
        width). All scenes of an environment have the same rig."""
        ...

    def observe(self, now: Instant, out: dict[str, np.ndarray]) -> None:
        """Writes its keys, clipped to their bounds, into the arrays (N, ...) of all episodes; those of ``now.rows`` at least."""
        ...
