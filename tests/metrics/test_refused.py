"""What cannot be scored is refused: numbers that are not finite, agents without a size, rows at another rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.comfort import comfort
from dist4d_env.metrics.driving.epdms import epdms_v2
from dist4d_env.metrics.driving.extended_comfort import extended_comfort
from dist4d_env.metrics.driving.progress import ego_progress, route_completion
from dist4d_env.metrics.driving.road import driving_direction_compliance, lane_keeping
from dist4d_env.metrics.driving.running import RunningMetrics
from dist4d_env.metrics.driving.suite import evaluate
from dist4d_env.metrics.driving.time_to_collision import time_to_collision
from dist4d_env.metrics.driving.trace import EpisodeTrace, Plans
from dist4d_env.metrics.foreign.ads import ads
from dist4d_env.metrics.foreign.hd_score import hd_score
from dist4d_env.metrics.foreign.neuroncap import neuroncap_score
from dist4d_env.metrics.foreign.nuplan import nuplan_cls
from dist4d_env.metrics.foreign.open_loop import FutureBoxes, nuscenes_open_loop, open_loop
from dist4d_env.metrics.plans.episode import epdms_of_plans, pdms_of_plans
from dist4d_env.metrics.plans.scene import PlanScene
from dist4d_env.metrics.plans.scoring import score_plans
from tests.simulation.road import Agent, make_scene

from .traces import make_trace, straight

BAD = [np.nan, np.inf, -np.inf]
AHEAD = np.zeros((3, 8, 3))
AHEAD[:, :, 0] = 4.0 * np.arange(1, 9)
PLANS = Plans(np.array([0, 5, 10]), AHEAD)


def spoilt(array: np.ndarray, value: float, place) -> np.ndarray:
    spoilt = np.array(array, float)
    spoilt[place] = value
    return spoilt


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["position", "yaw", "velocity", "size", "ego", "time", "expert"])
def test_a_trace_is_finite(name, value):
    """So every metric of a trace is, whoever computes it: a trace that lies cannot be made."""
    trace = make_trace(None, Agent(30, 0))
    with pytest.raises(ConfigError, match=r"trace.*(finite|positive)") as refused:
        replace(trace, **{name: spoilt(getattr(trace, name), value, 0 if name == "size" else 7)})
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["position", "yaw", "velocity", "size"])
def test_running_values_are_of_finite_agents(name, value):
    scene = make_scene(Agent(30, 0))
    with pytest.raises(ConfigError, match=f"road.*(size|{name}) of an agent"):
        RunningMetrics().add(
            replace(scene, tracks=replace(scene.tracks, **{name: spoilt(getattr(scene.tracks, name), value, 0)}))
        )


@pytest.mark.parametrize("size", [0.0, -2.0])
def test_agents_have_a_size(size):
    trace = make_trace(None, Agent(30, 0))
    with pytest.raises(ConfigError, match="size of an agent is not a positive number"):
        replace(trace, size=spoilt(trace.size, size, (0, 1)))
    with pytest.raises(ConfigError, match="size of an agent"):
        replace(PlanScene.happened(trace, 0), size=spoilt(trace.size[:, :2], size, (0, 0)))


def test_what_does_not_exist_may_be_anything():
    trace = make_trace(None, Agent(30, 0, last=2.0), Agent(50, 0, first=1.0))
    lost = {name: spoilt(getattr(trace, name), np.nan, ~trace.valid) for name in ("position", "yaw", "velocity")}
    wanted = {name: (result.value, result.valid) for name, result in evaluate(trace).items()}
    assert {name: (result.value, result.valid) for name, result in evaluate(replace(trace, **lost)).items()} == wanted
    scene = PlanScene.happened(replace(trace, **lost), 0)
    for version in ("v1", "v2"):
        for form in ("faithful", "corrected"):
            ours, theirs = (score_plans(trace.ego[None], s, version, form) for s in (scene, PlanScene.happened(trace, 0)))
            assert ours.score == theirs.score
    assert nuplan_cls(replace(trace, **lost)).value == nuplan_cls(trace).value
    assert neuroncap_score(replace(trace, **lost)).value == neuroncap_score(trace).value
    assert ads(replace(trace, **lost), PLANS).value == ads(trace, PLANS).value


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["position", "yaw", "velocity", "size"])
def test_the_scene_of_plans_is_finite(name, value):
    scene = PlanScene.happened(make_trace(None, Agent(30, 0)), 0)
    with pytest.raises(ConfigError, match="scene of a plan"):
        replace(scene, **{name: spoilt(getattr(scene, name), value, 0)})
    with pytest.raises(ConfigError, match="history"):
        replace(scene, history=spoilt(straight(steps=15), value, 3))


@pytest.mark.parametrize("value", BAD)
def test_plans_and_references_are_finite(value):
    trace = make_trace(None, Agent(30, 0))
    for arguments in ({"poses": spoilt(AHEAD, value, (1, 2))}, {"dt": value}):
        with pytest.raises(ConfigError, match="plans"):
            replace(PLANS, **arguments)
    with pytest.raises(ConfigError, match="ego"):
        score_plans(spoilt(straight()[None], value, (0, 40)), PlanScene.happened(trace, 0))
    with pytest.raises(ConfigError, match="reference"):
        score_plans(straight()[None], PlanScene.happened(trace, 0), reference=value)
    with pytest.raises(ConfigError, match="reference"):
        evaluate(trace, value)
    with pytest.raises(ConfigError, match="reference"):
        ego_progress(trace, reference=value)
    for score in (pdms_of_plans, epdms_of_plans):
        with pytest.raises(ConfigError, match="reference"):
            score(trace, PLANS, references=np.full(3, value))
    for score in (neuroncap_score, route_completion):
        with pytest.raises(ConfigError, match="reference"):
            score(trace, value)


@pytest.mark.parametrize("form", ["faithful", "corrected"])
@pytest.mark.parametrize("value", BAD)
def test_open_loop_paths_and_boxes_are_finite(form, value):
    path = np.zeros((1, 6, 3))
    path[0, :, 0] = 2.5 * np.arange(1, 7)
    place, size = np.full((1, 6, 1, 2), 30.0), np.array([[[4.5, 2.0]]])
    boxes = FutureBoxes(place, np.zeros((1, 6, 1)), size, np.zeros((1, 1), np.int8), np.ones((1, 6, 1), bool))
    assert open_loop(path, path, boxes, form=form).l2.tolist() == [0.0] * 3
    for arguments in ((spoilt(path, value, (0, 3)), path), (path, spoilt(path, value, (0, 3)))):
        with pytest.raises(ConfigError, match="open-loop score"):
            open_loop(*arguments, boxes, form=form)
    known = np.arange(6)[None] != 4
    assert open_loop(path, spoilt(path, value, (0, 4)), boxes, form=form, mask=known).l2.tolist() == [0.0] * 3
    for name in ("position", "yaw", "size"):
        with pytest.raises(ConfigError, match="boxes of a sample"):
            replace(boxes, **{name: spoilt(getattr(boxes, name), value, 0)})


NEED_TICKS = {
    "suite": evaluate,
    "time_to_collision": time_to_collision,
    "comfort": comfort,
    "driving_direction": driving_direction_compliance,
    "lane_keeping": lane_keeping,
    "epdms_v2": epdms_v2,
    "extended_comfort": lambda trace: extended_comfort(trace, PLANS),
    "pdms_of_plans": lambda trace: pdms_of_plans(trace, PLANS),
    "ads": lambda trace: ads(trace, PLANS),
    "hd_score": lambda trace: hd_score(trace, PLANS),
    "nuplan_cls": nuplan_cls,
    "open_loop": lambda trace: nuscenes_open_loop(trace, PLANS),
    "plan_scene": lambda trace: PlanScene.happened(trace, 0),
}


@pytest.mark.parametrize("score", NEED_TICKS)
def test_scores_that_count_ticks_refuse_another_rate(score):
    """A drive at 2 Hz, every fifth row of one at 10 Hz, is no drive of a fifth of the time."""
    trace = make_trace(straight(steps=101), Agent(30, 3.5))
    NEED_TICKS[score](trace)
    every = {name: getattr(trace, name)[::5] for name in ("time", "ego", "position", "yaw", "velocity", "valid", "expert")}
    slow = replace(trace, **every)
    with pytest.raises(ConfigError, match=r"10 Hz.*0\.5 to 0\.5 s apart") as refused:
        NEED_TICKS[score](slow)
    assert len(str(refused.value)) < 300
    with pytest.raises(ConfigError, match="10 Hz"):
        pdms_of_plans(trace, PLANS, slow)


def test_scores_of_places_take_any_rate():
    trace = make_trace(straight(steps=101), Agent(60, 0))
    every = {name: getattr(trace, name)[::5] for name in ("time", "ego", "position", "yaw", "velocity", "valid", "expert")}
    slow = replace(trace, **every)
    assert isinstance(slow, EpisodeTrace) and ego_progress(slow).value == ego_progress(trace).value
    assert neuroncap_score(slow, 8.0).value == neuroncap_score(trace, 8.0).value == 0.0
    assert slow.vehicle == VehicleParameters()
