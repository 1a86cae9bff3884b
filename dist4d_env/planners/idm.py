"""The intelligent driver model along the route, with the parameters of nuPlan's IDM planner."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.planners.contract import PLAN_DT, PLAN_POSES, Plan, PlannerContext, PlannerInput, PlannerNeeds, in_ego_frame
from dist4d_env.planners.following import Corridor, DriverModel, path_ahead, roll_out
from dist4d_env.planners.observed_agents import Agents
from dist4d_env.planners.route_profile import Way, posted_limit

FREE_SPEED = 10.0
"""m/s it wishes for where the map tells no limit, as nuPlan's does."""
RADIUS = 40.0
"""Metres around itself within which it heeds agents."""


class IdmPlanner:
    """Follows the route at the speed limit and keeps its distance from whoever is in its corridor now.

    As in nuPlan (Caesar et al. 2021) the only leader is the nearest agent that already stands in the corridor: it forecasts
    nobody's way, so that who crosses is seen late. Beyond the original it slows down for curves, follows the limit along the
    route instead of the first lane's, and expects its leader to move on at its speed.
    """

    requires = PlannerNeeds(map=True)

    def __init__(self, model: DriverModel | None = None, vehicle: VehicleParameters | None = None) -> None:
        self.model = model or DriverModel(acceleration=1.0, braking=3.0, headway=1.5, gap=1.0)
        self.vehicle = vehicle or VehicleParameters()

    def reset(self, context: PlannerContext, seed: int) -> None:
        self._way = Way(context.scene.route, posted_limit(context.scene, FREE_SPEED))
        self._s: float | None = None

    def plan(self, observation: PlannerInput) -> Plan:
        way, ego, vehicle = self._way, observation.ego, self.vehicle
        place = way.place(ego, self._s)
        self._s = place.s
        agents = Agents.of(observation)
        agents = agents.select(np.hypot(agents.position[:, 0] - ego.x, agents.position[:, 1] - ego.y) < RADIUS)
        corridor = Corridor.of(path_ahead(lambda ahead: way.poses(place, ahead)), agents, np.zeros(1), vehicle.width)
        (gap,), (speed,) = corridor.leader(0, np.zeros(1), vehicle.rear_axle_to_center + vehicle.length / 2)

        def leader(tick: int, driven: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return gap + max(speed, 0.0) * 0.1 * tick - driven, np.full(driven.shape, speed)

        each = round(PLAN_DT / 0.1)
        driven = roll_out(ego, lambda driven: way.speed_at(place.s + driven), leader, self.model, 1, PLAN_POSES * each)
        return Plan(in_ego_frame(way.poses(place, driven[0, each::each]), ego), PLAN_DT)
