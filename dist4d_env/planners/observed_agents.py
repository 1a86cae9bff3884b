"""The agents a planner sees: the rows of the "agents" observation as arrays in the global frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.planners.contract import PlannerInput


@dataclass(frozen=True)
class Agents:
    """position: (N, 2) box centres, global; yaw: (N,); velocity: (N, 2) m/s; size: (N, 2) length, width; category: (N,) int."""

    position: np.ndarray
    yaw: np.ndarray
    velocity: np.ndarray
    size: np.ndarray
    category: np.ndarray

    def __len__(self) -> int:
        return len(self.yaw)

    @classmethod
    def of(cls, given: PlannerInput) -> Agents:
        """The agents of an observation: the nearest 64 within 100 m. ConfigError where it has no "agents"."""
        ego = given.ego
        rows = np.asarray(observed(given, "agents"), float)
        rows = rows[rows[:, 8] > 0.5]
        cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
        global_from_ego = np.array([[cos, -sin], [sin, cos]])
        return cls(
            position=rows[:, :2] @ global_from_ego.T + (ego.x, ego.y),
            yaw=rows[:, 2] + ego.yaw,
            velocity=rows[:, 5:7] @ global_from_ego.T,
            size=rows[:, 3:5],
            category=rows[:, 7].astype(int),
        )

    def select(self, mask: np.ndarray) -> Agents:
        """The agents where a boolean mask or an index array says so."""
        return Agents(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))


def observed(given: PlannerInput, group: str) -> np.ndarray:
    """A group of the observation. ConfigError where the environment does not show it."""
    if group not in given.observation:
        raise ConfigError(f"the planner needs {group!r}: add it to the environment's observation=(...)")
    return given.observation[group]
