"""The reward: named terms, and the weights that add them up."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dist4d_env.errors import ConfigError

DEFAULT_WEIGHTS = {
    "progress": 0.2,
    "collision": -20.0,
    "off_road": -10.0,
    "wrong_way": -10.0,
    "comfort": -0.5,
    "speed_limit": -0.2,
    "route_offset": -0.05,
}
"""Reward per unit of each term: at 10 m/s along the route a decision of 0.5 s is worth 1, a collision costs 10 s of that."""


def reward_weights(weights: Mapping[str, float] | None) -> dict[str, float]:
    """The weights to use: the defaults for None, else the given ones (terms not named weigh nothing). Raises ConfigError."""
    if weights is None:
        return dict(DEFAULT_WEIGHTS)
    if not isinstance(weights, Mapping):
        raise ConfigError(f"reward={weights!r} must be a dict of weights by term: {', '.join(DEFAULT_WEIGHTS)}")
    for name, weight in weights.items():
        if name not in DEFAULT_WEIGHTS:
            raise ConfigError(f"reward term {name!r} is unknown: choose from {', '.join(DEFAULT_WEIGHTS)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ConfigError(f"reward[{name!r}]={weight!r} must be a finite number")
    return {name: float(weight) for name, weight in weights.items()}


def reward_terms(values: Mapping[str, float], decision_dt: float) -> dict[str, float]:
    """The terms of one decision, unweighted.

    values: ``metrics.running`` after the decision; a term whose value is not known there (no map, no speed limit) is 0.
    progress: m along the route; collision, off_road, wrong_way: 1 where it happened, else 0 (collision: at the ego's fault);
    comfort: share of ticks outside nuPlan's comfort bounds; speed_limit: m/s above the limit times s; route_offset: m beside the
    route times s.
    """
    terms = {
        "progress": values["progress_delta"],
        "collision": values["at_fault_collision"],
        "off_road": values["off_road"],
        "wrong_way": values["wrong_way"],
        "comfort": values["discomfort"],
        "speed_limit": values["speeding"] * decision_dt,
        "route_offset": abs(values["route_offset"]) * decision_dt,
    }
    return {name: 0.0 if math.isnan(value) else float(value) for name, value in terms.items()}


def weighted_sum(terms: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The reward of one decision."""
    return float(sum(weight * terms[name] for name, weight in weights.items()))
