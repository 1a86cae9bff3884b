"""Planners by name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dist4d_env.errors import ConfigError
from dist4d_env.planners.builtin import PLANNERS

if TYPE_CHECKING:
    from dist4d_env.planners.contract import Planner


def make_planner(name: str) -> Planner:
    """A planner by short name or module:Class. Raises ConfigError."""
    module, _, attribute = PLANNERS.get(name, name).partition(":")
    if not attribute:
        raise ConfigError(f"planner {name!r} is unknown: choose {', '.join(PLANNERS)} or give your own as module:Class")
    try:
        made: Any = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"planner {name!r} cannot be found ({error}); is its folder on PYTHONPATH?") from error
    except TypeError as error:
        raise ConfigError(f"planner {name!r} cannot be made without arguments ({error})") from error
    missing = [part for part in ("requires", "reset", "plan") if not hasattr(made, part)]
    if missing:
        raise ConfigError(f"planner {name!r} has no {', '.join(missing)}: see dist4d_env.planners.contract.Planner")
    planner: Planner = made
    return planner
