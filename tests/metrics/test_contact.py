"""Collisions and time to collision on traces worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.collision import find_collisions, no_at_fault_collision, no_collision
from dist4d_env.metrics.driving.time_to_collision import HORIZON, projected_time_to_collision, time_to_collision
from dist4d_env.simulation.ego import EgoState
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


def test_known_tracks_are_not_judged_again():
    assert find_collisions(make_trace(straight(), Agent(20, 0)), frozenset({0})) == ()


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


def boxes(*rows: tuple[float, float, float, float]) -> Boxes:
    x, y, vx, vy = np.array(rows, float).reshape(-1, 4).T
    count = len(x)
    return Boxes(
        np.arange(count),
        np.zeros(count, np.int8),
        np.column_stack([x, y, 0 * x]),
        np.tile([4.0, 2.0, 1.5], (count, 1)),
        np.zeros(count),
        np.column_stack([vx, vy]),
    )


def test_projected_time_is_exact():
    ego = EgoState(0.0, 0.0, 0.0, 10.0, 0, 0, 0)
    gap = 40 - 2 - NOSE
    assert projected_time_to_collision(ego, boxes((40, 0, 0, 0)), CAR) == pytest.approx(gap / 10)
    assert projected_time_to_collision(ego, boxes((40, 0, 5, 0)), CAR) == pytest.approx(gap / 5)
    assert projected_time_to_collision(ego, boxes((40, 5, 0, 0)), CAR) == HORIZON
    assert projected_time_to_collision(ego, boxes((-20, 0, 30, 0)), CAR) == HORIZON, "what comes from behind is not the ego's"
    assert projected_time_to_collision(ego, boxes((40, 5, 0, 0), (3, 0, 0, 0)), CAR) == 0.0
    assert projected_time_to_collision(ego, boxes(), CAR) == HORIZON
