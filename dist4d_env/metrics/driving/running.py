"""What is true of the episode now: cheap checks after every decision, for rewards, termination and ``info``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.areas import ego_corners, off_drivable, speed_limit, wrong_way_at
from dist4d_env.metrics.driving.collision import Collision, find_collisions
from dist4d_env.metrics.driving.comfort import LIMITS
from dist4d_env.metrics.driving.recording import Recording, trace_of
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.driving.time_to_collision import projected_time_to_collision
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.state import EgoState, SimState, Ticks

UNKNOWN = float("nan")


@dataclass(frozen=True)
class Running:
    """Where the bookkeeping of one episode stands; a value like ``SimState``, kept and restored with it.

    values: name to number, see ``RunningMetrics``; ego: the last one; touched: tracks already collided with; route_position: m.
    """

    values: dict[str, float]
    recording: Recording
    ego: EgoState
    touched: frozenset[int]
    route_position: float


class RunningMetrics:
    """The running values of one scene's episodes. All methods are pure.

    Values after each decision (nan where the scene cannot tell: no map, no speed limit):

    ===================== ==========================================================================================
    collision             1 if the ego began to touch something during this decision
    at_fault_collision    1 if it did so at its own fault (``metrics.driving.collision``)
    off_road              1 if a corner of the footprint left the drivable area and car parks at some tick
    wrong_way             1 if the centre now lies in lanes that all run against the heading
    progress              m along the route since the episode's start, in the box centre
    progress_delta        m along the route in this decision (negative backwards)
    route_offset          m to the left of the route, now
    expert_deviation      m from where the logged ego was at this time
    time_to_collision     s until contact if everybody kept velocity and heading, at most 10, agents behind left out
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

    def __init__(self, scene: Scene, vehicle: VehicleParameters | None = None) -> None:
        self.scene = scene
        self.vehicle = vehicle or VehicleParameters()
        self._log_xy = scene.ego.global_from_ego[:, :2, 3]

    def start(self, state: SimState) -> Running:
        """The bookkeeping of an episode that begins now. What touches the ego already is not counted as a collision."""
        now = Ticks(np.array([state.time]), (state.ego,), (state.boxes,))
        rows = _rows(now)
        centers = ego_centers(rows, self.vehicle)
        touched = frozenset(collision.track for collision in self._collisions(now, centers, frozenset()))
        values, position = self._values(now, rows, centers, state.ego, None)
        values |= {"collision": 0.0, "at_fault_collision": 0.0, "progress": 0.0, "progress_delta": 0.0}
        return Running(values, Recording(state), state.ego, touched, position)

    def update(self, running: Running, ticks: Ticks) -> Running:
        """The bookkeeping one decision later."""
        rows = _rows(ticks)
        centers = ego_centers(rows, self.vehicle)
        collisions = self._collisions(ticks, centers, running.touched)
        values, position = self._values(ticks, rows, centers, running.ego, running.route_position)
        delta = position - running.route_position
        values |= {
            "collision": float(bool(collisions)),
            "at_fault_collision": float(any(collision.at_fault for collision in collisions)),
            "progress": running.values["progress"] + delta,
            "progress_delta": delta,
        }
        touched = running.touched | {collision.track for collision in collisions}
        return Running(values, running.recording.extended(ticks), ticks.ego[-1], touched, position)

    def trace(self, running: Running) -> EpisodeTrace:
        """The episode so far as arrays, for the metrics proper."""
        return running.recording.trace(self.scene, self.vehicle)

    def _collisions(self, ticks: Ticks, centers: np.ndarray, known: frozenset[int]) -> tuple[Collision, ...]:
        """``find_collisions`` of these ticks; the arrays it needs are made only if something is near enough to be touched."""
        counts = [len(boxes) for boxes in ticks.boxes]
        size = np.concatenate([boxes.size for boxes in ticks.boxes])
        offset = np.concatenate([boxes.position for boxes in ticks.boxes])[:, :2] - np.repeat(centers, counts, axis=0)
        reach = math.hypot(self.vehicle.length, self.vehicle.width) / 2 + (size[:, 0] + size[:, 1]) / 2
        if not (offset[:, 0] ** 2 + offset[:, 1] ** 2 < reach**2).any():
            return ()
        return find_collisions(trace_of(self.scene, self.vehicle, ticks.time, ticks.ego, ticks.boxes), known)

    def _values(
        self, ticks: Ticks, rows: np.ndarray, centers: np.ndarray, before: EgoState, near: float | None
    ) -> tuple[dict[str, float], float]:
        """What the last tick and the motion up to it say, and the arc length on the route."""
        ego = ticks.ego[-1]
        x, y = centers[-1].tolist()
        position, offset, _ = self.scene.route.project(x, y, near)
        logged = self._log_xy[min(round(float(ticks.time[-1]) / TICK), len(self._log_xy) - 1)]
        values = self._place(rows, x, y, ego) | {
            "route_offset": offset,
            "expert_deviation": math.hypot(ego.x - logged[0], ego.y - logged[1]),
            "time_to_collision": projected_time_to_collision(ego, ticks.boxes[-1], self.vehicle),
        }
        return values | _motion(rows, before), position

    def _place(self, rows: np.ndarray, x: float, y: float, ego: EgoState) -> dict[str, float]:
        scene_map = self.scene.map
        if scene_map is None:
            return {"off_road": UNKNOWN, "wrong_way": UNKNOWN, "speed_limit": UNKNOWN, "speeding": UNKNOWN}
        lanes = scene_map.lanes_at(x, y)
        limit = speed_limit(lanes)
        return {
            "off_road": float(off_drivable(scene_map, ego_corners(rows, self.vehicle)).any()),
            "wrong_way": float(wrong_way_at(scene_map, lanes, x, y, ego.yaw)),
            "speed_limit": UNKNOWN if limit is None else limit,
            "speeding": UNKNOWN if limit is None else max(0.0, ego.speed - limit),
        }


