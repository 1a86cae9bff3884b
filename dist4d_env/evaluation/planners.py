"""Planners by name, by the folder of what was learned, or as objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dist4d_env.errors import ConfigError, DiST4DError
from dist4d_env.planners.contract import Planner, PlannerNeeds, raised_text
from dist4d_env.registry import PLANNERS

CONTRACT = ("requires", "reset", "plan")
END_TO_END_WEIGHTS = "network.safetensors"
"""The file by which the folder of an end-to-end network is told from that of a policy."""


def make_planner(name: Any) -> Planner:
    """A planner: a name of ``registry.PLANNERS``, ``"module:Class"``, the folder of a learned policy or end-to-end network, or an
    object.

    Raises ConfigError for what is no planner or cannot be made, WeightsError for a folder without a policy.
    """
    try:
        planner = _made(name)
    except DiST4DError:
        raise
    except Exception as error:
        raise ConfigError(f"planner {name!r} cannot be made ({raised_text(error)})") from error
    if not isinstance(planner.requires, PlannerNeeds):
        raise ConfigError(f"planner {name!r}: requires must be a PlannerNeeds, not {planner.requires!r:.80} (docs/planners.md)")
    return planner


def _made(name: Any) -> Planner:
    if isinstance(name, str) and name not in PLANNERS.names() and (Path(name).is_dir() or "/" in name):
        if Path(name, END_TO_END_WEIGHTS).is_file():
            from dist4d_env.learning.end_to_end import EndToEndConfig, EndToEndPlanner

            return EndToEndPlanner(EndToEndConfig(name))
        from dist4d_env.learning.policy_planner import PolicyPlanner

        return PolicyPlanner(name)
    planner: Planner = PLANNERS.make(name, CONTRACT)
    return planner
