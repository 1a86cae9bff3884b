"""Reactive traffic of many episodes in any mix of scenes at once; each moves bit for bit as ``IdmTraffic`` moves it alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.agents import AgentArrays, AgentTable, logged_agents
from dist4d_env.simulation.idm import ON_SCHEDULE, PROBES, SIDE, IdmTraffic
from dist4d_env.simulation.paths import SPACING
from dist4d_env.simulation.rows import SPEED, YAW, X, Y, cosines, sines


@dataclass(frozen=True)
class _Members:
    """The movers of B episodes in a row: episode, track and flat mover of each (K,); length and width (2, B, M) of all tracks;
    edited: (B, M) bool, not as recorded."""

    episode: np.ndarray
    track: np.ndarray
    mover: np.ndarray
    footprint: np.ndarray
    edited: np.ndarray


class Fleet:
    """The movers of several scenes behind each other, their paths and schedules in flat arrays.

    All methods are pure. ``scene`` (B,) says which scene each episode plays in, ``row`` (B,) where in its log it is.
    """

    def __init__(self, traffics: Sequence[IdmTraffic], tables: Sequence[AgentTable], vehicle: VehicleParameters) -> None:
        self._tables, self._vehicle, self._parameters = tuple(tables), vehicle, traffics[0].parameters
        counts = [len(traffic.movers) for traffic in traffics]
        self._offset = np.concatenate([[0], np.cumsum(counts)])
        paths = [traffic.paths for traffic in traffics]
        self._track, self._length, self._width, self._headway, self._gap, self._top_speed, self._cruise = (
            np.concatenate([getattr(traffic, name) for traffic in traffics])
            for name in ("movers", "length", "width", "headway", "gap", "top_speed", "cruise")
        )
        self._first, self._last, self._end = (
            np.concatenate([getattr(p, name) for p in paths]) for name in ("first", "last", "end")
        )
        self._rows = np.array([traffic.rows for traffic in traffics])
        self._edited = [traffic.edited for traffic in traffics]
        self._schedule, self._schedule_at = _flat([p.schedule for p in paths])
        self._pace, _ = _flat([p.pace for p in paths])
        self._samples, self._samples_at = _flat([p.samples for p in paths])
        self._samples_xy = np.ascontiguousarray(self._samples[:, :2])
        self._samples_last = np.repeat([p.samples.shape[1] - 2 for p in paths], counts)
        self._known: tuple[tuple[bytes, int], _Members] | None = None

    def start(self, scene: np.ndarray, row: np.ndarray, tracks: int) -> tuple[AgentArrays, np.ndarray, np.ndarray]:
        """As logged: the crowds (B, tracks), path positions and path speeds (B, tracks)."""
        members = self._members(scene, tracks)
        position, speed = np.zeros((len(scene), tracks)), np.zeros((len(scene), tracks))
        here = self._schedule_at[members.mover] + self._column(scene, row)[members.episode]
        position[members.episode, members.track] = self._schedule[here]
        speed[members.episode, members.track] = self._pace[here]
        return self._crowd(members, scene, row, position, speed), position, speed

    def step(
        self, scene: np.ndarray, row: np.ndarray, ego: np.ndarray, crowd: AgentArrays, position: np.ndarray, speed: np.ndarray
    ) -> tuple[AgentArrays, np.ndarray, np.ndarray]:
        """One tick later: from ``row`` to ``row + 1`` with the egos (B, 7) where they were at ``row``."""
        members, p = self._members(scene, position.shape[1]), self._parameters
        episode, mover = members.episode, members.mover
        s, v, at = position[episode, members.track], speed[episode, members.track], row[episode]
        first, last, scheduled = self._first[mover], self._last[mover], self._schedule_at[mover]
        now, later = scheduled + self._column(scene, row)[episode], scheduled + self._column(scene, row + 1)[episode]
        delay, logged = self._schedule[now] - s, self._pace[now]
        on_schedule = (np.abs(delay) < ON_SCHEDULE) & (at <= last)
        allowed = self._allowed(members, at, ego, crowd, s, v, on_schedule)
        keeps = on_schedule & (allowed >= np.minimum((logged - v) / TICK, 0.0) - 1.0) | (at < first)
        wanted = np.where(at > last, self._cruise[mover], logged) + p.catch_up * delay
        free = (np.clip(wanted, 0.0, self._top_speed[mover]) - v) / 1.0  # within a second
        acceleration = np.maximum(np.minimum(np.clip(free, -p.braking, p.acceleration), allowed), -p.hard_braking)
        next_v = np.maximum(v + acceleration * TICK, 0.0)
        position, speed = position.copy(), speed.copy()
        onward = np.minimum(s + next_v * TICK, self._end[mover])
        position[episode, members.track] = np.where(keeps, self._schedule[later], onward)
        speed[episode, members.track] = np.where(keeps, self._pace[later], next_v)
        return self._crowd(members, scene, row + 1, position, speed), position, speed

    def _members(self, scene: np.ndarray, tracks: int) -> _Members:
        """Who moves; kept, as episodes mostly stay in their scenes."""
        key = scene.tobytes(), tracks
        known = self._known
        if known is None or known[0] != key:
            spans = [np.arange(self._offset[number], self._offset[number + 1]) for number in scene.tolist()]
            mover = np.concatenate([np.zeros(0, int), *spans])
            episode = np.repeat(np.arange(len(scene)), [len(span) for span in spans])
            footprint = np.zeros((2, len(scene), tracks))
            edited = np.zeros((len(scene), tracks), bool)
            for at, number in enumerate(scene.tolist()):
                size = self._tables[number].size
                footprint[:, at, : len(size)] = size[:, :2].T
                edited[at, : len(self._edited[number])] = self._edited[number]
            known = self._known = key, _Members(episode, self._track[mover], mover, footprint, edited)
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

    def _present(self, members: _Members, at: np.ndarray, s: np.ndarray) -> np.ndarray:
        mover = members.mover
        return (at >= self._first[mover]) & ((at <= self._last[mover]) | (s < self._end[mover] - ON_SCHEDULE))

    def _crowd(
        self, members: _Members, scene: np.ndarray, row: np.ndarray, position: np.ndarray, speed: np.ndarray
    ) -> AgentArrays:
        tracks = position.shape[1]
        column = self._column(scene, row)
        crowd = logged_agents([self._tables[i] for i in scene.tolist()], column.tolist(), 1, tracks)[:, 0]
        crowd.valid[row >= self._rows[scene]] = False
        s = position[members.episode, members.track]
        points = self._at(members.mover, s, self._samples).T
        crowd.valid[members.episode, members.track] = self._present(members, row[members.episode], s)
        crowd.values[:4, members.episode, members.track] = points[:4]
        crowd.values[4:, members.episode, members.track] = speed[members.episode, members.track] * points[4:]
        crowd.values[3] = (crowd.values[3] + np.pi) % (2 * np.pi) - np.pi
        crowd.values[:, ~crowd.valid] = 0.0
        return crowd

    def _allowed(
        self,
        members: _Members,
        at: np.ndarray,
        ego: np.ndarray,
        crowd: AgentArrays,
        s: np.ndarray,
        v: np.ndarray,
        on_schedule: np.ndarray,
    ) -> np.ndarray:
        """(K,) the acceleration that the nearest leader allows; infinite without one."""
        allowed = np.full(len(s), np.inf)
        active = np.flatnonzero(self._present(members, at, s))
        if not len(active):
            return allowed
        mover, episode, p = members.mover[active], members.episode[active], self._parameters
        obstacle, exists = self._obstacles(ego, crowd, members.footprint)
        member_of = np.full(exists.shape, -1)
        member_of[members.episode, members.track] = np.arange(len(s))
        # Two that are both as logged do not disturb each other; what never moves is as logged, the ego and edits are not.
        unlogged = exists.copy()
        unlogged[:, :-1] &= members.edited
        unlogged[members.episode, members.track] |= exists[members.episode, members.track] & ~on_schedule
        watched = np.where(on_schedule[active][:, None], unlogged[episode], exists[episode])
        watched[np.arange(len(active)), members.track[active]] = False
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
        yields = _yields(active[pair], member_of[episode[pair], other], gap, len(s))
        member, gap, along = active[pair][yields], gap[yields], along[yields]
        mover, speed = members.mover[member], v[member]
        approach = speed - np.maximum(along, 0.0)
        wish = speed * self._headway[mover] + speed * approach / (2 * math.sqrt(p.acceleration * p.braking))
        desired = self._gap[mover] + np.maximum(wish, 0.0)
        np.minimum.at(allowed, member, p.acceleration * (1 - (desired / gap) ** 2))
        return allowed

    def _obstacles(self, ego: np.ndarray, crowd: AgentArrays, footprint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(8, B, M + 1) x, y, cos, sin, length, width, vx, vy of every agent and, last, the ego; and whether each exists."""
        count, tracks = crowd.valid.shape
        obstacle, exists = np.empty((8, count, tracks + 1)), np.ones((count, tracks + 1), bool)
        exists[:, :-1] = crowd.valid
        obstacle[:2, :, :-1], obstacle[6:, :, :-1] = crowd.values[:2], crowd.values[4:]
        obstacle[2, :, :-1], obstacle[3, :, :-1] = deterministic.cos(crowd.yaw), deterministic.sin(crowd.yaw)
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


def _yields(member: np.ndarray, other: np.ndarray, gap: np.ndarray, count: int) -> np.ndarray:
    """(K,) False where two agents stand in each other's way and this one is nearer: someone has to go first.

    member, other: which of ``count`` members each pair is of, -1 for what never looks at anyone; in ascending order.
    """
    mutual = other >= 0
    pairs, reverse = member[mutual] * count + other[mutual], other[mutual] * count + member[mutual]
    theirs = np.full(len(member), -1.0)
    if len(pairs):
        place = np.minimum(np.searchsorted(pairs, reverse), len(pairs) - 1)
        theirs[mutual] = np.where(pairs[place] == reverse, gap[mutual][place], -1.0)
    return (gap > theirs) | ((gap == theirs) & (member >= other))


def _flat(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Arrays (M_i, n_i, ...) as one (sum of M_i n_i, ...), and where in it each of their M_i rows begins."""
    begins, total = [], 0
    for array in arrays:
        begins.append(total + np.arange(len(array)) * array.shape[1])
        total += array.shape[0] * array.shape[1]
    return np.concatenate([array.reshape(-1, *array.shape[2:]) for array in arrays]), np.concatenate(begins)
