"""Reactive traffic: agents keep their logged path and wish for their logged speed, the intelligent driver model makes them
yield."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import TICK, Scene, Tracks
from dist4d_env.simulation.agents import AgentArrays, AgentTable, logged_agents
from dist4d_env.simulation.ego import SPEED, YAW, X, Y, cosines, sines
from dist4d_env.simulation.paths import SPACING, Paths
from dist4d_env.simulation.traffic import TrafficState

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


@dataclass(frozen=True)
class _SceneMovers:
    """What moves in one scene, M tracks of N.

    table: the log; rows: of the log; size: (N, 3); edited: (N,) bool, tracks that are not as they were recorded; movers: (M,)
    their tracks; paths: theirs; length, width, headway, gap, top_speed, cruise: (M,).
    """

    table: AgentTable
    rows: int
    size: np.ndarray
    edited: np.ndarray
    movers: np.ndarray
    paths: Paths
    length: np.ndarray
    width: np.ndarray
    headway: np.ndarray
    gap: np.ndarray
    top_speed: np.ndarray
    cruise: np.ndarray

    @classmethod
    def of(cls, scene: Scene, p: IdmParameters) -> _SceneMovers:
        tracks = scene.tracks
        movers = np.array([index for index in range(len(tracks)) if _moves(tracks, index)], int)
        paths = Paths.of(tracks, movers)
        walking = tracks.category[movers] == CATEGORIES.index("pedestrian")
        top_speed = p.haste * paths.pace.max(axis=1, initial=0.0)
        return cls(
            table=AgentTable(tracks),
            rows=len(tracks.time),
            size=tracks.size,
            edited=scene.edited,
            movers=movers,
            paths=paths,
            length=tracks.size[movers, 0],
            width=tracks.size[movers, 1],
            headway=np.where(walking, p.walking_headway, p.headway),
            gap=np.where(walking, p.walking_gap, p.gap),
            top_speed=top_speed,
            cruise=np.maximum(paths.pace.mean(axis=1), 1.0) if len(movers) else top_speed,
        )


@dataclass(frozen=True)
class _Movers:
    """The movers of B episodes in a row: episode, track and number among those of all scenes (K,); footprint: (2, B, M) length
    and width of all tracks; edited: (B, M) bool, not as recorded."""

    episode: np.ndarray
    track: np.ndarray
    number: np.ndarray
    footprint: np.ndarray
    edited: np.ndarray


class IdmTraffic:
    """Tracks that move keep their logged path; along it they keep to the logged schedule until something is in their way.

    The free-road term of the intelligent driver model (Treiber et al. 2000) is replaced by the log: an agent on schedule that
    nothing hinders reproduces its track exactly, logged stops included. What enters the corridor of its own width along its path
    is a leader, and the interaction term ``a (1 - (s*/s)^2)``, ``s* = gap + v T + v (v - v_leader) / (2 sqrt(a b))``, bounds
    its acceleration. Two agents that are both where the log had them do not disturb each other: the log shows that it went
    well; it shows nothing of what a scenario has edited, so everybody minds that. A delayed agent drives on to the end of its
    path, catching up with its schedule; then it is gone. Objects that hardly moved are replayed.
    """

    def __init__(self, vehicle: VehicleParameters | None = None, parameters: IdmParameters | None = None) -> None:
        self._vehicle, self.parameters = vehicle or VehicleParameters(), parameters or IdmParameters()
        self._scenes: list[_SceneMovers] = []
        self._known: tuple[tuple[bytes, int], _Movers] | None = None
        self._joined = True

    def add(self, scene: Scene) -> int:
        """One more scene; its number."""
        self._scenes.append(_SceneMovers.of(scene, self.parameters))
        self._joined = False
        return len(self._scenes) - 1

    def _join(self) -> None:
        """Puts the movers of all scenes behind each other, their paths and schedules into flat arrays."""
        if self._joined:
            return
        scenes, paths = self._scenes, [scene.paths for scene in self._scenes]
        counts = [len(scene.movers) for scene in scenes]
        self._offset = np.concatenate([[0], np.cumsum(counts)])
        self._track, self._length, self._width, self._headway, self._gap, self._top_speed, self._cruise = (
            np.concatenate([getattr(scene, name) for scene in scenes])
            for name in ("movers", "length", "width", "headway", "gap", "top_speed", "cruise")
        )
        self._first, self._last, self._end = (
            np.concatenate([getattr(p, name) for p in paths]) for name in ("first", "last", "end")
        )
        self._rows = np.array([scene.rows for scene in scenes])
        self._schedule, self._schedule_at = _flat([p.schedule for p in paths])
        self._pace, _ = _flat([p.pace for p in paths])
        self._samples, self._samples_at = _flat([p.samples for p in paths])
        self._samples_xy = np.ascontiguousarray(self._samples[:, :2])
        self._samples_last = np.repeat([p.samples.shape[1] - 2 for p in paths], counts)
        self._known, self._joined = None, True

    def start(self, scene: np.ndarray, row: np.ndarray, tracks: int) -> tuple[AgentArrays, TrafficState]:
        """As logged: the agents (B, tracks) and, per track, position (m along its path) and speed (m/s)."""
        movers = self._movers_of(scene, tracks)
        position, speed = np.zeros((len(scene), tracks)), np.zeros((len(scene), tracks))
        here = self._schedule_at[movers.number] + self._column(scene, row)[movers.episode]
        position[movers.episode, movers.track] = self._schedule[here]
        speed[movers.episode, movers.track] = self._pace[here]
        return self._agents(movers, scene, row, position, speed), {"position": position, "speed": speed}

    def step(
        self, scene: np.ndarray, row: np.ndarray, ego: np.ndarray, agents: AgentArrays, state: TrafficState
    ) -> tuple[AgentArrays, TrafficState]:
        """One tick later: from ``row`` to ``row + 1`` with the egos (B, 7) where they were at ``row``."""
        position, speed = state["position"], state["speed"]
        movers, p = self._movers_of(scene, position.shape[1]), self.parameters
        episode, mover = movers.episode, movers.number
        s, v, at = position[episode, movers.track], speed[episode, movers.track], row[episode]
        first, last, scheduled = self._first[mover], self._last[mover], self._schedule_at[mover]
        now, later = scheduled + self._column(scene, row)[episode], scheduled + self._column(scene, row + 1)[episode]
        delay, logged = self._schedule[now] - s, self._pace[now]
        on_schedule = (np.abs(delay) < ON_SCHEDULE) & (at <= last)
        allowed = self._allowed(movers, at, ego, agents, s, v, on_schedule)
        keeps = on_schedule & (allowed >= np.minimum((logged - v) / TICK, 0.0) - 1.0) | (at < first)
        wanted = np.where(at > last, self._cruise[mover], logged) + p.catch_up * delay
        free = (np.clip(wanted, 0.0, self._top_speed[mover]) - v) / 1.0  # within a second
        acceleration = np.maximum(np.minimum(np.clip(free, -p.braking, p.acceleration), allowed), -p.hard_braking)
        next_v = np.maximum(v + acceleration * TICK, 0.0)
        position, speed = position.copy(), speed.copy()
        onward = np.minimum(s + next_v * TICK, self._end[mover])
        position[episode, movers.track] = np.where(keeps, self._schedule[later], onward)
        speed[episode, movers.track] = np.where(keeps, self._pace[later], next_v)
        return self._agents(movers, scene, row + 1, position, speed), {"position": position, "speed": speed}

    def anticipate(
        self, scene: np.ndarray, row: np.ndarray, agents: AgentArrays, state: TrafficState, rows: np.ndarray
    ) -> AgentArrays:
        """Agents on schedule go on with the log, delayed ones at their present speed along their paths."""
        position, speed = state["position"], state["speed"]
        movers = self._movers_of(scene, position.shape[1])
        episode, mover = movers.episode, movers.number
        s, v, scheduled = position[episode, movers.track], speed[episode, movers.track], self._schedule_at[mover]
        delay = self._schedule[scheduled + self._column(scene, row)[episode]] - s
        logged = (np.abs(delay) < ON_SCHEDULE) | (row[episode] < self._first[mover])
        expected = AgentArrays.empty(len(scene), rows.shape[1], position.shape[1])
        for place, later in enumerate(rows.T):
            ahead = position.copy()
            onward = np.minimum(s + v * (later - row)[episode] * TICK, self._end[mover])
            ahead[episode, movers.track] = np.where(
                logged, self._schedule[scheduled + self._column(scene, later)[episode]], onward
            )
            then = self._agents(movers, scene, later, ahead, speed)
            expected.values[:, :, place], expected.valid[:, place] = then.values, then.valid
        return expected

    def _movers_of(self, scene: np.ndarray, tracks: int) -> _Movers:
        """Who moves; kept, as episodes mostly stay in their scenes."""
        self._join()
        key = scene.tobytes(), tracks
        known = self._known
        if known is None or known[0] != key:
            spans = [np.arange(self._offset[number], self._offset[number + 1]) for number in scene.tolist()]
            mover = np.concatenate([np.zeros(0, int), *spans])
            episode = np.repeat(np.arange(len(scene)), [len(span) for span in spans])
            footprint = np.zeros((2, len(scene), tracks))
            edited = np.zeros((len(scene), tracks), bool)
            for at, number in enumerate(scene.tolist()):
                size = self._scenes[number].size
                footprint[:, at, : len(size)] = size[:, :2].T
                edited[at, : len(self._scenes[number].edited)] = self._scenes[number].edited
            known = self._known = key, _Movers(episode, self._track[mover], mover, footprint, edited)
        return known[1]

    def _column(self, scene: np.ndarray, row: np.ndarray) -> np.ndarray:
        return np.minimum(row, self._rows[scene] - 1)

    def _at(self, mover: np.ndarray, s: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """``Paths.at`` of flat movers, in the columns of ``samples``."""
        place = np.minimum(np.maximum(s, 0.0), self._end[mover]) / SPACING
        index = np.minimum(place.astype(int), self._samples_last[mover])
        share = (place - index)[..., None]
        index += self._samples_at[mover]
        return samples[index] * (1 - share) + samples[index + 1] * share

    def _present(self, movers: _Movers, at: np.ndarray, s: np.ndarray) -> np.ndarray:
        mover = movers.number
        return (at >= self._first[mover]) & ((at <= self._last[mover]) | (s < self._end[mover] - ON_SCHEDULE))

    def _agents(
        self, movers: _Movers, scene: np.ndarray, row: np.ndarray, position: np.ndarray, speed: np.ndarray
    ) -> AgentArrays:
        tracks = position.shape[1]
        column = self._column(scene, row)
        agents = logged_agents([self._scenes[i].table for i in scene.tolist()], column.tolist(), 1, tracks)[:, 0]
        agents.valid[row >= self._rows[scene]] = False
        s = position[movers.episode, movers.track]
        points = self._at(movers.number, s, self._samples).T
        agents.valid[movers.episode, movers.track] = self._present(movers, row[movers.episode], s)
        agents.values[:4, movers.episode, movers.track] = points[:4]
        agents.values[4:, movers.episode, movers.track] = speed[movers.episode, movers.track] * points[4:]
        agents.values[3] = (agents.values[3] + np.pi) % (2 * np.pi) - np.pi
        agents.values[:, ~agents.valid] = 0.0
        return agents

    def _allowed(
        self,
        movers: _Movers,
        at: np.ndarray,
        ego: np.ndarray,
        agents: AgentArrays,
        s: np.ndarray,
        v: np.ndarray,
        on_schedule: np.ndarray,
    ) -> np.ndarray:
        """(K,) the acceleration that the nearest leader allows; infinite without one."""
        allowed = np.full(len(s), np.inf)
        active = np.flatnonzero(self._present(movers, at, s))
        if not len(active):
            return allowed
        mover, episode, p = movers.number[active], movers.episode[active], self.parameters
        obstacle, exists = self._obstacles(ego, agents, movers.footprint)
        mover_at = np.full(exists.shape, -1)
        mover_at[movers.episode, movers.track] = np.arange(len(s))
        # Two that are both as logged do not disturb each other; what never moves is as logged, the ego and edits are not.
        unlogged = exists.copy()
        unlogged[:, :-1] &= movers.edited
        unlogged[movers.episode, movers.track] |= exists[movers.episode, movers.track] & ~on_schedule
        watched = np.where(on_schedule[active][:, None], unlogged[episode], exists[episode])
        watched[np.arange(len(active)), movers.track[active]] = False
        pair, other = np.nonzero(watched)
        front = s[active] + self._length[mover] / 2
        horizon = np.clip(6.0 + self._headway[mover] * v[active] + v[active] ** 2 / (2 * p.braking), 6.0, 60.0)
        nose = self._at(mover, front, self._samples_xy)
        seen = obstacle[:, episode[pair], other]
        dx, dy = seen[0] - nose[pair, 0], seen[1] - nose[pair, 1]
        near = dx**2 + dy**2 < np.square(horizon[pair] + (seen[4] + seen[5]) / 2)
        pair, other, seen = pair[near], other[near], seen[:, near]
        if not len(pair):
            return allowed
        found, gap, along = self._first_hits(mover, front, horizon, pair, seen)
        pair, other = pair[found], other[found]
        yields = _yields(active[pair], mover_at[episode[pair], other], gap, len(s))
        index, gap, along = active[pair][yields], gap[yields], along[yields]
        mover, speed = movers.number[index], v[index]
        approach = speed - np.maximum(along, 0.0)
        wish = speed * self._headway[mover] + speed * approach / (2 * math.sqrt(p.acceleration * p.braking))
        desired = self._gap[mover] + np.maximum(wish, 0.0)
        np.minimum.at(allowed, index, p.acceleration * (1 - (desired / gap) ** 2))
        return allowed

    def _obstacles(self, ego: np.ndarray, agents: AgentArrays, footprint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(8, B, M + 1) x, y, cos, sin, length, width, vx, vy of every agent and, last, the ego; and whether each exists."""
        count, tracks = agents.valid.shape
        obstacle, exists = np.empty((8, count, tracks + 1)), np.ones((count, tracks + 1), bool)
        exists[:, :-1] = agents.valid
        obstacle[:2, :, :-1], obstacle[6:, :, :-1] = agents.values[:2], agents.values[4:]
        obstacle[2, :, :-1], obstacle[3, :, :-1] = deterministic.cos(agents.yaw), deterministic.sin(agents.yaw)
        obstacle[4:6, :, :-1] = footprint
        cos, sin, offset = cosines(ego[:, YAW]), sines(ego[:, YAW]), self._vehicle.rear_axle_to_center
        obstacle[0, :, -1], obstacle[1, :, -1] = ego[:, X] + offset * cos, ego[:, Y] + offset * sin
        obstacle[2, :, -1], obstacle[3, :, -1] = cos, sin
        obstacle[4, :, -1], obstacle[5, :, -1] = self._vehicle.length, self._vehicle.width
        obstacle[6, :, -1], obstacle[7, :, -1] = ego[:, SPEED] * cos, ego[:, SPEED] * sin
        return obstacle, exists

    def _first_hits(
        self, mover: np.ndarray, front: np.ndarray, horizon: np.ndarray, pair: np.ndarray, seen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of agent-obstacle pairs (K,) those where the obstacle is in the corridor, the free distance and its speed along."""
        new = np.concatenate([[True], pair[1:] != pair[:-1]])
        agents, row_of_pair = pair[new], np.cumsum(new) - 1
        reach = horizon[agents, None] * np.linspace(0.0, 1.0, PROBES)  # (agents, probes)
        points = self._at(mover[agents][:, None], front[agents, None] + reach, self._samples_xy)[row_of_pair]  # (K, probes, 2)
        x, y, cos, sin, length, width = seen[:6, :, None]
        dx, dy = points[..., 0] - x, points[..., 1] - y
        margin = SIDE * self._width[mover[pair], None]
        hit = (np.abs(cos * dx + sin * dy) < length / 2 + margin) & (np.abs(cos * dy - sin * dx) < width / 2 + margin)
        found = np.flatnonzero(hit.any(axis=1))
        first = hit[found].argmax(axis=1)
        free = reach[row_of_pair[found], first]
        who = pair[found]
        tangent = self._at(mover[who], front[who] + free, self._samples).T[4:]
        return found, np.maximum(free, 0.1), tangent[0] * seen[6, found] + tangent[1] * seen[7, found]


def _yields(index: np.ndarray, other: np.ndarray, gap: np.ndarray, count: int) -> np.ndarray:
    """(K,) False where two agents stand in each other's way and this one is nearer: someone has to go first.

    index, other: which of ``count`` movers each pair is of, -1 for what never looks at anyone; in ascending order.
    """
    mutual = other >= 0
    pairs, reverse = index[mutual] * count + other[mutual], other[mutual] * count + index[mutual]
    theirs = np.full(len(index), -1.0)
    if len(pairs):
        place = np.minimum(np.searchsorted(pairs, reverse), len(pairs) - 1)
        theirs[mutual] = np.where(pairs[place] == reverse, gap[mutual][place], -1.0)
    return (gap > theirs) | ((gap == theirs) & (index >= other))


def _flat(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Arrays (M_i, n_i, ...) as one (sum of M_i n_i, ...), and where in it each of their M_i rows begins."""
    begins, total = [], 0
    for array in arrays:
        begins.append(total + np.arange(len(array)) * array.shape[1])
        total += array.shape[0] * array.shape[1]
    return np.concatenate([array.reshape(-1, *array.shape[2:]) for array in arrays]), np.concatenate(begins)


def _moves(tracks: Tracks, index: int) -> bool:
    if CATEGORIES[tracks.category[index]] in _IMMOBILE or tracks.valid[index].sum() < 2:
        return False
    points = tracks.position[index, tracks.valid[index], :2]
    return bool(np.linalg.norm(points - points[0], axis=1).max() > _MIN_TRAVEL)
