"""Constant acceleration along the route: keeps its lane and heeds no agents."""

from __future__ import annotations

import numpy as np

from dist4d_env.planners.contract import PLAN_DT, PLAN_TICKS, POSE_TICKS, Plan, PlannerContext, PlannerInput, PlannerNeeds
from dist4d_env.planners.observed_agents import observed
from dist4d_env.planners.route_profile import RouteProfile
from dist4d_env.scenes.route import Route
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.ego import EgoState

FALLBACK = 15.0
"""m/s it never accelerates beyond where no limit is known."""
_LIMIT = 7  # column of the "ego" observation


class LaneKeeping:
    """Keeps its acceleration and follows the "route" observation, within the speed limit and what curves allow."""

    requires = PlannerNeeds()

    def reset(self, context: PlannerContext, seed: int) -> None:
        """Nothing is remembered."""

    def plan(self, observation: PlannerInput) -> Plan:
        ahead = np.asarray(observed(observation, "route"), float)
        limit = float(observed(observation, "ego")[_LIMIT]) or FALLBACK
        # The first point is 2.5 m ahead: one as far behind, so that the ego is beside the line.
        route = Route.through(np.vstack([2 * ahead[0] - ahead[1], ahead]))
        now = observation.ego
        ego = EgoState(0.0, 0.0, 0.0, now.speed, now.acceleration, now.steering, now.yaw_rate)
        profile = RouteProfile(route, np.full(len(route.points), max(limit, now.speed)))
        start = profile.locate(ego)
        speed, driven = now.speed, np.zeros(PLAN_TICKS + 1)
        for tick in range(PLAN_TICKS):
            allowed = float(profile.speed_at(np.array(start.s + driven[tick])))
            later = max(min(speed + now.acceleration * TICK, allowed), 0.0)
            driven[tick + 1], speed = driven[tick] + (speed + later) / 2 * TICK, later
        return Plan(profile.poses(start, driven[POSE_TICKS::POSE_TICKS]), PLAN_DT)
