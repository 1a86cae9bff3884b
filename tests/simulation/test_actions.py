"""Actions become commands in physical units, and what is wrong with one is said."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.errors import ActionError, ConfigError
from dist4d_env.simulation.actions import (
    ACCELERATIONS,
    BRAKING,
    PULLING,
    STEERING_RATE,
    STEERINGS,
    TRAJECTORY_HIGH,
    action_space,
    parse_action,
)
from dist4d_env.simulation.ego import EgoState
from dist4d_env.simulation.state import Command

EGO = EgoState(10.0, 5.0, 0.5, 8.0, 0.0, 0.0, 0.0)
AHEAD = np.column_stack([4.0 * np.arange(1, 9), np.zeros(8), np.zeros(8)]).astype(np.float32)


def test_controls_are_pedals_and_wheel_rate():
    assert parse_action("controls", np.array([1.0, -1.0]), EGO, 0) == Command(PULLING, -STEERING_RATE)
    assert parse_action("controls", np.array([-0.5, 0.5]), EGO, 0) == Command(-0.5 * BRAKING, 0.5 * STEERING_RATE)
    assert parse_action("controls", [0, 0], EGO, 0) == Command(0.0, 0.0)


def test_discrete_actions_cover_the_grid():
    space = action_space("discrete")
    commands = [parse_action("discrete", index, EGO, 0) for index in range(space.n)]
    assert {(c.acceleration, c.steering) for c in commands} == {(a, s) for a in ACCELERATIONS for s in STEERINGS}
    assert parse_action("discrete", np.int64(7 * 3 + 4), EGO, 0) == Command(0.0, steering=0.03)


def test_a_trajectory_becomes_a_global_reference():
    command = parse_action("trajectory", AHEAD, EGO, 17)
    assert command.reference is not None and command.reference.start_tick == 17
    poses = command.reference.poses
    assert len(poses) == 41, "the pose now and every tick of the four seconds"
    assert poses[0] == pytest.approx([EGO.x, EGO.y, EGO.yaw])
    assert poses[-1] == pytest.approx([EGO.x + 32 * np.cos(0.5), EGO.y + 32 * np.sin(0.5), 0.5], abs=1e-4)
    assert command.reference.speed == pytest.approx(np.full(40, 8.0), abs=1e-2)


def test_headings_across_pi_do_not_spin():
    plan = AHEAD.copy()
    plan[:, 2] = np.linspace(3.0, 3.5, 8)
    plan[:, 2] = (plan[:, 2] + np.pi) % (2 * np.pi) - np.pi
    plan[:, :2] *= 0.1
    poses = parse_action("trajectory", plan, EGO, 0).reference.poses
    assert np.abs(np.diff(poses[:, 2])).max() < 0.7


@pytest.mark.parametrize("kind", ["controls", "trajectory", "discrete"])
def test_every_action_of_the_space_is_taken(kind):
    space = action_space(kind)
    space.seed(0)
    for _ in range(20):
        assert isinstance(parse_action(kind, space.sample(), EGO, 0), Command)


@pytest.mark.parametrize(
    "kind, action, says",
    [
        ("controls", [0.0], r"shape \(2,\)"),
        ("controls", [np.nan, 0.0], "finite"),
        ("controls", [1.5, 0.0], "outside its space"),
        ("controls", "left", "numbers"),
        ("controls", None, "finite|numbers|shape"),
        ("trajectory", AHEAD[:5], r"shape \(8, 3\)"),
        ("trajectory", np.full((8, 3), np.inf), "finite"),
        ("trajectory", TRAJECTORY_HIGH + 1, "outside its space"),
        ("discrete", 42, "from 0 to 41"),
        ("discrete", -1, "from 0 to 41"),
        ("discrete", 1.0, "whole number"),
        ("discrete", [1], "whole number"),
    ],
)
def test_bad_actions_are_refused(kind, action, says):
    with pytest.raises(ActionError, match=says):
        parse_action(kind, action, EGO, 0)


def test_unknown_kinds_are_refused():
    with pytest.raises(ConfigError, match="'wheels' is unknown"):
        action_space("wheels")
    with pytest.raises(ConfigError, match="'wheels' is unknown"):
        parse_action("wheels", 0, EGO, 0)
