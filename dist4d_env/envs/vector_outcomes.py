"""What N decisions come to: rewards, ends and final metrics, each as ``rewards``, ``termination`` and ``suite`` have it alone."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

import numpy as np

from dist4d_env.envs.config import EnvConfig
from dist4d_env.envs.info import final_info
from dist4d_env.envs.lazy_dict import LazyDict
from dist4d_env.envs.rewards import JUDGED, SHORT_TTC
from dist4d_env.envs.rewards_judged import judged_terms
from dist4d_env.envs.termination import CAUSES, termination_cause, truncation_cause
from dist4d_env.envs.vector_episodes import Episodes
from dist4d_env.metrics.driving.running import Running
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.scenes.scene import Scene

AddInfo = Callable[[dict[str, Any], dict[str, Any], int], dict[str, Any]]
"""How Gymnasium's vector environment adds one environment's info to that of all."""


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


def judged_before(episodes: Episodes, weights: Mapping[str, float], beginnings: Container[int]) -> dict[int, Running | None]:
    """The bookkeeping before a decision, where terms are weighed that look at it; None for the episodes that begin with it."""
    if not any(weights.get(name) for name in JUDGED):
        return {}
    return {row: None if row in beginnings else episodes.bookkeeping(row) for row in range(len(episodes.played))}


def all_terms(
    episodes: Episodes, weights: Mapping[str, float], before: Mapping[int, Running | None], decision_dt: float
) -> dict[str, np.ndarray]:
    """(N,) the reward terms after a decision; before: as from ``judged_before``."""
    terms = reward_terms_batch(episodes.values, decision_dt)
    terms |= {name: np.zeros(len(episodes.played)) for name in JUDGED if weights.get(name)}
    for row, running in before.items():
        played = episodes.played[row]
        for name, value in judged_terms(weights, played.room[2], running, episodes.bookkeeping(row), played.end_time).items():
            terms[name][row] = value
    return terms


def end_episodes(episodes: Episodes, begins: np.ndarray, config: EnvConfig) -> tuple[np.ndarray, np.ndarray]:
    """Ends what has to end; (N,) which episodes have been terminated and which truncated. Those that begin are neither."""
    values, time = episodes.values, episodes.now.time
    failed = np.zeros(len(begins), bool)
    for cause in config.termination:
        failed |= values[CAUSES[cause]] == 1.0
    terminations, truncations = failed & ~begins, np.zeros(len(begins), bool)
    for row in np.flatnonzero(terminations).tolist():
        causes = {name: float(value[row]) for name, value in values.items()}
        episodes.played[row].ended_by = termination_cause(causes, config.termination)
    for row in np.flatnonzero(~failed & ~begins).tolist():
        played = episodes.played[row]
        trust = played.world_info.trust
        played.ended_by = truncation_cause(float(time[row]), played.end_time, trust, config.trust_floor)
        truncations[row] = played.ended_by is not None
    return terminations, truncations


def final_metrics(episodes: Episodes, ended: np.ndarray, add: AddInfo) -> LazyDict:
    """The metrics of whole episodes by name, for those of N that have ended, worked out by whoever looks first."""
    rows = np.flatnonzero(ended).tolist()
    places = {row: (episodes.played[row].room[0], episodes.played[row].end_time) for row in rows}
    return LazyDict(partial(_judged, {row: episodes.later_trace(row) for row in rows}, places, add))


def _judged(
    traces: Mapping[int, Callable[[], EpisodeTrace]], places: Mapping[int, tuple[Scene, float]], add: AddInfo
) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for row, trace in traces.items():
        merged = add(merged, final_info(trace(), *places[row]), row)
    return merged
