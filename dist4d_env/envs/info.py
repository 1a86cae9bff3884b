"""The ``info`` of N episodes: of one as a dict of plain values, of all as Gymnasium batches them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from dist4d_env.envs.episodes import Episode, Episodes
from dist4d_env.envs.lazy_dict import LazyDict
from dist4d_env.metrics.driving.trace import MetricResult
from dist4d_env.worlds.contract import WorldInfo


def episode_info(
    episodes: Episodes, row: int, terms: Mapping[str, np.ndarray], milliseconds: Mapping[str, float]
) -> dict[str, Any]:
    """One episode's info, keys as ``DiST4DDrivingEnv`` documents them; what is not known is None."""
    episode, values = episodes.episodes[row], episodes.bookkeeping.values
    metrics: dict[str, Any] = {name: _known(float(value[row])) for name, value in values.items()}
    metrics["final"] = LazyDict(partial(final_info, episodes.final_metrics(row))) if episode.ended_by is not None else {}
    world = episode.world_info
    return {
        "scene": episode.scenario.scene,
        "time": float(episodes.now.time[row]),
        "metrics": metrics,
        "world": {
            "source": list(world.source),
            "deviation_m": float(world.deviation_m),
            "trust": float(world.trust),
            "held_back": float(world.held_back),
            "pixels": _pixels(episode),
        },
        "reward_terms": {name: float(term[row]) for name, term in terms.items()},
        "clipped": bool(episodes.clipped[row]),
        "timing_ms": _timing(milliseconds, world),
        "ended_by": episode.ended_by,
    }


def vector_info(
    episodes: Episodes,
    shown: np.ndarray,
    terms: Mapping[str, np.ndarray],
    milliseconds: Mapping[str, float],
    add: Callable[[dict[str, Any], dict[str, Any], int], dict[str, Any]],
) -> dict[str, Any]:
    """The infos of those that are ``shown`` of (N,): every key has an array of N and, under ``_key``, which of them have it.

    ``final`` of ``metrics`` is computed by whoever looks into it first; add: how Gymnasium's vector environment adds one
    environment's info to that of all.
    """
    played, absent = episodes.episodes, None if shown.all() else ~shown
    world, ended_by = [episode.world_info for episode in played], [episode.ended_by for episode in played]
    ended = shown & np.array([cause is not None for cause in ended_by], bool)
    info: dict[str, Any] = {}
    _add(info, "scene", shown, _objects([episode.scenario.scene for episode in played], shown))
    _add(info, "time", shown, _where(episodes.now.time, absent))
    metrics: dict[str, Any] = {}
    for name, value in episodes.bookkeeping.values.items():
        unknown = np.isnan(value)
        known = shown & ~unknown if unknown.any() else shown
        _add(metrics, name, known, _where(value, absent if known is shown else ~known))
    final: dict[str, Any] = {}
    if ended.any():
        final = LazyDict(partial(_finals, {row: episodes.final_metrics(row) for row in np.flatnonzero(ended).tolist()}, add))
    _add(metrics, "final", ended, final)
    _add(info, "metrics", shown, metrics)
    about: dict[str, Any] = {}
    _add(about, "source", shown, _objects([list(each.source) for each in world], shown))
    _add(about, "deviation_m", shown, _where(np.array([float(each.deviation_m) for each in world]), absent))
    _add(about, "trust", shown, _where(np.array([float(each.trust) for each in world]), absent))
    _add(about, "held_back", shown, _where(np.array([float(each.held_back) for each in world]), absent))
    _add(about, "pixels", shown, _where(np.array([_pixels(each) for each in played]), absent))
    _add(info, "world", shown, about)
    weighed: dict[str, Any] = {}
    for name, term in terms.items():
        _add(weighed, name, shown, _where(term, absent))
    _add(info, "reward_terms", shown, weighed)
    _add(info, "clipped", shown, _where(episodes.clipped, absent))
    _add(info, "timing_ms", shown, _objects([_timing(milliseconds, each) for each in world], shown))
    _add(info, "ended_by", shown, _objects(ended_by, ended))
    return info


def final_info(metrics: Callable[[], Mapping[str, MetricResult]]) -> dict[str, Any]:
    """Metrics of a whole episode as ``info["metrics"]["final"]`` has them."""
    return {
        name: {"value": float(result.value) if result.valid else None, "valid": bool(result.valid)}
        for name, result in metrics().items()
    }


def _finals(
    metrics: Mapping[int, Callable[[], Mapping[str, MetricResult]]],
    add: Callable[[dict[str, Any], dict[str, Any], int], dict[str, Any]],
) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for row, own in metrics.items():
        merged = add(merged, final_info(own), row)
    return merged


def _pixels(episode: Episode) -> int:
    """Pixels that the world drew, of all cameras: what its frame costs follows from them on any machine."""
    return 0 if episode.frame is None else episode.frame.depth.size


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


class Duration(float):
    """Milliseconds. How long something took is no part of what happened: two durations always compare equal, so that the infos
    of equal episodes do."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) or float.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(Duration)


def _timing(milliseconds: Mapping[str, float], world: WorldInfo) -> dict[str, float]:
    """All stages, the world's own as ``world/...``."""
    stages = {**milliseconds, **{f"world/{stage}": value for stage, value in world.timing_ms.items()}}
    return {stage: Duration(value) for stage, value in stages.items()}


def _where(value: np.ndarray, absent: np.ndarray | None) -> np.ndarray:
    """(N,) a copy of the values, zero where they are absent."""
    value = value.copy()
    if absent is not None:
        value[absent] = 0
    return value


def _objects(values: list[Any], shown: np.ndarray) -> np.ndarray:
    array = np.full(len(shown), None, dtype=object)
    for index in np.flatnonzero(shown).tolist():
        array[index] = values[index]
    return array


def _add(info: dict[str, Any], key: str, who: np.ndarray, value: Any) -> None:
    info[key], info[f"_{key}"] = value, who.copy()
