"""Open-loop samples and scores of episodes: frames, ends of episodes, and real logs."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.metrics.driving.recording import log_trace
from dist4d_env.metrics.driving.trace import Plans
from dist4d_env.metrics.foreign.open_loop import LIDAR_AHEAD, nuscenes_open_loop, open_loop_samples
from tests.simulation.road import Agent, make_scene

from .traces import make_trace, straight


def cruise(*steps, speed=8.0, poses=8, dt=0.5):
    plans = np.zeros((len(steps), poses, 3))
    plans[..., 0] = speed * dt * np.arange(1, poses + 1)
    return Plans(np.array(steps), plans, dt)


def test_the_log_itself_is_no_distance_away():
    trace = log_trace(make_scene(Agent(60.0, 3.5, -4.0)))
    samples = open_loop_samples(trace, cruise(0, 20, 70, 80))
    assert samples.mask.sum(1).tolist() == [6, 6, 6, 4]
    assert samples.predicted[samples.mask] == pytest.approx(samples.truth[samples.mask], abs=1e-6)
    assert samples.agents.position[1, 0, 0] == pytest.approx([60 - 4 * 2.5 - 16 - LIDAR_AHEAD, 3.5])
    assert not samples.agents.valid[3, 4:].any() and samples.agents.valid[3, :4].all()


def test_the_lidar_swings_out_in_a_turn():
    plans = cruise(0)
    plans.poses[..., 2] = np.pi / 2
    predicted = open_loop_samples(log_trace(make_scene()), plans).predicted
    assert predicted[0, 5] == pytest.approx([24.0 - LIDAR_AHEAD, LIDAR_AHEAD, np.pi / 2])


def test_plans_of_another_rate_and_too_short_ones():
    trace = log_trace(make_scene())
    fine = open_loop_samples(trace, cruise(10, poses=30, dt=0.1))
    assert fine.predicted == pytest.approx(open_loop_samples(trace, cruise(10)).predicted)
    with pytest.raises(ConfigError, match="3 s"):
        open_loop_samples(trace, cruise(10, poses=5))
    result = nuscenes_open_loop(trace, cruise(10, poses=5))
    assert not result.valid and "2.5 s" in result.details["reason"]


def test_distances_by_the_second():
    """Plans of 7 m/s where the log drove 8: 1, 2 and 3 m at 1, 2 and 3 s; up to there 0.75, 1.25 and 1.75 m."""
    trace = log_trace(make_scene())
    uniad, stp3 = (nuscenes_open_loop(trace, cruise(0, 5, speed=7.0), protocol) for protocol in ("uniad", "stp3"))
    assert list(uniad.details["l2"].values()) == pytest.approx([1.0, 2.0, 3.0, 2.0]) and uniad.value == pytest.approx(2.0)
    assert list(stp3.details["l2"].values()) == pytest.approx([0.75, 1.25, 1.75, 1.25]) and stp3.value == pytest.approx(1.25)
    assert uniad.details["name"] == "nuscenes_open_loop_uniad" and uniad.details["samples"] == 2


def test_an_ego_beside_the_log_is_as_far_from_it():
    """2 m to the left of the log all the time: the plan to go on as it goes is 2 m off."""
    trace = make_trace(straight(y=2.0, steps=61))
    assert nuscenes_open_loop(trace, cruise(0, 10)).value == pytest.approx(2.0)


def test_planned_collisions_count():
    """A car stands across the adjacent lane, 20 m ahead; the plan changes lanes into it, the log goes by."""
    trace = log_trace(make_scene(Agent(20.0, 3.5)))
    plans = cruise(0)
    plans.poses[..., 1] = np.minimum(1.75 * np.arange(1, 9), 3.5)
    for form in ("faithful", "corrected"):
        result = nuscenes_open_loop(trace, plans, "stp3", form)
        assert result.details["collision"]["1s"] == 0.0 and result.details["collision"]["3s"] > 0.0


def test_episodes_without_plans_or_whole_futures_have_no_score():
    trace = log_trace(make_scene())
    assert not nuscenes_open_loop(trace, None).valid and not nuscenes_open_loop(trace, cruise()).valid
    result = nuscenes_open_loop(trace, cruise(80), "stp3")
    assert not result.valid and "no sample" in result.details["reason"] and result.details["l2"]["3s"] is None
    assert nuscenes_open_loop(trace, cruise(80), "uniad").valid, "steps without a truth add nothing and still count"
