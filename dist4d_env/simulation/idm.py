"""Reactive traffic: agents keep their logged path and wish for their logged speed, IDM makes them yield."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, Boxes
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import TICK, Tracks
from dist4d_env.simulation.paths import Paths
from dist4d_env.simulation.state import EgoState

_MIN_TRAVEL = 2.0  # m; what moved less is furniture and stays as logged
_IMMOBILE = ("traffic_cone", "barrier", "trailer", "other")
ON_SCHEDULE = 0.05  # m
PROBES = 32  # places along the path at which an agent looks for something in its way
SIDE = 0.45  # share of its width that an agent wants free on either side of its path


@dataclass(frozen=True)
class IdmParameters:
    """headway: s; gap: m kept at rest, and both for pedestrians; acceleration, braking: comfortable m/s^2; hard_braking: m/s^2
    in an emergency; catch_up: 1/s, how eagerly a delayed agent makes up for its delay; haste: largest speed over the fastest
    logged."""

    headway: float = 1.5
    gap: float = 1.0
    walking_headway: float = 0.7
    walking_gap: float = 0.5
    acceleration: float = 1.5
    braking: float = 2.0
    hard_braking: float = 8.0
    catch_up: float = 0.3
    haste: float = 1.2


class IdmTraffic:
    """Tracks that move keep their logged path; along it they keep to the logged schedule until something is in their way.

    The free-road term of the intelligent driver model (Treiber et al. 2000) is replaced by the log: an agent on schedule that
    nothing hinders reproduces its track exactly, logged stops included. What enters the corridor of its own width along its path
    is a leader, and the interaction term ``a (1 - (s*/s)^2)``, ``s* = gap + v T + v (v - v_leader) / (2 sqrt(a b))``, bounds
    its acceleration. Two agents that are both where the log had them do not disturb each other: the log shows that it went
    well; it shows nothing of what a scenario has edited, so everybody minds that. A delayed agent drives on to the end of its
    path, catching up with its schedule; then it is gone. Objects that hardly moved are replayed.
    """

    def __init__(
        self, tracks: Tracks, vehicle: VehicleParameters, parameters: IdmParameters | None = None,
        edited: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """edited: (N,) bool, tracks that are not as they were recorded.

        The movers' indices (M,), paths and properties (M,) are public, for ``fleet`` to put those of many scenes together.
        """
        self.edited = np.zeros(len(tracks), bool) if edited is None else edited
        self._edited = np.append(self.edited, False)  # by token; the last entry is the ego's
        self._tracks, self._vehicle, self.parameters = tracks, vehicle, parameters or IdmParameters()
        self.rows = len(tracks.time)
        self.movers = np.array([index for index in range(len(tracks)) if _moves(tracks, index)], int)
        self._mover_of = np.full(len(tracks) + 1, -1)  # the last entry is the ego's, whose token is -1
        self._mover_of[self.movers] = np.arange(len(self.movers))
        self.paths = Paths.of(tracks, self.movers)
        self.length, self.width = tracks.size[self.movers, 0], tracks.size[self.movers, 1]
        walking = tracks.category[self.movers] == CATEGORIES.index("pedestrian")
        p = self.parameters
        self.headway, self.gap = np.where(walking, p.walking_headway, p.headway), np.where(walking, p.walking_gap, p.gap)
        self.top_speed = p.haste * self.paths.pace.max(axis=1, initial=0.0)
        self.cruise = np.maximum(self.paths.pace.mean(axis=1), 1.0) if len(self.movers) else self.top_speed

    def start(self, row: int) -> tuple[Boxes, np.ndarray, np.ndarray]:
        position, speed = np.zeros(len(self._tracks)), np.zeros(len(self._tracks))
        column = self._column(row)
        position[self.movers], speed[self.movers] = self.paths.schedule[:, column], self.paths.pace[:, column]
        return self._boxes(row, position, speed), position, speed

    def step(
        self, row: int, ego: EgoState, boxes: Boxes, position: np.ndarray, speed: np.ndarray
    ) -> tuple[Boxes, np.ndarray, np.ndarray]:
        if not len(self.movers):
            return self._boxes(row + 1, position, speed), position, speed
        paths, p = self.paths, self.parameters
        s, v = position[self.movers], speed[self.movers]
        now, later = self._column(row), self._column(row + 1)
        delay, logged = paths.schedule[:, now] - s, paths.pace[:, now]
        on_schedule = (np.abs(delay) < ON_SCHEDULE) & (row <= paths.last)
        allowed = self._allowed(row, ego, boxes, s, v, on_schedule)
        # On schedule the log decides, unless that would be a metre per square second beyond what the leader allows.
        keeps = on_schedule & (allowed >= np.minimum((logged - v) / TICK, 0.0) - 1.0) | (row < paths.first)
        wanted = np.where(row > paths.last, self.cruise, logged) + p.catch_up * delay
        free = (np.clip(wanted, 0.0, self.top_speed) - v) / 1.0  # within a second
        acceleration = np.maximum(np.minimum(np.clip(free, -p.braking, p.acceleration), allowed), -p.hard_braking)
        next_v = np.maximum(v + acceleration * TICK, 0.0)
        position, speed = position.copy(), speed.copy()
        position[self.movers] = np.where(keeps, paths.schedule[:, later], np.minimum(s + next_v * TICK, paths.end))
        speed[self.movers] = np.where(keeps, paths.pace[:, later], next_v)
        return self._boxes(row + 1, position, speed), position, speed

    def anticipate(self, row: int, position: np.ndarray, speed: np.ndarray, rows: Sequence[int]) -> tuple[Boxes, ...]:
        """Agents on schedule go on with the log, delayed ones at their present speed along their paths."""
        paths, s, v = self.paths, position[self.movers], speed[self.movers]
        logged = (np.abs(paths.schedule[:, self._column(row)] - s) < ON_SCHEDULE) | (row < paths.first)
        expected = []
        for later in rows:
            ahead = position.copy()
            onward = np.minimum(s + v * (later - row) * TICK, paths.end)
            ahead[self.movers] = np.where(logged, paths.schedule[:, self._column(later)], onward)
            expected.append(self._boxes(later, ahead, speed))
        return tuple(expected)

    def _column(self, row: int) -> int:
        return min(row, len(self._tracks.time) - 1)

    def _present(self, row: int, s: np.ndarray) -> np.ndarray:
        """(M,) whether each mover exists at a row: from its first logged row until its log and its path are both behind it."""
        return (row >= self.paths.first) & ((row <= self.paths.last) | (s < self.paths.end - ON_SCHEDULE))

    def _boxes(self, row: int, position: np.ndarray, speed: np.ndarray) -> Boxes:
        tracks, movers, column = self._tracks, self.movers, self._column(row)
        here = tracks.valid[:, column] & (row < len(tracks.time))
        place, yaw, velocity = tracks.position[:, column].copy(), tracks.yaw[:, column].copy(), tracks.velocity[:, column].copy()
        s = position[movers]
        points = self.paths.at(np.arange(len(movers)), s)
        here[movers] = self._present(row, s)
        place[movers], yaw[movers] = points[:, :3], points[:, 3]
        velocity[movers] = speed[movers, None] * points[:, 4:]
        token = np.flatnonzero(here)
        return Boxes(
            token=token.astype(np.int64),
            category=tracks.category[token],
            position=place[token],
            size=tracks.size[token],
            yaw=(yaw[token] + np.pi) % (2 * np.pi) - np.pi,
            velocity=velocity[token],
        )

    def _allowed(
        self, row: int, ego: EgoState, boxes: Boxes, s: np.ndarray, v: np.ndarray, on_schedule: np.ndarray
    ) -> np.ndarray:
        """(M,) the acceleration that the nearest leader allows; infinite without one."""
        allowed = np.full(len(self.movers), np.inf)
        active = np.flatnonzero(self._present(row, s))
        if not len(active):
            return allowed
        obstacle, token = _obstacles(boxes, ego, self._vehicle)
        mover_of = self._mover_of[token]
        as_logged = np.where(mover_of >= 0, on_schedule[mover_of], token >= 0) & ~self._edited[token]
        front = s[active] + self.length[active] / 2
        horizon = np.clip(6.0 + self.headway[active] * v[active] + v[active] ** 2 / (2 * self.parameters.braking), 6.0, 60.0)
        nose = self.paths.at(active, front)
        dx, dy = obstacle[:, 0] - nose[:, :1], obstacle[:, 1] - nose[:, 1:2]
        near = dx**2 + dy**2 < np.square(horizon[:, None] + (obstacle[:, 4] + obstacle[:, 5]) / 2)
        near &= (mover_of != active[:, None]) & ~(on_schedule[active][:, None] & as_logged)
        pair, other = np.nonzero(near)
        if not len(pair):
            return allowed
        pair, other, gap, along = self._first_hits(active, front, horizon, pair, other, obstacle)
        yields = _yields(active[pair], mover_of[other], gap)
        mover, gap, along = active[pair][yields], gap[yields], along[yields]
        p, speed = self.parameters, v[mover]
        approach = speed - np.maximum(along, 0.0)
        wish = speed * self.headway[mover] + speed * approach / (2 * math.sqrt(p.acceleration * p.braking))
        desired = self.gap[mover] + np.maximum(wish, 0.0)
        np.minimum.at(allowed, mover, p.acceleration * (1 - (desired / gap) ** 2))
        return allowed

    def _first_hits(
        self,
        active: np.ndarray,
        front: np.ndarray,
        horizon: np.ndarray,
        pair: np.ndarray,
        other: np.ndarray,
        obstacle: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of agent-obstacle pairs (K,) those where the obstacle is in the corridor, the free distance and its speed along."""
        agents, row_of_pair = np.unique(pair, return_inverse=True)
        reach = horizon[agents, None] * np.linspace(0.0, 1.0, PROBES)  # (agents, probes)
        points = self.paths.at(active[agents][:, None], front[agents, None] + reach)[row_of_pair]  # (K, probes, 6)
        x, y, cos, sin, length, width = obstacle[other, :6].T[..., None]
        dx, dy = points[..., 0] - x, points[..., 1] - y
        margin = SIDE * self.width[active[pair], None]
        hit = (np.abs(cos * dx + sin * dy) < length / 2 + margin) & (np.abs(cos * dy - sin * dx) < width / 2 + margin)
        found = hit.any(axis=1)
        first = hit.argmax(axis=1)[found]
        tangent, velocity = points[found, first, 4:], obstacle[other[found], 6:]
        gap = np.maximum(reach[row_of_pair[found], first], 0.1)
        return pair[found], other[found], gap, (tangent * velocity).sum(-1)


