"""Follows the route at a target speed and keeps its distance (IDM)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.planners.contract import (
    PLAN_DT,
    PLAN_POSES,
    PLAN_TICKS,
    POSE_TICKS,
    Plan,
    PlannerContext,
    PlannerInput,
    PlannerNeeds,
    in_ego_frame,
)
from dist4d_env.planners.lights_ahead import LightsAhead
from dist4d_env.planners.observed_agents import Agents, half_extents
from dist4d_env.planners.route_profile import PathSamples
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.ego import EgoState

_SIGHT = 60.0  # m, how far around itself the lane follower looks for agents
_SLOWING = 0.3  # s, how swiftly it gets down to a speed limit
_HARDEST = 6.0  # m/s^2
_CLEARANCE = 0.3  # m, what it wants to keep between itself and them sideways


@dataclass(frozen=True)
class LaneFollowerConfig:
    """target_speed: m/s, None for the log's mean while it moves; swerve_amplitude, swerve_period: metres and seconds of a sine
    beside the route (0 m: none); lateral_acceleration: m/s^2 that curves are taken with; the rest are the IDM's (m/s^2, s, m)."""

    target_speed: float | None = None
    swerve_amplitude: float = 0.0
    swerve_period: float = 8.0
    lateral_acceleration: float = 2.0
    acceleration: float = 1.5
    braking: float = 2.0
    headway: float = 1.2
    gap: float = 2.0

    def __post_init__(self) -> None:
        if self.target_speed is not None and not 0 <= self.target_speed <= 60:
            raise ConfigError(f"target_speed={self.target_speed!r} must lie between 0 and 60 m/s")
        if self.swerve_period <= 0 or not math.isfinite(self.swerve_amplitude):
            raise ConfigError("swerve_period must be above 0 s and swerve_amplitude finite")
        if min(self.lateral_acceleration, self.acceleration, self.braking, self.headway, self.gap) <= 0:
            raise ConfigError("accelerations, braking, headway and gap must be above zero")


