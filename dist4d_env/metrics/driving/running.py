"""Running metrics of N episodes as arrays: cheap checks after every decision, for rewards, termination and ``info``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving import running_kernels as kernels
from dist4d_env.metrics.driving.areas import Areas, ego_corners
from dist4d_env.metrics.driving.collision import KINDS, at_fault, classify
from dist4d_env.metrics.driving.comfort import LIMITS
from dist4d_env.metrics.driving.first_instant import counted_corners, put_there
from dist4d_env.metrics.driving.rectangles import ego_centers, first_of_each, overlap
from dist4d_env.metrics.driving.red_lights import ego_fronts, run_at_red
from dist4d_env.metrics.driving.time_to_collision import time_to_contact
from dist4d_env.metrics.driving.trace import require_agents
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.agents import bodies
from dist4d_env.simulation.ego import SPEED, YAW, X, Y, hypotenuses
from dist4d_env.simulation.kernels import contiguous
from dist4d_env.simulation.routes import Routes
from dist4d_env.simulation.state import Ticks, with_tracks
from dist4d_env.simulation.tracker import with_rows

UNKNOWN = float("nan")


@dataclass(frozen=True)
class Running:
    """Where the bookkeeping of B episodes stands.

    values: (B,) by name as in ``RunningMetrics``, nan where unknown; ego: (B, 7) the last ones; (B, M) tracks: seen, that have
    existed; touched, that the ego has touched; spared, that were put where it was (``first_instant``); waiting: (B, 4) corners
    that have been off the road ever since the start; route_position: (B,) m.
    """

    values: dict[str, np.ndarray]
    ego: np.ndarray
    seen: np.ndarray
    touched: np.ndarray
    spared: np.ndarray
    waiting: np.ndarray
    route_position: np.ndarray

    def take(self, rows: np.ndarray) -> Running:
        """Those of some rows."""
        values = {name: value[rows] for name, value in self.values.items()}
        return Running(values, **{name: getattr(self, name)[rows] for name in (*_OF_EGO, *_OF_TRACKS)})

    def fitted(self, tracks: int) -> Running:
        """With room for ``tracks`` tracks exactly; no episode's scene may have more."""
        had = self.touched.shape[1]
        if tracks == had:
            return self
        wider: dict[str, Any] = {name: with_tracks(getattr(self, name), had, tracks) for name in _OF_TRACKS}
        return replace(self, **wider)

    def put(self, rows: np.ndarray, others: Running) -> Running:
        """This with the episodes at ``rows`` (K,) replaced by others (K), which may have more tracks."""
        tracks = max(self.touched.shape[1], others.touched.shape[1])
        ours, theirs = self.fitted(tracks), others.fitted(tracks)
        values = {name: with_rows(value, rows, theirs.values[name]) for name, value in ours.values.items()}
        kept = {n: with_rows(getattr(ours, n), rows, getattr(theirs, n)) for n in (*_OF_EGO, *_OF_TRACKS)}
        return Running(values, **kept)

    @classmethod
    def before(cls, count: int, tracks: int) -> Running:
        """Of episodes that are about to begin."""
        seen, touched, spared = np.zeros((3, count, tracks), bool)
        unknown, progress = np.full(count, UNKNOWN), {"route_progress": np.zeros(count)}
        return cls(progress, np.full((count, 7), UNKNOWN), seen, touched, spared, np.ones((count, 4), bool), unknown)


_OF_EGO, _OF_TRACKS = ("ego", "waiting", "route_position"), ("seen", "touched", "spared")


@dataclass(frozen=True)
class _Tables:
    """What the metrics look up by scene number (S scenes), built once all that an episode needs have been added.

    footprints: (S, 2, M) length and width of the tracks; categories: (S, M) theirs; logs: (S, T, 2) places of the recorded ego;
    log_ends: (S,) its last row.
    """

    routes: Routes
    footprints: np.ndarray
    categories: np.ndarray
    logs: np.ndarray
    log_ends: np.ndarray

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> _Tables:
        size, categories = bodies([scene.tracks for scene in scenes])
        places = [scene.ego.global_from_ego[:, :2, 3] for scene in scenes]
        log_ends = np.array([len(place) - 1 for place in places], int)
        logs = np.zeros((len(scenes), log_ends.max(initial=-1) + 1, 2))
        for row, place in enumerate(places):
            logs[row, : len(place)] = place
        footprints = np.ascontiguousarray(size[..., :2].swapaxes(1, 2))
        return cls(Routes([scene.route for scene in scenes]), footprints, categories, logs, log_ends)


