"""Reactive traffic: agents keep their logged path and speed, and the intelligent driver model makes them yield."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import TICK, Scene, Tracks
from dist4d_env.simulation.agents import AgentArrays, AgentTable
from dist4d_env.simulation.idm_kernels import Manners, Streets, agents_at, find_leaders, move, near_pairs
from dist4d_env.simulation.kernels import contiguous
from dist4d_env.simulation.paths import SPACING, Paths
from dist4d_env.simulation.traffic import TrafficState

_MIN_TRAVEL = 2.0  # m; what moved less is furniture and stays as logged
_IMMOBILE = ("traffic_cone", "barrier", "trailer", "other")
ON_SCHEDULE = 0.05  # m
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

    table: the log; rows: of the log; size: (N, 3); edited: (N,) bool, tracks that are not as they were recorded; movers: (M,) their
    tracks; paths: theirs; length, width, headway, gap, top_speed, cruise: (M,).
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


_NOTHING = np.zeros(0)


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
        vehicle, p = vehicle or VehicleParameters(), parameters or IdmParameters()
        self.parameters = p
        self._scenes: list[_SceneMovers] = []
        self._joined: Streets | None = None
        ego = (vehicle.rear_axle_to_center, vehicle.length, vehicle.width)
        self._manners = Manners(p.acceleration, p.braking, p.hard_braking, p.catch_up, SPACING, ON_SCHEDULE, SIDE, *ego)

    def add(self, scene: Scene) -> int:
        """One more scene; its number."""
        self._scenes.append(_SceneMovers.of(scene, self.parameters))
        self._joined = None
        return len(self._scenes) - 1

    def start(self, scene: np.ndarray, row: np.ndarray, tracks: int) -> tuple[AgentArrays, TrafficState]:
        """As logged: the agents (B, tracks) and, per track, position (m along its path) and speed (m/s)."""
        position, speed = np.zeros((len(scene), tracks)), np.zeros((len(scene), tracks))
        for place, (number, at) in enumerate(zip(scene.tolist(), row.tolist(), strict=True)):
            own = self._scenes[number]
            column = min(at, own.rows - 1)
            position[place, own.movers] = own.paths.schedule[:, column]
            speed[place, own.movers] = own.paths.pace[:, column]
        return self._agents(scene, row, position, speed), {"position": position, "speed": speed}

    def step(
        self, scene: np.ndarray, row: np.ndarray, ego: np.ndarray, agents: AgentArrays, state: TrafficState
    ) -> tuple[AgentArrays, TrafficState]:
        """One tick later: from ``row`` to ``row + 1`` with the egos (B, 7) where they were at ``row``."""
        streets, manners, ego = self._streets, self._manners, contiguous(ego)
        scene, row = contiguous(scene), contiguous(row)
        values, valid = contiguous(agents.values), contiguous(agents.valid)
        position, speed = contiguous(state["position"]), contiguous(state["speed"])
        episode, pair, obstacle = near_pairs(streets, manners, scene, row, ego, values, valid, position, speed)
        gaps = along = _NOTHING
        if len(pair):
            yaw = values[3, episode, np.minimum(obstacle, valid.shape[1] - 1)]
            cosine, sine = deterministic.cos(yaw), deterministic.sin(yaw)
            gaps, along = find_leaders(
                streets, manners, scene, ego, values, position, speed, episode, pair, obstacle, cosine, sine
            )
        position, speed = move(streets, manners, scene, row, position, speed, episode, pair, obstacle, gaps, along)
        return self._agents(scene, row + 1, position, speed), {"position": position, "speed": speed}

    def anticipate(
        self, scene: np.ndarray, row: np.ndarray, agents: AgentArrays, state: TrafficState, rows: np.ndarray
    ) -> AgentArrays:
        """Agents on schedule go on with the log, delayed ones at their present speed along their paths."""
        position, speed = state["position"], state["speed"]
        expected = AgentArrays.empty(len(scene), rows.shape[1], position.shape[1])
        for place, later in enumerate(rows.T):
            ahead = position.copy()
            for b, (number, at, then) in enumerate(zip(scene.tolist(), row.tolist(), later.tolist(), strict=True)):
                own = self._scenes[number]
                paths, s, v = own.paths, position[b, own.movers], speed[b, own.movers]
                delay = paths.schedule[:, min(at, own.rows - 1)] - s
                onward = np.minimum(s + v * (then - at) * TICK, paths.end)
                logged = (np.abs(delay) < ON_SCHEDULE) | (at < paths.first)
                ahead[b, own.movers] = np.where(logged, paths.schedule[:, min(then, own.rows - 1)], onward)
            there = self._agents(scene, later, ahead, speed)
            expected.values[:, :, place], expected.valid[:, place] = there.values, there.valid
        return expected

    def _agents(self, scene: np.ndarray, row: np.ndarray, position: np.ndarray, speed: np.ndarray) -> AgentArrays:
        return AgentArrays(
            *agents_at(self._streets, self._manners, contiguous(scene), contiguous(row), contiguous(position), contiguous(speed))
        )

    @property
    def _streets(self) -> Streets:
        """The movers and logs of all scenes one behind the other."""
        if self._joined is None:
            self._joined = _joined(self._scenes)
        return self._joined


def _joined(scenes: Sequence[_SceneMovers]) -> Streets:
    paths, counts = [scene.paths for scene in scenes], np.array([len(scene.movers) for scene in scenes])
    tracks, rows = np.array([len(scene.size) for scene in scenes]), np.array([scene.rows for scene in scenes])
    schedule, schedule_at = _flat([p.schedule for p in paths])
    pace, _ = _flat([p.pace for p in paths])
    samples, samples_at = _flat([p.samples for p in paths])
    size, logged = np.concatenate([scene.size for scene in scenes]), [scene.table.log for scene in scenes]
    log = np.concatenate([log.values[:, :-1].reshape(6, -1) for log in logged], 1)
    log[3] = (log[3] + np.pi) % (2 * np.pi) - np.pi
    numbers = [np.full(count, -1) for count in tracks.tolist()]
    for scene, number in zip(scenes, numbers, strict=True):
        number[scene.movers] = np.arange(len(scene.movers))

    def of_movers(name: str) -> np.ndarray:
        return np.concatenate([getattr(scene, name) for scene in scenes])

    def of_paths(name: str) -> np.ndarray:
        return np.concatenate([getattr(path, name) for path in paths])

    return Streets(
        offset=np.concatenate([[0], np.cumsum(counts)]),
        track_at=np.cumsum(tracks) - tracks,
        tracks=tracks,
        log_at=np.cumsum(tracks * rows) - tracks * rows,
        rows=rows,
        size_x=size[:, 0].copy(),
        size_y=size[:, 1].copy(),
        edited=np.concatenate([scene.edited for scene in scenes]),
        mover=np.concatenate(numbers),
        log=log,
        logged=np.concatenate([log.valid[:-1].ravel() for log in logged]),
        track=of_movers("movers"),
        length=of_movers("length"),
        width=of_movers("width"),
        headway=of_movers("headway"),
        gap=of_movers("gap"),
        top_speed=of_movers("top_speed"),
        cruise=of_movers("cruise"),
        first=of_paths("first"),
        last=of_paths("last"),
        end=of_paths("end"),
        schedule_at=schedule_at,
        samples_at=samples_at,
        samples_last=np.repeat([p.samples.shape[1] - 2 for p in paths], counts),
        schedule=schedule,
        pace=pace,
        samples=samples,
    )


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
