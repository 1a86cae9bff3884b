"""Running values of many episodes at once are those of each alone, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.running import RunningMetrics
from dist4d_env.metrics.driving.running_batch import RunningMetricsBatch
from dist4d_env.scenes.maps import make_map
from dist4d_env.simulation.ego import ego_rows
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.simulation.vector_state import VectorState, VectorTicks
from tests.simulation.road import Agent, lane, make_scene, road_map

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


def first_instant(state: VectorState, count: int) -> VectorTicks:
    """The state as ticks, over and over."""
    agents = state.agents[:, None][:, np.zeros(count, int)]
    return VectorTicks(np.repeat(state.row[:, None], count, 1), np.repeat(state.ego[:, None], count, 1), agents)


def assert_same(together, index, alone) -> None:
    assert together.values.keys() == alone.values.keys()
    for name, value in alone.values.items():
        assert np.array_equal(together.values[name][index], value, equal_nan=True), name
    assert together.route_position[index] == alone.route_position
    assert frozenset(np.flatnonzero(together.touched[index]).tolist()) == alone.touched
    assert together.ego[index].tobytes() == ego_rows([alone.ego])[0].tobytes()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_each_is_judged_as_alone(seed):
    """With and without map, through collisions and off the road; some begin anew while the others go on."""
    random = np.random.default_rng(seed)
    simulators = [Simulator(scene, SimulatorConfig()) for scene in SCENES]
    singly, together, batch = [RunningMetrics(scene) for scene in SCENES], VectorSimulator(simulators), RunningMetricsBatch()
    for metrics in singly:
        batch.add(metrics)
    scene = random.integers(0, len(SCENES), 6)
    starts = random.integers(0, 30, 6) / 10
    state = together.reset(scene.tolist(), starts.tolist())
    running = batch.update(None, np.ones(6, bool), scene, first_instant(state, 5))
    alone = [singly[number].start(together.single(state, index)) for index, number in enumerate(scene)]
    for step in range(7):
        actions = np.clip(random.normal((0.3, 0.0), (0.5, 0.4), (6, 2)), -1, 1)
        before = [together.single(state, index) for index in range(6)]
        state, ticks = together.step(state, actions)
        begins = (random.random(6) < 0.2) & (step > 0)
        alone = [
            singly[number].update(alone[index], simulators[number].step(before[index], actions[index])[1])
            for index, number in enumerate(scene)
        ]
        if begins.any():
            rows = np.flatnonzero(begins)
            anew = together.reset(scene[rows].tolist(), starts[rows].tolist())
            state, again = state.put(rows, anew), first_instant(anew, 5)
            ticks.row[rows], ticks.ego[rows] = again.row, again.ego
            values, valid = ticks.agents.values.copy(), ticks.agents.valid.copy()
            values[:, rows], valid[rows] = again.agents.values, again.agents.valid
            ticks = VectorTicks(ticks.row, ticks.ego, type(ticks.agents)(values, valid))
            for place, row in enumerate(rows.tolist()):
                alone[row] = singly[scene[row]].start(together.single(anew, place))
        running = batch.update(running, begins, scene, ticks)
        for index in range(6):
            assert_same(running, index, alone[index])


def test_other_vehicles_are_refused():
    batch = RunningMetricsBatch()
    batch.add(RunningMetrics(SCENES[0]))
    with pytest.raises(ConfigError, match="different vehicles"):
        batch.add(RunningMetrics(SCENES[1], VehicleParameters(length=9.0)))