class RunningMetrics:
    """The running values of episodes in several scenes; ``scene`` (B,) says which of them each plays in.

    Values after each decision (nan where the scene cannot tell: no map, no speed limit):

    ===================== ==========================================================================================
    collision             1 if the ego began to touch something during this decision (but for ``first_instant``)
    at_fault_collision    1 if it did so at its own fault (``metrics.driving.collision``)
    off_road              1 if a corner of the footprint was off the drivable area and car parks at some tick (likewise)
    wrong_way             1 if the centre now lies in lanes that all run against the heading
    red_light             1 if the ego's front went over a stop line at red in this decision (nan without traffic lights)
    route_progress        m along the route since the episode's start, in the box centre
    route_progress_delta  m along the route in this decision (negative backwards)
    route_offset          m to the left of the route, now
    log_deviation         m from where the logged ego was at this time
    time_to_contact       s until contact if everybody kept velocity and heading, at most 10, agents behind left out (likewise)
    speed                 m/s now
    speed_limit           m/s here
    speeding              m/s above the limit, 0 if below
    acceleration          m/s^2, the tick of the largest magnitude in this decision
    lateral_acceleration  m/s^2, speed times yaw rate, likewise
    jerk                  m/s^3, change of the acceleration between ticks, likewise
    yaw_rate              rad/s, likewise
    yaw_acceleration      rad/s^2, likewise
    discomfort            share of this decision's ticks outside nuPlan's bounds of these five
    ===================== ==========================================================================================
    """

    def __init__(self, vehicle: VehicleParameters | None = None) -> None:
        self.vehicle = vehicle or VehicleParameters()
        self._scenes: list[Scene] = []
        self._areas = Areas()
        self._built: _Tables | None = None

    def add(self, scene: Scene) -> int:
        """One more scene; its number. ConfigError where one of its agents is not finite or has no size."""
        tracks = scene.tracks
        rows = {name: getattr(tracks, name).swapaxes(0, 1) for name in ("position", "yaw", "velocity")}
        require_agents(scene.name, tracks.valid.T, tracks.size, **rows)
        self._scenes.append(scene)
        self._areas.add(scene.map)
        self._built = None
        return len(self._scenes) - 1

    @property
    def routes(self) -> Routes:
        """The routes by scene number."""
        return self._tables.routes

    @property
    def _tables(self) -> _Tables:
        if self._built is None:
            self._built = _Tables.of(self._scenes)
        return self._built

    def update(self, running: Running | None, begins: np.ndarray, scene: np.ndarray, ticks: Ticks) -> Running:
        """The bookkeeping one decision later. begins: (B,) the episodes that start now; their ticks are all their first instant.
        running: None where all begin."""
        ego, agents, tracks = ticks.ego, ticks.agents, ticks.agents.valid.shape[2]
        if running is not None and not begins.any():
            last = running.fitted(tracks)
        else:
            last = Running.before(len(scene), tracks)
            if running is not None:
                goes_on = np.flatnonzero(~begins)
                last = last.put(goes_on, running.take(goes_on).fitted(tracks))
        centers = ego_centers(ego, self.vehicle)
        touched, spared = last.touched.copy(), last.spared.copy()
        collision, fault = self._collide(last.seen, touched, spared, scene, ticks, centers)
        center = centers[:, -1]
        position, offset, _ = self._tables.routes.project(scene, center[:, 0], center[:, 1], last.route_position)
        now = agents[:, -1]
        others = replace(now, valid=now.valid & ~spared)
        off_road, waiting = self._off_road(scene, ego, last.waiting)
        values = self._place(scene, ego, center) | {
            "route_offset": offset,
            "log_deviation": self._deviation(scene, ticks.row[:, -1], ego[:, -1]),
            "time_to_contact": time_to_contact(ego[:, -1], others, scene, self._tables.footprints, self.vehicle),
        }
        delta = np.where(begins, 0.0, position - last.route_position)
        before = np.where(begins[:, None], ego[:, 0], last.ego)
        values |= _motion(ego, before) | {
            "off_road": off_road,
            "red_light": self._red_light(scene, ticks, before),
            "collision": collision,
            "at_fault_collision": fault,
            "route_progress": last.values["route_progress"] + delta,
            "route_progress_delta": delta,
        }
        return Running(values, ego[:, -1], last.seen | agents.valid.any(1), touched, spared, waiting, position)

    def _collide(
        self, seen: np.ndarray, touched: np.ndarray, spared: np.ndarray, scene: np.ndarray, ticks: Ticks, centers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B,) 1.0 where a collision began and where it did at the ego's fault. seen: (B, M) tracks that existed before; touched,
        spared: (B, M), brought up to date."""
        footprints = self._tables.footprints
        radius = math.hypot(self.vehicle.length, self.vehicle.width) / 2
        values, valid = contiguous(ticks.agents.values), contiguous(ticks.agents.valid)
        episode, tick, track = kernels.near_agents(centers, values, valid, contiguous(scene), footprints, radius)
        if not len(episode):
            return np.zeros(len(scene)), np.zeros(len(scene))
        own, size = np.array([self.vehicle.length, self.vehicle.width]), footprints[scene[episode], :, track]
        there, heading = ticks.agents.position[episode, tick, track, :2], ticks.agents.yaw[episode, tick, track]
        hit = overlap(centers[episode, tick], ticks.ego[episode, tick, YAW], own, there, heading, size)
        new = np.flatnonzero(hit & ~touched[episode, track])
        new = new[first_of_each(episode[new], track[new], tick[new])]
        episode, tick, track = episode[new], tick[new], track[new]
        touched[episode, track] = True
        first = put_there(tick, valid[episode, :, track], seen[episode, track])
        spared[episode[first], track[first]] = True
        counts = ~first
        episode, tick, track, new = episode[counts], tick[counts], track[counts], new[counts]
        return self._classified(scene, ticks, episode, tick, track, size[new])

    def _classified(
        self, scene: np.ndarray, ticks: Ticks, episode: np.ndarray, tick: np.ndarray, track: np.ndarray, size: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B,) 1.0 where one of the first contacts (K,) is, and where one is the ego's fault, as ``find_collisions`` decides."""
        collision, fault = np.zeros(len(scene)), np.zeros(len(scene))
        if not len(episode):
            return collision, fault
        ego, agents = ticks.ego[episode, tick], ticks.agents
        category = self._tables.categories[scene[episode], track]
        there = agents.position[episode, tick, track, :2], agents.yaw[episode, tick, track], size
        kind = classify(ego, self.vehicle, *there, agents.velocity[episode, tick, track], category)
        out, side = np.zeros(len(episode), bool), np.flatnonzero(kind == KINDS.index("active_lateral"))
        out[side] = self._areas.out_of_lane(scene[episode[side]], ego[side], self.vehicle)
        collision[episode] = 1.0
        fault[episode[at_fault(kind, out)]] = 1.0
        return collision, fault

    def _off_road(self, scene: np.ndarray, ego: np.ndarray, waiting: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B,) 1.0 where a corner that counts was off the road; (B, 4) the corners that do not count yet."""
        off, waiting = counted_corners(self._areas.corners_off(scene, ego_corners(ego, self.vehicle)), waiting)
        return np.where(self._areas.known(scene), off.any((1, 2)), UNKNOWN), waiting

    def _red_light(self, scene: np.ndarray, ticks: Ticks, before: np.ndarray) -> np.ndarray:
        """(B,) 1.0 where the front went over a stop line at red; before: (B, 7) the egos of a tick earlier."""
        value, fronts = np.full(len(scene), UNKNOWN), None
        for number in np.unique(scene):
            lights = self._scenes[number].lights
            if not len(lights):
                continue
            if fronts is None:
                fronts = ego_fronts(np.concatenate([before[:, None], ticks.ego], 1), self.vehicle)
            mine = np.flatnonzero(scene == number)
            start, end = fronts[mine, :-1].reshape(-1, 2), fronts[mine, 1:].reshape(-1, 2)
            move, _ = run_at_red(start, end, ticks.row[mine].reshape(-1) - 1, lights)
            value[mine] = 0.0
            value[mine[move // ticks.row.shape[1]]] = 1.0
        return value

    def _place(self, scene: np.ndarray, ego: np.ndarray, center: np.ndarray) -> dict[str, np.ndarray]:
        wrong, limit = self._areas.lanes(scene, center, ego[:, -1, YAW])
        known, over = self._areas.known(scene), np.abs(ego[:, -1, SPEED]) - limit
        return {
            "wrong_way": np.where(known, wrong, UNKNOWN),
            "speed_limit": limit,
            "speeding": np.where(over > 0, over, np.where(np.isnan(limit), UNKNOWN, 0.0)),
        }

    def _deviation(self, scene: np.ndarray, row: np.ndarray, ego: np.ndarray) -> np.ndarray:
        logged = self._tables.logs[scene, np.minimum(row, self._tables.log_ends[scene])]
        return hypotenuses(ego[:, X] - logged[:, 0], ego[:, Y] - logged[:, 1])


def _motion(ego: np.ndarray, before: np.ndarray) -> dict[str, np.ndarray]:
    """The largest accelerations, jerk and yaw motion over egos (B, n, 7), and how often they leave the bounds of comfort."""
    largest = kernels.motion(contiguous(ego), contiguous(before), TICK, _ROUGH)
    return {"speed": ego[:, -1, SPEED], **dict(zip(_SIGNALS, largest, strict=True))}


_SIGNALS = ("acceleration", "lateral_acceleration", "jerk", "yaw_rate", "yaw_acceleration", "discomfort")
_ROUGH = (
    LIMITS.min_acceleration,
    LIMITS.max_acceleration,
    LIMITS.lateral_acceleration,
    LIMITS.jerk,
    LIMITS.yaw_rate,
    LIMITS.yaw_acceleration,
)
"""The bounds as ``running_kernels.motion`` takes them."""
