"""Stored episodes get every score: of the trace, of the plans, and against the human in the recorded scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.episode_log import PLANNER_ERROR, load_episode, save_episode
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.evaluation.scores import recorded_human, recorded_impact, recorded_scene, results_of
from dist4d_env.metrics.driving.suite import METRICS, evaluate
from dist4d_env.planners.log_follower import LogFollower
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario

COMPOSITES = {"epdms_v2", "nuplan_cls_nr", "pdms_of_plans", "epdms_of_plans", "ads", "hd_score", "alpasim_scene_score"}

ROUTE = {f"bench2drive_{name}" for name in ("driving_score", "success", "efficiency", "comfort")}
OPEN_LOOP = {"nuscenes_open_loop_uniad", "nuscenes_open_loop_stp3"}


@pytest.fixture(scope="module")
def edited(env):
    """The log is followed into a car that was put in its way."""
    scenario = Scenario("town-val-0001", name="blocked", family="stationary", edits=(Insert(category="car", ahead=18.0),))
    return run_episode(env, LogFollower(), 0, RunOptions(scenario=scenario, plan_limit=600.0))


def test_every_score_is_there_and_in_range(log):
    results = results_of(log)
    assert METRICS.keys() | COMPOSITES | ROUTE | OPEN_LOOP == results.keys()
    assert all(results[name].value >= 0 for name in OPEN_LOOP if results[name].valid)
    assert all(results[name].valid and 0 <= results[name].value <= 1 for name in COMPOSITES)
    assert all(0 <= results[name].value for name in ROUTE)
    assert results["ads"].details["route_completion"] > 0.9, "of what the episode was meant to drive"
    assert results["nuplan_cls_nr"].details["form"] == "corrected" and results["ads"].details["form"] == "corrected"


def test_either_form_can_be_had(log):
    faithful = results_of(log, "faithful")
    two = COMPOSITES - {"alpasim_scene_score"} | {"pdms_v1"} | ROUTE
    assert all(faithful[name].details["form"].startswith("faithful") for name in two)
    with pytest.raises(ConfigError, match="faithful, corrected"):
        results_of(log, "kind")


@pytest.mark.parametrize("traffic", ["idm", "lanes", "my_traffic:Model"])
def test_reacting_traffic_names_its_score(log, traffic):
    reacting = replace(log, settings={**log.settings, "traffic": traffic})
    assert {"nuplan_cls_r"} == results_of(reacting).keys() - results_of(log).keys()
    assert "nuplan_cls_r" in results_of(replace(log, scenario={**log.scenario, "traffic": traffic}))


def test_the_human_drives_in_the_recorded_scene(edited):
    """The human is not blamed for what a scenario put in the way, and does not excuse it."""
    human = recorded_human(edited)
    assert human.valid.shape[1] == len(recorded_scene(edited).tracks) == edited.trace.valid.shape[1] - 1
    assert human.time[0] == edited.trace.time[0]
    assert human.time[-1] == pytest.approx(edited.settings["horizon"]), "to the end that was meant"
    assert human.time[-1] > edited.trace.time[-1] + 0.4, "not to the crash"
    results = results_of(edited)
    assert edited.outcome == "collision" and results["epdms_v2"].value == 0 and results["epdms_v2"].details["human_filter"] == []
    score = results["neuroncap_score"]
    assert score.value == pytest.approx(0, abs=0.1), "it did not react"
    assert score.details["reference"] == recorded_impact(edited, recorded_scene(edited)) > 1.0
    turned = replace(edited, trace=replace(edited.trace, ego=edited.trace.ego * [1, 1, 1, 0.5, 1, 1, 1]))
    assert results_of(turned)["neuroncap_score"].value == pytest.approx(2, abs=0.1), "half as fast as the recorded drive"


def test_an_episode_that_ends_early_has_made_little_progress(log, early):
    """What counts is the way to the end that was meant, so that a wrong turn is no short cut to a full score."""
    whole, part = results_of(log), results_of(early)
    assert part["pdms_v1"].details["ego_progress"] < 0.7 < whole["pdms_v1"].details["ego_progress"]
    assert part["pdms_v1"].value < whole["pdms_v1"].value
    for results in (whole, part):
        assert results["ego_progress"].value == results["pdms_v1"].details["ego_progress"], "one progress on one page"


@pytest.mark.parametrize("edits", [(), (Insert(category="car", ahead=18.0),)], ids=["horizon", "collision"])
def test_an_environments_final_metrics_are_those_of_the_stored_episode(env, edits):
    """Also where the episode ends before its horizon: one name, one number."""
    finals = []
    options = RunOptions(scenario=Scenario("town-val-0001", edits=edits), plan_limit=600.0)
    log = run_episode(env, LogFollower(), 3, options, lambda driving, info: finals.append(info["metrics"].get("final")))
    assert log.outcome == ("collision" if edits else "horizon") and finals[:-1] == [{}] * (len(finals) - 1)
    results = results_of(log)
    assert finals[-1].keys() == METRICS.keys()
    for name, final in finals[-1].items():
        assert (final["valid"], final.get("value")) == (results[name].valid, results[name].value if results[name].valid else None)
    driven_only = evaluate(log.trace)["ego_progress"].value
    assert (results["ego_progress"].value < 0.9 * driven_only) == bool(edits)


def test_stored_episodes_of_edited_scenes_score_the_same(edited, tmp_path):
    back = load_episode(save_episode(edited, tmp_path, "edited"))
    mine, theirs = results_of(edited), results_of(back)
    assert {name: (r.value, r.valid) for name, r in mine.items()} == {name: (r.value, r.valid) for name, r in theirs.items()}
    assert np.array_equal(back.trace.position, edited.trace.position)


def test_what_failed_at_once_is_still_looked_at(log):
    """A planner that fails in its reset leaves one instant: enough for a trace, not for scores."""
    arrays = ("time", "ego", "position", "yaw", "velocity", "valid", "expert")
    start = replace(log.trace, **{name: getattr(log.trace, name)[:1] for name in arrays})
    failed = replace(log, outcome=PLANNER_ERROR, error="reset: no weights", trace=start, steps=log.steps[:1])
    results = results_of(failed)
    assert results.keys() == METRICS.keys() | COMPOSITES | ROUTE | OPEN_LOOP, "which scores it fails in is known"
    assert not any(results[name].valid for name in COMPOSITES | ROUTE | OPEN_LOOP)


def test_without_plans_their_scores_are_not_available(edited):
    """Not even where the ego crashed, or else only crashes would have an EPDMS, of 0."""
    controls = replace(edited, plans=replace(edited.plans, step=edited.plans.step[:0], poses=edited.plans.poses[:0]))
    results = results_of(controls)
    looking = COMPOSITES - {"nuplan_cls_nr", "alpasim_scene_score"} | OPEN_LOOP
    assert {name for name in results if not results[name].valid} >= looking
    assert all("plan" in results[name].details["reason"] for name in looking)
    assert results["pdms_v1"].valid and results["nuplan_cls_nr"].valid
