"""Egos driven together: each as if it were alone, and as the simulator drives it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from dist4d_env.errors import ActionError
from dist4d_env.simulation.actions import follow
from dist4d_env.simulation.commands import Commands
from dist4d_env.simulation.drive import drive, simulate_plans
from dist4d_env.simulation.ego import EgoState, ego_state
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.simulation.tracker import References
from tests.simulation.road import make_scene

seeds = st.integers(0, 2**32 - 1)


def some_egos(random: np.random.Generator, count: int) -> np.ndarray:
    """Rows of cars that stand, crawl and drive, on the road or beside it."""
    speed = random.choice([0.0, 0.1, 1.0], count) * random.uniform(0, 20, count)
    columns = [*random.normal(0, 300, (2, count)), random.uniform(-np.pi, np.pi, count), speed]
    return np.column_stack([*columns, random.normal(0, 2, count), random.uniform(-0.6, 0.6, count), random.normal(0, 0.2, count)])


def some_plans(random: np.random.Generator, count: int, poses: int) -> np.ndarray:
    """Plans of one speed each, from standing to fast, that turn and wander; headings in [-pi, pi)."""
    heading = np.cumsum(random.normal(0, 0.3, (count, poses)), 1)
    step = random.choice([0.0, 0.02, 1.0], (count, 1)) * random.uniform(0, 8, (count, poses))
    xy = np.cumsum(np.stack([step * np.cos(heading), step * np.sin(heading)], -1), 1)
    return np.concatenate([xy, ((heading + np.pi) % (2 * np.pi) - np.pi)[..., None]], 2)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, count=st.integers(1, 9), ticks=st.integers(1, 70))
def test_commands_of_all_kinds_are_carried_out_as_each_alone(seed, count, ticks):
    """Beyond the end of a reference, too; a decision in two parts is the whole decision."""
    random = np.random.default_rng(seed)
    egos, tick = some_egos(random, count), random.integers(0, 30, count)
    poses = some_plans(random, count, 40) + egos[:, None, :3]
    references = References.fitted(poses, random.integers(0, 20, count))
    steering = np.where(random.random(count) < 0.5, np.nan, random.normal(0, 0.3, count))
    follows = random.random(count) < 0.5
    commands = Commands(random.normal(0, 4, count), random.normal(0, 0.4, count), steering, follows, references)
    rows = drive(egos, commands, tick, ticks)
    for row in range(count):
        one = np.array([row])
        assert np.array_equal(drive(egos[one], commands.take(one), tick[one], ticks), rows[one])
    first = ticks // 2
    assert np.array_equal(drive(rows[:, first - 1] if first else egos, commands, tick + first, ticks - first), rows[:, first:])


def test_plans_are_driven_as_the_simulator_drives_them():
    simulator = Simulator(SimulatorConfig(decision_dt=4.0, action="trajectory"), [make_scene(duration=20.0)])
    state = simulator.reset([0], [3.0])
    plans = some_plans(np.random.default_rng(4), 6, 8)
    branches = state.take(np.zeros(6, int))
    _, ticks = simulator.execute(branches, follow(plans, 0.5, branches.ego, branches.tick))
    rows = simulate_plans(ego_state(state.ego[0]), plans)
    assert np.array_equal(rows[:, 1:], ticks.ego) and np.array_equal(rows[:, 0], branches.ego)


def test_no_plans_give_no_rows():
    assert simulate_plans(EgoState(0, 0, 0, 5, 0, 0, 0), np.zeros((0, 8, 3))).shape == (0, 41, 7)


def test_plans_too_short_to_follow_are_refused():
    with pytest.raises(ActionError, match="too short to follow"):
        simulate_plans(EgoState(0, 0, 0, 5, 0, 0, 0), np.zeros((2, 2, 3)), dt=0.1)


def test_compiled_functions_have_the_bits_of_the_math_module():
    """Or an ego would drive otherwise where it is not compiled (``math`` places it at the start of an episode)."""

    @njit
    def compiled(values):
        out = np.empty((3, len(values)))
        for index, value in enumerate(values):
            out[0, index], out[1, index], out[2, index] = math.sin(value), math.cos(value), math.tan(value)
        return out

    values = np.random.default_rng(0).normal(0, 3, 20_000)
    assert np.array_equal(compiled(values), [[*map(function, values.tolist())] for function in (math.sin, math.cos, math.tan)])
