"""Frozen states of B episodes, the record of a decision of all of them, and one episode's state for readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.commands import Commands
from dist4d_env.simulation.ego import EgoState, ego_state
from dist4d_env.simulation.tracker import with_rows


@dataclass(frozen=True)
class EpisodeState:
    """One episode's state for readers. tick: since the episode's start; time: seconds since the scene's first keyframe; ego: now;
    boxes: the agents that exist now; lights: (G,) states of the scene's traffic lights, int8 into ``scenes.lights.STATES``."""

    tick: int
    time: float
    ego: EgoState
    boxes: Boxes
    lights: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))


@dataclass(frozen=True)
class SimState:
    """Everything that changes while B episodes run. Its arrays are never written to: keeping one is a snapshot.

    scene: (B,) which scene of the simulator each episode plays in; tick: (B,) since its start; row: (B,) of the 10 Hz log; ego:
    (B, 7) as in ``simulation.ego``; agents: (B, M); traffic: the states of the traffic models, (B, ...) by "model/name";
    commands: the last decisions, before the first ones that do nothing.
    """

    scene: np.ndarray
    tick: np.ndarray
    row: np.ndarray
    ego: np.ndarray
    agents: AgentArrays
    traffic: Mapping[str, np.ndarray]
    commands: Commands

    def __len__(self) -> int:
        return len(self.scene)

    @property
    def time(self) -> np.ndarray:
        """(B,) seconds since each scene's first keyframe."""
        return self.row * TICK

    @property
    def tracks(self) -> int:
        """How many tracks there is room for (M)."""
        return self.agents.valid.shape[1]

    def take(self, rows: np.ndarray) -> SimState:
        """The episodes that an index array picks, in its order; an episode picked twice branches."""
        traffic = {name: array[rows] for name, array in self.traffic.items()}
        agents, commands = self.agents[rows], self.commands.take(rows)
        return SimState(self.scene[rows], self.tick[rows], self.row[rows], self.ego[rows], agents, traffic, commands)

    def fitted(self, tracks: int) -> SimState:
        """With room for ``tracks`` tracks exactly; no episode's scene may have more."""
        had = self.tracks
        if tracks == had:
            return self
        traffic = {name: _fitted(name, array, had, tracks) for name, array in self.traffic.items()}
        return replace(self, agents=self.agents.fitted(tracks), traffic=traffic)

    def put(self, rows: np.ndarray, others: SimState) -> SimState:
        """This with the episodes at ``rows`` replaced by ``others`` in their order, which may bring more tracks."""
        tracks = max(self.tracks, others.tracks)
        ours, theirs = self.fitted(tracks), others.fitted(tracks)
        traffic = {}
        for name in {**ours.traffic, **theirs.traffic}:
            mine, new = ours.traffic.get(name), theirs.traffic.get(name)
            array = np.zeros((len(self), *new.shape[1:]), new.dtype) if mine is None and new is not None else mine.copy()  # type: ignore[union-attr]
            array[rows] = 0 if new is None else new
            traffic[name] = array
        return SimState(
            with_rows(ours.scene, rows, theirs.scene),
            with_rows(ours.tick, rows, theirs.tick),
            with_rows(ours.row, rows, theirs.row),
            with_rows(ours.ego, rows, theirs.ego),
            ours.agents.put(rows, theirs.agents),
            traffic,
            ours.commands.put(rows, theirs.commands),
        )


PER_EPISODE = "@"
"""Begins the name of a traffic model's array that is not over tracks."""


def _fitted(name: str, array: np.ndarray, had: int, tracks: int) -> np.ndarray:
    return array if name.rpartition("/")[2].startswith(PER_EPISODE) else with_tracks(array, had, tracks)


def with_tracks(array: np.ndarray, had: int, tracks: int) -> np.ndarray:
    """An array (B, had, ...) with room for ``tracks`` tracks, zero where new; others, which are not over tracks, as they are."""
    if array.ndim < 2 or array.shape[1] != had:
        return array
    if tracks <= had:
        return array[:, :tracks]
    return np.pad(array, ((0, 0), (0, tracks - had), *((0, 0),) * (array.ndim - 2)))


@dataclass(frozen=True)
class Ticks:
    """What happened during one decision of B episodes, tick by tick (the start excluded, the end included).

    row: (B, n) of the log; ego: (B, n, 7); agents: (B, n, M).
    """

    row: np.ndarray
    ego: np.ndarray
    agents: AgentArrays


def single(state: SimState, index: int, scene: Scene) -> EpisodeState:
    """One episode's state for readers. scene: the one that it plays in."""
    tracks = scene.tracks
    boxes = state.agents[index, : len(tracks)].boxes(tracks.category, tracks.size)
    row = state.row[index : index + 1]
    return EpisodeState(
        int(state.tick[index]), int(row[0]) * TICK, ego_state(state.ego[index]), boxes, scene.lights.rows(row)[:, 0]
    )
