"""Episode metrics against the original NAVSIM scorers: eight worlds, ten plans each, from their own simulated states."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dist4d_env.metrics.driving.collision import find_collisions, no_at_fault_collision
from dist4d_env.metrics.driving.comfort import comfort, comfort_signals, within_limits
from dist4d_env.metrics.driving.composite import pdms_v1
from dist4d_env.metrics.driving.epdms import epdms_v2
from dist4d_env.metrics.driving.progress import ego_progress, progress
from dist4d_env.metrics.driving.road import drivable_area_compliance, driving_direction_compliance, lane_keeping
from dist4d_env.metrics.driving.time_to_collision import time_to_collision
from tests.simulation.road import Agent

from . import golden
from .traces import make_trace


@pytest.fixture(scope="module", params=["v1", "v2"])
def golden_data(request, stored_data):
    return request.param, golden.read(stored_data, request.param)


def trace_of(data: dict, world: str, plan: str):
    """One plan in one world as if it had been an episode of 4 s."""
    agents = [
        Agent(
            o["x"],
            o["y"],
            o["speed"] * math.cos(o["heading"]),
            o["speed"] * math.sin(o["heading"]),
            golden.KINDS[o["type"]],
            o["length"],
            o["width"],
            o["heading"],
        )
        for o in data["worlds"][world]
    ]
    ego = golden.simulated(data)[list(data["plans"]).index(plan)]
    trace = make_trace(ego, *agents, scene_map=golden.road_of_golden()[0], vehicle=golden.vehicle_of(data))
    return replace(trace, route=golden.road_of_golden()[1])


def cases(data: dict):
    found = [(world, plan, wanted) for world, plans in data["expected"].items() for plan, wanted in plans.items()]
    assert len(found) == 80
    return found


def test_collisions_and_drivable_area(golden_data):
    _, data = golden_data
    for world, plan, wanted in cases(data):
        trace = trace_of(data, world, plan)
        assert no_at_fault_collision(trace).value == wanted["NC"], (world, plan)
        assert drivable_area_compliance(trace).value == wanted["DAC"], (world, plan)
        first = next((c.step for c in find_collisions(trace) if c.at_fault), None)
        assert first == wanted["first_at_fault_step"], (world, plan)


def test_progress(golden_data):
    """v1 weighs the ego's progress with its NC and DAC, v2 does not; the reference is the plan that keeps its speed."""
    version, data = golden_data
    for world, plan, wanted in cases(data):
        trace = trace_of(data, world, plan)
        assert progress(trace).value == pytest.approx(wanted["raw_progress"], abs=1e-6), (world, plan)
        reference = data["expected"][world][data["reference_plan"]]
        best = reference["raw_progress"] * reference["NC"] * reference["DAC"]
        multiplier = wanted["NC"] * wanted["DAC"] if version == "v1" else 1.0
        assert ego_progress(trace, multiplier, best).value == pytest.approx(wanted["EP"], abs=1e-6), (world, plan)


def test_time_to_collision(golden_data):
    """v1 also judges the last 0.9 s, whose future an episode does not record: what it finds there is left out."""
    _, data = golden_data
    for world, plan, wanted in cases(data):
        result = time_to_collision(trace_of(data, world, plan), form="faithful")
        step = wanted["first_ttc_step"]
        recorded = step is None or step <= 31
        assert result.value == (wanted["TTC"] if recorded else 1.0), (world, plan)
        assert result.details.get("step") == (step if recorded else None), (world, plan)


def test_comfort(golden_data):
    version, data = golden_data
    for world, plan, wanted in cases(data):
        if world != "empty":  # comfort does not look at the others
            continue
        trace = trace_of(data, world, plan)
        if version == "v1":
            assert comfort(trace, "v1", faithful=True).value == wanted["comfort"], plan
        else:
            held = within_limits(comfort_signals(trace, "v2", faithful=True)).all(1)
            assert held.astype(int).tolist() == wanted["comfort_flags"], plan


def test_driving_direction_and_lane_keeping(golden_data):
    """NAVSIM's forms, with the route and its neighbour lane as the lanes that count."""
    _, data = golden_data
    for world, plan, wanted in cases(data):
        trace = trace_of(data, world, plan)
        assert driving_direction_compliance(trace, form="faithful").value == wanted["DDC"], (world, plan)
        if "LK" in wanted:
            assert lane_keeping(trace, "route").value == wanted["LK"], (world, plan)


@pytest.mark.parametrize("form", ["faithful", "corrected"])
def test_whole_scores_of_a_short_episode(golden_data, form):
    """An episode of 4 s that followed one plan scores as the plan does, but for the 0.9 s that v1 looks past its end."""
    version, data = golden_data
    for world, plan, wanted in cases(data):
        trace = trace_of(data, world, plan)
        reference = data["expected"][world][data["reference_plan"]]
        best = reference["raw_progress"] * reference["NC"] * reference["DAC"]
        if version == "v1" and (wanted["first_ttc_step"] or 0) <= 31:
            result = pdms_v1(trace, best, form=form)
            assert result.details["form"] == f"{form}, closed loop, whole episode"
            if form == "faithful":
                assert result.value == pytest.approx(wanted["score"], abs=1e-6), (world, plan)
        elif version == "v2":
            result = epdms_v2(trace, form=form)
            decided = 0 in (wanted["NC"], wanted["DAC"], result.details["driving_direction_compliance"])
            assert result.valid == decided and "no plans" in result.details["reason"]
            names = {"NC": "no_at_fault_collision", "DAC": "drivable_area_compliance", "LK": "lane_keeping"}
            assert {key: result.details[name] for key, name in names.items()} == {key: wanted[key] for key in names}
