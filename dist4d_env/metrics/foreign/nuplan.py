"""nuPlan's closed-loop score, for traffic that replays its log (CLS-NR) and traffic that reacts (CLS-R), and its progress."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dist4d_env.metrics.driving.comfort import comfort
from dist4d_env.metrics.driving.forms import Form, is_faithful
from dist4d_env.metrics.driving.progress import progress
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.driving.road import speed_limit_compliance
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.metrics.foreign.nuplan_road import nuplan_drivable_area, nuplan_driving_direction
from dist4d_env.metrics.foreign.nuplan_traffic import at_fault_collisions, nuplan_no_at_fault_collision, nuplan_time_to_collision

MULTIPLIERS = ("no_at_fault_collision", "drivable_area_compliance", "making_progress", "driving_direction_compliance")
WEIGHTS: Mapping[str, float] = {"progress": 5.0, "time_to_collision": 5.0, "speed_limit_compliance": 4.0, "comfort": 2.0}
THRESHOLD = 2.0  # m; nuPlan's configuration, where its documentation still says 0.1
MAKING_PROGRESS = 0.2


def nuplan_parts(trace: EpisodeTrace, human: EpisodeTrace | None = None, form: Form = "faithful") -> dict[str, MetricResult]:
    """The eight metrics of the closed-loop score by name."""
    is_faithful(form)
    contacts = at_fault_collisions(trace, form)
    progress = nuplan_progress(trace, human)
    return {
        "no_at_fault_collision": nuplan_no_at_fault_collision(trace, contacts),
        "drivable_area_compliance": nuplan_drivable_area(trace, form),
        "making_progress": nuplan_making_progress(progress),
        "driving_direction_compliance": nuplan_driving_direction(trace),
        "progress": progress,
        "time_to_collision": nuplan_time_to_collision(trace, contacts, form),
        "speed_limit_compliance": speed_limit_compliance(trace, form),
        "comfort": comfort(trace, "v2", faithful=form == "faithful"),
    }


def nuplan_cls(
    trace: EpisodeTrace, human: EpisodeTrace | None = None, reactive: bool = False, form: Form = "faithful"
) -> MetricResult:
    """NC x DAC x MP x DDC x (5 P + 5 TTC + 4 SL + 2 C) / 16 of one episode (nuPlan challenge 2023, devkit 1.2).

    reactive: whether the traffic reacted; it only names the score. human: the recorded drive, see ``nuplan_progress``. form:
    "faithful" leaves the centripetal acceleration out of comfort as the original's bicycle model does, takes an ego that reverses
    to lead with its front and (time to collision) to move along its heading, and divides overspeed by one row less; "corrected"
    does none of it, and does not count what was put where the ego was (``first_instant``).
    Where the map states no speed limit, SL is left out of the weighted mean and details["dropped"] says so; nuPlan's metrics of
    traffic lights and stop lines are no part of the score. details: every part. Not valid where another part is not,
    unless a multiplier of 0 has decided it, however short the episode.
    """
    parts = nuplan_parts(trace, human, form)
    dropped = [name for name in ("speed_limit_compliance",) if not parts[name].valid]
    weights = {name: weight for name, weight in WEIGHTS.items() if name not in dropped}
    weighted = sum(weight * parts[name].value for name, weight in weights.items()) / sum(weights.values())
    value = math.prod(parts[name].value for name in MULTIPLIERS) * weighted
    invalid = {name: part.details.get("reason") for name, part in parts.items() if not part.valid and name not in dropped}
    details = {
        "name": "nuplan_cls_r" if reactive else "nuplan_cls_nr",
        "form": form,
        "dropped": dropped,
        "parts": {name: part.value for name, part in parts.items() if name not in dropped},
        "causes": {name: part.details for name, part in parts.items()},
    }
    if invalid:
        details["reason"] = "; ".join(f"{name}: {reason}" for name, reason in invalid.items())
    decided = any(parts[name].valid and parts[name].value == 0 for name in MULTIPLIERS)
    return MetricResult(value, decided or not invalid, details)


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
