"""PDMS, NAVSIM v1's composite score, over a whole episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from dist4d_env.metrics.driving.collision import no_at_fault_collision
from dist4d_env.metrics.driving.comfort import comfort
from dist4d_env.metrics.driving.forms import is_faithful
from dist4d_env.metrics.driving.progress import ego_progress
from dist4d_env.metrics.driving.road import drivable_area_compliance
from dist4d_env.metrics.driving.time_to_collision import time_to_collision
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult

PDMS_WEIGHTS: Mapping[str, float] = {"ego_progress": 5.0, "time_to_collision": 5.0, "comfort": 2.0}

PARTS: Mapping[str, Mapping[str, Callable[[EpisodeTrace], MetricResult]]] = {
    "corrected": {
        "no_at_fault_collision": no_at_fault_collision,
        "drivable_area_compliance": drivable_area_compliance,
        "time_to_collision": time_to_collision,
        "comfort": comfort,
    },
    "faithful": {
        "no_at_fault_collision": partial(no_at_fault_collision, form="faithful"),
        "drivable_area_compliance": partial(drivable_area_compliance, form="faithful"),
        "time_to_collision": partial(time_to_collision, form="faithful"),
        "comfort": partial(comfort, version="v1", faithful=True),
    },
}


def pdms_v1(
    trace: EpisodeTrace,
    reference: float | None = None,
    known: Mapping[str, MetricResult] | None = None,
    form: str = "corrected",
) -> MetricResult:
    """NC x DAC x (5 EP + 5 TTC + 2 C) / 12 (Dauner et al. 2024, NAVSIM), over a whole closed-loop episode.

    Differences from the benchmark's, which scores one 4 s plan (``plans.scoring.score_plans``): the trajectory is the driven one
    of any length; progress is relative to the logged ego (or ``reference`` metres) instead of a PDM-Closed rollout; the last
    0.9 s have no recorded future and are left out of TTC.

    form: "faithful" takes what is at fault and ahead from the present ego's heading and the velocity that a track was first seen
    with, leaves the centripetal acceleration out of comfort and smooths over 41 ticks, as the original does; "corrected" takes
    bearings from the projected ego and its motion, counts that acceleration, smooths with v2's windows, and does not count what
    was put where the ego was (``first_instant``). known: corrected results of this trace by name, which are not computed again.
    details: every part. Not valid where a part is not, unless an at-fault collision or leaving the road makes it 0, however short
    the episode.
    """
    known = {} if known is None or is_faithful(form) else known
    parts = {name: known[name] if name in known else metric(trace) for name, metric in PARTS[form].items()}
    multiplier = parts["no_at_fault_collision"].value * parts["drivable_area_compliance"].value
    parts["ego_progress"] = ego_progress(trace, multiplier, reference)
    weighted = sum(weight * parts[name].value for name, weight in PDMS_WEIGHTS.items()) / sum(PDMS_WEIGHTS.values())
    details: dict[str, object] = {"version": "v1", "form": f"{form}, closed loop, whole episode"}
    details |= {name: part.value for name, part in parts.items()}
    decided = any(parts[name].valid and parts[name].value == 0 for name in ("no_at_fault_collision", "drivable_area_compliance"))
    return MetricResult(multiplier * weighted, decided or all(part.valid for part in parts.values()), details)
