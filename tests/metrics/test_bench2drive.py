"""Bench2Drive's scores on the straight road, held to the published formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import savgol_filter

from dist4d_env.metrics.foreign.bench2drive import bench2drive
from dist4d_env.scenes.lights import RED
from tests.simulation.road import Agent, light_at

from .traces import make_trace, straight

FORMS = ("faithful", "corrected")


def scores(trace, metres=32.0, form="corrected"):
    return {name.removeprefix("bench2drive_"): result for name, result in bench2drive(trace, metres, form).items()}


def turning(rate: np.ndarray, speed: float = 8.0) -> np.ndarray:
    """(T, 7) an ego at constant speed with yaw rates (T,)."""
    ego = straight(speed, steps=len(rate))
    ego[:, 2], ego[:, 6] = np.cumsum(rate) * 0.1, rate
    return ego


@pytest.mark.parametrize("form", FORMS)
def test_a_route_driven_without_fault(form):
    found = scores(make_trace(None, Agent(60.0, 3.5, 8.0)), form=form)
    assert found["driving_score"].value == found["success"].value == found["comfort"].value == 1.0
    assert found["efficiency"].value == pytest.approx(1.0)
    assert 13 <= len(found["efficiency"].details["check_points"]) <= 20, "passed at whole ticks"
    absent = found["driving_score"].details["not_available"]
    assert absent == ["stop_sign", "scenario_timeout", "yield_to_emergency_vehicle", "red_light"], "none counts as kept"
    assert "outside_route_lanes" in scores(make_trace(scene_map=None))["driving_score"].details["not_available"]


def test_completion_is_of_the_recorded_drive_and_99_per_cent_are_all():
    assert scores(make_trace(), 64.0)["driving_score"].value == pytest.approx(0.5)
    assert scores(make_trace(), 64.0)["success"].value == 0.0
    assert scores(make_trace(), 32.2)["success"].value == 1.0
    short = scores(make_trace(), 3.0)
    assert not short["driving_score"].valid and not short["success"].valid and "no route" in short["success"].details["reason"]


@pytest.mark.parametrize(
    "category, factor", [("pedestrian", 0.5), ("car", 0.6), ("bicycle", 0.6), ("traffic_cone", 0.65), ("barrier", 0.65)]
)
def test_each_collision_costs_its_factor(category, factor):
    found = scores(make_trace(None, Agent(25.0, 0.5, category=category, length=0.8, width=0.8)))
    assert found["driving_score"].value == pytest.approx(factor) and found["success"].value == 0.0
    twice = scores(make_trace(None, *(Agent(x, 0.5, category=category, length=0.8, width=0.8) for x in (12.0, 25.0))))
    assert twice["driving_score"].value == pytest.approx(factor**2)
    near = scores(make_trace(None, *(Agent(x, 0.5, category=category, length=0.8, width=0.8) for x in (25.0, 26.0))))
    assert near["driving_score"].value == pytest.approx(factor), "within 5 m is one collision"


def test_what_hits_a_standing_ego_is_not_its_collision():
    hit = make_trace(straight(0.0), Agent(-20.0, 0.0, 10.0))
    assert hit.contact.any() and not scores(hit)["driving_score"].details["collisions"]


def test_what_was_put_there_counts_in_the_faithful_form_alone():
    inside = make_trace(None, Agent(1.4, 0.0, 8.0))
    assert [scores(inside, form=form)["driving_score"].details["infractions"]["vehicle"] for form in FORMS] == [1, 0]


def test_a_red_light_costs_30_per_cent():
    lit = replace(make_trace(), lights=light_at(20.0, np.full(41, RED)))
    assert scores(lit)["driving_score"].value == pytest.approx(0.7)
    assert "red_light" not in scores(lit)["driving_score"].details["not_available"]


def test_metres_off_the_road_are_a_share():
    """The last 20 of 40 moves lie 5 m south of a road that ends at -1.75."""
    ego = straight()
    ego[21:, 1] = -5.0
    found = scores(make_trace(ego))["driving_score"]
    moves = np.full(40, 0.8)
    moves[20] = np.hypot(0.8, 5.0)
    assert found.details["outside"] == pytest.approx(moves[20:].sum() / moves.sum())
    assert found.value == pytest.approx(found.details["route_completion"] * (1 - found.details["outside"]))
    against = scores(make_trace(straight(y=7.0)))["driving_score"]
    assert against.details["outside"] == 1.0, "lanes that run against it"


def test_efficiency_is_relative_to_traffic_that_moves():
    around = Agent(60.0, 3.5, 16.0), Agent(80.0, 3.5, 0.0)
    assert scores(make_trace(None, *around))["efficiency"].value == pytest.approx(0.5), "a parked car is no traffic"
    assert scores(make_trace(None, Agent(60.0, 3.5, 4.0), Agent(90.0, 3.5, 12.0)))["efficiency"].value == pytest.approx(1.0)
    assert not scores(make_trace(None, Agent(60.0, 3.5, 0.7)))["efficiency"].valid, "more than tenfold is dropped"
    alone = make_trace()
    assert not scores(alone)["efficiency"].valid and scores(alone, form="faithful")["efficiency"].value == 1.0


def test_comfort_is_a_share_of_segments():
    """Hard braking for the last of three segments of two seconds; a rest of one tick is left out."""
    ego = straight(20.0, steps=61)
    ego[40:, 4] = -6.0
    found = scores(make_trace(ego))["comfort"]
    assert found.value == pytest.approx(2 / 3) and found.details["uncomfortable"] == [2]
    assert found.details["segments"] == 3
    assert not scores(make_trace(straight(steps=5)))["comfort"].valid


def test_only_the_corrected_form_knows_yaw_acceleration():
    """The yaw rate swings within 0.9 rad/s, its own rate beyond 1.93: the original looks at the rate twice."""
    rate = 0.5 * np.sin(np.arange(21) * 0.55)
    trace = make_trace(turning(rate, 3.0))
    segment = savgol_filter(savgol_filter(rate[:20], 7, 2), 7, 2, deriv=1, delta=0.1)
    assert np.abs(segment).max() > 1.93 and np.abs(savgol_filter(rate[:20], 7, 2)).max() < 0.95
    still = replace(trace, vehicle=replace(trace.vehicle, rear_axle_to_center=0.0))
    assert [scores(still, form=form)["comfort"].value for form in FORMS] == [1.0, 0.0]
