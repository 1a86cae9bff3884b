"""Sub-scores against the original NAVSIM scorers: eight worlds, ten plans each, from their own simulated states."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from shapely.geometry import box

from dist4d_env.metrics.collision import find_collisions, no_at_fault_collision
from dist4d_env.metrics.comfort import comfort, comfort_signals, within_limits
from dist4d_env.metrics.drivable_area import drivable_area_compliance
from dist4d_env.metrics.progress import ego_progress, progress
from dist4d_env.metrics.time_to_collision import time_to_collision
from dist4d_env.scenes.maps import make_map
from dist4d_env.simulation.state import VehicleParameters
from tests.simulation.road import Agent, lane

from .traces import make_trace


@pytest.fixture(scope="module", params=["v1", "v2"])
def golden(request, shared_data):
    return request.param, json.loads((shared_data / "golden" / f"navsim_{request.param}.json").read_text())


def trace_of(golden: dict, world: str, plan: str):
    car, states = golden["vehicle"], golden["simulated"][plan]
    vehicle = VehicleParameters(
        car["length"], car["width"], 1.777, car["wheel_base"], (car["front_length"] - car["rear_length"]) / 2
    )
    ego = np.zeros((41, 7))
    for column, name in enumerate(("x", "y", "heading", "speed", "acceleration", "steering")):
        ego[:, column] = states[name]
    ego[:, 6] = ego[:, 3] * np.tan(ego[:, 5]) / vehicle.wheelbase
    kinds = {"vehicle": "car", "traffic_cone": "traffic_cone", "pedestrian": "pedestrian"}
    agents = [
        Agent(
            o["x"], o["y"], o["speed"] * math.cos(o["heading"]), o["speed"] * math.sin(o["heading"]),
            kinds[o["type"]], o["length"], o["width"], o["heading"],
        )
        for o in golden["worlds"][world]
    ]
    lanes = [lane("A", 0.0), lane("B", 3.5), lane("C", 7.0)]
    scene_map = make_map("golden", {"drivable_area": [box(-50, -1.75, 200, 8.75)]}, lanes)
    return make_trace(ego, *agents, scene_map=scene_map, vehicle=vehicle)


def cases(golden: dict):
    found = [(world, plan, wanted) for world, plans in golden["expected"].items() for plan, wanted in plans.items()]
    assert len(found) == 80
    return found


def test_collisions_and_drivable_area(golden):
    _, data = golden
    for world, plan, wanted in cases(data):
        trace = trace_of(data, world, plan)
        assert no_at_fault_collision(trace).value == wanted["NC"], (world, plan)
        assert drivable_area_compliance(trace).value == wanted["DAC"], (world, plan)
        first = next((c.step for c in find_collisions(trace) if c.at_fault), None)
        assert first == wanted["first_at_fault_step"], (world, plan)


def test_progress(golden):
    """v1 weighs the ego's progress with its NC and DAC, v2 does not; the reference is the plan that keeps its speed."""
    version, data = golden
    for world, plan, wanted in cases(data):
        trace = trace_of(data, world, plan)
        assert progress(trace).value == pytest.approx(wanted["raw_progress"], abs=1e-6), (world, plan)
        reference = data["expected"][world][data["reference_plan"]]
        best = reference["raw_progress"] * reference["NC"] * reference["DAC"]
        multiplier = wanted["NC"] * wanted["DAC"] if version == "v1" else 1.0
        assert ego_progress(trace, multiplier, best).value == pytest.approx(wanted["EP"], abs=1e-6), (world, plan)


def test_time_to_collision(golden):
    """The form of v2; v1 also scores the last 0.9 s, with a future that an episode does not record."""
    version, data = golden
    if version == "v1":
        pytest.skip("v1 looks past the end of the recording")
    for world, plan, wanted in cases(data):
        result = time_to_collision(trace_of(data, world, plan), form="faithful")
        assert result.value == wanted["TTC"], (world, plan)
        assert result.details.get("step") == wanted["first_ttc_step"], (world, plan)


def test_comfort(golden):
    version, data = golden
    for world, plan, wanted in cases(data):
        if world != "empty":  # comfort does not look at the others
            continue
        trace = trace_of(data, world, plan)
        if version == "v1":
            assert comfort(trace, "v1", faithful=True).value == wanted["comfort"], plan
        else:
            held = within_limits(comfort_signals(trace, "v2", faithful=True)).all(1)
            assert held.astype(int).tolist() == wanted["comfort_flags"], plan
