"""Logged traffic: the recorded tracks played back."""

from __future__ import annotations

import numpy as np

from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.agents import AgentArrays, AgentTable, logged_agents
from dist4d_env.simulation.traffic import TrafficState


class ReplayTraffic:
    """Every track exactly as logged; where a track or the log ends, the agent is gone."""

    def __init__(self) -> None:
        self._tables: list[AgentTable] = []

    def add(self, scene: Scene) -> int:
        """One more scene; its number."""
        self._tables.append(AgentTable(scene.tracks))
        return len(self._tables) - 1

    def start(self, scene: np.ndarray, row: np.ndarray, tracks: int) -> tuple[AgentArrays, TrafficState]:
        """The logged agents (B, tracks) at rows (B,); there is no state beside the log."""
        return self.advance(scene, row - 1, 1, tracks)[:, 0], {}

    def step(
        self, scene: np.ndarray, row: np.ndarray, ego: np.ndarray, agents: AgentArrays, state: TrafficState
    ) -> tuple[AgentArrays, TrafficState]:
        """The logged agents one tick later."""
        return self.advance(scene, row, 1, agents.valid.shape[1])[:, 0], {}

    def advance(self, scene: np.ndarray, row: np.ndarray, ticks: int, tracks: int) -> AgentArrays:
        """The logged agents (B, ticks, tracks) of the rows after ``row``."""
        first = row + 1
        if len(scene) > 1 and (scene == scene[0]).all() and (first == first[0]).all():  # branches of one state see the same
            one = logged_agents([self._tables[scene[0]]], [int(first[0])], ticks, tracks)
            shape = (len(scene), ticks, tracks)
            return AgentArrays(np.broadcast_to(one.values, (len(one.values), *shape)), np.broadcast_to(one.valid, shape))
        return logged_agents([self._tables[i] for i in scene.tolist()], first.tolist(), ticks, tracks)

    def anticipate(
        self, scene: np.ndarray, row: np.ndarray, agents: AgentArrays, state: TrafficState, rows: np.ndarray
    ) -> AgentArrays:
        """The log's own later rows (B, K)."""
        tracks = agents.valid.shape[1]
        later = [logged_agents([self._tables[i] for i in scene.tolist()], at.tolist(), 1, tracks)[:, 0] for at in rows.T]
        if not later:
            return AgentArrays.empty(len(scene), 0, tracks)
        return AgentArrays(np.stack([each.values for each in later], 2), np.stack([each.valid for each in later], 1))
