"""The reward: named terms, the weights that add them up, and presets of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from types import MappingProxyType

import numpy as np

from dist4d_env.errors import ConfigError, shown
from dist4d_env.metrics.driving.composite import PARTS
from dist4d_env.metrics.driving.composite import PDMS_WEIGHTS as PDMS_PARTS
from dist4d_env.metrics.driving.progress import SHORT, ego_progress
from dist4d_env.metrics.driving.trace import EpisodeTrace

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

CHOSEN_TERMS = ("red_light", "arrival", "pdms")
"""Terms that are there only where they are weighed; the last two look at the whole episode so far."""
TERMS = (*DEFAULT_WEIGHTS, *CHOSEN_TERMS)
LARGEST = 1e9
"""Of a weight: sums of rewards stay finite also as 32-bit numbers."""
ARRIVED = 0.9
"""Share of the logged ego's progress that counts as having arrived."""

SHORT_TTC = 1.0  # s; metrics.time_to_collision looks 0.9 s ahead


def reward_weights(weights: str | Mapping[str, float] | None) -> dict[str, float]:
    """The weights to use: a preset's by name, the defaults ("shaped") for None, else the given ones (terms not named weigh
    nothing). Raises ConfigError."""
    if weights is None:
        return dict(DEFAULT_WEIGHTS)
    if isinstance(weights, str):
        if weights not in PRESETS:
            raise ConfigError(f"reward={shown(weights)} is unknown: choose {', '.join(PRESETS)} or a dict of weights by term")
        return dict(PRESETS[weights])
    if not isinstance(weights, Mapping):
        raise ConfigError(
            f"reward={shown(weights)} must be {', '.join(PRESETS)} or a dict of weights by term: {', '.join(TERMS)}"
        )
    for name, weight in weights.items():
        if name not in TERMS:
            raise ConfigError(f"reward term {shown(name)} is unknown: choose from {', '.join(TERMS)}")
        if isinstance(weight, bool) or not isinstance(weight, Real) or not -LARGEST <= weight <= LARGEST:
            raise ConfigError(f"reward[{name!r}]={shown(weight)} must be a finite number, at most {LARGEST:g} either way")
    return {name: float(weight) for name, weight in weights.items()}


def reward_terms(values: Mapping[str, np.ndarray], decision_dt: float) -> dict[str, np.ndarray]:
    """The terms of one decision that its running values say, unweighted, (N,) each.

    values: ``metrics.driving.running`` after the decision; a term whose value is not known there (no map, no speed limit) is 0.
    progress: m along the route; collision, off_road, wrong_way: 1 where it happened, else 0 (collision: at the ego's fault);
    time_to_collision: s that it is short of 1 s, times s; comfort: share of ticks outside nuPlan's comfort bounds; speed_limit:
    m/s above the limit times s; route_offset: m beside the route times s.
    """
    terms = {
        "progress": values["route_progress_delta"],
        "collision": values["at_fault_collision"],
        "off_road": values["off_road"],
        "wrong_way": values["wrong_way"],
        "time_to_collision": np.maximum(SHORT_TTC - values["time_to_contact"], 0.0) * decision_dt,
        "comfort": values["discomfort"],
        "speed_limit": values["speeding"] * decision_dt,
        "route_offset": np.abs(values["route_offset"]) * decision_dt,
    }
    return {name: known(value) for name, value in terms.items()}


def known(value: np.ndarray) -> np.ndarray:
    """(N,) a term, 0 where it is not known."""
    return np.where(np.isnan(value), 0.0, value)


def arrival(time: float, end_time: float, values: Mapping[str, float], reference: float) -> float:
    """1 at the decision that reaches ``end_time`` without a failure, the ego having come at least 90 % as far along the route as
    the logged one, which makes ``reference`` metres (where that is 5 m or less: always); else 0."""
    failed = any(values[name] == 1.0 for name in ("at_fault_collision", "off_road", "wrong_way"))
    came_along = reference <= SHORT or values["route_progress"] >= ARRIVED * reference
    return float(time > end_time - 1e-6 and not failed and came_along)


def pdms_so_far(trace: EpisodeTrace, end_time: float, reference: float) -> float:
    """What an episode meant to last until ``end_time`` has collected of its ``pdms_v1``; nan where that is not valid.

    NC x DAC x (5 EP + s (5 TTC + 2 C)) / 12 over the trace so far: s is the share of the time that has passed, EP the progress
    over ``reference``, the metres the logged ego makes in all of the time (where neither makes 5 m: s). It is 0 at the start
    and ``pdms_v1`` at the end; a fault takes back what was collected. What needs a longer trace to be judged counts as kept.
    """
    begin, now = float(trace.time[0]), float(trace.time[-1])
    if now <= begin:
        return 0.0
    parts = {name: metric(trace) for name, metric in PARTS["corrected"].items()}
    if not parts["drivable_area_compliance"].valid:
        return math.nan
    multiplier = parts["no_at_fault_collision"].value * parts["drivable_area_compliance"].value
    share = (now - begin) / (end_time - begin)
    value = {name: parts[name].value if parts[name].valid else 1.0 for name in ("time_to_collision", "comfort")}
    value = {name: share * kept for name, kept in value.items()}
    progress = ego_progress(trace, multiplier, reference)
    standing = max(progress.details["progress"] * multiplier, reference) <= SHORT
    value["ego_progress"] = progress.value * (share if standing else 1.0)
    return multiplier * sum(weight * value[name] for name, weight in PDMS_PARTS.items()) / sum(PDMS_PARTS.values())


def weighted_sum(terms: Mapping[str, np.ndarray], weights: Mapping[str, float], count: int) -> np.ndarray:
    """(N,) the rewards of one decision."""
    total = np.zeros(count)
    for name, weight in weights.items():
        total = total + weight * terms[name]
    return total
