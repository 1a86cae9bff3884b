"""Reward terms that look at the whole episode so far: whether it arrived, and the change of the score itself."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dist4d_env.envs.rewards import JUDGED
from dist4d_env.metrics.driving.composite import PARTS, PDMS_WEIGHTS
from dist4d_env.metrics.driving.progress import SHORT, ego_progress
from dist4d_env.metrics.driving.recording import logged_progress
from dist4d_env.metrics.driving.running import Running, RunningMetrics
from dist4d_env.metrics.driving.trace import EpisodeTrace

ARRIVED = 0.9
"""Share of the logged ego's progress that counts as having arrived."""
_FAILURES = ("at_fault_collision", "off_road", "wrong_way")


def judged_terms(
    weights: Mapping[str, float], metrics: RunningMetrics, before: Running | None, after: Running, end_time: float
) -> dict[str, float]:
    """The terms of JUDGED that are weighed, for one decision; before: None at the episode's start, where all are 0.

    arrival: 1 at the decision that reaches ``end_time`` (seconds since the scene's first keyframe) without a failure, the ego
    having come at least 90 % as far along the route as the logged one did (where that is 5 m or less: always); else 0.
    pdms: the change of ``pdms_so_far``, so that an episode driven to its end collects its ``pdms_v1``; 0 where it cannot be
    judged (no map). It takes some milliseconds.
    """
    terms = {name: 0.0 for name in JUDGED if weights.get(name)}
    if before is None or not terms:
        return terms
    reference = logged_progress(metrics.scene, metrics.vehicle, after.recording.start.time, end_time)
    if "arrival" in terms:
        in_time = float(after.recording.decisions[-1].time[-1]) > end_time - 1e-6
        failed = any(after.values[name] == 1.0 for name in _FAILURES)
        terms["arrival"] = float(in_time and not failed and _came_along(after.values["progress"], reference))
    if "pdms" in terms:
        change = pdms_so_far(metrics.trace(after), end_time, reference)
        change -= pdms_so_far(metrics.trace(before), end_time, reference)
        terms["pdms"] = 0.0 if math.isnan(change) else change
    return terms


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
    return multiplier * sum(weight * value[name] for name, weight in PDMS_WEIGHTS.items()) / sum(PDMS_WEIGHTS.values())


def _came_along(progress: float, reference: float) -> bool:
    return reference <= SHORT or progress >= ARRIVED * reference
