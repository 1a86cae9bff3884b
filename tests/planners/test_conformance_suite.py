"""The conformance suite itself: it finds what it should in planners that break the contract, and says what the contract wants."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.evaluation.runner import RunOptions
from dist4d_env.planners.contract import Plan, PlannerNeeds
from dist4d_env.planners.lane_follower import LaneFollower
from dist4d_env.planners.log_follower import LogFollower
from tests.planner_conformance import test_conformance as suite
from tests.planner_conformance.situations import record

ROOT = Path(__file__).resolve().parents[2]
STRAIGHT = np.column_stack([3.0 * np.arange(1, 9), np.zeros((8, 2))])


class Base:
    """Straight on."""

    requires = PlannerNeeds()

    def reset(self, context, seed):
        self.context, self.seed = context, seed

    def plan(self, given):
        return Plan(STRAIGHT.copy())


class Undeclared(Base):
    requires = ("cameras",)


class Bare(Base):
    def plan(self, given):
        return STRAIGHT


class Short(Base):
    def plan(self, given):
        return Plan(STRAIGHT[:, :2])


class Global(Base):
    def plan(self, given):
        return Plan(STRAIGHT + np.array([given.ego.x, given.ego.y, given.ego.yaw]))


class Backwards(Base):
    def plan(self, given):
        return Plan(STRAIGHT * [-1, 1, 1])


class Northward(Base):
    """Takes the global heading for one in the ego frame."""

    def plan(self, given):
        return Plan(STRAIGHT + np.array([0, 0, 0.3 * given.ego.yaw]))


class Careless(Base):
    """Random, but not from the seed."""

    def plan(self, given):
        return Plan(STRAIGHT + np.random.default_rng().normal(size=(8, 3)) * 0.01)


class Nostalgic(Base):
    """Remembers the episode before."""

    memory = 0.0

    def plan(self, given):
        self.memory += 0.01
        return Plan(STRAIGHT + self.memory)


class Reusing(Base):
    """Returns the same array each time."""

    def __init__(self):
        self.array = STRAIGHT.copy()

    def plan(self, given):
        self.array += 0.1
        return Plan(self.array)


class Scribbling(Base):
    def plan(self, given):
        given.observation["ego"][0] = 0.0
        return Plan(STRAIGHT.copy())


class Stuck(Base):
    def plan(self, given):
        raise KeyError("lane")


@pytest.fixture(scope="module")
def env(town_dataroot):
    made = gym.make(
        "DiST4D-nuScenes-v0", dataroot=str(town_dataroot), scenes="val", world="none", action="trajectory", horizon=2.0,
        observation=("ego", "route", "agents"),
    )  # fmt: skip
    yield made
    made.close()


@pytest.fixture(scope="module")
def asked(env):
    """What the suite's tests take, by name."""
    given = {"situation": record(env, "town-val-0000", 2), "elsewhere": record(env, "town-val-0001", 2), "env": env}
    return given | {"options": RunOptions("town-val-0000", 0.0, 600.0)}


@pytest.mark.parametrize(
    "planner, check, says",
    [
        (Undeclared, "test_needs_are_declared", "requires must be a dist4d_env.planners.contract.PlannerNeeds"),
        (Bare, "test_plans_are_finite_trajectories", "must return a dist4d_env.planners.contract.Plan, not a ndarray"),
        (Short, "test_plans_are_finite_trajectories", r"a plan is \(N, 3\) numbers x, y, heading"),
        (Global, "test_plans_begin_at_the_ego", "in the ego frame, seen from where the ego is now, not global"),
        (Backwards, "test_plans_begin_at_the_ego", "x points forward"),
        (Northward, "test_plans_do_not_depend_on_where_the_world_lies", "transform what is global"),
        (Careless, "test_same_seed_same_plans", "draw all randomness from the seed"),
        (Nostalgic, "test_reset_forgets_the_last_episode", r"reset\(\) must set everything"),
        (Reusing, "test_plans_are_the_callers_own", "return a new array each time"),
        (Scribbling, "test_inputs_are_left_alone", "wrote into the observation 'ego'"),
        (Stuck, "test_it_drives_an_episode", "KeyError: 'lane'"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_breaches_are_found(asked, planner, check, says):
    with pytest.raises(AssertionError, match=says):
        _run(check, planner, asked)


@pytest.mark.parametrize("planner", [Base, LaneFollower, LogFollower])
def test_others_pass(asked, planner):
    for check in vars(suite):
        if check.startswith("test_") and "failure" not in check:
            _run(check, planner, asked)


def _run(check, planner, asked):
    function = getattr(suite, check)
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    function(**{name: planner if name == "make" else asked[name] for name in names})


@pytest.mark.parametrize("name, status, says", [("dist4d_env.planners.constant_velocity:ConstantVelocity", 0, " passed"),
                                                ("nowhere.nobody:Nobody", 1, "cannot be imported")])  # fmt: skip
@pytest.mark.medium
def test_command_line(name, status, says):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "--planner", name, "tests/planner_conformance"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTEST_ADDOPTS": ""})
    assert done.returncode == status and says in done.stdout, done.stdout[-2000:]
    assert "expert" not in done.stdout, "only the planner that was asked for"


def test_the_pages_example_keeps_to_the_contract(asked):
    """The planner of docs/planners.md passes the suite and drives."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "planners.md").read_text(), re.DOTALL)
    assert block is not None and block[1].count("\n") <= 22
    namespace: dict[str, Any] = {}
    exec(compile(block[1], "planners.md", "exec"), namespace)
    test_others_pass(asked, namespace["FollowTheRoute"])
