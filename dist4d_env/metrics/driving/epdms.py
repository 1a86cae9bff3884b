"""EPDMS, NAVSIM v2's composite score: of sub-scores, and over a whole episode."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from dist4d_env.metrics.driving.collision import no_at_fault_collision
from dist4d_env.metrics.driving.comfort import comfort
from dist4d_env.metrics.driving.extended_comfort import extended_comfort
from dist4d_env.metrics.driving.forms import is_faithful
from dist4d_env.metrics.driving.progress import ego_progress, progress
from dist4d_env.metrics.driving.red_lights import traffic_light_compliance
from dist4d_env.metrics.driving.road import drivable_area_compliance, driving_direction_compliance, lane_keeping
from dist4d_env.metrics.driving.time_to_collision import time_to_collision
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult, Plans

LIGHTS = "traffic_light_compliance"
MULTIPLIERS = ("no_at_fault_collision", "drivable_area_compliance", "driving_direction_compliance", LIGHTS)
WEIGHTS: Mapping[str, float] = {
    "ego_progress": 5.0,
    "time_to_collision": 5.0,
    "lane_keeping": 2.0,
    "history_comfort": 2.0,
    "extended_comfort": 2.0,
}
FILTERED = (*MULTIPLIERS, "time_to_collision", "lane_keeping")
"""Sub-scores that are forgiven where the human driver scores 0."""


def epdms(parts: Mapping[str, float], forgiven: Collection[str] = ()) -> float:
    """NC x DAC x DDC x TLC x (5 EP + 5 TTC + 2 LK + 2 HC + 2 EC) / 16 (Cao et al. 2025) of sub-scores by name, those in
    ``forgiven`` counted as 1. What is nan is left out: extended comfort, with its weight, where there are no two plans to
    compare, traffic lights where there are none, as on nuScenes."""
    value = {name: 1.0 if name in forgiven else float(part) for name, part in parts.items()}
    weights = {name: weight for name, weight in WEIGHTS.items() if not math.isnan(value[name])}
    weighted = sum(weight * value[name] for name, weight in weights.items()) / sum(weights.values())
    return math.prod(value[name] for name in MULTIPLIERS if not math.isnan(value[name])) * weighted


def _subscores(trace: EpisodeTrace, form: str) -> dict[str, MetricResult]:
    """The parts that need neither plans nor a reference; faithful: without the tracks that touch the ego in the first frame,
    which NAVSIM v2 removes from its traffic."""
    if is_faithful(form):
        trace = replace(trace, valid=trace.valid & ~trace.contact[0])
    return {
        "no_at_fault_collision": no_at_fault_collision(trace, form),
        "drivable_area_compliance": drivable_area_compliance(trace, form),
        "driving_direction_compliance": driving_direction_compliance(trace, form),
        "time_to_collision": time_to_collision(trace, form),
        LIGHTS: traffic_light_compliance(trace),
        "lane_keeping": lane_keeping(trace, "route"),
        "history_comfort": comfort(trace, "v2", is_faithful(form)),
    }


def epdms_v2(
    trace: EpisodeTrace, plans: Plans | None = None, human: EpisodeTrace | None = None, form: str = "corrected"
) -> MetricResult:
    """EPDMS over a whole closed-loop episode instead of 4 s plans.

    Differences from the benchmark's single stage: the trajectory is the driven one of any length; progress is relative to the
    recorded ego (``human``'s drive, else the trace's); extended comfort is the share of plans that agree with the plan before;
    history comfort looks at the episode, which is its own past; the human filter forgives the sub-scores that the recorded ego
    fails in the recorded scene (``human``; without it nothing is forgiven, and details["human_filter"] is None). Traffic lights
    are judged by ``red_lights`` in every form, and left out of the product where there are none, as details["traffic_lights"]
    says. form: as in ``plans.scoring.score_plans``. details: every part.
    Not valid where another part is not (without plans the value is that of the other parts), unless a multiplier of 0 decides it,
    however short the episode.
    """
    parts = _subscores(trace, form)
    parts["ego_progress"] = ego_progress(trace, 1.0, None if human is None else progress(human).value)
    parts["extended_comfort"] = extended_comfort(trace, plans, form)
    broken = {} if human is None else {name: part for name, part in _subscores(human, form).items() if name in FILTERED}
    forgiven = frozenset(name for name, part in broken.items() if part.valid and part.value == 0.0)
    values = {name: part.value for name, part in parts.items()}
    values |= {name: math.nan for name in ("extended_comfort", LIGHTS) if not parts[name].valid}
    invalid = {name: part.details.get("reason") for name, part in parts.items() if not part.valid and name != LIGHTS}
    details = {
        "version": "v2",
        "form": f"{form}, closed loop, whole episode",
        "human_filter": None if human is None else sorted(forgiven),
        "traffic_lights": "judged" if parts[LIGHTS].valid else "not available",
        **{name: part.value if part.valid else None for name, part in parts.items()},
        "causes": {name: part.details for name, part in parts.items()},
    }
    if invalid:
        details["reason"] = "; ".join(f"{name}: {reason}" for name, reason in invalid.items())
    decided = any(parts[name].valid and values[name] == 0 and name not in forgiven for name in MULTIPLIERS)
    return MetricResult(epdms(values, forgiven), decided or not invalid, details)