def _rows(ticks: Ticks) -> np.ndarray:
    """(n, 7) the egos of some ticks as ``EpisodeTrace.ego`` has them."""
    return np.array([(e.x, e.y, e.yaw, e.speed, e.acceleration, e.steering, e.yaw_rate) for e in ticks.ego])


def _motion(ego: np.ndarray, before: EgoState) -> dict[str, float]:
    """The largest accelerations, jerk and yaw motion over ego rows (n, 7), and how often they leave the bounds of comfort."""
    acceleration, yaw_rate = ego[:, 4], ego[:, 6]
    lateral = ego[:, 3] * yaw_rate
    jerk, yaw_acceleration = _rate(acceleration, before.acceleration), _rate(yaw_rate, before.yaw_rate)
    rough = (
        (acceleration <= LIMITS.min_acceleration)
        | (acceleration >= LIMITS.max_acceleration)
        | (np.abs(lateral) >= LIMITS.lateral_acceleration)
        | (np.abs(jerk) >= LIMITS.jerk)
        | (np.abs(yaw_rate) >= LIMITS.yaw_rate)
        | (np.abs(yaw_acceleration) >= LIMITS.yaw_acceleration)
    )
    signals = {
        "acceleration": acceleration,
        "lateral_acceleration": lateral,
        "jerk": jerk,
        "yaw_rate": yaw_rate,
        "yaw_acceleration": yaw_acceleration,
    }
    largest = {name: max(signal.tolist(), key=abs) for name, signal in signals.items()}
    return {"speed": float(ego[-1, 3]), **largest, "discomfort": float(rough.mean())}


def _rate(signal: np.ndarray, before: float) -> np.ndarray:
    rate = np.empty_like(signal)
    rate[0], rate[1:] = signal[0] - before, signal[1:] - signal[:-1]
    return rate / TICK
