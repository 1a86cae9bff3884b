"""PDMS and EPDMS of an episode's plans: each scored alone against what then happened, averaged over decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dist4d_env.metrics.driving.epdms import FILTERED, epdms
from dist4d_env.metrics.driving.extended_comfort import NO_PLANS, consecutive_comfort
from dist4d_env.metrics.driving.forms import is_faithful
from dist4d_env.metrics.driving.issued import TICKS, drive_issued, reference_metres, tracking_error
from dist4d_env.metrics.driving.time_to_collision import LEADS
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult, Plans
from dist4d_env.metrics.plans.scene import FUTURE, PlanScene
from dist4d_env.metrics.plans.scoring import PlanScores, score_plans
from dist4d_env.scenes.scene import TICK


def pdms_of_plans(
    trace: EpisodeTrace,
    plans: Plans | None,
    human: EpisodeTrace | None = None,
    form: str = "corrected",
    references: np.ndarray | None = None,
) -> MetricResult:
    """NAVSIM v1.1's PDMS of every plan of an episode, averaged over decisions (``score_plans``).

    Every plan is driven for 4 s from where it was issued and scored against what the other agents then did. references: (K,)
    metres of a reference plan's progress per decision, already times its NC and DAC (NAVSIM takes PDM-Closed's); without them
    the recorded ego's (``human``'s, or the trace's). details: mean of every part, how many plans look past the end of what is
    recorded, the mean tracking error in metres, and the worst plan with its infractions. Not valid without plans or a map.
    """
    if plans is None or not len(plans.step):
        return MetricResult(0.0, False, NO_PLANS)
    driven, scores, parts = score_issued(trace, plans, human, "v1", form, references)
    value = np.array([score.score[0] for score in scores])
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

    The human filter forgives the sub-scores that the recorded ego itself fails in the 4 s after the same instant of the
    recorded scene (``human``; without it nothing is forgiven, and near the recording's end less, as less is left to fail in).
    Extended comfort compares a plan with the one issued half a second before; where there is none, its weight is left out.
    Traffic lights are left out of the product where there are none, as on nuScenes.
    """
    if plans is None or not len(plans.step):
        return MetricResult(0.0, False, NO_PLANS)
    driven, scores, parts = score_issued(trace, plans, human, "v2", form, references)
    parts["extended_comfort"], _ = consecutive_comfort(plans.step, driven, form)
    forgiven = human_breaks(trace, plans, human, form)
    value = np.array([epdms({name: values[row] for name, values in parts.items()}, forgiven[row]) for row in range(len(scores))])
    valid = all(bool(score.valid[0]) for score in scores)
    details = _details("v2", form, trace, plans, driven, value, parts, scores)
    details |= {
        "human_filter": None if human is None else {name: sum(name in row for row in forgiven) for name in FILTERED},
        "traffic_lights": "judged" if len(trace.lights) else "not available",
    }
    return MetricResult(float(value.mean()), valid, details)


def score_issued(
    trace: EpisodeTrace, plans: Plans, human: EpisodeTrace | None, version: str, form: str, references: np.ndarray | None
) -> tuple[np.ndarray, list[PlanScores], dict[str, np.ndarray]]:
    """Simulated ego rows (K, 41, 7), scores and sub-scores (K,) of K plans, each against the traffic of the trace from its own
    tick on; past the trace's end there are no agents."""
    driven = drive_issued(trace, plans)
    metres = reference_metres(trace, plans.step, human) if references is None else np.asarray(references, float)
    rows = zip(plans.step.tolist(), driven, metres.tolist(), strict=True)
    scores = [score_plans(ego[None], _around(trace, step, ego, version, form), version, form, best) for step, ego, best in rows]
    return driven, scores, {name: np.array([score.parts[name][0] for score in scores]) for name in scores[0].parts}


def _around(trace: EpisodeTrace, step: int, ego: np.ndarray, version: str, form: str) -> PlanScene:
    """What then happened around an ego (S, 7), as a version and a form score it."""
    scene = PlanScene.happened(trace, step)
    return scene.cleared(ego[0]) if version == "v2" and is_faithful(form) else scene


def human_breaks(trace: EpisodeTrace, plans: Plans, human: EpisodeTrace | None, form: str) -> list[frozenset[str]]:
    """Per plan the sub-scores on which the recorded ego, scored without a past, gets 0 over the same 4 s."""
    if human is None:
        return [frozenset()] * len(plans.step)
    found: list[frozenset[str]] = []
    for time in trace.time[plans.step].tolist():
        first = round((time - float(human.time[0])) / TICK)
        ego = human.ego[None, max(first, 0) : max(first, 0) + TICKS + 1]
        if first < 0 or ego.shape[1] < LEADS[-1] + 2:
            found.append(frozenset())  # too little is recorded
            continue
        scene = replace(_around(human, first, ego[0], "v2", form), history=None)
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
