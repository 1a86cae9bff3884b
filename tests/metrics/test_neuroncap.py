"""NeuroNCAP on the straight road: a standing car, one that comes towards the ego, one that crosses."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.metrics.foreign.neuroncap import neuroncap_score, untouched_impact_speed
from tests.simulation.road import Agent

from .traces import make_trace, straight


def braking(deceleration, steps=61, speed=8.0):
    ego = straight(speed, steps=steps)
    t = np.minimum(0.1 * np.arange(steps), speed / deceleration)
    ego[:, 0], ego[:, 3] = speed * t - deceleration * t**2 / 2, speed - deceleration * t
    return ego


def test_five_stars_for_no_collision():
    result = neuroncap_score(make_trace(braking(4.0), Agent(30.0, 0.0)))
    assert result.value == 5.0 and result.valid and result.details["impact"] is None


def test_doing_nothing_gets_nothing_and_braking_some():
    standing = Agent(30.0, 0.0)
    assert neuroncap_score(make_trace(None, standing)).value == 0.0
    result = neuroncap_score(make_trace(braking(1.1), standing))
    ego = braking(1.1)[result.details["step"]]
    assert result.details["reference"] == 8.0 and result.details["impact"] == pytest.approx(ego[3])
    assert result.value == pytest.approx(4 * (1 - ego[3] / 8)) and 0 < result.value < 4


MEETING = [(Agent(60.0, 0.0, -6.0, yaw=np.pi), 14.0), (Agent(30.0, -12.0, 0.0, 4.0), np.hypot(8, 4))]


@pytest.mark.parametrize("agent, speed", MEETING)
def test_impacts_are_relative(agent, speed):
    trace = make_trace(None, agent)
    assert untouched_impact_speed(trace) == pytest.approx(speed)
    result = neuroncap_score(trace)
    assert result.details["impact"] == pytest.approx(speed) and result.value == pytest.approx(0.0)
    assert neuroncap_score(trace, 2 * speed).value == pytest.approx(2.0)


def test_an_agent_that_appears_later_counts_from_then_on():
    late = make_trace(straight(steps=81), Agent(30.0, 0.0, 2.0, first=2.0))
    assert untouched_impact_speed(late) == pytest.approx(6.0)


def test_the_original_does_not_see_pedestrians():
    assert neuroncap_score(make_trace(None, Agent(20.0, 0.0, category="pedestrian", length=0.6, width=0.6))).value == 5.0


def test_forms_differ_by_where_the_box_is():
    """The original's box reaches 2.509 m ahead of the rear axle, the true one 3.442 m."""
    short = make_trace(straight(8.0, steps=9), Agent(12.0, 0.0))  # rear at 9.75; the rear axle comes to 6.4
    assert neuroncap_score(short, 8.0).value == 5.0
    assert neuroncap_score(short, 8.0, form="corrected").details["step"] == 8


def test_a_crash_that_doing_nothing_would_not_have_had_gets_nothing():
    """A car swerves into a standing ego: doing nothing, from the start on, meets nobody. Left out, such crashes would make the
    mean over episodes better than the planner is."""
    trace = make_trace(straight(0.0), Agent(20.0, 5.0, -2.0))
    trace.position[20:, 0, :2] = [2.0, 0.5]
    result = neuroncap_score(trace)
    assert result.valid and result.value == 0.0
    assert result.details["step"] == 20 and result.details["reference"] is None and result.details["impact"] == 2.0
    assert neuroncap_score(trace, 4.0).value == pytest.approx(2.0)
