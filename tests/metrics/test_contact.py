"""Collisions and time to collision on traces worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.collision import BEHIND, bearing, find_collisions, no_at_fault_collision, no_collision
from dist4d_env.metrics.driving.rectangles import contact_interval
from dist4d_env.metrics.driving.time_to_collision import HORIZON, time_to_collision, time_to_contact
from dist4d_env.simulation.agents import AgentArrays
from tests.simulation.road import Agent

from .traces import make_trace, straight

CAR = VehicleParameters()
NOSE = CAR.rear_axle_to_center + CAR.length / 2  # 3.442 m ahead of the rear axle


def test_nothing_near_is_no_collision():
    trace = make_trace(straight(), Agent(60, 0), Agent(10, 3.5))
    assert no_collision(trace).value == no_at_fault_collision(trace).value == 1.0
    assert no_collision(trace).details == {"collisions": []}


def test_first_contact_names_step_and_track():
    """8 m/s towards a rear bumper at 27.75 m: the nose is there after (27.75 - 3.442) / 8 = 3.04 s, so at tick 31."""
    trace = make_trace(straight(), Agent(10, 5.0), Agent(30, 0))
    (collision,) = find_collisions(trace)
    assert (collision.step, collision.track, collision.kind, collision.at_fault) == (31, 1, "stopped_track", True)
    result = no_at_fault_collision(trace)
    assert result.value == 0.0 and result.valid
    assert result.details["collisions"] == [
        {"step": 31, "track": 1, "kind": "stopped_track", "at_fault": True, "category": "car"}
    ]


def test_static_objects_cost_half():
    cone = make_trace(straight(), Agent(20, 0, category="traffic_cone", length=0.4, width=0.4))
    assert no_at_fault_collision(cone).value == 0.5
    both = make_trace(straight(), Agent(20, 0, category="barrier", length=0.5), Agent(30, 0))
    assert no_at_fault_collision(both).value == 0.0


@pytest.mark.parametrize(
    "ego, agent, kind, at_fault",
    [
        (straight(0.0), Agent(-20, 0, vx=10.0), "stopped_ego", False),
        (straight(5.0), Agent(-12, 0, vx=14.0), "active_rear", False),
        (straight(10.0), Agent(16, 0, vx=2.0), "active_front", True),
        (straight(8.0), Agent(0, 4.0, vx=8.0, vy=-0.8), "active_lateral", False),
        (straight(8.0, y=1.75), Agent(0, 6.0, vx=8.0, vy=-0.8), "active_lateral", True),  # astride two lanes
    ],
)
def test_whose_fault(ego, agent, kind, at_fault):
    collision = find_collisions(make_trace(ego, agent))[0]
    assert (collision.kind, collision.at_fault) == (kind, at_fault)


def test_objects_count_only_while_they_are_there():
    assert no_collision(make_trace(straight(), Agent(20, 0, last=1.0))).value == 1.0
    assert no_collision(make_trace(straight(), Agent(20, 0, first=1.0))).value == 0.0


def test_time_to_collision_names_the_cause():
    """At 8 m/s and 0.9 s ahead the nose reaches 7.2 m farther: first within reach of 27.75 m at tick 22."""
    result = time_to_collision(make_trace(straight(), Agent(30, 0)))
    assert result.value == 0.0
    assert result.details == {"step": 22, "track": 0, "category": "car", "lead": pytest.approx(0.9)}
    assert time_to_collision(make_trace(straight(), Agent(60, 0))).value == 1.0


def test_time_to_collision_looks_at_where_others_will_be():
    """A leader as fast as the ego is no danger 1 m ahead; one that will have gone is none either."""
    assert time_to_collision(make_trace(straight(8.0), Agent(8.0, 0, vx=8.0))).value == 1.0
    assert time_to_collision(make_trace(straight(8.0), Agent(30.0, 0, last=2.0))).value == 1.0


def test_time_to_collision_needs_a_future():
    result = time_to_collision(make_trace(straight(steps=9), Agent(5, 0)))
    assert not result.valid and "reason" in result.details


def contact_time(*agents: tuple[float, float, float, float]) -> float:
    """Of an ego at the origin with 10 m/s ahead, among cars of 4 m x 2 m: x, y and velocity of each."""
    others, footprints = AgentArrays.empty(1, len(agents)), np.zeros((1, 2, len(agents)))
    footprints[0, 0], footprints[0, 1], others.valid[...] = 4.0, 2.0, True
    for track, (x, y, vx, vy) in enumerate(agents):
        others.values[:, 0, track] = x, y, 0, 0, vx, vy
    ego = np.array([[0.0, 0, 0, 10, 0, 0, 0]])
    return float(time_to_contact(ego, others, np.zeros(1, int), footprints, CAR)[0])


def test_time_to_contact_is_exact():
    gap = 40 - 2 - NOSE
    assert contact_time((40, 0, 0, 0)) == pytest.approx(gap / 10)
    assert contact_time((40, 0, 5, 0)) == pytest.approx(gap / 5)
    assert contact_time((40, 5, 0, 0)) == HORIZON
    assert contact_time((-20, 0, 30, 0)) == HORIZON, "what comes from behind is not the ego's"
    assert contact_time((40, 5, 0, 0), (3, 0, 0, 0)) == 0.0
    assert contact_time() == HORIZON


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_time_to_contact_is_that_of_the_rectangles(seed):
    """Of every agent that is not behind, whatever its heading, and for each ego by itself."""
    random = np.random.default_rng(seed)
    egos = np.column_stack([*random.normal(0, 20, (2, 3)), random.uniform(-4, 4, 3), random.uniform(0, 15, 3), np.zeros((3, 3))])
    agents, footprints = AgentArrays.empty(3, 6), random.uniform(0.5, 8, (2, 2, 6))
    agents.values[...], agents.valid[...] = random.normal(0, 20, (6, 3, 6)), random.random((3, 6)) < 0.8
    agents.values[4:, :, :2] = 0.0
    scene = np.array([1, 0, 1])
    found = time_to_contact(egos, agents, scene, footprints, CAR)
    for row, ego in enumerate(egos):
        there, size = agents.position[row, :, :2], footprints[scene[row]].T
        forward = np.array([np.cos(ego[2]), np.sin(ego[2])])
        center, own = ego[:2] + CAR.rear_axle_to_center * forward, np.array([CAR.length, CAR.width])
        rest = there, agents.yaw[row], size, agents.velocity[row]
        first, last = contact_interval(center, ego[2], own, ego[3] * forward, *rest)
        meets = agents.valid[row] & (first <= last) & (last >= 0) & (bearing(np.tile(ego, (6, 1)), there) < BEHIND)
        assert found[row] == pytest.approx(min([HORIZON, *np.maximum(first[meets], 0.0)]))
