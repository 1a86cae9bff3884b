"""The running values of many episodes at once, each bit for bit as ``RunningMetrics`` has them alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.areas import ego_corners
from dist4d_env.metrics.driving.areas_batch import Areas
from dist4d_env.metrics.driving.collision import BEHIND, KINDS, at_fault, classify
from dist4d_env.metrics.driving.comfort import LIMITS
from dist4d_env.metrics.driving.recording import expert_poses
from dist4d_env.metrics.driving.rectangles import contact_interval, ego_centers, first_of_each, overlap
from dist4d_env.metrics.driving.running import UNKNOWN, RunningMetrics
from dist4d_env.metrics.driving.time_to_collision import HORIZON
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.routes import Routes
from dist4d_env.simulation.rows import ACCELERATION, SPEED, YAW, YAW_RATE, X, Y, cosines, hypotenuses, sines
from dist4d_env.simulation.vector_state import VectorTicks


@dataclass(frozen=True)
class RunningBatch:
    """Where the bookkeeping of B episodes stands.

    values: (B,) by name as in ``RunningMetrics``, nan where unknown; ego: (B, 7) the last ones; touched: (B, M) tracks already
    collided with; route_position: (B,) m.
    """

    values: dict[str, np.ndarray]
    ego: np.ndarray
    touched: np.ndarray
    route_position: np.ndarray

    def narrowed(self, tracks: int) -> RunningBatch:
        """With room for ``tracks`` tracks at most; no episode's scene may have more."""
        return replace(self, touched=self.touched[:, :tracks])

    def put(self, rows: np.ndarray, others: RunningBatch) -> RunningBatch:
        """This with the episodes at ``rows`` (K,) replaced by others (K), which may have more tracks."""
        tracks = max(self.touched.shape[1], others.touched.shape[1])
        touched = np.zeros((len(self.ego), tracks), bool)
        touched[:, : self.touched.shape[1]] = self.touched
        touched[rows] = False
        touched[rows, : others.touched.shape[1]] = others.touched
        values = {name: _with(value, rows, others.values[name]) for name, value in self.values.items()}
        return RunningBatch(
            values, _with(self.ego, rows, others.ego), touched, _with(self.route_position, rows, others.route_position)
        )


