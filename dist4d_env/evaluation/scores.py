"""Every metric of a stored episode: of the trace, of its plans, and against the human who was recorded."""

from __future__ import annotations

from dist4d_env.evaluation.episode_log import PLANNER_ERROR, EpisodeLog
from dist4d_env.metrics.driving.composite import pdms_v1
from dist4d_env.metrics.driving.epdms import epdms_v2
from dist4d_env.metrics.driving.forms import Form, is_faithful
from dist4d_env.metrics.driving.progress import ego_progress, progress
from dist4d_env.metrics.driving.recording import log_trace
from dist4d_env.metrics.driving.suite import evaluate
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.metrics.foreign.ads import ads
from dist4d_env.metrics.foreign.alpasim import alpasim_scene_score
from dist4d_env.metrics.foreign.hd_score import hd_score
from dist4d_env.metrics.foreign.neuroncap import neuroncap_score
from dist4d_env.metrics.foreign.nuplan import nuplan_cls
from dist4d_env.metrics.plans.episode import pdms_of_plans
from dist4d_env.scenes.scene import TICK, Scene

NEURONCAP = ("stationary", "frontal", "side")
"""Families of scenarios that NeuroNCAP's score means something for."""


def recorded_scene(log: EpisodeLog) -> Scene:
    """The scene that an episode played in, as it was recorded."""
    from dist4d_env.data.open import open_dataset

    return open_dataset(log.dataroot, log.version).load(log.scene, require_map=False)


def recorded_human(log: EpisodeLog) -> EpisodeTrace:
    """The recorded ego in the recorded scene from the episode's start to the end it was meant to have: who stops short has made
    as little progress as it looks."""
    start, horizon = float(log.trace.time[0]), log.scenario.get("horizon") or log.settings["horizon"]
    end = max(start + float(horizon), float(log.trace.time[-1]), start + 2 * TICK)
    return log_trace(recorded_scene(log), start, end, log.trace.vehicle)


def results_of(log: EpisodeLog, form: Form = "corrected") -> dict[str, MetricResult]:
    """Metrics by name; the composite scores in this form where they have two. Of an episode in which the planner failed only what
    says what happened until then. ConfigError for an unknown form.

    This is what reports of single episodes, tables and campaigns all show. Progress is relative to what the recorded ego made of
    the whole time that the episode was meant to last (``recorded_human``). An environment's ``info["metrics"]["final"]``
    (``metrics.driving.suite.evaluate``) knows the time that was driven only; the two differ where an episode ended before its
    horizon.
    """
    is_faithful(form)
    trace, plans = log.trace, log.plans
    results = evaluate(trace)
    if log.outcome == PLANNER_ERROR:
        return results
    human = recorded_human(log)
    reference = max(0.0, progress(human).value)
    results["ego_progress"] = ego_progress(trace, reference=reference)
    results["pdms_v1"] = pdms_v1(trace, reference, results, form)
    reactive = (log.scenario.get("traffic") or log.settings.get("traffic")) == "idm"
    results["epdms_v2"] = epdms_v2(trace, plans, human, form)
    results["nuplan_cls_r" if reactive else "nuplan_cls_nr"] = nuplan_cls(trace, human, reactive, form)
    results["pdms_of_plans"] = pdms_of_plans(trace, plans, human, form)
    results["ads"] = ads(trace, plans, form)
    results["hd_score"] = hd_score(trace, plans, human, form)
    results["alpasim_scene_score"] = alpasim_scene_score(trace, human, plans)
    if log.scenario.get("family") in NEURONCAP:
        results["neuroncap_score"] = neuroncap_score(trace, form=form)
    return results
