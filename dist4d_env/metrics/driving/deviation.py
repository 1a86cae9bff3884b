"""How far the ego is from where the log had it."""

from __future__ import annotations

import numpy as np

from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult


def expert_deviation(trace: EpisodeTrace) -> MetricResult:
    """Mean distance in metres between the rear axles of ego and logged ego at the same times.

    details: the largest distance and its step, the last, the mean heading error in radians.
    """
    distance = np.linalg.norm(trace.ego[:, :2] - trace.expert[:, :2], axis=1)
    turn = np.abs((trace.ego[:, 2] - trace.expert[:, 2] + np.pi) % (2 * np.pi) - np.pi)
    details = {
        "largest": float(distance.max()),
        "step": int(np.argmax(distance)),
        "last": float(distance[-1]),
        "heading": float(turn.mean()),
    }
    return MetricResult(float(distance.mean()), True, details)
