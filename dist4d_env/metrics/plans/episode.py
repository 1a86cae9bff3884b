"""What an episode's plans are worth: each scored alone against what really happened, then averaged over decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dist4d_env.metrics.driving.epdms import FILTERED, epdms
from dist4d_env.metrics.driving.extended_comfort import NO_PLANS, consecutive_comfort
from dist4d_env.metrics.driving.time_to_collision import LEADS
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult, Plans
from dist4d_env.metrics.plans.issued import TICKS, drive_issued, reference_metres, tracking_error
from dist4d_env.metrics.plans.scene import FUTURE, PlanScene
from dist4d_env.metrics.plans.scoring import PlanScores, score_plans
from dist4d_env.scenes.scene import TICK


def scores_of_plans(
    trace: EpisodeTrace, plans: Plans, driven: np.ndarray, version: str, form: str, references: np.ndarray
) -> list[PlanScores]:
    """The scores of K plans, one by one: driven (K, 41, 7) against the traffic of the trace from each plan's tick on, progress
    relative to references (K,) in metres. Past the trace's end there is nobody to meet."""
    rows = zip(plans.step.tolist(), driven, references.tolist(), strict=True)
    return [score_plans(ego[None], PlanScene.happened(trace, step), version, form, metres) for step, ego, metres in rows]


def pdms_of_plans(
    trace: EpisodeTrace,
    plans: Plans | None,
    human: EpisodeTrace | None = None,
    form: str = "corrected",
    references: np.ndarray | None = None,
) -> MetricResult:
    """NAVSIM v1.1's PDMS of every plan of an episode, averaged over decisions (``plan_scoring.score_plans``).

    Every plan is driven for 4 s from where it was issued and judged against what the others then really did. references: (K,)
    metres of a reference plan's progress per decision, already times its NC and DAC (NAVSIM takes PDM-Closed's); without them
    the recorded ego's (``human``'s, or the trace's). details: mean of every part, how many plans look past the end of what is
    recorded, the mean tracking error in metres, and the worst plan with what broke it. Not valid without plans or a map.
    """
    if plans is None or not len(plans.step):
        return MetricResult(0.0, False, NO_PLANS)
    driven = drive_issued(trace, plans)
    metres = reference_metres(trace, plans.step, human) if references is None else np.asarray(references, float)
    scores = scores_of_plans(trace, plans, driven, "v1", form, metres)
    value = np.array([score.score[0] for score in scores])
    parts = {name: np.array([score.parts[name][0] for score in scores]) for name in scores[0].parts}
    valid = all(bool(score.valid[0]) for score in scores)
    return MetricResult(float(value.mean()), valid, _details("v1", form, trace, plans, driven, value, parts, scores))


def epdms_of_plans(
    trace: EpisodeTrace,
    plans: Plans | None,
    human: EpisodeTrace | None = None,
    form: str = "corrected",
    references: np.ndarray | None = None,
) -> MetricResult:
    """NAVSIM v2's EPDMS (single stage) of every plan of an episode, averaged over decisions; otherwise as ``pdms_of_plans``.

    The human filter forgives what the recorded ego broke itself in the 4 s after the same instant of the recorded scene
    (``human``; without it nothing is forgiven, and near its end less, as what is left of it is too short to break). Extended
    comfort compares a plan with the one issued half a second before; where there is none, its weight is left out. Traffic lights
    are not available on nuScenes and left out of the product.
    """
    if plans is None or not len(plans.step):
        return MetricResult(0.0, False, NO_PLANS)
    driven = drive_issued(trace, plans)
    metres = reference_metres(trace, plans.step, human) if references is None else np.asarray(references, float)
    scores = scores_of_plans(trace, plans, driven, "v2", form, metres)
    parts = {name: np.array([score.parts[name][0] for score in scores]) for name in scores[0].parts}
    parts["extended_comfort"], _ = consecutive_comfort(plans.step, driven, form)
    forgiven = _human_breaks(trace, plans, human, form)
    value = np.array([epdms({name: values[row] for name, values in parts.items()}, forgiven[row]) for row in range(len(scores))])
    valid = all(bool(score.valid[0]) for score in scores) and bool(np.isfinite(parts["extended_comfort"]).any())
    details = _details("v2", form, trace, plans, driven, value, parts, scores)
    details |= {
        "human_filter": None if human is None else {name: sum(name in row for row in forgiven) for name in FILTERED},
        "traffic_lights": "not available",
    }
    return MetricResult(float(value.mean()), valid, details)


def _human_breaks(trace: EpisodeTrace, plans: Plans, human: EpisodeTrace | None, form: str) -> list[frozenset[str]]:
    """Per plan the sub-scores on which the recorded ego, scored without a past, gets 0 over the same 4 s."""
    if human is None:
        return [frozenset()] * len(plans.step)
    found: list[frozenset[str]] = []
    for time in trace.time[plans.step].tolist():
        first = round((time - float(human.time[0])) / TICK)
        ego = human.ego[None, max(first, 0) : max(first, 0) + TICKS + 1]
        if first < 0 or ego.shape[1] < LEADS[-1] + 2:
            found.append(frozenset())  # the recording does not tell
            continue
        scene = replace(PlanScene.happened(human, first), history=None)
        parts = score_plans(ego, scene, "v2", form).parts
        found.append(frozenset(name for name in FILTERED if parts[name][0] == 0.0))
    return found


def _details(
    version: str,
    form: str,
    trace: EpisodeTrace,
    plans: Plans,
    driven: np.ndarray,
    value: np.ndarray,
    parts: Mapping[str, np.ndarray],
    scores: list[PlanScores],
) -> dict[str, Any]:
    worst = int(np.argmin(value))
    cut = int((plans.step + FUTURE - 1 > len(trace.time) - 1).sum())
    return {
        "version": version,
        "form": f"{form}, mean over plans",
        "plans": len(value),
        "cut": cut,
        "tracking_error": float(tracking_error(trace, plans, driven).mean()),
        **{name: float(np.nanmean(values)) if np.isfinite(values).any() else None for name, values in parts.items()},
        "worst": {"issued": int(plans.step[worst]), **scores[worst].details(0)},
    }
