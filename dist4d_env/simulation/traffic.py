"""The contract of traffic models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.agents import AgentArrays

TrafficState = Mapping[str, np.ndarray]
"""Arrays (B,) or (B, M, ...) of B episodes and M tracks, padded with zeros as M grows. Those whose second axis is another one are
named in the model's ``per_episode``."""


class TrafficModel(Protocol):
    """Agents of B episodes in any mix of scenes, as arrays.

    ``scene`` (B,) says which of the added scenes each episode plays in, ``row`` (B,) where on the 10 Hz grid of its log it is,
    egos are rows (B, 7) as in ``simulation.ego``. All methods but ``add`` are pure; arrays that are handed in are not written to.
    """

    def add(self, scene: Scene) -> int:
        """One more scene; its number, counted from 0."""
        ...

    def start(self, scene: np.ndarray, row: np.ndarray, tracks: int) -> tuple[AgentArrays, TrafficState]:
        """The agents (B, tracks) of episodes that begin, and the model's own state of them."""
        ...

    def step(
        self, scene: np.ndarray, row: np.ndarray, ego: np.ndarray, agents: AgentArrays, state: TrafficState
    ) -> tuple[AgentArrays, TrafficState]:
        """The same one tick later: from ``row`` to ``row + 1``, with the egos where they were at ``row``."""
        ...

    def anticipate(
        self, scene: np.ndarray, row: np.ndarray, agents: AgentArrays, state: TrafficState, rows: np.ndarray
    ) -> AgentArrays:
        """The agents (B, K, M) expected at later rows (B, K), assuming constant behaviour."""
        ...


@runtime_checkable
class OpenLoopTraffic(Protocol):
    """A traffic model that never looks at the ego may say a whole decision at once; its step is then not called."""

    def advance(self, scene: np.ndarray, row: np.ndarray, ticks: int, tracks: int) -> AgentArrays:
        """The agents (B, ticks, tracks) at the ``ticks`` rows after ``row``."""
        ...


def row_of(time: float) -> int:
    """The row of the 10 Hz grid nearest to a time in seconds."""
    return round(time / TICK)
