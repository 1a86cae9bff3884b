"""Views: features relate to the route as the world does; actions can be driven."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.errors import ConfigError
from dist4d_env.learning.route_frame import RouteFrame
from dist4d_env.learning.views import AGENT_ROWS, AGENT_SIZE, LIMIT, View, agent_features, route_plans
from dist4d_env.simulation.actions import TRAJECTORY_HIGH, TRAJECTORY_LOW


def straight(offset: float = 0.0, heading: float = 0.0) -> dict[str, np.ndarray]:
    """A straight route for an ego ``offset`` metres to its left whose heading differs by ``heading``."""
    ahead = 2.5 * np.arange(1, 21)
    points = np.stack([ahead, np.full(20, -offset)], -1)
    turn = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
    return {"route": (points @ turn)[None]}


def circle(radius: float) -> dict[str, np.ndarray]:
    """A route that turns left."""
    angle = 2.5 * np.arange(1, 21) / radius
    return {"route": np.stack([radius * np.sin(angle), radius * (1 - np.cos(angle))], -1)[None]}


def agents(*rows) -> np.ndarray:
    """(1, 64, 9) from x, y, heading, speed of cars."""
    table = np.zeros((1, 64, 9), np.float32)
    for index, (x, y, heading, speed) in enumerate(rows):
        table[0, index] = [x, y, heading, 4.5, 1.9, speed * np.cos(heading), speed * np.sin(heading), 0, 1]
    return table


@given(st.floats(-3, 3), st.floats(-0.5, 0.5), st.floats(-20, 60), st.floats(-10, 10))
def test_places_on_a_straight_route(offset, heading, ahead, left):
    frame = RouteFrame.of(straight(offset, heading))
    assert frame.beside[0] == pytest.approx(offset, abs=1e-9)
    cos, sin = np.cos(heading), np.sin(heading)
    place = np.array([[[cos * ahead + sin * (left - offset), cos * (left - offset) - sin * ahead]]])
    along, beside, direction = frame.project(place)
    assert along[0, 0] == pytest.approx(ahead, abs=1e-6) and beside[0, 0] == pytest.approx(left, abs=1e-6)
    assert direction[0, 0] == pytest.approx(-heading, abs=1e-9)


def test_places_in_a_curve():
    frame = RouteFrame.of(circle(30.0))
    angle = np.radians([10.0, 40.0, 80.0])
    place = np.stack([28 * np.sin(angle), 30 - 28 * np.cos(angle)], -1)[None]  # 2 m inside
    along, left, heading = frame.project(place)
    assert along[0] == pytest.approx(30 * angle, abs=0.3) and left[0] == pytest.approx(2.0, abs=0.05)
    assert heading[0] == pytest.approx(angle, abs=0.05)


def test_approaching_agents_come_first():
    """A crossing car far away before parked ones nearby."""
    ego = np.array([[8.0, 0, 0, 0, 0, 0, 0, 0, 0, 10]], np.float32)
    parked = [(3.0 * k - 20, 12.0, 0.0, 0.0) for k in range(20)]
    rows = agents(*parked, (24.0, -30.0, np.pi / 2, 10.0))
    (seen,), (leaders,) = agent_features(ego, rows, RouteFrame.of(straight()))
    assert seen.shape == (AGENT_ROWS, AGENT_SIZE)
    first = seen[0]
    assert first[3] * 30 == pytest.approx(24.0) and first[7] * 5 == pytest.approx(0.0, abs=1e-3)  # on the route in 3 s
    assert first[8:10] == pytest.approx([0.0, 1.0], abs=1e-6) and first[-1] == 1.0
    assert leaders[:4] * 30 == pytest.approx([60, 60, 60, 24 - 0.95 - 3.9], abs=0.01)  # across the path in 3 s, not before
    (few,), (leaders,) = agent_features(ego, agents((10, 0, 0, 5)), RouteFrame.of(straight()))
    assert leaders[:4] * 30 == pytest.approx(10 - 2.25 - 3.9 + 5.0 * np.arange(4)) and leaders[4:8] * 10 == pytest.approx(5.0)
    assert leaders[8:] * 5 == pytest.approx([3.0**2 / (2 * 2.85), 3.85 / 8])  # closing in with 3 m/s, a metre is kept
    assert (few[1:] == 0).all() and few[0, 0] * 30 == pytest.approx(10.0) and few[0, 12] * 10 == pytest.approx(5.0)


def test_nothing_chosen_is_straight_on():
    plan = route_plans(np.zeros((1, 2)), np.array([10.0]), RouteFrame.of(straight()))[0]
    assert plan[:, 0] == pytest.approx(5.0 * np.arange(1, 9)) and plan[:, 1:] == pytest.approx(0.0, abs=1e-6)


def test_braking_ends_in_a_stop_and_pulling_at_the_top_speed():
    frame = RouteFrame.of(straight())
    stop = route_plans(np.array([[-1.0, 0.0]]), np.array([10.0]), frame)[0]
    assert stop[-1, 0] == pytest.approx(10.0) and stop[-2, 0] == pytest.approx(10.0)  # v^2 / 2a
    fast = route_plans(np.array([[1.0, 0.0]]), np.array([19.0]), frame)[0]
    assert fast[-1, 0] - fast[-2, 0] == pytest.approx(10.0, abs=1e-4)
    beside = route_plans(np.array([[0.0, 1.0]]), np.array([10.0]), RouteFrame.of(straight(offset=-0.5)))[0]
    assert beside[-1, 1] == pytest.approx(1.5, abs=0.2) and np.diff(beside[:, 1]).min() > 0  # a metre left of the route
    assert beside[0, 2] > beside[-1, 2] > 0


@pytest.mark.parametrize("action", ["route", "controls", "discrete"])
def test_views_of_the_environment(town_dataroot, action):
    """Finite, inside the declared space, and one of a batch as it is alone."""
    view = View(action=action)
    envs = gym.make_vec(
        "DiST4D-nuScenes-v0",
        4,
        vectorization_mode="vector_entry_point",
        dataroot=str(town_dataroot),
        world="none",
        horizon=4.0,
        observation=view.groups,
        action=view.environment_action,
    )
    given_, _ = envs.reset(seed=0)
    view.action_space.seed(0)
    for _ in range(10):
        seen = view.observe(given_)
        chosen = np.array([view.action_space.sample() for _ in range(4)])
        acts = view.act(chosen, given_)
        for index in range(4):
            assert view.observation_space.contains({key: rows[index] for key, rows in seen.items()})
            own = {key: rows[index : index + 1] for key, rows in given_.items()}
            alone = view.observe(own)
            assert all(np.array_equal(alone[key][0], seen[key][index]) for key in seen)
            assert np.array_equal(view.act(chosen[index : index + 1], own)[0], acts[index])
            assert envs.single_action_space.contains(acts[index])
        given_, *_ = envs.step(acts)
    envs.close()


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 35), st.floats(-4, 4), st.floats(8, 200))
def test_plans_stay_within_the_actions_bounds(pedal, wheel, speed, offset, radius):
    for given_ in (straight(offset), circle(radius)):
        plan = route_plans(np.array([[pedal, wheel]]), np.array([speed]), RouteFrame.of(given_))
        assert plan.dtype == np.float32 and np.isfinite(plan).all()
        assert (plan >= TRAJECTORY_LOW).all() and (plan <= TRAJECTORY_HIGH).all()


def test_an_unknown_action_is_refused():
    with pytest.raises(ConfigError, match="route"):
        View(action="steer")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cameras": "CAM_FRONT"}, {"cameras": (None,)}, {"cameras": ("A",), "size": (64, 1e308)},
        {"size": None}, {"size": (10**9, 64)},
        {"cameras": ("A",), "scan": 1}, {"cameras": ("A",), "scan": True, "calibration": ((1.0,),)},
        {"cameras": ("A",), "calibration": ((float("nan"),) * 25,)}, {"cameras": ("A",), "calibration": ((1.0,) * 25,) * 2},
    ],
)  # fmt: skip
def test_what_no_view_can_have_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"^(cameras|size|scan|calibration) must be"):
        View(**wrong)


def test_features_are_bounded():
    rows = agents((95.0, 95.0, 3.0, 70.0))
    for features in agent_features(np.full((1, 10), 70.0, np.float32), rows, RouteFrame.of(straight())):
        assert np.isfinite(features).all() and np.abs(features).max() <= LIMIT
