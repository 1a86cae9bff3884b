"""The ``info`` dict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dist4d_env.envs.episode import Episode
from dist4d_env.envs.timing import Timing
from dist4d_env.metrics.driving.recording import logged_progress
from dist4d_env.metrics.driving.suite import evaluate
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.scenes.scene import Scene


def episode_info(
    episode: Episode, timing: Timing, terms: Mapping[str, float], final: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Keys as ``DiST4DDrivingEnv`` documents them; what is not known (nan) is left out of ``metrics``.

    final: ``final_info`` of the whole episode, once it has ended; handed on as it is.
    """
    metrics: dict[str, Any] = {name: float(value) for name, value in episode.running.values.items() if not math.isnan(value)}
    world = episode.world_info
    info = {
        "scene": episode.scenario.scene,
        "time": float(episode.state.time),
        "metrics": metrics,
        "world": {"source": world.source, "deviation_m": float(world.deviation_m), "trust": float(world.trust)},
        "reward_terms": dict(terms),
        "timing_ms": timing,
    }
    if episode.ended_by is not None:
        info["ended_by"] = episode.ended_by
        metrics["final"] = {} if final is None else final
    return info


def final_info(trace: EpisodeTrace, scene: Scene, end_time: float) -> dict[str, Any]:
    """``info["metrics"]["final"]``: the metrics of a whole episode that was meant to last until ``end_time``."""
    results = evaluate(trace, logged_progress(scene, trace.vehicle, float(trace.time[0]), end_time))
    return {name: _plain(result) for name, result in results.items()}


def _plain(result: MetricResult) -> dict[str, Any]:
    return {"value": float(result.value), "valid": True} if result.valid else {"valid": False}
