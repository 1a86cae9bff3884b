"""Rewards of many decisions at once, each as ``rewards`` has it alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dist4d_env.envs.rewards import SHORT_TTC


def reward_terms_batch(values: Mapping[str, np.ndarray], decision_dt: float) -> dict[str, np.ndarray]:
    """``rewards.reward_terms`` of running values (B,)."""
    terms = {
        "progress": values["progress_delta"],
        "collision": values["at_fault_collision"],
        "off_road": values["off_road"],
        "wrong_way": values["wrong_way"],
        "time_to_collision": np.maximum(SHORT_TTC - values["time_to_collision"], 0.0) * decision_dt,
        "comfort": values["discomfort"],
        "speed_limit": values["speeding"] * decision_dt,
        "route_offset": np.abs(values["route_offset"]) * decision_dt,
    }
    return {name: np.where(np.isnan(value), 0.0, value) for name, value in terms.items()}


def weighted_sum_batch(terms: Mapping[str, np.ndarray], weights: Mapping[str, float], count: int) -> np.ndarray:
    """(B,) ``rewards.weighted_sum``."""
    total = np.zeros(count)
    for name, weight in weights.items():
        total = total + weight * terms[name]
    return total
