"""Extended comfort, EPDMS, and the scores of an episode's plans, worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.errors import ActionError, ConfigError
from dist4d_env.metrics.driving.epdms import epdms, epdms_v2
from dist4d_env.metrics.driving.extended_comfort import consecutive_comfort, extended_comfort, plan_difference
from dist4d_env.metrics.driving.issued import drive_issued, reference_metres
from dist4d_env.metrics.driving.trace import Plans
from dist4d_env.metrics.plans.episode import epdms_of_plans, pdms_of_plans
from dist4d_env.scenes.lights import GREEN, RED
from dist4d_env.scenes.maps import make_map
from tests.simulation.road import Agent, light_at

from . import golden
from .traces import make_trace, straight

AHEAD = 0.5 * np.arange(1, 9)
CRUISE = np.column_stack([8 * AHEAD, np.zeros(8), np.zeros(8)])


def plans_of(steps, *shapes: np.ndarray) -> Plans:
    """One plan per step, the shapes taking turns."""
    return Plans(np.array(steps), np.stack([shapes[i % len(shapes)] for i in range(len(steps))]))


def swerve(metres: float) -> np.ndarray:
    u = np.clip(AHEAD / 2.0, 0, 1)
    y = metres * u**2 * (3 - 2 * u)
    return np.column_stack([8 * AHEAD, y, np.arctan2(np.gradient(y), np.gradient(8 * AHEAD))])


def test_extended_comfort_of_the_original(stored_data):
    """Its own trace: from straight on to a drift of 1 m half a second later, yaw accelerations differ by 0.1027 rad/s^2."""
    data = golden.read(stored_data, "v2")
    ego, names = golden.simulated(data), list(data["plans"])
    apart = plan_difference(ego[[names.index("cruise8")], 5:], ego[[names.index("drift +1.0 in 1s")], :36], faithful=True)[0]
    assert apart[3] == pytest.approx(0.1027, abs=5e-5) and (apart[:3] < (0.7, 0.5, 0.1)).all()


def test_one_mind_is_comfortable():
    trace = make_trace(straight(steps=61))
    result = extended_comfort(trace, plans_of([0, 5, 10, 15], CRUISE))
    assert result.value == 1.0 and result.valid and result.details["pairs"] == 3


def test_plans_that_contradict_each_other_are_not():
    """Left and right alternate: no plan agrees with the one before. Only inconsistent pairs count."""
    trace = make_trace(straight(steps=61))
    result = extended_comfort(trace, plans_of([0, 5, 10, 15], swerve(2.0), swerve(-2.0)))
    assert result.value == 0.0 and result.details["worst"]["yaw_acceleration"] > 1.0
    once = Plans(np.array([0, 5, 10, 15, 20]), np.stack([CRUISE, CRUISE, swerve(2.0), CRUISE, CRUISE]))
    result = extended_comfort(trace, once)
    assert result.value == pytest.approx(0.5) and result.details["worst"]["step"] in (10, 15)


def test_plans_are_compared_half_a_second_apart():
    """A planner asked ten times a second is judged against its plan of half a second before, one asked every 2 s likewise."""
    trace = make_trace(straight(steps=61))
    quick = np.arange(0, 12)
    value, _ = consecutive_comfort(quick, drive_issued(trace, plans_of(quick, CRUISE)))
    assert np.isnan(value[:5]).all() and (value[5:] == 1).all()
    slow = np.array([0, 20, 40])
    value, _ = consecutive_comfort(slow, drive_issued(trace, plans_of(slow, CRUISE)))
    assert np.isnan(value[0]) and (value[1:] == 1).all()
    value, _ = consecutive_comfort(np.array([0, 40]), drive_issued(trace, plans_of([0, 40], CRUISE)))
    assert np.isnan(value).all(), "too little in common to smooth"


@pytest.mark.parametrize("plans", [None, Plans(np.array([0]), CRUISE[None])])
def test_no_two_plans_no_extended_comfort(plans):
    trace = make_trace(straight(steps=61))
    result = extended_comfort(trace, plans)
    assert not result.valid and "plans" in result.details["reason"]
    whole = epdms_v2(trace, plans)
    assert not whole.valid and whole.details["extended_comfort"] is None and "extended_comfort" in whole.details["reason"]
    assert whole.value == 1.0, "the value is that of the other parts"


def test_epdms_is_its_formula():
    parts = {
        "no_at_fault_collision": 1.0,
        "drivable_area_compliance": 1.0,
        "driving_direction_compliance": 0.5,
        "traffic_light_compliance": math.nan,
        "ego_progress": 0.8,
        "time_to_collision": 0.0,
        "lane_keeping": 0.0,
        "history_comfort": 1.0,
        "extended_comfort": 1.0,
    }
    assert epdms(parts) == pytest.approx(0.5 * (5 * 0.8 + 2 + 2) / 16)
    assert epdms(parts, {"time_to_collision", "lane_keeping"}) == pytest.approx(0.5 * (5 * 0.8 + 5 + 2 + 2 + 2) / 16)
    assert epdms({**parts, "extended_comfort": math.nan}) == pytest.approx(0.5 * (5 * 0.8 + 2) / 14)
    assert epdms({**parts, "no_at_fault_collision": 0.0}, {"no_at_fault_collision"}) == pytest.approx(0.5 * (4 + 2 + 2) / 16)
    assert epdms({**parts, "traffic_light_compliance": 0.0}) == 0.0
    assert epdms({**parts, "traffic_light_compliance": 0.0}, {"traffic_light_compliance"}) == epdms(parts)


def test_human_filter_forgives_what_the_human_broke():
    """Both drive 0.8 m beside the middle for 6 s: without the human's drive that costs lane keeping, with it nothing."""
    beside = make_trace(straight(y=0.8, steps=61))
    plans = plans_of(range(0, 60, 5), CRUISE)
    plain, forgiven = epdms_v2(beside, plans), epdms_v2(beside, plans, beside)
    assert plain.value == pytest.approx(14 / 16) and plain.details["human_filter"] is None
    assert forgiven.value == 1.0 and forgiven.details["human_filter"] == ["lane_keeping"]
    assert forgiven.details["lane_keeping"] == 0.0, "the part itself is told as it is"
    assert plain.details["traffic_lights"] == "not available"
    one_by_one = epdms_of_plans(beside, plans, beside)
    # Of twelve decisions the last three leave the recording less than the 2 s that lane keeping bears with.
    assert one_by_one.details["human_filter"]["lane_keeping"] == 9
    assert one_by_one.value == pytest.approx((9 + 3 * 14 / 16) / 12)
    assert epdms_of_plans(beside, plans).value == pytest.approx((12 * 14 / 16 - 14 / 16 + 12 / 14) / 12)


