"""Planners by name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dist4d_env.errors import ConfigError

if TYPE_CHECKING:
    from dist4d_env.planner import Planner

BUILT_IN = {"lane": "dist4d_env.planner:LaneFollower", "log": "dist4d_env.planner:LogFollower"}
"""What the package itself brings."""


def known_planners() -> dict[str, str]:
    """Short names to "module:Class": the package's own and, in a checkout, those of ``agents.PLANNERS``."""
    try:
        agents = importlib.import_module("agents")
    except ModuleNotFoundError as error:
        if error.name != "agents":
            raise
        return dict(BUILT_IN)
    return {**BUILT_IN, **getattr(agents, "PLANNERS", {})}


def make_planner(name: str) -> Planner:
    """A planner by short name or module:Class. Raises ConfigError."""
    known = known_planners()
    module, _, attribute = known.get(name, name).partition(":")
    if not attribute:
        raise ConfigError(f"planner {name!r} is unknown: choose {', '.join(known)} or give your own as module:Class")
    try:
        made: Any = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"planner {name!r} cannot be found ({error}); is its folder on PYTHONPATH?") from error
    except TypeError as error:
        raise ConfigError(f"planner {name!r} cannot be made without arguments ({error})") from error
    missing = [part for part in ("requires", "reset", "plan") if not hasattr(made, part)]
    if missing:
        raise ConfigError(f"planner {name!r} has no {', '.join(missing)}: see dist4d_env.planner.Planner")
    planner: Planner = made
    return planner
