"""The running values of episodes: they add up to the final ones, and each episode is judged as if it were alone."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from dist4d_env.envs.episodes import first_instant, with_first_instants
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.collision import find_collisions
from dist4d_env.metrics.driving.progress import progress
from dist4d_env.metrics.driving.recording import trace_of
from dist4d_env.metrics.driving.running import Running, RunningMetrics
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.scenes.maps import make_map
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.simulator import Simulator
from dist4d_env.simulation.state import Ticks
from tests.simulation.road import Agent, lane, make_scene, road_map

ONE, BEGINS, GOES_ON = np.zeros(1, int), np.ones(1, bool), np.zeros(1, bool)

PARK = make_map(
    "park",
    {"drivable_area": [box(-50, -3, 60, 3)], "carpark_area": [box(60, -3, 400, 3)]},
    [lane("west", 0.0, np.pi, 4.0), lane("south", -1.0, np.pi)],
    intersections=[box(20, -3, 30, 3)],
)
SCENES = (
    make_scene(
        Agent(12, 0, vx=2.0),
        Agent(-7, 0.3, vx=14.0),
        Agent(9, 2.6),
        Agent(16, -2.2, category="barrier", length=2.0, width=0.5),
        Agent(30, 3.5, vx=-6.0, yaw=np.pi, first=1.0),
        scene_map=road_map(9.0),
        duration=6.0,
    ),
    make_scene(Agent(2.0, 1.5), Agent(20, 0), scene_map=PARK, speed=10.0, duration=8.0),
    make_scene(Agent(25, 0, category="pedestrian", length=0.5, width=0.5), speed=5.0, duration=5.0),
    make_scene(scene_map=road_map(oncoming=False), duration=5.0),
)


def metrics_of(*scenes: Scene) -> RunningMetrics:
    metrics = RunningMetrics()
    for scene in scenes:
        metrics.add(scene)
    return metrics


def drive(scene: Scene, actions, start: float = 0.0) -> tuple[EpisodeTrace, list[dict[str, float]]]:
    """One episode: the trace and the values at its start and after every decision."""
    simulator, metrics = Simulator(None, [scene]), metrics_of(scene)
    state = simulator.reset([0], [start])
    running = metrics.update(None, BEGINS, ONE, first_instant(state, 1))
    happened, values = [first_instant(state, 1)], [running.values]
    for action in actions:
        state, ticks = simulator.step(state, [action])
        running = metrics.update(running, GOES_ON, ONE, ticks)
        happened.append(ticks)
        values.append(running.values)
    row, ego = (np.concatenate([getattr(ticks, name)[0] for ticks in happened]) for name in ("row", "ego"))
    agents = AgentArrays(
        np.concatenate([ticks.agents.values[:, 0] for ticks in happened], 1),
        np.concatenate([ticks.agents.valid[0] for ticks in happened]),
    )
    trace = trace_of(scene, VehicleParameters(), row, ego, agents)
    return trace, [{name: float(value[0]) for name, value in each.items()} for each in values]


def test_values_add_up_to_the_final_metric():
    trace, values = drive(make_scene(scene_map=road_map()), [(0.3, 0.05)] * 4 + [(-0.2, -0.05)] * 4)
    assert len(trace.time) == 41 and trace.time == pytest.approx(0.1 * np.arange(41))
    last = values[-1]
    assert last["route_progress"] == pytest.approx(progress(trace).value)
    assert sum(each["route_progress_delta"] for each in values) == pytest.approx(last["route_progress"])
    assert last["log_deviation"] == pytest.approx(float(np.hypot(*(trace.ego[-1, :2] - trace.expert[-1, :2]))))
    assert max(abs(each["acceleration"]) for each in values) == pytest.approx(np.abs(trace.ego[:, 4]).max())


def test_collisions_are_those_of_the_whole_episode():
    trace, values = drive(SCENES[0], [(0.2, 0.0)] * 8)
    collisions = find_collisions(trace)
    decisions = {-(-collision.step // 5) for collision in collisions if collision.step}
    assert decisions and {place for place, each in enumerate(values) if each["collision"]} == decisions
    assert any(each["at_fault_collision"] for each in values) == any(collision.at_fault for collision in collisions)


def test_a_contact_is_told_once():
    """The nose, 3.442 m ahead of the axle, is at the bumper at 17.75 m after 1.79 s: in the fourth decision."""
    _, values = drive(make_scene(Agent(20, 0), scene_map=road_map()), [(0, 0)] * 6)
    assert [each["collision"] for each in values] == [0, 0, 0, 0, 1, 0, 0]
    assert [each["at_fault_collision"] for each in values] == [0, 0, 0, 0, 1, 0, 0]
    assert values[3]["time_to_contact"] == pytest.approx((17.75 - 12 - 3.442) / 8)


def test_what_touches_the_ego_at_the_start_is_not_its_doing():
    _, values = drive(make_scene(Agent(3, 1.5), scene_map=road_map()), [(0, 0)] * 3)
    assert all(each["collision"] == 0 for each in values)


def test_unknown_without_a_map():
    _, values = drive(make_scene(scene_map=None), [(0, 0)])
    for name in ("off_road", "wrong_way", "speed_limit", "speeding"):
        assert math.isnan(values[-1][name])


def test_speeding_and_leaving_the_road():
    _, values = drive(make_scene(scene_map=road_map(speed_limit=7.0)), [(0, -1.0)] + [(0, 0)] * 3)
    assert values[0]["speed_limit"] == 7.0 and values[0]["speeding"] == pytest.approx(1.0)
    off = [each["off_road"] for each in values]
    assert off[0] == 0 and off[-1] == 1 and off == sorted(off)


def test_discomfort_is_the_share_of_rough_ticks():
    _, values = drive(make_scene(), [(0, 0), (-1.0, 0.0)])
    assert values[1]["discomfort"] == 0.0
    assert values[2]["discomfort"] == 1.0, "full braking jerks until it is beyond the bound of deceleration"
    assert values[2]["jerk"] == pytest.approx(-20.0)


def test_updates_are_pure():
    scene = make_scene(Agent(12, 0), scene_map=road_map())
    simulator, metrics = Simulator(None, [scene]), metrics_of(scene)
    state = simulator.reset([0], [0.0])
    first = metrics.update(None, BEGINS, ONE, first_instant(state, 1))
    kept = copy.deepcopy(first)
    state, _ = simulator.step(state, np.zeros((1, 2)))
    _, ticks = simulator.step(state, np.zeros((1, 2)))
    once, again = (metrics.update(first, GOES_ON, ONE, ticks) for _ in range(2))
    assert once.touched.any() and not first.touched.any()
    assert_same(once, again)
    assert_same(first, kept)


def assert_same(first: Running, second: Running) -> None:
    assert first.values.keys() == second.values.keys()
    for name, value in first.values.items():
        assert np.array_equal(value, second.values[name], equal_nan=True), name
    for name in ("ego", "seen", "touched", "spared", "waiting", "route_position"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_each_is_judged_as_alone(seed):
    """With and without map, through collisions and off the road; some begin anew while the others go on."""
    random, count = np.random.default_rng(seed), 6
    simulator, together = Simulator(None, SCENES), metrics_of(*SCENES)
    singly = [metrics_of(scene) for scene in SCENES]
    scene, starts = random.integers(0, len(SCENES), count), random.integers(0, 30, count) / 10
    state = simulator.reset(scene, starts.tolist())

    def alone(index: int, ticks: Ticks) -> Ticks:
        tracks = len(SCENES[scene[index]].tracks)
        return Ticks(ticks.row[[index]], ticks.ego[[index]], ticks.agents[[index]].fitted(tracks))

    began = first_instant(state, 5)
    running = together.update(None, np.ones(count, bool), scene, began)
    singles = [singly[number].update(None, BEGINS, ONE, alone(index, began)) for index, number in enumerate(scene)]
    for step in range(7):
        state, ticks = simulator.step(state, np.clip(random.normal((0.3, 0.0), (0.5, 0.4), (count, 2)), -1, 1))
        begins = (random.random(count) < 0.2) & (step > 0)
        rows = np.flatnonzero(begins)
        if len(rows):
            anew = simulator.reset(scene[rows], starts[rows].tolist())
            state, ticks = state.put(rows, anew), with_first_instants(ticks, rows, anew)
        running = together.update(running, begins, scene, ticks)
        for index, number in enumerate(scene):
            singles[index] = singly[number].update(singles[index], begins[[index]], ONE, alone(index, ticks))
            assert_same(running.take(np.array([index])).fitted(len(SCENES[number].tracks)), singles[index])
