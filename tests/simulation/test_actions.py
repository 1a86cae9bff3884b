"""Actions become commands in physical units, each as if alone, and what is wrong with one is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dist4d_env.errors import ActionError, ConfigError
from dist4d_env.simulation.actions import (
    ACCELERATIONS,
    ACTIONS,
    BRAKING,
    PULLING,
    STEERING_RATE,
    STEERINGS,
    action_space,
    checked_actions,
    parse_actions,
)
from dist4d_env.simulation.commands import Commands

EGO = np.array([10.0, 5.0, 0.5, 8.0, 0.0, 0.0, 0.0])
AHEAD = np.column_stack([4.0 * np.arange(1, 9), np.zeros(8), np.zeros(8)]).astype(np.float32)


def parse(kind, *actions, tick: int = 0) -> Commands:
    """The commands of actions for egos that are all at the same place."""
    return parse_actions(kind, actions, np.tile(EGO, (len(actions), 1)), np.full(len(actions), tick))


def test_controls_are_pedals_and_wheel_rate():
    commands = parse("controls", [1.0, -1.0], [-0.5, 0.5], [0, 0])
    assert commands.acceleration.tolist() == [PULLING, -0.5 * BRAKING, 0.0]
    assert commands.steering_rate.tolist() == [-STEERING_RATE, 0.5 * STEERING_RATE, 0.0]
    assert np.isnan(commands.steering).all() and not commands.follows.any()


def test_discrete_actions_cover_the_grid():
    commands = parse("discrete", *range(action_space("discrete").n))
    pairs = set(zip(commands.acceleration.tolist(), commands.steering.tolist(), strict=True))
    assert pairs == {(a, s) for a in ACCELERATIONS for s in STEERINGS}
    one = parse("discrete", np.int64(7 * 3 + 4))
    assert (one.acceleration.tolist(), one.steering.tolist()) == ([0.0], [0.03])


def test_a_trajectory_becomes_a_global_reference():
    commands = parse("trajectory", AHEAD, tick=17)
    assert commands.follows.all() and commands.references.start_tick.tolist() == [17]
    (poses,) = commands.references.poses
    assert len(poses) == 41, "the pose now and every tick of the four seconds"
    assert poses[0] == pytest.approx(EGO[:3])
    assert poses[-1] == pytest.approx([EGO[0] + 32 * np.cos(0.5), EGO[1] + 32 * np.sin(0.5), 0.5], abs=1e-4)
    assert commands.references.speed[0] == pytest.approx(np.full(40, 8.0), abs=1e-2)


def test_headings_across_pi_do_not_spin():
    plan = AHEAD.copy()
    plan[:, 2] = np.linspace(3.0, 3.5, 8)
    plan[:, 2] = (plan[:, 2] + np.pi) % (2 * np.pi) - np.pi
    plan[:, :2] *= 0.1
    assert np.abs(np.diff(parse("trajectory", plan).references.poses[0, :, 2])).max() < 0.7


@pytest.mark.parametrize("kind", ACTIONS)
def test_every_action_of_the_space_is_taken_as_alone(kind):
    space, random = action_space(kind), np.random.default_rng(8)
    space.seed(0)
    actions = np.array([space.sample() for _ in range(20)])
    ego, tick = np.column_stack([random.normal(0, 50, (20, 2)), random.uniform(-3, 3, 20), np.zeros((20, 4))]), np.arange(20)
    together = parse_actions(kind, actions, ego, tick)
    for index in range(20):
        row = np.array([index])
        alone, ours = parse_actions(kind, actions[row], ego[row], tick[row]), together.take(row)
        for name in ("acceleration", "steering_rate", "steering", "follows"):
            assert np.array_equal(getattr(alone, name), getattr(ours, name), equal_nan=True)
        assert (alone.references is None) == (ours.references is None) == (kind != "trajectory")
        if alone.references is not None:
            for name in ("start_tick", "poses", "speed", "curvature"):
                assert np.array_equal(getattr(alone.references, name), getattr(ours.references, name))


WRONG = [
    ("controls", [0.0], r"shape \(2,\)"),
    ("controls", [np.nan, 0.0], "finite"),
    ("controls", np.zeros(2) + 1j, "numbers"),
    ("controls", np.zeros(2, [("pedal", float)]), "numbers"),
    ("controls", [10**400, 0.0], "numbers"),
    ("controls", np.array(["1e4000", "0"], np.longdouble), "finite"),
    ("controls", torch.zeros(2, requires_grad=True), "numbers"),
    ("controls", "left", "numbers"),
    ("controls", None, "finite|numbers|shape"),
    ("trajectory", AHEAD[:5], r"shape \(8, 3\)"),
    ("trajectory", np.full((8, 3), np.inf), "finite"),
    ("trajectory", [[0.0, 0.0, 0.0]] * 7 + [[0.0, 0.0]], "numbers"),
    ("discrete", 42, "from 0 to 41"),
    ("discrete", -1, "from 0 to 41"),
    ("discrete", 1.0, "whole number"),
    ("discrete", [1], "whole number"),
]
GOOD = {"controls": [0.0, 0.0], "trajectory": AHEAD, "discrete": 3}


@pytest.mark.parametrize("kind, action, message", WRONG)
def test_bad_actions_are_refused(kind, action, message):
    """Alone, and beside good ones."""
    with pytest.raises(ActionError, match=message):
        checked_actions(kind, [action], 1)
    with pytest.raises(ActionError, match=message):
        parse(kind, action)
    with pytest.raises(ActionError, match=message):
        parse(kind, GOOD[kind], action)


def test_controls_outside_their_space_are_clipped_and_told():
    given = np.array([[1.5, 0.0], [0.3, -1e300], [1.0, -1.0], [0.0, 0.0]])
    values, clipped = checked_actions("controls", given, 4)
    assert values.tolist() == [[1.0, 0.0], [0.3, -1.0], [1.0, -1.0], [0.0, 0.0]]
    assert list(clipped) == [True, True, False, False]
    far, turned = np.array([200.0, 0.0, 0.0]), np.array([0.0, 0.0, 2 * np.pi])
    plans = np.array([AHEAD, AHEAD + far, AHEAD + turned])
    values, clipped = checked_actions("trajectory", plans, 3)
    assert clipped.tolist() == [False, True, False], "a heading is an angle"
    assert np.allclose(values[2], AHEAD) and values[1, :, 0].max() == 160.0


@pytest.mark.parametrize("actions", [[[0.0, 0.0]], 0.0])
def test_every_ego_needs_an_action(actions):
    with pytest.raises(ActionError, match="2 environments take as many actions"):
        parse_actions("controls", actions, np.zeros((2, 7)), np.zeros(2, int))


def test_lists_of_numbers_are_actions_too():
    commands = parse("controls", [True, False], [0, 1])
    assert commands.acceleration.tolist() == [3.0, 0.0] and commands.steering_rate.tolist() == [0.0, 0.5]


def test_unknown_kinds_are_refused():
    with pytest.raises(ConfigError, match="'wheels' is unknown"):
        action_space("wheels")
    with pytest.raises(ConfigError, match="'wheels' is unknown"):
        parse("wheels", 0)
