"""Metrics and scores of a stored episode: of its trace, of its plans, and relative to the recorded human."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from dist4d_env.envs.ending import intended_end
from dist4d_env.evaluation.episode_log import PLANNER_ERROR, EpisodeLog
from dist4d_env.evaluation.second_opinion import DIFFERS
from dist4d_env.metrics.driving.composite import pdms_v1
from dist4d_env.metrics.driving.epdms import epdms_v2
from dist4d_env.metrics.driving.extended_comfort import NO_PLANS
from dist4d_env.metrics.driving.forms import Form, is_faithful
from dist4d_env.metrics.driving.recording import log_trace, logged_progress
from dist4d_env.metrics.driving.suite import evaluate
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.metrics.foreign.ads import ads
from dist4d_env.metrics.foreign.alpasim import alpasim_scene_score
from dist4d_env.metrics.foreign.bench2drive import bench2drive
from dist4d_env.metrics.foreign.hd_score import hd_score
from dist4d_env.metrics.foreign.neuroncap import first_impact, neuroncap_score
from dist4d_env.metrics.foreign.nuplan import nuplan_cls
from dist4d_env.metrics.foreign.open_loop import nuscenes_open_loop
from dist4d_env.metrics.plans.episode import epdms_of_plans, pdms_of_plans
from dist4d_env.scenes.edits_apply import apply_all
from dist4d_env.scenes.files import Document
from dist4d_env.scenes.scenario import scenario_from
from dist4d_env.scenes.scene import TICK, Scene

NEURONCAP = ("stationary", "frontal", "side")
"""Families of scenarios that NeuroNCAP's score is defined for."""


_FAILED = MetricResult(0.0, False, {"reason": "the planner failed"})


def recorded_scene(log: EpisodeLog) -> Scene:
    """The scene of an episode without its scenario's edits."""
    from dist4d_env.data.open import open_dataset

    dataset = open_dataset(log.dataroot, log.version, dataset=log.settings.get("dataset"))
    return dataset.load(log.scene, require_map=False)


def end_time(log: EpisodeLog, scene: Scene) -> float:
    """Seconds since the scene's first keyframe up to which an episode was meant to last."""
    horizon = float(log.scenario.get("horizon") or log.settings["horizon"])
    return intended_end(float(log.trace.time[0]), horizon, scene.duration, log.decision_dt)


def recorded_human(log: EpisodeLog, scene: Scene | None = None) -> EpisodeTrace:
    """The recorded ego in the recorded scene, opened where it is not given, from the episode's start to the end that it was meant
    to have."""
    scene = scene or recorded_scene(log)
    start, last = float(log.trace.time[0]), float(log.trace.time[-1])
    return log_trace(scene, start, max(end_time(log, scene), last, start + 2 * TICK), log.trace.vehicle)


def recorded_impact(log: EpisodeLog, scene: Scene, form: Form = "corrected") -> float | None:
    """m/s at which the recorded drive first hits a vehicle in the scene (as ``recorded_scene``) with the scenario's edits, up to
    the end that the episode was meant to have: the impact that not reacting has. None where it hits none."""
    start = float(log.trace.time[0])
    record = {key: value for key, value in log.scenario.items() if key != "traffic"} | {"scene": log.scene}
    edits = scenario_from(Document("the stored scenario", record, {})).edits
    hit = first_impact(log_trace(apply_all(edits, scene, start), start, end_time(log, scene), log.trace.vehicle), form)
    return None if hit is None else hit[2]


def reacts(log: EpisodeLog) -> bool:
    """Whether an episode's traffic was any other than that of the recording."""
    return (log.scenario.get("traffic") or log.settings.get("traffic") or "replay") != "replay"


def results_of(log: EpisodeLog, form: Form = "corrected") -> dict[str, MetricResult]:
    """Metrics by name, as reports, tables and campaigns show them; composite scores in this form where they have two. Of an
    episode in which the planner failed only the metrics of the trace are valid. ConfigError for an unknown form.

    The metrics of the trace are those of ``info["metrics"]["final"]``: progress is relative to what the recorded ego makes up to
    the end that the episode was meant to have. Scores that look at plans are not available where there are none.
    """
    is_faithful(form)
    trace, plans, scene = log.trace, log.plans, recorded_scene(log)
    reference = logged_progress(scene, trace.vehicle, float(trace.time[0]), end_time(log, scene))
    results = evaluate(trace, reference)
    failed = log.outcome == PLANNER_ERROR
    if form == "faithful" and not failed:
        results["pdms_v1"] = pdms_v1(trace, reference, form=form)
    reactive = reacts(log)
    human = cache(lambda: recorded_human(log, scene))
    composites: dict[str, Callable[[], MetricResult]] = {
        "epdms_v2": lambda: epdms_v2(trace, plans, human(), form) if len(plans.step) else MetricResult(0.0, False, NO_PLANS),
        "nuplan_cls_r" if reactive else "nuplan_cls_nr": lambda: nuplan_cls(trace, human(), reactive, form),
        "pdms_of_plans": lambda: pdms_of_plans(trace, plans, human(), form),
        "epdms_of_plans": lambda: epdms_of_plans(trace, plans, human(), form),
        "nuscenes_open_loop_uniad": lambda: nuscenes_open_loop(trace, plans, "uniad", form),
        "nuscenes_open_loop_stp3": lambda: nuscenes_open_loop(trace, plans, "stp3", form),
        "ads": lambda: ads(trace, plans, form, reference),
        "hd_score": lambda: hd_score(trace, plans, human(), form),
        "alpasim_scene_score": lambda: alpasim_scene_score(trace, human(), plans),
    }
    if log.scenario.get("family") in NEURONCAP:
        composites["neuroncap_score"] = lambda: neuroncap_score(trace, recorded_impact(log, scene, form), form)
    results |= {name: _FAILED if failed else compute() for name, compute in composites.items()}
    if log.apart is not None:
        results["plan_agreement"] = _FAILED if failed else plan_agreement(log.apart)
    route = bench2drive(trace, reference, form)
    return results | {name: _FAILED if failed else result for name, result in route.items()}


def plan_agreement(apart: np.ndarray) -> MetricResult:
    """The share of decisions whose plan the second opinions agree with to within ``DIFFERS`` metres after ``AHEAD`` seconds.

    apart: (D,) metres, nan where an opinion is missing; not valid where all are.
    """
    known = apart[np.isfinite(apart)]
    if not len(known):
        return MetricResult(0.0, False, {"reason": "no second opinion"})
    details = {"decisions": len(known), "mean_metres": float(known.mean()), "farthest": int(np.nanargmax(apart))}
    return MetricResult(float((known <= DIFFERS).mean()), True, details)
