"""The reward: named terms, the weights that add them up, and presets of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from dist4d_env.errors import ConfigError

DEFAULT_WEIGHTS = {
    "progress": 0.2,
    "collision": -20.0,
    "off_road": -10.0,
    "wrong_way": -10.0,
    "time_to_collision": -4.0,
    "comfort": -2.0,
    "speed_limit": -0.4,
    "route_offset": -0.05,
}
"""Reward per unit of each term: at 10 m/s along the route a decision of 0.5 s is worth 1, a collision costs 10 s of that.

A metre per second above the limit costs twice what the metres gained by it pay, so speeding never pays. Comfort and time to
collision are failed for a whole episode by one bad moment, so a moment is charged like several metres: with a quarter of these
weights PPO learned to drive ever faster, closer and rougher, with more reward and a lower score (docs/reinforcement-learning.md).
"""

SPARSE_WEIGHTS = {"arrival": 1.0, "collision": -1.0, "off_road": -1.0, "wrong_way": -1.0}
PDMS_WEIGHTS = {"pdms": 1.0}
PRESETS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {"shaped": DEFAULT_WEIGHTS, "sparse": SPARSE_WEIGHTS, "pdms": PDMS_WEIGHTS}
)
"""What ``reward="shaped"`` and so on stand for."""

JUDGED = ("arrival", "pdms")
"""Terms that look at the episode so far (``envs.rewards_judged``): there only where they are weighed."""
TERMS = (*DEFAULT_WEIGHTS, *JUDGED)

SHORT_TTC = 1.0  # s; metrics.time_to_collision looks 0.9 s ahead


def reward_weights(weights: str | Mapping[str, float] | None) -> dict[str, float]:
    """The weights to use: a preset's by name, the defaults ("shaped") for None, else the given ones (terms not named weigh
    nothing). Raises ConfigError."""
    if weights is None:
        return dict(DEFAULT_WEIGHTS)
    if isinstance(weights, str):
        if weights not in PRESETS:
            raise ConfigError(f"reward={weights!r} is unknown: choose {', '.join(PRESETS)} or a dict of weights by term")
        return dict(PRESETS[weights])
    if not isinstance(weights, Mapping):
        raise ConfigError(f"reward={weights!r} must be {', '.join(PRESETS)} or a dict of weights by term: {', '.join(TERMS)}")
    for name, weight in weights.items():
        if name not in TERMS:
            raise ConfigError(f"reward term {name!r} is unknown: choose from {', '.join(TERMS)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ConfigError(f"reward[{name!r}]={weight!r} must be a finite number")
    return {name: float(weight) for name, weight in weights.items()}


def reward_terms(values: Mapping[str, float], decision_dt: float) -> dict[str, float]:
    """The terms of one decision that its running values tell, unweighted.

    values: ``metrics.driving.running`` after the decision; a term whose value is not known there (no map, no speed limit) is 0.
    progress: m along the route; collision, off_road, wrong_way: 1 where it happened, else 0 (collision: at the ego's fault);
    time_to_collision: s that it is short of 1 s, times s; comfort: share of ticks outside nuPlan's comfort bounds; speed_limit:
    m/s above the limit times s; route_offset: m beside the route times s.
    """
    terms = {
        "progress": values["progress_delta"],
        "collision": values["at_fault_collision"],
        "off_road": values["off_road"],
        "wrong_way": values["wrong_way"],
        "time_to_collision": max(SHORT_TTC - values["time_to_collision"], 0.0) * decision_dt,
        "comfort": values["discomfort"],
        "speed_limit": values["speeding"] * decision_dt,
        "route_offset": abs(values["route_offset"]) * decision_dt,
    }
    return {name: 0.0 if math.isnan(value) else float(value) for name, value in terms.items()}


def weighted_sum(terms: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The reward of one decision."""
    return float(sum(weight * terms[name] for name, weight in weights.items()))
