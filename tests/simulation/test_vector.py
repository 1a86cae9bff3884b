"""Many episodes at once: each bit for bit as its own simulator plays it, whatever plays beside it."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.errors import ActionError, ConfigError
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.simulation.actions import ACTIONS, TRAJECTORY_HIGH, TRAJECTORY_LOW, follow, parse_action
from dist4d_env.simulation.commands import Commands, parse_actions
from dist4d_env.simulation.ego import ego_rows, ego_state
from dist4d_env.simulation.simulator import TRAFFIC, Simulator, SimulatorConfig
from dist4d_env.simulation.state import Command, SimState
from dist4d_env.simulation.vector_state import VectorState

from .road import Agent, make_scene

SCENES = (
    make_scene(
        Agent(18, 0, vx=6.0),
        Agent(-12, 0, vx=9.0),
        Agent(40, 3.5, vx=4.0, last=4.0),
        Agent(70, 7.0, vx=-7.0, yaw=np.pi),
        Agent(30, -4, vx=1.2, category="pedestrian", length=0.6, width=0.6),
        Agent(55, 0.4, category="traffic_cone", length=0.4),
        Agent(25, 0, vx=7.0, first=2.0),
        duration=6.0,
        name="busy",
    ),
    make_scene(Agent(60, 0), Agent(-20, 0, vx=8.0), speed=11.0, duration=8.0, name="queue"),
    make_scene(speed=5.0, duration=5.0, name="empty"),
)


def simulators(traffic: str = "replay", action: str = "controls", decision_dt: float = 0.5) -> list[Simulator]:
    config = SimulatorConfig(decision_dt=decision_dt, action=action, traffic=traffic)
    return [Simulator(scene, config) for scene in SCENES]


def some_actions(random: np.random.Generator, kind: str, count: int) -> np.ndarray:
    if kind == "discrete":
        return random.integers(0, 42, count)
    if kind == "controls":
        return np.clip(random.normal(0.1, 0.4, (count, 2)), -1, 1).astype(np.float32)
    step = random.uniform(0, 5, (count, 1, 1)) * np.array([1.0, 0.0, 0.0]) + random.normal(0, 0.1, (count, 8, 3))
    return np.clip(np.cumsum(step, 1), TRAJECTORY_LOW, TRAJECTORY_HIGH).astype(np.float32)


def assert_same_boxes(ours: Boxes, alone: Boxes) -> None:
    for field in fields(Boxes):
        mine, theirs = getattr(ours, field.name), getattr(alone, field.name)
        assert mine.dtype == theirs.dtype and np.array_equal(mine, theirs), field.name


def assert_same_state(ours: SimState, alone: SimState) -> None:
    assert (ours.tick, ours.time, ours.ego) == (alone.tick, alone.time, alone.ego)
    assert np.array_equal(ours.path_position, alone.path_position) and np.array_equal(ours.path_speed, alone.path_speed)
    assert_same_boxes(ours.boxes, alone.boxes)
    if alone.command is None or alone.command.reference is None:
        assert ours.command == alone.command
    else:
        for field in ("start_tick", "poses", "speed", "curvature"):
            mine, theirs = (getattr(state.command.reference, field) for state in (ours, alone))
            assert np.array_equal(mine, theirs), field


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("traffic", TRAFFIC)
def test_each_episode_is_stepped_as_alone(traffic, action, seed):
    """Any mix of scenes and starts, past the end of their logs."""
    random = np.random.default_rng(seed)
    alone = simulators(traffic, action)
    together = VectorSimulator(alone)
    scene = random.integers(0, len(SCENES), random.integers(1, 6)).tolist()
    starts = [float(random.integers(0, 45)) / 10 for _ in scene]
    state = together.reset(scene, starts)
    singles = [alone[i].reset(start) for i, start in zip(scene, starts, strict=True)]
    for _ in range(6):
        actions = some_actions(random, action, len(scene))
        state, ticks = together.step(state, actions)
        outcomes = [alone[i].step(one, act) for i, one, act in zip(scene, singles, actions, strict=True)]
        singles = [one for one, _ in outcomes]
        for index, (one, happened) in enumerate(outcomes):
            assert_same_state(together.single(state, index), one)
            assert np.array_equal(ticks.time[index], happened.time)
            assert ticks.ego[index].tobytes() == ego_rows(happened.ego).tobytes()
            table = together.tables[scene[index]]
            for tick, boxes in enumerate(happened.boxes):
                crowd = ticks.agents[index, tick, : len(table)]
                assert_same_boxes(crowd.boxes(table.category, table.size), boxes)
        assert not state.agents.values[:, ~state.agents.valid].any(), "who is not there is zero"


@pytest.mark.parametrize("traffic", TRAFFIC)
def test_branches_of_one_state(traffic):
    """A state in the middle of an episode, driven on by different actions at once and one after the other."""
    alone = simulators(traffic)[0]
    now, _ = alone.step(alone.reset(0.0), [0.2, 0.1])
    together = VectorSimulator([alone])
    actions = some_actions(np.random.default_rng(3), "controls", 16).reshape(2, 8, 2)
    branches = together.branch(now, 8)
    kept = branches.ego.copy()
    after = branches
    for action in actions:
        after, _ = together.step(after, action)
    for index in range(8):
        state = now
        for action in actions[:, index]:
            state, _ = alone.step(state, action)
        assert_same_state(together.single(after, index), state)
        assert_same_state(together.single(branches, index), now)
    assert np.array_equal(branches.ego, kept) and len({*after.ego[:, 0].tolist()}) > 1


@pytest.mark.parametrize("traffic", TRAFFIC)
def test_commands_of_every_kind_beside_each_other(traffic):
    """And at ticks of their own: one follows a plan since a while."""
    alone = simulators(traffic)
    together = VectorSimulator(alone)
    states = [alone[i].reset(start) for i, start in ((0, 0.5), (1, 0.0), (2, 1.0), (0, 3.0))]
    plan = np.column_stack([3.0 * np.arange(1, 9), np.linspace(0, 1, 8), np.zeros(8)])
    old = follow(plan, 0.5, states[3].ego, 0)
    states[3], _ = alone[0].execute(states[3], old)
    commands = [Command(-2.0, 0.1), Command(1.0, steering=0.05), follow(plan[:4], 0.5, states[2].ego, 0), old]
    stacked = Commands.of(commands)
    after, _ = together.execute(together.gather(states, [0, 1, 2, 0]), stacked)
    for index, (scene, state, command) in enumerate(zip([0, 1, 2, 0], states, commands, strict=True)):
        one, _ = alone[scene].execute(state, command)
        ours = together.single(after, index)
        assert (ours.tick, ours.time, ours.ego) == (one.tick, one.time, one.ego)
        assert_same_boxes(ours.boxes, one.boxes)


def test_some_begin_anew_while_the_others_go_on():
    """Also in a scene with more tracks than any so far."""
    alone = simulators("idm")
    together = VectorSimulator(alone[1:])
    state, _ = together.step(together.reset([0, 1, 0], [0.0, 1.0, 2.0]), np.zeros((3, 2)))
    before = [together.single(state, i) for i in range(3)]
    number = together.add(alone[0])
    mixed = state.put([1], together.reset([number], [1.5]))
    assert_same_state(together.single(mixed, 1), alone[0].reset(1.5))
    for index in (0, 2):
        assert_same_state(together.single(mixed, index), before[index])
        assert_same_state(together.single(state, index), before[index])
    after, _ = together.step(mixed, np.zeros((3, 2)))
    for index, simulator in enumerate((alone[1], alone[0], alone[1])):
        assert_same_state(together.single(after, index), simulator.step(together.single(mixed, index), [0.0, 0.0])[0])


@pytest.mark.parametrize("action", ACTIONS)
def test_replayed_and_reactive_traffic_beside_each_other(action):
    random = np.random.default_rng(5)
    alone = [*simulators("replay", action), *simulators("idm", action)]
    together = VectorSimulator(alone)
    scene = [0, 3, 1, 4, 2, 5, 3]
    state, singles = together.reset(scene, [1.0] * 7), [alone[i].reset(1.0) for i in scene]
    for _ in range(5):
        actions = some_actions(random, action, 7)
        state, _ = together.step(state, actions)
        singles = [alone[i].step(one, act)[0] for i, one, act in zip(scene, singles, actions, strict=True)]
        for index, one in enumerate(singles):
            assert_same_state(together.single(state, index), one)


def test_episodes_can_be_picked():
    together = VectorSimulator(simulators())
    state = together.reset([0, 1, 2], [0.0, 0.5, 1.0])
    picked = state.take([2, 0, 0])
    assert isinstance(picked, VectorState) and picked.time.tolist() == [1.0, 0.0, 0.0] and len(picked) == 3
    assert_same_state(together.single(picked, 0), together.single(state, 2))


@pytest.mark.parametrize("kind", ACTIONS)
def test_actions_are_read_as_each_alone(kind):
    random = np.random.default_rng(8)
    ego = np.column_stack([random.normal(0, 50, (9, 2)), random.uniform(-3, 3, 9), random.uniform(0, 9, 9), np.zeros((9, 3))])
    actions, ticks = some_actions(random, kind, 9), np.arange(9)
    commands = parse_actions(kind, actions, ego, ticks)
    for index in range(9):
        one = parse_action(kind, actions[index], ego_state(ego[index]), index)
        ours = commands[index]
        if one.reference is None:
            assert ours == one
        else:
            assert np.array_equal(ours.reference.poses, one.reference.poses) and ours.reference.start_tick == index


@pytest.mark.parametrize(
    "kind, actions, says",
    [
        ("controls", [[0.0, 0.0], [np.nan, 0.0]], "finite"),
        ("controls", [[0.0, 0.0], [2.0, 0.0]], "outside its space"),
        ("controls", [[0.0, 0.0], [0.0]], r"shape \(2,\)"),
        ("controls", [[0.0, 0.0]], "2 egos take as many actions"),
        ("controls", 0.0, "2 egos take as many actions"),
        ("discrete", [3, 42], "from 0 to 41"),
        ("discrete", [3.0, 4.0], "whole number"),
        ("trajectory", np.full((2, 8, 3), np.inf), "finite"),
    ],
)
def test_wrong_actions_are_refused_as_alone(kind, actions, says):
    with pytest.raises(ActionError, match=says):
        parse_actions(kind, actions, np.zeros((2, 7)), np.zeros(2, int))


def test_lists_of_numbers_are_actions_too():
    commands = parse_actions("controls", [[True, False], [0, 1]], np.zeros((2, 7)), np.zeros(2, int))
    assert [commands[0], commands[1]] == [Command(3.0, 0.0), Command(0.0, 0.5)]


def test_simulators_of_different_configurations_are_refused():
    together = VectorSimulator(simulators())
    with pytest.raises(ConfigError, match="cannot be stepped together"):
        together.add(simulators(decision_dt=1.0)[0])