def test_an_episode_of_one_plan_has_a_score():
    """Of episodes that end at once, most in a crash, the mean over episodes must not lose sight."""
    once = plans_of([0], CRUISE)
    free = epdms_of_plans(make_trace(straight(steps=61)), once)
    assert free.valid and free.value == 1.0 and free.details["extended_comfort"] is None
    crash = epdms_of_plans(make_trace(straight(steps=61), Agent(20.0, 0.0)), once)
    assert crash.valid and crash.value == 0.0


def test_a_red_light_is_a_factor_where_there_are_lights():
    """A line 20 m ahead, red for the first 3 s, at 8 m/s and for plans that go on so; a human who ran it, too, excuses both."""
    ego, plans = straight(8.0, steps=61), plans_of(range(0, 60, 5), CRUISE)
    red = np.where(np.arange(61) < 30, RED, GREEN)
    trace = replace(make_trace(ego), lights=light_at(20.0, red))
    driven, planned = epdms_v2(trace, plans), epdms_of_plans(trace, plans)
    assert driven.value == 0.0 and driven.valid and driven.details["traffic_light_compliance"] == 0.0
    assert driven.details["traffic_lights"] == planned.details["traffic_lights"] == "judged"
    # Fronts reach the line after 2.1 s: plans issued at 0, 0.5, 1, 1.5 and 2 s run it, the others begin beyond it.
    assert planned.details["traffic_light_compliance"] == pytest.approx(7 / 12)
    assert planned.details["worst"]["score"] == 0.0 and planned.details["worst"]["red_light"]["step"] > 0
    assert epdms_v2(trace, plans, trace).value == epdms_v2(make_trace(ego), plans).value
    assert epdms_v2(trace, plans, trace).details["human_filter"] == ["traffic_light_compliance"]
    assert epdms_of_plans(trace, plans, trace).details["human_filter"]["traffic_light_compliance"] == 5
    green = replace(trace, lights=light_at(20.0, np.full(61, GREEN)))
    assert epdms_v2(green, plans).details["traffic_light_compliance"] == 1.0
    assert epdms_of_plans(green, plans).value == epdms_of_plans(make_trace(ego), plans).value
    assert pdms_of_plans(trace, plans).value == pdms_of_plans(make_trace(ego), plans).value, "PDMS knows no lights"