def _with(array: np.ndarray, rows: np.ndarray, other: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[rows] = other
    return array


class RunningMetricsBatch:
    """The running values of episodes in several scenes; ``scene`` (B,) says which of them each plays in. Methods are pure."""

    def __init__(self) -> None:
        self._scenes: list[Scene] = []
        self._areas, self._routes = Areas(), Routes(())
        self._footprints, self._categories = np.zeros((0, 2, 0)), np.zeros((0, 0), np.int8)  # of each scene's tracks
        self.vehicle = VehicleParameters()

    def add(self, metrics: RunningMetrics) -> int:
        """One more scene; its number. ConfigError if its ego is another vehicle."""
        if self._scenes and metrics.vehicle != self.vehicle:
            raise ConfigError("running values of different vehicles cannot be worked out together: make all of them alike")
        self.vehicle = metrics.vehicle
        self._scenes.append(metrics.scene)
        self._areas.add(metrics.scene.map)
        self._routes = Routes([scene.route for scene in self._scenes])
        tracks = max(len(scene.tracks) for scene in self._scenes)
        self._footprints = np.zeros((len(self._scenes), 2, tracks))
        self._categories = np.zeros((len(self._scenes), tracks), np.int8)
        for row, scene in enumerate(self._scenes):
            self._categories[row, : len(scene.tracks)] = scene.tracks.category
            self._footprints[row, :, : len(scene.tracks)] = scene.tracks.size[:, :2].T
        return len(self._scenes) - 1

    @property
    def routes(self) -> Routes:
        """The routes by scene number."""
        return self._routes

    def update(self, running: RunningBatch | None, begins: np.ndarray, scene: np.ndarray, ticks: VectorTicks) -> RunningBatch:
        """The bookkeeping one decision later. begins: (B,) the episodes that start now; their ticks are all their first instant,
        and what touches the ego there already is not counted as a collision. running: None where all begin."""
        count, tracks = len(scene), ticks.agents.valid.shape[2]
        near, before, touched = np.full(count, np.nan), ticks.ego[:, 0].copy(), np.zeros((count, tracks), bool)
        progress = np.zeros(count)
        if running is not None:
            goes_on = ~begins
            near[goes_on], before[goes_on] = running.route_position[goes_on], running.ego[goes_on]
            touched[goes_on, : running.touched.shape[1]] = running.touched[goes_on]
            progress[goes_on] = running.values["progress"][goes_on]
        ego, centers = ticks.ego, ego_centers(ticks.ego, self.vehicle)
        collision, fault = self._collide(touched, begins, scene, ticks, centers)
        center = centers[:, -1]
        position, offset, _ = self._routes.project(scene, center[:, 0], center[:, 1], near)
        values = self._place(scene, ego, center) | {
            "route_offset": offset,
            "expert_deviation": self._deviation(scene, ticks.row[:, -1], ego[:, -1]),
            "time_to_collision": self._time_to_collision(scene, ego[:, -1], ticks.agents[:, -1]),
        }
        delta = np.where(begins, 0.0, position - near)
        values |= _motion(ego, before) | {
            "collision": collision,
            "at_fault_collision": fault,
            "progress": progress + delta,
            "progress_delta": delta,
        }
        return RunningBatch(values, ego[:, -1], touched, position)

    def _collide(
        self, touched: np.ndarray, begins: np.ndarray, scene: np.ndarray, ticks: VectorTicks, centers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B,) 1.0 where a collision began and where it did at the ego's fault; ``touched`` (B, M) is brought up to date."""
        length, width = self._footprints[scene].swapaxes(0, 1)[..., : touched.shape[1]]  # (B, M)
        place = ticks.agents.values[:2]
        dx, dy = place[0] - centers[..., 0, None], place[1] - centers[..., 1, None]  # (B, n, M)
        reach = math.hypot(self.vehicle.length, self.vehicle.width) / 2 + (length + width) / 2
        near = (dx**2 + dy**2 < (reach**2)[:, None]) & ticks.agents.valid
        episode, tick, track = np.nonzero(near)
        own, size = np.array([self.vehicle.length, self.vehicle.width]), self._footprints[scene[episode], :, track]
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
        self, scene: np.ndarray, ticks: VectorTicks, episode: np.ndarray, tick: np.ndarray, track: np.ndarray, size: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B,) 1.0 where one of the first contacts (K,) is, and where one is the ego's fault, as ``find_collisions`` judges."""
        collision, fault = np.zeros(len(scene)), np.zeros(len(scene))
        if not len(episode):
            return collision, fault
        ego, agents = ticks.ego[episode, tick], ticks.agents
        category = self._categories[scene[episode], track]
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
        logs = [self._scenes[number].ego.global_from_ego for number in scene.tolist()]
        logged = np.array([log[min(at, len(log) - 1), :2, 3] for log, at in zip(logs, row.tolist(), strict=True)])
        return hypotenuses(ego[:, X] - logged[:, 0], ego[:, Y] - logged[:, 1])

    def _time_to_collision(self, scene: np.ndarray, ego: np.ndarray, agents: AgentArrays) -> np.ndarray:
        """``projected_time_to_collision`` of egos (B, 7) among agents (B, M)."""
        if not agents.valid.any():
            return np.full(len(ego), HORIZON)
        forward = np.stack([cosines(ego[:, YAW]), sines(ego[:, YAW])], -1)
        center = ego[:, :2] + self.vehicle.rear_axle_to_center * forward
        own, size = np.array([self.vehicle.length, self.vehicle.width]), self._footprints[scene].swapaxes(1, 2)
        first, last = contact_interval(
            center[:, None],
            ego[:, YAW, None],
            own,
            (ego[:, SPEED, None] * forward)[:, None],
            agents.position[..., :2],
            agents.yaw,
            size[:, : agents.valid.shape[1]],
            agents.velocity,
        )
        dx, dy = agents.values[0] - ego[:, X, None], agents.values[1] - ego[:, Y, None]
        behind = dx * forward[:, :1] + dy * forward[:, 1:] < math.cos(BEHIND) * np.hypot(dx, dy)
        meets = (first <= last) & (last >= 0) & ~behind & agents.valid
        return np.where(meets, np.maximum(first, 0.0), HORIZON).min(1, initial=HORIZON)


def trace_of_arrays(
    scene: Scene, vehicle: VehicleParameters, row: np.ndarray, ego: np.ndarray, agents: AgentArrays
) -> EpisodeTrace:
    """A trace of one episode from its log rows (T,), egos (T, 7) and agents (T, M), M at least the scene's tracks."""
    time, here = row * TICK, agents[:, : len(scene.tracks)]
    return EpisodeTrace(
        time=time,
        ego=ego,
        position=here.position,
        yaw=here.yaw,
        velocity=here.velocity,
        valid=here.valid,
        size=scene.tracks.size,
        category=scene.tracks.category,
        expert=expert_poses(scene, time),
        map=scene.map,
        route=scene.route,
        vehicle=vehicle,
    )


def _motion(ego: np.ndarray, before: np.ndarray) -> dict[str, np.ndarray]:
    """The largest accelerations, jerk and yaw motion over egos (B, n, 7), and how often they leave the bounds of comfort."""
    acceleration, yaw_rate = ego[..., ACCELERATION], ego[..., YAW_RATE]
    signals = {
        "acceleration": acceleration,
        "lateral_acceleration": ego[..., SPEED] * yaw_rate,
        "jerk": np.diff(acceleration, axis=1, prepend=before[:, ACCELERATION, None]) / TICK,
        "yaw_rate": yaw_rate,
        "yaw_acceleration": np.diff(yaw_rate, axis=1, prepend=before[:, YAW_RATE, None]) / TICK,
    }
    size = {name: np.abs(signal) for name, signal in signals.items()}
    rough = (
        (acceleration <= LIMITS.min_acceleration)
        | (acceleration >= LIMITS.max_acceleration)
        | (size["lateral_acceleration"] >= LIMITS.lateral_acceleration)
        | (size["jerk"] >= LIMITS.jerk)
        | (size["yaw_rate"] >= LIMITS.yaw_rate)
        | (size["yaw_acceleration"] >= LIMITS.yaw_acceleration)
    )
    rows = np.arange(len(ego))
    largest = {name: signal[rows, size[name].argmax(1)] for name, signal in signals.items()}
    return {"speed": ego[:, -1, SPEED], **largest, "discomfort": rough.mean(1)}
