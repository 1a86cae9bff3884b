"""Constant velocity: straight on at the present speed, the baseline of all planners."""

from __future__ import annotations

import numpy as np

from dist4d_env.planners.contract import PLAN_DT, PLAN_POSES, Plan, PlannerContext, PlannerInput, PlannerNeeds


class ConstantVelocity:
    """Keeps heading and speed. Looks at nothing but itself."""

    requires = PlannerNeeds()

    def reset(self, context: PlannerContext, seed: int) -> None:
        """Nothing is remembered."""

    def plan(self, observation: PlannerInput) -> Plan:
        x = observation.ego.speed * PLAN_DT * np.arange(1, PLAN_POSES + 1)
        return Plan(np.column_stack([x, np.zeros(PLAN_POSES), np.zeros(PLAN_POSES)]), PLAN_DT)