def test_pdms_of_plans_judges_what_was_planned():
    """Driven at 8 m/s past a stopped car in the next lane, while every other plan would have gone into it."""
    trace = make_trace(straight(steps=91), Agent(60, 3.5))
    plans = plans_of([30, 35], CRUISE, swerve(3.5))
    result = pdms_of_plans(trace, plans, form="faithful")
    assert result.valid and result.value == pytest.approx(0.5)
    worst = result.details["worst"]
    assert worst["issued"] == 35 and worst["score"] == 0.0
    assert worst["collision"]["kind"] == "stopped_track" and worst["collision"]["track"] == 0
    assert result.details["form"] == "faithful, mean over plans" and result.details["cut"] == 0
    assert pdms_of_plans(trace, plans_of([60], CRUISE)).details["cut"] == 1, "2 s after the plan's end nothing is recorded"


def test_references_of_plans():
    """The recorded ego at 8 m/s makes 32 m in 4 s, past the record's end too; twice as far wanted is half of it reached."""
    trace = make_trace(straight(steps=61))
    np.testing.assert_allclose(reference_metres(trace, np.array([0, 10, 20, 50])), 32.0)
    human = make_trace(straight(10.0, steps=101))
    np.testing.assert_allclose(reference_metres(trace, np.array([0, 50, 60]), human), 40.0)
    plans = plans_of([0, 5], CRUISE)
    assert pdms_of_plans(trace, plans).details["ego_progress"] == 1.0
    assert pdms_of_plans(trace, plans, references=np.array([64.0, 64.0])).details["ego_progress"] == pytest.approx(0.5)
    assert pdms_of_plans(trace, plans, human).details["ego_progress"] == pytest.approx(0.8)


def test_what_cannot_be_judged_is_not_valid():
    trace, plans = make_trace(straight(steps=61)), plans_of([0, 5], CRUISE)
    for score in (pdms_of_plans, epdms_of_plans):
        assert not score(trace, None).valid
        assert not score(make_trace(straight(steps=61), scene_map=None), plans).valid
        assert not score(make_trace(straight(steps=61), scene_map=make_map("bare", {}, missing=("drivable_area",))), plans).valid


def test_plans_are_issued_at_whole_ticks():
    with pytest.raises(ConfigError, match=r"step is array\(\[0\.\]\), it must be whole ticks"):
        Plans(np.zeros(1), CRUISE[None])


@pytest.mark.parametrize(
    "plans, error, match",
    [
        (Plans(np.array([0, 99]), np.stack([CRUISE, CRUISE])), ConfigError, "ticks 0 to 99, the episode has 0 to 60"),
        (Plans(np.array([0]), np.zeros((1, 8, 2))), ConfigError, r"poses \(K, P, 3\)"),
        (Plans(np.array([0]), np.zeros((1, 2, 3)), dt=0.1), ActionError, "too short to follow"),
    ],
)
def test_bad_plans(plans, error, match):
    with pytest.raises(error, match=match):
        pdms_of_plans(make_trace(straight(steps=61)), plans)
