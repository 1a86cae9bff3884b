"""Observed agents: the rows of the "agents" observation as arrays in the global frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.planners.contract import PlannerInput
from dist4d_env.simulation.ego import EgoState


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
        """All agents of the true state where it is given, else the observed ones: the nearest 64 within 100 m.

        Raises ConfigError where the observation has no "agents".
        """
        if given.state is not None:
            boxes = given.state.boxes
            return cls(boxes.position[:, :2], boxes.yaw, boxes.velocity, boxes.size[:, :2], boxes.category)
        ego = given.ego
        rows = np.asarray(observed(given, "agents"), float)
        rows = rows[rows[:, 8] > 0.5]
        global_from_ego = rotation(ego.yaw)
        return cls(
            position=rows[:, :2] @ global_from_ego.T + (ego.x, ego.y),
            yaw=rows[:, 2] + ego.yaw,
            velocity=rows[:, 5:7] @ global_from_ego.T,
            size=rows[:, 3:5],
            category=rows[:, 7].astype(int),
        )

    def as_observed(self, ego: EgoState) -> np.ndarray:
        """(N, 9) rows of the "agents" observation of an ego; there may be more than 64."""
        global_from_ego = rotation(ego.yaw)
        place, velocity = (self.position - (ego.x, ego.y)) @ global_from_ego, self.velocity @ global_from_ego
        return np.column_stack([place, self.yaw - ego.yaw, self.size, velocity, self.category, np.ones(len(self))])

    def select(self, mask: np.ndarray) -> Agents:
        """The agents where a boolean mask or an index array says so."""
        return Agents(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))

    def within(self, ego_x: float, ego_y: float, metres: float) -> Agents:
        """The agents whose centres are nearer to a point than ``metres``."""
        return self.select(np.hypot(self.position[:, 0] - ego_x, self.position[:, 1] - ego_y) < metres)


def observed(given: PlannerInput, group: str) -> np.ndarray:
    """A group of the observation. ConfigError where the environment does not show it."""
    if group not in given.observation:
        raise ConfigError(f"the planner needs {group!r}: add it to the environment's observation=(...)")
    return given.observation[group]


def rotation(yaw: float) -> np.ndarray:
    """(2, 2) the axes of a frame that is turned by yaw radians, as columns: global_from_ego of the ego's yaw."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    return np.array([[cos, -sin], [sin, cos]])


def half_extents(turn: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half of what boxes of size (N, 2), turned by (..., N) radians, cover along and across."""
    cos, sin = np.abs(deterministic.cos(turn)), np.abs(deterministic.sin(turn))
    return (cos * size[:, 0] + sin * size[:, 1]) / 2, (sin * size[:, 0] + cos * size[:, 1]) / 2
