"""PDM-Closed (Dauner et al. 2023): fifteen simple proposals, simulated and scored, the best one driven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.rectangles import ego_centers, overlap
from dist4d_env.metrics.driving.route_lanes import lanes_on_route
from dist4d_env.metrics.plans.scene import FUTURE, PlanScene
from dist4d_env.metrics.plans.scoring import score_plans
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
from dist4d_env.planners.following import Corridor, DriverModel, rollout
from dist4d_env.planners.lights_ahead import LightsAhead
from dist4d_env.planners.observed_agents import Agents
from dist4d_env.planners.route_profile import RoutePosition, RouteProfile, posted_limit
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.drive import simulate_plans
from dist4d_env.simulation.ego import EgoState, ego_rows
from dist4d_env.simulation.tracker import LONGITUDINAL_Q, LONGITUDINAL_R

_GAIN = LONGITUDINAL_Q / (LONGITUDINAL_Q + LONGITUDINAL_R)  # 1/s: the tracker's braking per m/s too much
_MOST_BACKWARDS = -4.0  # m/s, so that a plan of 4 s keeps within the action's bounds
_LOOK = 2  # ticks between two looks for the leader


@dataclass(frozen=True)
class PdmConfig:
    """fractions: of the speed limit that the proposals wish for, slowest first; offsets: metres to the left of the route, the
    middle first; free_speed: m/s, the limit where the map has none; model: the driver model of all proposals;
    tolerance: of the score, which a place in the middle of the lane is worth.

    The emergency brake, of ``emergency_braking`` m/s^2, is for a best proposal that is at fault for a collision within
    ``emergency_time`` seconds, or, at up to ``meeting_speed`` m/s, would be after a time to collision of less than a second.
    """

    fractions: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    offsets: tuple[float, ...] = (0.0, -1.0, 1.0)
    free_speed: float = 15.0
    model: DriverModel = field(
        default_factory=lambda: DriverModel(acceleration=1.5, braking=3.0, hardest=3.0, headway=1.5, gap=1.0, exponent=10.0)
    )
    tolerance: float = 0.01
    emergency_braking: float = 8.0
    emergency_time: float = 2.5
    meeting_speed: float = 5.0

    def __post_init__(self) -> None:
        if not self.fractions or not self.offsets or min(self.fractions) <= 0:
            raise ConfigError("PDM-Closed needs fractions of the speed limit above zero and at least one offset")
        if self.free_speed <= 0 or self.emergency_braking <= 0:
            raise ConfigError("PDM-Closed: free_speed and emergency_braking must be above zero")


class PdmClosed:
    """Five speeds times three lateral offsets along the route, each driven by the IDM behind what constant velocity forecasts
    and up to the stop lines of red lights, followed by tracker and bicycle, scored by PDMS; the best is the plan, unless it calls
    for an emergency brake.

    The numbers are the original's. Differences: plans last 4 s, as much as the environment follows, instead of 8 s; the
    centreline is the environment's route; curves are driven at ``route_profile.LATERAL_ACCELERATION``, where the original keeps
    its speed; the accelerator is pressed gently; a planner asked twice a second instead of ten times has to brake earlier and
    harder, at any speed (8 m/s^2, 2.5 s ahead; the original: 4.05 m/s^2, 2 s, at up to 5 m/s). Scores are ``score_plans`` v1,
    corrected.
    """

    requires = PlannerNeeds(map=True)

    def __init__(self, config: PdmConfig | None = None, vehicle: VehicleParameters | None = None) -> None:
        self.config, self.vehicle = config or PdmConfig(), vehicle or VehicleParameters()
        # Slowest first and the middle before the sides: of equal scores the first wins, as when all fail.
        self._offset = np.tile(self.config.offsets, len(self.config.fractions))

    def reset(self, context: PlannerContext, seed: int) -> None:
        self._scene = context.scene
        limit = posted_limit(context.scene, self.config.free_speed)
        self._profiles = [RouteProfile(context.scene.route, fraction * limit) for fraction in self.config.fractions]
        self._on_route = lanes_on_route(context.scene.map, context.scene.route.lanes)
        self._lights = LightsAhead(context.scene)
        self._s: float | None = None

    def plan(self, observation: PlannerInput) -> Plan:
        ego = observation.ego
        start = self._profiles[0].locate(ego, self._s)
        self._s = start.s
        agents = Agents.of(observation)
        driven = self._proposals(observation.lights, ego, start, agents)
        poses = self._profiles[0].poses(start, driven[:, POSE_TICKS::POSE_TICKS], self._offset[:, None])
        plans = np.stack([in_ego_frame(pose, ego) for pose in poses])
        driven_rows = simulate_plans(ego, plans, PLAN_DT, PLAN_TICKS, self.vehicle)
        scores = score_plans(driven_rows, self._forecast(agents, start.s), "v1", "corrected")
        best = self._choice(scores.score)
        if self._emergency(ego, scores.details(best)):
            return Plan(emergency_brake(ego.speed, self.config.emergency_braking), PLAN_DT)
        return Plan(plans[best], PLAN_DT)

    def _proposals(self, lights: np.ndarray, ego: EgoState, start: RoutePosition, agents: Agents) -> np.ndarray:
        """(15, 41) metres driven along the paths."""
        offsets, count = self.config.offsets, len(self._offset)
        free = agents.select(~_touched(ego, agents, self.vehicle))
        times = np.arange(0, PLAN_TICKS + 1, _LOOK) * TICK
        path = self._profiles[0].poses
        corridors = [Corridor.of(partial(path, start, beside=offset), free, times, self.vehicle.width) for offset in offsets]
        front = self.vehicle.rear_axle_to_center + self.vehicle.length / 2
        lane, model = np.arange(count) % len(offsets), self.config.model
        stop = self._lights.free(lights, start.s + front, ego.speed, model.braking, model.hardest)

        def wished(driven: np.ndarray) -> np.ndarray:
            by_speed = np.split(driven, len(self._profiles))
            return np.concatenate([p.speed_at(start.s + d) for p, d in zip(self._profiles, by_speed, strict=True)])

        def leader(tick: int, driven: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            gap, along = np.empty(count), np.empty(count)
            for index, corridor in enumerate(corridors):
                here = lane == index
                gap[here], along[here] = corridor.leader((tick + 1) // _LOOK, driven[here], front)
            return gap, along

        return rollout(ego, wished, leader, model, count, stop=stop)

    def _forecast(self, agents: Agents, near: float) -> PlanScene:
        """All agents at constant velocity and heading over the next 5 s."""
        time = np.arange(FUTURE + 1)[:, None, None] * TICK
        shape = (FUTURE + 1, len(agents))
        return PlanScene(
            position=agents.position + time * agents.velocity,
            yaw=np.broadcast_to(agents.yaw, shape),
            velocity=np.broadcast_to(agents.velocity, (*shape, 2)),
            valid=np.ones(shape, bool),
            size=agents.size,
            category=agents.category.astype(np.int8),
            map=self._scene.map,
            route=self._scene.route,
            vehicle=self.vehicle,
            on_route=self._on_route,
            near=near,
        )

    def _choice(self, score: np.ndarray) -> int:
        """The best proposal; of those that are as good but for ``tolerance``, one in the middle of the lane."""
        aside = np.where(score >= score.max() - self.config.tolerance, np.abs(self._offset), np.inf)
        return int(np.lexsort((-score, aside))[0])

    def _emergency(self, ego: EgoState, found: Mapping[str, Any]) -> bool:
        """Whether the best proposal still is at fault for a collision, or about to be, within the time that is left to brake."""
        collision, meeting = found["collision"], found["meeting"] if ego.speed <= self.config.meeting_speed else None
        first = min((cause["step"] for cause in (collision, meeting) if cause is not None), default=np.inf)
        return bool(first * TICK <= self.config.emergency_time)


def emergency_brake(speed: float, braking: float = PdmConfig.emergency_braking) -> np.ndarray:
    """(8, 3) poses straight ahead at a speed towards which the tracker brakes with ``braking`` (m/s^2) from ``speed`` (m/s).

    The tracker approaches a speed exponentially, so to stop quickly it is asked for one below zero; the car does not reverse.
    """
    asked = max(speed - braking / _GAIN, _MOST_BACKWARDS)
    return np.column_stack([asked * PLAN_DT * np.arange(1, PLAN_POSES + 1), np.zeros((PLAN_POSES, 2))])


def _touched(ego: EgoState, agents: Agents, vehicle: VehicleParameters) -> np.ndarray:
    """(N,) which agents overlap with the ego now: an agent that is hit already is no leader."""
    center = ego_centers(ego_rows([ego]), vehicle)[0]
    return overlap(center, ego.yaw, np.array([vehicle.length, vehicle.width]), agents.position, agents.yaw, agents.size)
