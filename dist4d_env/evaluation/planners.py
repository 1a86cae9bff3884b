"""Planners by name, by the folder of a learned policy, or as objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dist4d_env.planners.contract import Planner
from dist4d_env.registry import PLANNERS

CONTRACT = ("requires", "reset", "plan")


def make_planner(name: Any) -> Planner:
    """A planner: a name of ``registry.PLANNERS``, ``"module:Class"``, the folder of a learned policy, or an object.

    Raises ConfigError for what is no planner, WeightsError for a folder without a policy.
    """
    if isinstance(name, str) and name not in PLANNERS.names() and (Path(name).is_dir() or "/" in name):
        from dist4d_env.learning.policy_planner import PolicyPlanner

        return PolicyPlanner(name)
    planner: Planner = PLANNERS.make(name, CONTRACT)
    return planner
