"""Frozen states of many episodes at once, and what a step of all of them leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.commands import Commands
from dist4d_env.simulation.state import Command


@dataclass(frozen=True)
class VectorState:
    """What ``SimState`` is, B times. Its arrays are never written to: keeping one is a snapshot.

    scene: (B,) which scene of the vector simulator each episode plays in; tick: (B,) since its start; row: (B,) of the 10 Hz log;
    ego: (B, 7) as in ``rows``; agents: (B, M); path_position, path_speed: (B, M) of reactive traffic, zero in replay;
    decided: for each the last decision and its row there, None before the first.
    """

    scene: np.ndarray
    tick: np.ndarray
    row: np.ndarray
    ego: np.ndarray
    agents: AgentArrays
    path_position: np.ndarray
    path_speed: np.ndarray
    decided: tuple[tuple[Commands, int] | None, ...]

    def __len__(self) -> int:
        return len(self.scene)

    @property
    def time(self) -> np.ndarray:
        """(B,) seconds since each scene's first keyframe."""
        return self.row * TICK

    def command(self, index: int) -> Command | None:
        """The last decision of one episode."""
        last = self.decided[index]
        return None if last is None else last[0][last[1]]

    def take(self, rows: np.ndarray | Sequence[int]) -> VectorState:
        """The episodes that an index array picks, in its order; an episode picked twice branches."""
        rows = np.asarray(rows, int)
        return VectorState(
            self.scene[rows],
            self.tick[rows],
            self.row[rows],
            self.ego[rows],
            self.agents[rows],
            self.path_position[rows],
            self.path_speed[rows],
            tuple(self.decided[row] for row in rows.tolist()),
        )

    def narrowed(self, tracks: int) -> VectorState:
        """With room for ``tracks`` tracks at most; no episode's scene may have more."""
        return replace(
            self,
            agents=self.agents[:, :tracks],
            path_position=self.path_position[:, :tracks],
            path_speed=self.path_speed[:, :tracks],
        )

    def put(self, rows: np.ndarray | Sequence[int], others: VectorState) -> VectorState:
        """This with the episodes at ``rows`` replaced by ``others`` in their order, which may bring more tracks."""
        rows, tracks = np.asarray(rows, int), max(self.agents.valid.shape[1], others.agents.valid.shape[1])
        agents, new = self.agents.widened(tracks), others.agents.widened(tracks)
        values, valid = agents.values.copy(), agents.valid.copy()
        values[:, rows], valid[rows] = new.values, new.valid
        decided = list(self.decided)
        for place, row in enumerate(rows.tolist()):
            decided[row] = others.decided[place]
        return VectorState(
            scene=_with(self.scene, rows, others.scene),
            tick=_with(self.tick, rows, others.tick),
            row=_with(self.row, rows, others.row),
            ego=_with(self.ego, rows, others.ego),
            agents=AgentArrays(values, valid),
            path_position=_with(_wide(self.path_position, tracks), rows, _wide(others.path_position, tracks)),
            path_speed=_with(_wide(self.path_speed, tracks), rows, _wide(others.path_speed, tracks)),
            decided=tuple(decided),
        )


def _with(array: np.ndarray, rows: np.ndarray, other: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[rows] = other
    return array


def _wide(array: np.ndarray, tracks: int) -> np.ndarray:
    return np.pad(array, ((0, 0), (0, tracks - array.shape[1]))) if tracks > array.shape[1] else array


@dataclass(frozen=True)
class VectorTicks:
    """What happened during one decision of B episodes, tick by tick (the start excluded, the end included).

    row: (B, n) of the log; ego: (B, n, 7); agents: (B, n, M).
    """

    row: np.ndarray
    ego: np.ndarray
    agents: AgentArrays

    @property
    def time(self) -> np.ndarray:
        """(B, n) seconds."""
        return self.row * TICK