class LaneFollower:
    """Follows the route at a target speed, slows for curves, keeps its distance from agents on its path (IDM) and stops at red
    lights.

    It can swerve about the route in a slow sine, to look at the world from beside the recorded path.
    """

    requires = PlannerNeeds(map=True, privileged=True)

    def __init__(self, config: LaneFollowerConfig | None = None, vehicle: VehicleParameters | None = None) -> None:
        self.config = config or LaneFollowerConfig()
        self.vehicle = vehicle or VehicleParameters()

    def reset(self, context: PlannerContext, seed: int) -> None:
        self._route, self._lights = context.scene.route, LightsAhead(context.scene)
        moving = context.scene.ego.speed[context.scene.ego.speed > 1.0]
        target = self.config.target_speed
        if target is None:
            target = float(moving.mean()) if len(moving) else 5.0
        self._limit = self._speed_profile(target)
        self._start: float | None = None
        self._position: float | None = None

    def _speed_profile(self, target: float) -> np.ndarray:
        """(P,) m/s, at most ``target``, at every route point, so that the curves ahead are reached braking comfortably."""
        s = self._route.arc_length
        # Over 6 m either way, so that the corners of the polyline do not read as curves.
        turn = self._route.sample(np.minimum(s + 6, s[-1]))[:, 2] - self._route.sample(np.maximum(s - 6, 0))[:, 2]
        curvature = np.abs(turn) / np.maximum(np.minimum(s + 6, s[-1]) - np.maximum(s - 6, 0), 1e-3)
        limit = np.minimum(np.sqrt(self.config.lateral_acceleration / np.maximum(curvature, 1e-6)), target)
        for index in range(len(s) - 2, -1, -1):
            reachable = math.sqrt(limit[index + 1] ** 2 + 2 * self.config.braking * (s[index + 1] - s[index]))
            limit[index] = min(limit[index], reachable)
        return limit

    def plan(self, observation: PlannerInput) -> Plan:
        ego, time = observation.ego, observation.time
        self._start = time if self._start is None else self._start
        s, offset, _ = self._route.project(ego.x, ego.y, self._position)
        self._position = s
        front, c = self.vehicle.rear_axle_to_center + self.vehicle.length / 2, self.config
        stop = self._lights.free(observation.lights, s + front, ego.speed, c.braking, _HARDEST)
        leaders = [leader for leader in (self._leader(s, observation), (stop, 0.0)) if leader is not None and leader[0] < np.inf]
        distances = self._rollout(s, ego, leaders)
        ahead = PLAN_DT * np.arange(1, PLAN_POSES + 1)
        # The ego's offset from the wished one fades, so that a plan never jumps sideways.
        beside = self._swerve(time + ahead) + (offset - float(self._swerve(time))) * deterministic.exp(-ahead / 1.5)
        poses = self._route.sample(s + distances)
        poses[:, :2] += beside[:, None] * np.column_stack([-deterministic.sin(poses[:, 2]), deterministic.cos(poses[:, 2])])
        slope = np.diff(beside, prepend=offset) / np.maximum(np.diff(distances, prepend=0.0), 1.0)
        poses[:, 2] += deterministic.arctan(slope)
        return Plan(in_ego_frame(poses, ego), PLAN_DT)

    def _swerve(self, time: np.ndarray | float) -> np.ndarray:
        assert self._start is not None
        phase = 2 * np.pi * (np.asarray(time) - self._start) / self.config.swerve_period
        return self.config.swerve_amplitude * deterministic.sin(phase)

    def _rollout(self, s: float, ego: EgoState, leaders: list[tuple[float, float]]) -> np.ndarray:
        """(8,) metres driven along the route after 0.5 s, 1 s, ..., by the IDM behind leaders (gap in m, speed in m/s)."""
        c = self.config
        speed, driven = ego.speed, [0.0]
        for tick in range(PLAN_TICKS):
            wished = max(float(np.interp(s + driven[-1], self._route.arc_length, self._limit)), 0.1)
            # The IDM's own pull towards a falling limit is too weak to arrive in a curve at its speed.
            accel = c.acceleration * (1 - (speed / wished) ** 4)
            if speed > wished:
                accel = min(accel, (wished - speed) / _SLOWING)
            for leader in leaders:
                gap = max(leader[0] + leader[1] * tick * TICK - driven[-1], 0.1)
                approach = speed * (speed - leader[1]) / (2 * math.sqrt(c.acceleration * c.braking))
                desired = c.gap + max(0.0, speed * c.headway + approach)
                accel = min(accel, c.acceleration * (1 - (speed / wished) ** 4 - (desired / gap) ** 2))
            speed = max(speed + max(accel, -_HARDEST) * TICK, 0.0)
            driven.append(driven[-1] + speed * TICK)
        return np.array(driven[POSE_TICKS::POSE_TICKS])

    def _leader(self, s: float, observation: PlannerInput) -> tuple[float, float] | None:
        """Gap (m, bumper to bumper) and speed along the route (m/s) of the nearest agent that is, or soon will be, in the way."""
        agents = Agents.of(observation).within(observation.ego.x, observation.ego.y, _SIGHT)
        if not len(agents):
            return None
        later = np.array([0.0, 1.0, 2.0])[:, None]  # (3, 1): where an agent is now and where its velocity takes it
        around = np.arange(s - _SIGHT, s + _SIGHT, 1.0)
        samples = PathSamples.of(self._route, around[(around >= 0) & (around <= self._route.length)])
        at, beside, heading, _ = samples.project(agents.position + later[..., None] * agents.velocity)  # (3, N) each
        long, wide = half_extents(agents.yaw - heading, agents.size)
        velocity = agents.velocity
        along = velocity[:, 0] * deterministic.cos(heading) + velocity[:, 1] * deterministic.sin(heading)
        front = self.vehicle.rear_axle_to_center + self.vehicle.length / 2
        gap = at - along * later - s - front - long
        reach = wide + self.vehicle.width / 2 + _CLEARANCE
        in_way = (at > s + 0.5) & (np.abs(beside - self._swerve(observation.time + later)) < reach)
        if not in_way.any():
            return None
        time, agent = np.unravel_index(int(np.argmin(np.where(in_way, gap, np.inf))), gap.shape)
        return max(float(gap[time, agent]), 0.1), max(float(along[time, agent]), 0.0)
