"""The intelligent driver model along the route, with the parameters of nuPlan's IDM planner."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.planners.contract import PLAN_DT, POSE_TICKS, Plan, PlannerContext, PlannerInput, PlannerNeeds, in_ego_frame
from dist4d_env.planners.following import Corridor, DriverModel, rollout
from dist4d_env.planners.lights_ahead import LightsAhead
from dist4d_env.planners.observed_agents import Agents
from dist4d_env.planners.route_profile import RouteProfile, posted_limit
from dist4d_env.scenes.scene import TICK

FREE_SPEED = 10.0
"""m/s it wishes for where the map has no limit, as nuPlan's does."""
RADIUS = 40.0
"""Metres around itself within which it heeds agents."""


class IdmPlanner:
    """Follows the route at the speed limit, keeps its distance from the agent ahead in its corridor and stops at red lights.

    As in nuPlan (Caesar et al. 2021) the only leader is the nearest agent that already stands in the corridor: it forecasts
    nothing, so that it reacts late to crossing agents. Beyond the original it slows down for curves, follows the limit along the
    route instead of the first lane's, and expects its leader to move on at its speed.
    """

    requires = PlannerNeeds(map=True)

    def __init__(self, model: DriverModel | None = None, vehicle: VehicleParameters | None = None) -> None:
        self.model = model or DriverModel(acceleration=1.0, braking=3.0, headway=1.5, gap=1.0)
        self.vehicle = vehicle or VehicleParameters()

    def reset(self, context: PlannerContext, seed: int) -> None:
        self._profile = RouteProfile(context.scene.route, posted_limit(context.scene, FREE_SPEED))
        self._lights = LightsAhead(context.scene)
        self._s: float | None = None

    def plan(self, observation: PlannerInput) -> Plan:
        profile, ego, vehicle = self._profile, observation.ego, self.vehicle
        start = profile.locate(ego, self._s)
        self._s = start.s
        agents = Agents.of(observation).within(ego.x, ego.y, RADIUS)
        corridor = Corridor.of(lambda ahead: profile.poses(start, ahead), agents, np.zeros(1), vehicle.width)
        front, model = vehicle.rear_axle_to_center + vehicle.length / 2, self.model
        (gap,), (speed,) = corridor.leader(0, np.zeros(1), front)
        stop = self._lights.free(observation.lights, start.s + front, ego.speed, model.braking, model.hardest)

        def leader(tick: int, driven: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return gap + max(speed, 0.0) * TICK * tick - driven, np.full(driven.shape, speed)

        driven = rollout(ego, lambda driven: profile.speed_at(start.s + driven), leader, model, 1, stop=stop)
        return Plan(in_ego_frame(profile.poses(start, driven[0, POSE_TICKS::POSE_TICKS]), ego), PLAN_DT)
