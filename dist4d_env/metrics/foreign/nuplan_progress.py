"""nuPlan's progress: how far along the expert's route the ego gets, relative to the expert."""

from __future__ import annotations

from dist4d_env.metrics.driving.progress import progress
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult

THRESHOLD = 2.0  # m; nuPlan's configuration, where its documentation still says 0.1
MAKING_PROGRESS = 0.2


def progress_ratio(ego: float, expert: float | None) -> float:
    """min(1, max(ego, 2 m) / max(expert, 2 m)); 0 for an ego that drove more than 2 m backwards, 1 without an expert's route."""
    if expert is None:
        return 1.0
    return 0.0 if ego < -THRESHOLD else min(1.0, max(ego, THRESHOLD) / max(expert, THRESHOLD))


def nuplan_progress(trace: EpisodeTrace, human: EpisodeTrace | None = None) -> MetricResult:
    """``progress_ratio`` of metres along the route.

    human: the recorded drive over the whole episode; without it the log at the times that were driven is the expert, which
    flatters an episode that ended early. details: the metres of both.
    """
    if human is None:
        s = trace.route.follow(ego_centers(trace.expert, trace.vehicle))
        expert = float(s[-1] - s[0])
    else:
        expert = progress(human).value
    ego = progress(trace).value
    return MetricResult(progress_ratio(ego, expert), True, {"ego": ego, "expert": expert, "whole_human_drive": human is not None})


def nuplan_making_progress(ratio: MetricResult) -> MetricResult:
    """1 if the ratio of ``nuplan_progress`` is at least 0.2, else 0."""
    return MetricResult(float(ratio.value >= MAKING_PROGRESS), ratio.valid, {"ratio": ratio.value})
