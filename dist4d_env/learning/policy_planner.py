"""Learned policies as planners: ``dist4d evaluate --planner FOLDER`` drives a policy, ``--planner ppo`` the shipped one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dist4d_env.errors import ConfigError
from dist4d_env.learning.policy_files import Policy
from dist4d_env.learning.views import batch_of_one
from dist4d_env.planners.contract import PLAN_DT, Plan, PlannerContext, PlannerInput, PlannerNeeds

SHIPPED = Path(__file__).parent / "policies" / "ppo_vector"
"""PPO on vector observations, trained in the town (docs/reinforcement-learning.md)."""


class PolicyPlanner:
    """Drives with the policy of a folder (``learning.policy_files``), whichever library trained it.

    A policy of ``action="route"`` returns a ``Plan``; one of "controls" or "discrete" returns the action itself, for an
    environment with that ``action``. Raises WeightsError where the folder holds no policy.
    """

    def __init__(self, folder: str | Path) -> None:
        self.policy = Policy.load(folder)
        self.requires = PlannerNeeds(cameras=bool(self.policy.config.view.cameras), rate_hz=1 / self.policy.config.decision_dt)

    def reset(self, context: PlannerContext, seed: int) -> None:
        """Nothing is remembered. Raises ConfigError for decisions at another rate than it was trained with."""
        trained = self.policy.config.decision_dt
        if abs(context.decision_dt - trained) > 1e-6:
            raise ConfigError(f"the policy decides every {trained} s: make the environment with decision_dt={trained}")

    def plan(self, observation: PlannerInput) -> Any:
        view = self.policy.config.view
        missing = [key for key in view.keys if key not in observation.observation]
        if missing:
            raise ConfigError(f"the policy needs {', '.join(missing)}: add {view.groups} to the environment's observation=(...)")
        action = self.policy.act(batch_of_one(observation.observation))[0]
        return Plan(action.astype(float), PLAN_DT) if view.action == "route" else action


class ShippedPolicy(PolicyPlanner):
    """The policy that comes with the package."""

    def __init__(self) -> None:
        super().__init__(SHIPPED)
