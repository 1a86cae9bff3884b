"""A learned policy on the planning benchmark.

python -m dist4d_env evaluate --planner dist4d_env.learning.policy_planner:Shipped
DIST4D_POLICY=runs/ppo/best python -m dist4d_env evaluate --planner dist4d_env.learning.policy_planner:FromEnvironment
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dist4d_env.errors import ConfigError
from dist4d_env.learning.policy_files import Policy
from dist4d_env.learning.views import one
from dist4d_env.planners.contract import PLAN_DT, Plan, PlannerContext, PlannerInput, PlannerNeeds

SHIPPED = Path(__file__).parent / "policies" / "ppo_vector"
"""PPO on vector observations, trained in the town (docs/reinforcement-learning.md)."""


class PolicyPlanner:
    """Drives with the policy of a folder that ``agents/train_sb3.py`` wrote.

    A policy of ``action="route"`` returns a ``Plan``; one of "controls" or "discrete" returns the action itself, for an
    environment with that ``action``. Raises WeightsError where the folder holds no policy.
    """

    def __init__(self, folder: str | Path) -> None:
        self.policy = Policy.load(folder)
        self.requires = PlannerNeeds(cameras=self.policy.config.view.cameras, rate_hz=1 / self.policy.config.decision_dt)

    def reset(self, context: PlannerContext, seed: int) -> None:
        """Nothing is remembered. Raises ConfigError for decisions at another rate than it was trained with."""
        trained = self.policy.config.decision_dt
        if abs(context.decision_dt - trained) > 1e-6:
            raise ConfigError(f"the policy decides every {trained} s: make the environment with decision_dt={trained}")

    def plan(self, observation: PlannerInput) -> Any:
        view = self.policy.config.view
        missing = [key for key in view.groups if key not in ("cameras", "depth") and key not in observation.observation]
        if missing:
            raise ConfigError(f"the policy needs {', '.join(missing)}: add them to the environment's observation=(...)")
        action = self.policy.act(one(observation.observation))[0]
        return Plan(action.astype(float), PLAN_DT) if view.action == "route" else action


class ShippedPolicy(PolicyPlanner):
    """The policy in this repository."""

    def __init__(self) -> None:
        super().__init__(SHIPPED)


class FromEnvironment(PolicyPlanner):
    """The policy in the folder that the variable DIST4D_POLICY names."""

    def __init__(self) -> None:
        folder = os.environ.get("DIST4D_POLICY")
        if not folder:
            raise ConfigError("set DIST4D_POLICY to the folder of a policy that agents/train_sb3.py wrote")
        super().__init__(folder)
