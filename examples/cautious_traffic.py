"""A traffic model from outside the package: everybody drives as logged, but stops for an ego in front of them.

    gym.make("DiST4D-nuScenes-v0", traffic="examples.cautious_traffic:CautiousTraffic")
    gym.make("DiST4D-nuScenes-v0", traffic=CautiousTraffic(reach=25.0))

Each agent has a clock of its own, the row of the log at which it is. The clock runs with the simulation until the ego is near in
front; then it slows down to a standstill, and the agent with it, until the ego is gone. No agent leaves its logged path.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import wrap_angle
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.agents import AgentArrays, AgentTable
from dist4d_env.simulation.traffic import TrafficState

BRAKING, RESUMING = 0.1, 0.05
"""Change of an agent's pace per tick of 0.1 s: to a standstill within a second, and on within two."""


class CautiousTraffic:
    """reach: metres in front of an agent's centre within which the ego stops it; beside: metres to either side of its course.

    Its state: ``clock`` (B, M) row of the log, with fractions, and ``pace`` (B, M) rows per tick, 1 as logged and 0 at a stop.
    """

    def __init__(self, reach: float = 15.0, beside: float = 2.0) -> None:
        self.reach, self.beside = reach, beside
        self._logs: list[AgentArrays] = []

    def add(self, scene: Scene) -> int:
        """One more scene; its number."""
        self._logs.append(AgentTable(scene.tracks).log)  # (T + 1, N), nobody in the last row
        return len(self._logs) - 1

    def start(self, scene: np.ndarray, row: np.ndarray, tracks: int) -> tuple[AgentArrays, TrafficState]:
        """The logged agents (B, tracks) at rows (B,)."""
        clock = np.repeat(row[:, None].astype(float), tracks, 1)
        pace = np.ones(clock.shape)
        return self._at(scene, clock, pace), {"clock": clock, "pace": pace}

    def step(
        self, scene: np.ndarray, row: np.ndarray, ego: np.ndarray, agents: AgentArrays, state: TrafficState
    ) -> tuple[AgentArrays, TrafficState]:
        """The agents (B, M) one tick later."""
        change = np.where(self._blocked(agents, ego), -BRAKING, RESUMING)
        pace = np.clip(state["pace"] + change, 0.0, 1.0)
        clock = state["clock"] + pace
        return self._at(scene, clock, pace), {"clock": clock, "pace": pace}

    def anticipate(
        self, scene: np.ndarray, row: np.ndarray, agents: AgentArrays, state: TrafficState, rows: np.ndarray
    ) -> AgentArrays:
        """The agents (B, K, M) at later rows (B, K) if everybody keeps its pace."""
        later = [state["clock"] + state["pace"] * (at - row)[:, None] for at in rows.T]
        there = [self._at(scene, clock, state["pace"]) for clock in later]
        return _stacked(there, len(scene), agents.valid.shape[1])

    def _blocked(self, agents: AgentArrays, ego: np.ndarray) -> np.ndarray:
        """(B, M) whether the ego (B, 7) is near in front of an agent."""
        x, y, yaw = agents.values[0], agents.values[1], agents.values[3]
        dx, dy = ego[:, :1] - x, ego[:, 1:2] - y
        cos, sin = deterministic.cos(yaw), deterministic.sin(yaw)
        ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
        return agents.valid & (ahead > 0) & (ahead < self.reach) & (np.abs(left) < self.beside)

    def _at(self, scene: np.ndarray, clock: np.ndarray, pace: np.ndarray) -> AgentArrays:
        """The agents (B, M) at clocks (B, M), between two rows of the log in between them."""
        agents = AgentArrays.empty(*clock.shape)
        for episode, number in enumerate(scene.tolist()):
            log = self._logs[number]
            last, count = len(log.valid) - 1, log.valid.shape[1]
            track, at = np.arange(count), np.minimum(clock[episode, :count], last)
            before = at.astype(int)
            after, share = np.minimum(before + 1, last), at - before
            first, second = log.values[:, before, track], log.values[:, after, track]
            values = first + share * (second - first)
            values[3] = first[3] + share * wrap_angle(second[3] - first[3])
            values[4:] *= pace[episode, :count]
            valid = log.valid[before, track] & (log.valid[after, track] | (share == 0))
            agents.values[:, episode, :count], agents.valid[episode, :count] = np.where(valid, values, 0.0), valid
        return agents


def _stacked(agents: Sequence[AgentArrays], episodes: int, tracks: int) -> AgentArrays:
    """K times (B, M) as one (B, K, M)."""
    together = AgentArrays.empty(episodes, len(agents), tracks)
    for place, each in enumerate(agents):
        together.values[:, :, place], together.valid[:, place] = each.values, each.valid
    return together
