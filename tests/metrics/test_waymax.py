"""Waymax's metrics on the straight road: lanes at y = 0 and 3.5 along x, at 7 against it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.metrics.foreign.waymax import (
    METRICS,
    kinematic_infeasibility,
    log_divergence,
    off_route,
    offroad,
    overlap,
    progression,
    waymax_metric,
    waymax_reward,
    wrong_way,
)
from dist4d_env.scenes.route import Route
from tests.simulation.road import Agent

from .traces import make_trace, straight


def test_a_clean_drive():
    values = {name: waymax_metric(make_trace(), name) for name in METRICS}
    assert all(result.valid for result in values.values())
    nought = {name: result.value for name, result in values.items() if name != "progression"}
    assert set(nought.values()) == {0.0}
    assert values["progression"].value == pytest.approx(32 / 100)  # the route begins at -20 m, the log ends at its 120th


def test_overlap_at_the_steps_of_contact():
    series = overlap(make_trace(None, Agent(20.0, 0.0)))
    touching = np.abs(1.4 + 0.8 * np.arange(41) - 20.0) <= 2.042 + 2.25
    assert series.value.astype(bool).tolist() == touching.tolist()
    details = waymax_metric(make_trace(None, Agent(50.0, 0.0), Agent(20.0, 0.0)), "overlap").details
    assert (details["step"], details["track"]) == (touching.argmax(), 1)


def test_offroad_is_one_corner():
    assert offroad(make_trace(straight(y=-0.88))).value.max() == 0.0
    assert offroad(make_trace(straight(y=-0.90))).value.min() == 1.0


@pytest.mark.parametrize("y, value", [(0.0, 0.0), (3.5, 0.0), (6.9, 0.0), (7.0, 3.5), (8.0, 4.5)])
def test_wrong_way_is_the_distance_from_lanes_that_run_along(y, value):
    assert wrong_way(make_trace(straight(y=y))).value == pytest.approx(value, abs=0.06)


@pytest.mark.parametrize("y, value", [(0.0, 0.0), (2.0, 0.0), (3.5, 3.5), (-5.5, 5.5)])
def test_off_route_is_far_from_it_or_nearer_to_another_path(y, value):
    """The route is lane A: in the middle of B the ego is 3.5 m nearer to B, below 2.75 m less than 2."""
    trace = make_trace(straight(y=y))
    on_a = replace(trace, route=Route.through(trace.route.points, ("A",), log_length=120.0))
    assert off_route(on_a).value == pytest.approx(value, abs=0.06)


def test_progression_follows_the_log():
    assert progression(make_trace(straight(4.0))).value[-1] == pytest.approx(16 / 100)
    endless = replace(make_trace(), route=Route.through(make_trace().route.points))
    assert not waymax_metric(endless, "progression").valid


def test_kinematics():
    ego = straight()
    ego[20:, 3] = 6.9  # 11 m/s^2
    assert np.flatnonzero(kinematic_infeasibility(make_trace(ego)).value).tolist() == [20]
    ego[20:, 3] = 7.0  # 10 m/s^2
    assert not kinematic_infeasibility(make_trace(ego)).value.any()
    turning = straight()
    turning[:, 2] = 0.8 * 0.31 * np.arange(41)
    assert kinematic_infeasibility(make_trace(turning)).value[1:].all()
    turning[:, 2] = 0.8 * 0.30 * np.arange(41)
    assert not kinematic_infeasibility(make_trace(turning)).value.any()
    creeping = straight(0.5)
    creeping[:, 2] = 1.0 * np.arange(41)
    assert not kinematic_infeasibility(make_trace(creeping)).value.any()
    assert not kinematic_infeasibility(make_trace()).valid[0]


def test_divergence_from_the_log():
    series = log_divergence(make_trace(straight(6.0)))
    assert series.value == pytest.approx(0.2 * np.arange(41))
    assert waymax_metric(make_trace(straight(6.0)), "log_divergence").value == pytest.approx(4.0)


def test_what_needs_a_map_is_not_valid_without_one():
    trace = make_trace(scene_map=None)
    assert {name for name in METRICS if not waymax_metric(trace, name).valid} == {"offroad", "wrong_way"}


def test_reward_is_the_weighted_sum():
    trace = make_trace(straight(y=-0.90), Agent(20.0, 0.0))
    assert set(waymax_reward(trace).tolist()) == {-1.0, -2.0}
    assert waymax_reward(trace, {"log_divergence": -0.5})[0] == pytest.approx(-0.45)