def _yields(mover: np.ndarray, other: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """(K,) False where two agents stand in each other's way and this one is nearer: someone has to go first."""
    pairs = list(zip(mover.tolist(), other.tolist(), gap.tolist(), strict=True))
    gaps = {(a, b): g for a, b, g in pairs if b >= 0}  # all that never moves has -1 and never looks at anyone
    return np.array([(g, a) >= (gaps.get((b, a), -1.0), b) for a, b, g in pairs], bool)


def _moves(tracks: Tracks, index: int) -> bool:
    if CATEGORIES[tracks.category[index]] in _IMMOBILE or tracks.valid[index].sum() < 2:
        return False
    points = tracks.position[index, tracks.valid[index], :2]
    return bool(np.linalg.norm(points - points[0], axis=1).max() > _MIN_TRAVEL)


def _obstacles(boxes: Boxes, ego: EgoState, vehicle: VehicleParameters) -> tuple[np.ndarray, np.ndarray]:
    """(K, 8) x, y, cos, sin, length, width, vx, vy of every box and, last, the ego; and their tokens, -1 for the ego."""
    cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
    offset = vehicle.rear_axle_to_center
    obstacle = np.empty((len(boxes) + 1, 8))
    obstacle[:-1, :2], obstacle[:-1, 2], obstacle[:-1, 3] = (
        boxes.position[:, :2],
        deterministic.cos(boxes.yaw),
        deterministic.sin(boxes.yaw),
    )
    obstacle[:-1, 4:6], obstacle[:-1, 6:] = boxes.size[:, :2], boxes.velocity
    obstacle[-1] = (
        ego.x + offset * cos,
        ego.y + offset * sin,
        cos,
        sin,
        vehicle.length,
        vehicle.width,
        ego.speed * cos,
        ego.speed * sin,
    )
    return obstacle, np.append(boxes.token, -1)
