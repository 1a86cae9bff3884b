"""Reactive traffic: agents keep their logged path and speed, and the intelligent driver model makes them yield."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import Scene, Tracks
from dist4d_env.simulation import idm_kernels as kernels
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.idm_kernels import LINE, MOVER, PARAMETERS, SCENE, TRACK, Tables
from dist4d_env.simulation.kernels import contiguous, records
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


class IdmTraffic:
    """Tracks that move keep their logged path; along it they keep to the logged schedule until something is in their way.

    The free-road term of the intelligent driver model (Treiber et al. 2000) is replaced by the log: an agent on schedule that
    nothing hinders reproduces its track exactly, logged stops included. What enters the corridor of its own width along its path
    is a leader, and the interaction term ``a (1 - (s*/s)^2)``, ``s* = gap + v T + v (v - v_leader) / (2 sqrt(a b))``, bounds
    its acceleration. Two agents that are both where the log had them do not disturb each other: the log shows that it went
    well; it shows nothing of what a scenario has edited, so every agent minds that. A delayed agent drives on to the end of its
    path, catching up with its schedule; then it is gone. To one that is not on schedule a red light ahead is a leader that stands
    at the stop line, and an amber one where it can stop with comfortable braking. Objects that hardly moved are replayed.
    """

    def __init__(self, vehicle: VehicleParameters | None = None, parameters: IdmParameters | None = None) -> None:
        vehicle, p = vehicle or VehicleParameters(), parameters or IdmParameters()
        self.parameters = p
        ego = (vehicle.rear_axle_to_center, vehicle.length, vehicle.width)
        shared = (p.acceleration, p.braking, p.hard_braking, p.catch_up, SPACING, ON_SCHEDULE, SIDE, *ego)
        self._added: list[Tables] = []  # scenes that are not in the joined tables yet
        self._joined = _NO_SCENES._replace(parameters=np.array([shared], PARAMETERS))

    def add(self, scene: Scene) -> int:
        """One more scene; its number."""
        self._added.append(_tables_of(scene, self.parameters))
        return len(self._joined.scenes) + len(self._added) - 1

    def start(self, scene: np.ndarray, row: np.ndarray, tracks: int) -> tuple[AgentArrays, TrafficState]:
        """As logged: the agents (B, tracks) and, per track, position (m along its path) and speed (m/s)."""
        values, valid, position, speed = kernels.start(self._tables, contiguous(scene), contiguous(row), tracks)
        return AgentArrays(values, valid), {"position": position, "speed": speed}

    def step(
        self, scene: np.ndarray, row: np.ndarray, ego: np.ndarray, agents: AgentArrays, state: TrafficState
    ) -> tuple[AgentArrays, TrafficState]:
        """One tick later: from ``row`` to ``row + 1`` with the egos (B, 7) where they were at ``row``."""
        tables, valid = self._tables, contiguous(agents.valid)
        now = contiguous(scene), contiguous(row), contiguous(ego), contiguous(agents.values)
        position, speed = contiguous(state["position"]), contiguous(state["speed"])
        pairs = kernels.near_pairs(tables, *now, valid, position, speed)
        yaw = agents.yaw[pairs[:, 0], np.minimum(pairs[:, 2], valid.shape[1] - 1)] if len(pairs) else _NOTHING
        cosine, sine = deterministic.cos(yaw), deterministic.sin(yaw)
        values, valid, position, speed = kernels.step(tables, *now, position, speed, pairs, cosine, sine)
        return AgentArrays(values, valid), {"position": position, "speed": speed}

    def anticipate(
        self, scene: np.ndarray, row: np.ndarray, agents: AgentArrays, state: TrafficState, rows: np.ndarray
    ) -> AgentArrays:
        """Agents on schedule go on with the log, delayed ones at their present speed along their paths."""
        known = (scene, row, state["position"], state["speed"], rows)
        return AgentArrays(*kernels.anticipate(self._tables, *map(contiguous, known)))

    @property
    def _tables(self) -> Tables:
        """Those of all scenes."""
        if self._added:
            self._joined, self._added = _join(self._joined, self._added), []
        return self._joined


_NOTHING = np.zeros(0)
_NO_SCENES = Tables(
    np.zeros(0, SCENE),
    np.zeros(0, TRACK),
    np.zeros(0, MOVER),
    np.zeros(0, PARAMETERS),
    schedule=np.zeros((0, 2)),
    samples=np.zeros((0, 6)),
    log=np.zeros((0, 6)),
    logged=np.zeros(0, bool),
    lines=np.zeros(0, LINE),
    lights=np.zeros(0, np.int8),
)


def _tables_of(scene: Scene, p: IdmParameters) -> Tables:
    """A scene's movers, their paths and its log; parameters are left out."""
    tracks, rows, count = scene.tracks, len(scene.tracks.time), len(scene.tracks)
    moving = np.array([index for index in range(count) if _moves(tracks, index)], int)
    paths = Paths.of(tracks, moving)
    track = records(TRACK, count, length=tracks.size[:, 0], width=tracks.size[:, 1], mover=-1, edited=scene.edited)
    track["mover"][moving] = np.arange(len(moving))
    walking = tracks.category[moving] == CATEGORIES.index("pedestrian")
    lines = [_lines_of(scene, index) if not walks else _NO_LINES for index, walks in zip(moving, walking, strict=True)]
    met = np.array([len(own) for own in lines], int)
    mover = records(
        MOVER,
        len(moving),
        length=tracks.size[moving, 0],
        width=tracks.size[moving, 1],
        headway=np.where(walking, p.walking_headway, p.headway),
        gap=np.where(walking, p.walking_gap, p.gap),
        top_speed=p.haste * paths.pace.max(axis=1, initial=0.0),
        cruise=np.maximum(paths.pace.mean(axis=1), 1.0) if len(moving) else 0.0,
        end=paths.end,
        track=moving,
        first=paths.first,
        last=paths.last,
        schedule=np.arange(len(moving)) * rows,
        samples=np.arange(len(moving)) * paths.samples.shape[1],
        samples_last=paths.samples.shape[1] - 2,
        lines=np.cumsum(met) - met,
        line_count=met,
    )
    logged = np.concatenate([tracks.position, (tracks.yaw[..., None] + np.pi) % (2 * np.pi) - np.pi, tracks.velocity], -1)
    return Tables(
        scenes=records(SCENE, 1, mover_count=len(moving), track_count=count, rows=rows),
        tracks=track,
        movers=mover,
        parameters=_NO_SCENES.parameters,
        schedule=np.stack([paths.schedule, paths.pace], -1).reshape(-1, 2),
        samples=paths.samples.reshape(-1, 6),
        log=logged.swapaxes(0, 1).reshape(-1, 6),
        logged=tracks.valid.T.ravel(),
        lines=np.concatenate([_NO_LINES, *lines]),
        lights=scene.lights.rows(np.arange(rows)).ravel(),
    )


