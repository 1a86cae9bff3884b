"""Keeping one's distance: agents in a corridor, and the intelligent driver model (Treiber et al. 2000) behind them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.metrics.driving.rectangles import overlap
from dist4d_env.planners.contract import PLAN_TICKS
from dist4d_env.planners.observed_agents import Agents
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.ego import EgoState

SIGHT = 80.0
"""Metres of its path that a planner looks along."""
_SPACING = 1.0
_TOWARDS_LIMIT = 0.5  # s, in which a speed above the wished one is given up
_CLOSEST = 0.1  # m, a gap below is one of that size


@dataclass(frozen=True)
class DriverModel:
    """The IDM's parameters. acceleration, braking: comfortable, m/s^2; hardest: braking beyond which it never goes, m/s^2;
    headway: s; gap: m at rest; exponent: how late the acceleration gives way near the wished speed; onset: m/s^3 with which it
    begins to accelerate."""

    acceleration: float = 1.0
    braking: float = 3.0
    hardest: float = 6.0
    headway: float = 1.5
    gap: float = 1.0
    exponent: float = 4.0
    onset: float = 2.5

    def __post_init__(self) -> None:
        if min(self.acceleration, self.braking, self.hardest, self.headway, self.gap, self.exponent, self.onset) <= 0:
            raise ConfigError(f"a driver model's parameters must be above zero: {self}")

    def accelerate(self, speed: np.ndarray, wished: np.ndarray, gap: np.ndarray, leader: np.ndarray) -> np.ndarray:
        """m/s^2 (...) at a speed, with a wished one, metres to the leader (infinite: none) and the leader's speed along."""
        free = 1 - (speed / np.maximum(wished, 0.1)) ** self.exponent
        # The model's own pull towards a falling limit is either too weak or far too strong.
        free = np.where(speed > wished, np.maximum((wished - speed) / _TOWARDS_LIMIT, -self.braking) / self.acceleration, free)
        approach = speed * (speed - leader) / (2 * math.sqrt(self.acceleration * self.braking))
        desired = self.gap + np.maximum(speed * self.headway + approach, 0.0)
        return np.maximum(self.acceleration * (free - (desired / np.maximum(gap, _CLOSEST)) ** 2), -self.hardest)


@dataclass(frozen=True)
class Corridor:
    """Agents in the strip that the ego's width covers along a path.

    at: (T, N) metres along the path where the strip first meets an agent at each of T times, infinite where it does not;
    center: (T, N) metres along the path beside the agent's centre; along: (T, N) m/s of the agent in the path's direction there.
    """

    at: np.ndarray
    center: np.ndarray
    along: np.ndarray

    @classmethod
    def of(cls, poses: Callable[[np.ndarray], np.ndarray], agents: Agents, times: np.ndarray, width: float) -> Corridor:
        """poses: global x, y, heading (M, 3) of a path at metres (M,) from the ego; agents keep their velocities until ``times``
        (T,) s; width: of the strip, m."""
        path = poses(np.arange(0.0, SIGHT + _SPACING, _SPACING))
        position = agents.position + times[:, None, None] * agents.velocity  # (T, N, 2)
        dx, dy = position[..., 0, None] - path[:, 0], position[..., 1, None] - path[:, 1]  # (T, N, M)
        squared = dx * dx + dy * dy
        nearest = squared.argmin(-1)
        reach = np.hypot(*agents.size.T) / 2 + math.hypot(width, _SPACING) / 2
        time, agent, piece = np.nonzero(squared <= np.square(reach)[:, None])
        strip = np.array([_SPACING, width])
        hits = overlap(path[piece, :2], path[piece, 2], strip, position[time, agent], agents.yaw[agent], agents.size[agent])
        first = np.full(nearest.shape, len(path))
        np.minimum.at(first, (time[hits], agent[hits]), piece[hits])
        heading = path[np.minimum(first, len(path) - 1), 2]
        along = agents.velocity[:, 0] * deterministic.cos(heading) + agents.velocity[:, 1] * deterministic.sin(heading)
        met = first < len(path)
        return cls(np.where(met, (first - 0.5) * _SPACING, np.inf), nearest * _SPACING, np.where(met, along, 0.0))

    def leader(self, time: int, driven: np.ndarray, front: float) -> tuple[np.ndarray, np.ndarray]:
        """Bumper to bumper gap (B,) and speed along (B,) of the nearest agent ahead of an ego that has ``driven`` (B,) metres."""
        if not self.at.shape[1]:
            return np.full(driven.shape, np.inf), np.zeros(driven.shape)
        ahead = self.center[time] > driven[:, None]
        gap = np.where(ahead, self.at[time] - driven[:, None] - front, np.inf)
        nearest = gap.argmin(1)
        return gap[np.arange(len(gap)), nearest], self.along[time, nearest]


def rollout(
    ego: EgoState,
    wished: Callable[[np.ndarray], np.ndarray],
    leader: Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]],
    model: DriverModel,
    count: int,
    ticks: int = PLAN_TICKS,
    stop: float = math.inf,
) -> np.ndarray:
    """Metres driven (count, ticks + 1) at 0, 0.1 s, ... by ``count`` drivers who all begin as the ego is.

    wished: m/s (B,) after metres driven (B,); leader: gap and speed (B,) at a tick after metres driven; stop: metres to a stop
    line that is like a leader standing there. Braking may set in at once, the accelerator is pressed at the model's ``onset``.
    """
    driven, speeds = np.zeros((count, ticks + 1)), np.full(count, ego.speed)
    acceleration = np.full(count, ego.acceleration)
    for tick in range(ticks):
        here = driven[:, tick]
        wanted = model.accelerate(speeds, wished(here), *leader(tick, here))
        if stop < math.inf:
            wanted = np.minimum(wanted, model.accelerate(speeds, wished(here), stop - here, np.zeros(count)))
        acceleration = np.minimum(wanted, acceleration + model.onset * TICK)
        later = np.maximum(speeds + acceleration * TICK, 0.0)
        driven[:, tick + 1], speeds = here + (speeds + later) / 2 * TICK, later
    return driven
