"""The ``info`` of N environments, batched as Gymnasium batches that of single ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dist4d_env.envs.timing import Timing
from dist4d_env.envs.vector_episodes import Episodes
from dist4d_env.worlds.contract import WorldInfo


def vector_info(
    told: np.ndarray, episodes: Episodes, terms: Mapping[str, np.ndarray], timing: Mapping[str, float]
) -> dict[str, Any]:
    """What ``information.episode_info`` says of each environment, for those that are ``told`` of (N,).

    Every key has an array of N and, under ``_key``, which of them have it; ``final`` of ``metrics`` is not in here.
    """
    info: dict[str, Any] = {}
    absent = None if told.all() else ~told
    world, ended_by = [played.world_info for played in episodes.played], [played.ended_by for played in episodes.played]
    _add(info, "scene", told, _objects([played.scenario.scene for played in episodes.played], told))
    _add(info, "time", told, _where(episodes.now.time, absent))
    metrics: dict[str, Any] = {}
    for name, value in episodes.values.items():
        unknown = np.isnan(value)
        if unknown.any():
            known = told & ~unknown
            if known.any():
                _add(metrics, name, known, _where(value, ~known))
        else:
            _add(metrics, name, told, _where(value, absent))
    _add(info, "metrics", told, metrics)
    about: dict[str, Any] = {}
    _add(about, "source", told, _objects([each.source for each in world], told))
    _add(about, "deviation_m", told, _where(np.array([float(each.deviation_m) for each in world]), absent))
    _add(about, "trust", told, _where(np.array([float(each.trust) for each in world]), absent))
    _add(info, "world", told, about)
    weighed: dict[str, Any] = {}
    for name, term in terms.items():
        _add(weighed, name, told, _where(term, absent))
    _add(info, "reward_terms", told, weighed)
    _add(info, "timing_ms", told, _objects(_timings(timing, world), told))
    ended = told & np.array([cause is not None for cause in ended_by], bool)
    if ended.any():
        _add(info, "ended_by", ended, _objects(ended_by, ended))
    return info


def _timings(timing: Mapping[str, float], world: Sequence[WorldInfo]) -> list[Timing]:
    """The stages that all share, and what the world took for each."""
    shared = Timing(timing)
    return [
        Timing({**timing, **{f"world/{stage}": value for stage, value in each.timing_ms.items()}}) if each.timing_ms else shared
        for each in world
    ]


def _where(value: np.ndarray, absent: np.ndarray | None) -> np.ndarray:
    """(N,) a copy of the values, zero where they are absent."""
    value = value.copy()
    if absent is not None:
        value[absent] = 0.0
    return value


def _objects(values: Sequence[Any], told: np.ndarray) -> np.ndarray:
    array = np.full(len(told), None, dtype=object)
    for index in np.flatnonzero(told).tolist():
        array[index] = values[index]
    return array


def _add(info: dict[str, Any], key: str, who: np.ndarray, value: Any) -> None:
    info[key], info[f"_{key}"] = value, who.copy()
