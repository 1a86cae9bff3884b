"""Progress along the route, and deviation from the recorded ego."""

from __future__ import annotations

import numpy as np

from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult, require_finite

SHORT = 5.0  # m; where nobody gets farther, progress is not compared


def progress(trace: EpisodeTrace) -> MetricResult:
    """Metres of the route between the box centre at the first and at the last step, negative if the ego ends farther back."""
    s = trace.route_position
    return MetricResult(float(s[-1] - s[0]), True, {"farthest": float(s.max() - s[0])})


def expert_progress(trace: EpisodeTrace) -> float:
    """Metres of the route that the logged ego covered in the same time (past the log's end it stands)."""
    s = trace.expert_position
    return float(s[-1] - s[0])


def ego_progress(trace: EpisodeTrace, multiplier: float = 1.0, reference: float | None = None) -> MetricResult:
    """Progress relative to a reference's, in [0, 1] (NAVSIM's EP): raw / max(raw, reference), or 1 where both are within 5 m.

    multiplier: NAVSIM v1 weighs the ego's raw progress with its NC and DAC first, then 0 of them gives 0.
    reference: metres, the logged ego's by default.
    """
    raw = max(0.0, progress(trace).value)
    require_finite("progress", reference=None if reference is None else np.array(reference))
    reference = max(0.0, expert_progress(trace) if reference is None else reference)
    weighed = raw * multiplier
    best = max(weighed, reference)
    value = weighed / best if best > SHORT else float(multiplier > 0)
    return MetricResult(value, True, {"progress": raw, "reference": reference})


def route_completion(trace: EpisodeTrace, reference: float | None = None) -> MetricResult:
    """Farthest progress over the whole way, in [0, 1]. reference: metres of that, the remaining logged path at the first step by
    default. Not valid where it is no more than 5 m."""
    require_finite("route completion", reference=None if reference is None else np.array(reference))
    s = trace.route_position
    end = trace.route.log_length if trace.route.log_length is not None else float(trace.route.arc_length[-1])
    remaining = end - float(s[0]) if reference is None else reference
    if remaining <= SHORT:
        short = "the logged path ends within" if reference is None else "the recorded drive gets no farther than"
        return MetricResult(1.0, False, {"reason": f"{short} {SHORT} m of the start"})
    return MetricResult(float(np.clip((s.max() - s[0]) / remaining, 0.0, 1.0)), True, {"remaining": remaining})


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
