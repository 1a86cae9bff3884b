"""The running values of an episode, and that they add up to the final ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dist4d_env.metrics.driving.progress import progress
from dist4d_env.metrics.driving.running import RunningMetrics
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from tests.simulation.road import Agent, make_scene, road_map


def drive(scene, actions, start=0.0):
    simulator, metrics = Simulator(scene, SimulatorConfig()), RunningMetrics(scene)
    state = simulator.reset(start)
    running = [metrics.start(state)]
    for action in actions:
        state, ticks = simulator.step(state, np.asarray(action, float))
        running.append(metrics.update(running[-1], ticks))
    return metrics, running


def test_values_add_up_to_the_final_metric():
    metrics, running = drive(make_scene(scene_map=road_map()), [(0.3, 0.05)] * 4 + [(-0.2, -0.05)] * 4)
    trace = metrics.trace(running[-1])
    assert len(trace.time) == 41 and trace.time == pytest.approx(0.1 * np.arange(41))
    assert running[-1].values["progress"] == pytest.approx(progress(trace).value)
    assert sum(r.values["progress_delta"] for r in running) == pytest.approx(running[-1].values["progress"])
    assert running[-1].values["expert_deviation"] == pytest.approx(float(np.hypot(*(trace.ego[-1, :2] - trace.expert[-1, :2]))))
    assert max(abs(r.values["acceleration"]) for r in running) == pytest.approx(np.abs(trace.ego[:, 4]).max())


def test_a_contact_is_told_once():
    """The nose, 3.442 m ahead of the axle, is at the bumper at 17.75 m after 1.79 s: in the fourth decision."""
    _, running = drive(make_scene(Agent(20, 0), scene_map=road_map()), [(0, 0)] * 6)
    assert [r.values["collision"] for r in running] == [0, 0, 0, 0, 1, 0, 0]
    assert [r.values["at_fault_collision"] for r in running] == [0, 0, 0, 0, 1, 0, 0]
    assert running[3].values["time_to_collision"] == pytest.approx((17.75 - 12 - 3.442) / 8)


def test_what_touches_the_ego_at_the_start_is_not_its_doing():
    _, running = drive(make_scene(Agent(3, 1.5), scene_map=road_map()), [(0, 0)] * 3)
    assert all(r.values["collision"] == 0 for r in running)


def test_unknown_without_a_map():
    _, running = drive(make_scene(scene_map=None), [(0, 0)])
    for name in ("off_road", "wrong_way", "speed_limit", "speeding"):
        assert math.isnan(running[-1].values[name])


def test_speeding_and_leaving_the_road():
    _, running = drive(make_scene(scene_map=road_map(speed_limit=7.0)), [(0, -1.0)] + [(0, 0)] * 3)
    assert running[0].values["speed_limit"] == 7.0 and running[0].values["speeding"] == pytest.approx(1.0)
    off = [r.values["off_road"] for r in running]
    assert off[0] == 0 and off[-1] == 1 and off == sorted(off)


def test_discomfort_is_the_share_of_rough_ticks():
    _, running = drive(make_scene(), [(0, 0), (-1.0, 0.0)])
    assert running[1].values["discomfort"] == 0.0
    assert running[2].values["discomfort"] == 1.0, "full braking jerks until it is beyond the bound of deceleration"
    assert running[2].values["jerk"] == pytest.approx(-20.0)


def test_updates_are_pure():
    scene = make_scene(Agent(20, 0), scene_map=road_map())
    simulator, metrics = Simulator(scene), RunningMetrics(scene)
    state = simulator.reset(0.0)
    first = metrics.start(state)
    _, ticks = simulator.step(state, np.zeros(2))
    once, again = metrics.update(first, ticks), metrics.update(first, ticks)
    assert once.values == again.values and len(first.recording.decisions) == 0
