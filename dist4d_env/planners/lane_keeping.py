"""Constant acceleration along the route: keeps its lane, and sees nobody."""

from __future__ import annotations

import numpy as np

from dist4d_env.planners.contract import PLAN_DT, PLAN_POSES, Plan, PlannerContext, PlannerInput, PlannerNeeds
from dist4d_env.planners.observed_agents import observed
from dist4d_env.planners.route_profile import Way
from dist4d_env.scenes.route import Route
from dist4d_env.simulation.state import EgoState

FALLBACK = 15.0
"""m/s it never accelerates beyond where no limit is known."""
_LIMIT = 7  # column of the "ego" observation


class LaneKeeping:
    """Keeps the acceleration it has and follows the "route" observation, within the speed limit and what curves allow."""

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
        way = Way(route, np.full(len(route.points), max(limit, now.speed)))
        place = way.place(ego)
        driven = _driven(way, place.s, now.speed, now.acceleration)
        return Plan(way.poses(place, driven), PLAN_DT)


def _driven(way: Way, s: float, speed: float, acceleration: float) -> np.ndarray:
    """(8,) metres after 0.5 s, 1 s, ..."""
    step, driven, metres = 0.1, 0.0, []
    for _ in range(round(PLAN_POSES * PLAN_DT / step)):
        later = max(min(speed + acceleration * step, float(way.speed_at(np.array(s + driven)))), 0.0)
        driven, speed = driven + (speed + later) / 2 * step, later
        metres.append(driven)
    each = round(PLAN_DT / step)
    return np.array(metres)[each - 1 :: each]
