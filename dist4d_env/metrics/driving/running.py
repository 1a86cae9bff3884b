"""What is true of running episodes now: cheap checks after every decision, for rewards, termination and ``info``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving import running_kernels as kernels
from dist4d_env.metrics.driving.areas import Areas, ego_corners
from dist4d_env.metrics.driving.collision import KINDS, at_fault, classify
from dist4d_env.metrics.driving.comfort import LIMITS
from dist4d_env.metrics.driving.rectangles import ego_centers, first_of_each, overlap
from dist4d_env.metrics.driving.time_to_collision import time_to_contact
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

    values: (B,) by name as in ``RunningMetrics``, nan where unknown; ego: (B, 7) the last ones; touched: (B, M) tracks already
    collided with; route_position: (B,) m.
    """

    values: dict[str, np.ndarray]
    ego: np.ndarray
    touched: np.ndarray
    route_position: np.ndarray

    def take(self, rows: np.ndarray) -> Running:
        """Those of some rows."""
        values = {name: value[rows] for name, value in self.values.items()}
        return Running(values, self.ego[rows], self.touched[rows], self.route_position[rows])

    def fitted(self, tracks: int) -> Running:
        """With room for ``tracks`` tracks exactly; no episode's scene may have more."""
        return replace(self, touched=with_tracks(self.touched, self.touched.shape[1], tracks))

    def put(self, rows: np.ndarray, others: Running) -> Running:
        """This with the episodes at ``rows`` (K,) replaced by others (K), which may have more tracks."""
        tracks = max(self.touched.shape[1], others.touched.shape[1])
        ours, theirs = self.fitted(tracks), others.fitted(tracks)
        values = {name: with_rows(value, rows, theirs.values[name]) for name, value in ours.values.items()}
        kept = (with_rows(getattr(ours, n), rows, getattr(theirs, n)) for n in ("ego", "touched", "route_position"))
        return Running(values, *kept)


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
    collision             1 if the ego began to touch something during this decision
    at_fault_collision    1 if it did so at its own fault (``metrics.driving.collision``)
    off_road              1 if a corner of the footprint left the drivable area and car parks at some tick
    wrong_way             1 if the centre now lies in lanes that all run against the heading
    route_progress        m along the route since the episode's start, in the box centre
    route_progress_delta  m along the route in this decision (negative backwards)
    route_offset          m to the left of the route, now
    log_deviation         m from where the logged ego was at this time
    time_to_contact       s until contact if everybody kept velocity and heading, at most 10, agents behind left out
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
        """One more scene; its number."""
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
        """The bookkeeping one decision later. begins: (B,) the episodes that start now; their ticks are all their first instant,
        and what touches the ego then is not counted as a collision. running: None where all begin."""
        count, tracks = len(scene), ticks.agents.valid.shape[2]
        near, before, touched = np.full(count, np.nan), ticks.ego[:, 0].copy(), np.zeros((count, tracks), bool)
        progress = np.zeros(count)
        if running is not None:
            goes_on = ~begins
            near[goes_on], before[goes_on] = running.route_position[goes_on], running.ego[goes_on]
            touched[goes_on, : running.touched.shape[1]] = running.touched[goes_on]
            progress[goes_on] = running.values["route_progress"][goes_on]
        ego, centers = ticks.ego, ego_centers(ticks.ego, self.vehicle)
        collision, fault = self._collide(touched, begins, scene, ticks, centers)
        center = centers[:, -1]
        position, offset, _ = self._tables.routes.project(scene, center[:, 0], center[:, 1], near)
        values = self._place(scene, ego, center) | {
            "route_offset": offset,
            "log_deviation": self._deviation(scene, ticks.row[:, -1], ego[:, -1]),
            "time_to_contact": time_to_contact(ego[:, -1], ticks.agents[:, -1], scene, self._tables.footprints, self.vehicle),
        }
        delta = np.where(begins, 0.0, position - near)
        values |= _motion(ego, before) | {
            "collision": collision,
            "at_fault_collision": fault,
            "route_progress": progress + delta,
            "route_progress_delta": delta,
        }
        return Running(values, ego[:, -1], touched, position)

    def _collide(
        self, touched: np.ndarray, begins: np.ndarray, scene: np.ndarray, ticks: Ticks, centers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B,) 1.0 where a collision began and where it did at the ego's fault; ``touched`` (B, M) is brought up to date."""
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
        counts = ~begins[episode]
        episode, tick, track, new = episode[counts], tick[counts], track[counts], new[counts]
        return self._judge(scene, ticks, episode, tick, track, size[new])

    def _judge(
        self, scene: np.ndarray, ticks: Ticks, episode: np.ndarray, tick: np.ndarray, track: np.ndarray, size: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B,) 1.0 where one of the first contacts (K,) is, and where one is the ego's fault, as ``find_collisions`` judges."""
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

    def _place(self, scene: np.ndarray, ego: np.ndarray, center: np.ndarray) -> dict[str, np.ndarray]:
        wrong, limit = self._areas.lanes(scene, center, ego[:, -1, YAW])
        off = self._areas.off_drivable(scene, ego_corners(ego, self.vehicle))
        known, over = self._areas.known(scene), ego[:, -1, SPEED] - limit
        return {
            "off_road": np.where(known, off, UNKNOWN),
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
