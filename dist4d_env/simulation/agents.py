"""Agents as arrays over tracks, and tables of logged ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.scenes.scene import Tracks

VALUES = 6
"""x, y, z, yaw, velocity x, velocity y: what changes about an agent."""


@dataclass(frozen=True)
class AgentArrays:
    """Agents of several instants over M tracks, a track's place being its index in its scene.

    values: (6, ..., M) x, y, z of the centre, yaw, velocity x and y, global, zero where a track does not exist; valid: (..., M).
    """

    values: np.ndarray
    valid: np.ndarray

    @property
    def position(self) -> np.ndarray:
        """(..., M, 3) centres in metres."""
        return np.moveaxis(self.values[:3], 0, -1)

    @property
    def yaw(self) -> np.ndarray:
        """(..., M) radians."""
        return self.values[3]

    @property
    def velocity(self) -> np.ndarray:
        """(..., M, 2) m/s."""
        return np.moveaxis(self.values[4:], 0, -1)

    def __getitem__(self, index: object) -> AgentArrays:
        """The agents that an index into the leading dimensions picks."""
        parts = index if isinstance(index, tuple) else (index,)
        return AgentArrays(self.values[(slice(None), *parts)], self.valid[parts])

    @classmethod
    def empty(cls, *shape: int) -> AgentArrays:
        """No agents, with room for (..., M) agents."""
        return cls(np.zeros((VALUES, *shape)), np.zeros(shape, bool))

    def fitted(self, tracks: int) -> AgentArrays:
        """The same with room for ``tracks`` agents exactly."""
        had = self.valid.shape[-1]
        if tracks <= had:
            return self if tracks == had else AgentArrays(self.values[..., :tracks], self.valid[..., :tracks])
        wider = AgentArrays.empty(*self.valid.shape[:-1], tracks)
        wider.values[..., :had], wider.valid[..., :had] = self.values, self.valid
        return wider

    def put(self, rows: np.ndarray, others: AgentArrays) -> AgentArrays:
        """This with the episodes at ``rows`` of the first dimension replaced by ``others``, either widened to fit."""
        tracks = max(self.valid.shape[-1], others.valid.shape[-1])
        ours, theirs = self.fitted(tracks), others.fitted(tracks)
        values, valid = ours.values.copy(), ours.valid.copy()
        values[:, rows], valid[rows] = theirs.values, theirs.valid
        return AgentArrays(values, valid)

    def boxes(self, category: np.ndarray, size: np.ndarray) -> Boxes:
        """One instant (M,) as boxes; category (M,) and size (M, 3) of the tracks."""
        token = np.flatnonzero(self.valid)
        values = self.values[:, token]
        return Boxes(
            token=token.astype(np.int64),
            category=category[token],
            position=np.ascontiguousarray(values[:3].T),
            size=size[token],
            yaw=values[3],
            velocity=np.ascontiguousarray(values[4:].T),
        )


def bodies(scenes: Sequence[Tracks]) -> tuple[np.ndarray, np.ndarray]:
    """Size (S, M, 3) and category (S, M) of all tracks of several scenes, zero where one has fewer than the most."""
    most = max(map(len, scenes), default=0)
    size, category = np.zeros((len(scenes), most, 3)), np.zeros((len(scenes), most), np.int8)
    for row, tracks in enumerate(scenes):
        size[row, : len(tracks)], category[row, : len(tracks)] = tracks.size, tracks.category
    return size, category


class AgentTable:
    """A scene's logged agents by row of the 10 Hz grid; past the log's end there are none."""

    def __init__(self, tracks: Tracks) -> None:
        rows, count = len(tracks.time), len(tracks)
        log = AgentArrays.empty(rows + 1, count)  # the last row is empty
        log.valid[:rows] = tracks.valid.T
        logged = np.concatenate([tracks.position, tracks.yaw[..., None], tracks.velocity], -1)  # (N, T, 6)
        log.values[:, :rows] = np.where(tracks.valid, np.moveaxis(logged, -1, 0), 0.0).swapaxes(1, 2)
        self.log = log

    def rows(self, first: int, count: int) -> AgentArrays:
        """(count, tracks) a run of rows from ``first`` on."""
        last = len(self.log.valid) - 1
        if first + count <= last:
            return AgentArrays(self.log.values[:, first : first + count], self.log.valid[first : first + count])
        return self.log[np.minimum(np.arange(first, first + count), last)]


def logged_agents(tables: Sequence[AgentTable], first: Sequence[int], count: int, tracks: int) -> AgentArrays:
    """(B, count, tracks) of B scenes, each a run of rows of its own from ``first`` on."""
    agents = AgentArrays.empty(len(tables), count, tracks)
    for row, (table, begin) in enumerate(zip(tables, first, strict=True)):
        here = table.rows(begin, count)
        own = here.valid.shape[1]
        agents.values[:, row, :, :own], agents.valid[row, :, :own] = here.values, here.valid
    return agents
