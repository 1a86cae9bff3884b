"""Red lights: the final metric and the running value say the same, and an episode may end by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.envs.config import EnvConfig
from dist4d_env.envs.ending import termination_causes
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.red_lights import ego_fronts, traffic_light_compliance
from dist4d_env.metrics.driving.running import RunningMetrics
from dist4d_env.metrics.driving.suite import evaluate
from dist4d_env.scenes.lights import AMBER, GREEN, RED, UNKNOWN
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from tests.metrics.test_running import drive
from tests.metrics.traces import make_trace, straight
from tests.simulation.road import light_at, make_scene

FRONT = VehicleParameters().rear_axle_to_center + VehicleParameters().length / 2


def judged(ego: np.ndarray, states: np.ndarray, x: float = 20.0):
    return traffic_light_compliance(replace(make_trace(ego), lights=light_at(x, states)))


@pytest.mark.parametrize(("state", "value"), [(RED, 0.0), (AMBER, 1.0), (GREEN, 1.0), (UNKNOWN, 1.0)])
def test_only_red_forbids_to_go_on(state, value):
    assert judged(straight(8.0), np.full(41, state)).value == value


def test_the_front_decides_and_the_instant_that_it_crosses_at():
    ego = straight(8.0)
    step = int(np.flatnonzero(ego[:, 0] + FRONT > 20.0)[0])
    turned = np.where(np.arange(41) < step - 1, RED, GREEN)
    assert judged(ego, turned).value == 1.0
    late = np.where(np.arange(41) < step, RED, GREEN)
    result = judged(ego, late)
    assert result.value == 0.0 and result.details == {"step": step, "light": "light"}


def test_who_stands_before_or_beyond_the_line_or_comes_from_behind_is_not_guilty():
    red = np.full(41, RED)
    for ego in (straight(0.0, x=19.9 - FRONT), straight(2.0, x=20.1 - FRONT), straight(8.0, y=3.5), straight(8.0, x=-60.0)):
        assert judged(ego, red).value == 1.0
    back = straight(8.0, x=60.0)
    back[:, 0], back[:, 2] = back[::-1, 0], np.pi
    assert judged(back, red).value == 1.0


def test_no_lights_judge_nobody():
    result = traffic_light_compliance(make_trace())
    assert not result.valid and "no traffic lights" in result.details["reason"]


def test_running_values_add_up_to_the_metric():
    """Whatever the phase, in scenes with and without lights side by side."""
    plain = make_scene(duration=6.0)
    for turn in range(0, 61, 5):
        scene = make_scene(duration=6.0, lights=light_at(20.0, np.where(np.arange(61) < turn, RED, GREEN)))
        trace, values = drive(scene, np.tile([0.3, 0.0], (11, 1)))
        final = evaluate(trace)["traffic_light_compliance"]
        assert final.valid and final.value == 1.0 - max(value["red_light"] for value in values)
    assert all(np.isnan(value["red_light"]) for value in drive(plain, np.zeros((3, 2)))[1])


def test_each_episode_of_a_batch_has_its_own_lights():
    red = make_scene(duration=6.0, speed=10.0, lights=light_at(20.0, np.full(61, RED)))
    green, plain = replace(red, lights=light_at(20.0, np.full(61, GREEN))), make_scene(duration=6.0, speed=10.0)
    simulator, metrics = Simulator(SimulatorConfig(), [red, green, plain]), RunningMetrics()
    for scene in (red, green, plain):
        metrics.add(scene)
    numbers = np.array([0, 1, 2, 0])
    state, running, seen = simulator.reset(numbers.tolist(), [0.0] * 4), None, np.zeros(4)
    for _ in range(6):
        state, ticks = simulator.step(state, np.zeros((4, 2)))
        running = metrics.update(running, np.full(4, running is None), numbers, ticks)
        seen = np.fmax(seen, running.values["red_light"])
        causes = termination_causes(running.values, ("off_road", "red_light"))
        assert [cause == "red_light" for cause in causes] == (running.values["red_light"] == 1).tolist()
    assert seen.tolist() == [1.0, 0.0, 0.0, 1.0] and np.isnan(running.values["red_light"][2])


def test_an_episode_may_end_by_a_red_light_where_asked_for():
    assert "red_light" not in EnvConfig(world="none").termination
    assert EnvConfig(world="none", termination=("red_light", "collision")).termination == ("collision", "red_light")


def test_fronts_lie_half_a_car_before_the_centre():
    vehicle = VehicleParameters(rear_axle_to_center=0.0, length=4.0)
    ego = np.zeros((1, 7))
    ego[0, 2] = np.pi / 2
    np.testing.assert_allclose(ego_fronts(ego, vehicle), [[0.0, 2.0]], atol=1e-12)