_NO_LINES = np.zeros(0, LINE)


def _lines_of(scene: Scene, track: int) -> np.ndarray:
    """The stop lines with traffic lights on a track's logged path, in its order."""
    path = scene.tracks.position[track, scene.tracks.valid[track], :2]
    at, light = scene.lights.met(path)
    return records(LINE, len(at), at=at, light=light)


def _join(joined: Tables, added: list[Tables]) -> Tables:
    """The tables of all scenes one behind the other."""
    parts = [joined]
    movers, tracks, log = len(joined.movers), len(joined.tracks), len(joined.log)
    schedule, samples = len(joined.schedule), len(joined.samples)
    lines, lights = len(joined.lines), len(joined.lights)
    for tables in added:
        scenes, own = tables.scenes.copy(), tables.movers.copy()
        scenes["movers"], scenes["tracks"], scenes["log"], scenes["lights"] = movers, tracks, log, lights
        own["schedule"] += schedule
        own["samples"] += samples
        own["lines"] += lines
        parts.append(tables._replace(scenes=scenes, movers=own))
        movers, tracks, log = movers + len(own), tracks + len(tables.tracks), log + len(tables.log)
        schedule, samples = schedule + len(tables.schedule), samples + len(tables.samples)
        lines, lights = lines + len(tables.lines), lights + len(tables.lights)
    return Tables(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _moves(tracks: Tracks, index: int) -> bool:
    if CATEGORIES[tracks.category[index]] in _IMMOBILE or tracks.valid[index].sum() < 2:
        return False
    points = tracks.position[index, tracks.valid[index], :2]
    return bool(np.linalg.norm(points - points[0], axis=1).max() > _MIN_TRAVEL)
