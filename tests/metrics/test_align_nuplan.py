"""Collisions of nuPlan's own test scenes: how they are classified and whose fault they are."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from dist4d_env.metrics.collision import find_collisions
from dist4d_env.simulation.state import VehicleParameters
from tests.simulation.road import Agent

from .traces import make_trace

PACIFICA = VehicleParameters(5.176, 2.297, 1.777, 3.089, 1.461)


def collisions(path):
    """Those of the scene's first instant with contact; nuPlan's scenes hold one instant a second."""
    scene = json.loads(path.read_text())
    egos = [scene["ego"], *scene.get("ego_future_states", [])]
    worlds = [scene["world"], *scene.get("world_future_states", [])]
    judged: dict[int, object] = {}
    for ego, world in zip(egos, worlds, strict=True):
        x, y, yaw = ego["pose"]
        row = np.array([[x, y, yaw, math.hypot(*ego["velocity"]), 0, 0, 0]])
        there = [("car", a) for a in world["vehicles"]] + [("bicycle", a) for a in world["bicycles"]]
        agents = [
            Agent(
                *a["box"]["pose"][:2], a["speed"] * math.cos(a["box"]["pose"][2]), a["speed"] * math.sin(a["box"]["pose"][2]),
                kind, a["box"]["size"][1], a["box"]["size"][0], a["box"]["pose"][2],
            )
            for kind, a in there
        ]
        ids = [a["id"] for _, a in there]
        for found in find_collisions(make_trace(row, *agents, scene_map=None, vehicle=PACIFICA)):
            judged.setdefault(ids[found.track], found)
    return list(judged.values())


@pytest.mark.parametrize(
    "name, kinds",
    [
        ("no_collision", set()),
        ("active_front_collision", {"active_front"}),
        ("active_lateral_collision", {"active_lateral"}),
        ("active_rear_collision", {"active_rear"}),
        ("stopped_ego_collision", {"stopped_ego"}),
    ],
)
def test_kinds(shared_data, name, kinds):
    scene = shared_data / "nuplan_metric_cases" / "no_ego_at_fault_collision" / f"{name}.json"
    assert {collision.kind for collision in collisions(scene)} == kinds
