"""Route profiles and following: speeds of curves, paths that fade into the lane, corridors and the driver model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.planners.contract import PlannerInput
from dist4d_env.planners.following import Corridor, DriverModel, rollout
from dist4d_env.planners.observed_agents import Agents
from dist4d_env.planners.route_profile import (
    BRAKING,
    LATERAL_ACCELERATION,
    RoutePosition,
    RouteProfile,
    drivable_speed,
    posted_limit,
)
from dist4d_env.scenes.route import Route
from dist4d_env.simulation.ego import EgoState
from tests.planners.driving import agent_features, state_of
from tests.simulation.road import Agent, make_scene, road_map

STRAIGHT = Route.through(np.column_stack([np.arange(0.0, 300.0), np.zeros(300)]))
EVER = np.full(300, 20.0)


def agents(*made: Agent, ego: EgoState | None = None) -> Agents:
    boxes = state_of(make_scene(*made)).boxes
    ego = ego or EgoState(0, 0, 0, 8, 0, 0, 0)
    return Agents.of(PlannerInput(0.0, ego, {"agents": agent_features(boxes, ego)}))


def test_agents_come_back_in_the_global_frame():
    ego = EgoState(10.0, -3.0, 2.1, 5.0, 0, 0, 0)
    boxes: Boxes = state_of(make_scene(Agent(20, 3, vx=4, vy=1, yaw=0.3), Agent(0, 9, category="pedestrian"))).boxes
    seen = agents(Agent(20, 3, vx=4, vy=1, yaw=0.3), Agent(0, 9, category="pedestrian"), ego=ego)
    order = np.argsort(np.hypot(boxes.position[:, 0] - ego.x, boxes.position[:, 1] - ego.y))
    np.testing.assert_allclose(seen.position, boxes.position[order, :2], atol=1e-4)
    np.testing.assert_allclose(seen.velocity, boxes.velocity[order], atol=1e-5)
    np.testing.assert_allclose(np.cos(seen.yaw - boxes.yaw[order]), 1.0, atol=1e-6)
    np.testing.assert_array_equal(seen.category, boxes.category[order])


def test_speed_of_a_curve_and_of_the_road_before_it():
    angle = np.linspace(0, np.pi, 80)
    turn = np.column_stack([100 + 20 * np.sin(angle), 20 - 20 * np.cos(angle)])
    route = Route.through(np.concatenate([np.column_stack([np.arange(0.0, 100.0), np.zeros(100)]), turn]))
    speed = drivable_speed(route, np.full(len(route.points), 15.0))
    within = (route.arc_length > 115) & (route.arc_length < 150)
    np.testing.assert_allclose(speed[within], math.sqrt(LATERAL_ACCELERATION * 20), rtol=0.03)
    assert speed[0] == 15.0
    slower = np.diff(speed**2) / np.diff(route.arc_length)
    assert slower[:99].min() > -2 * BRAKING - 1e-9, "no braking is harder than BRAKING"


def test_limits_of_a_map_and_the_fallback():
    assert (posted_limit(make_scene(scene_map=road_map(speed_limit=9.0)), 15.0) == 9.0).all()
    assert (posted_limit(make_scene(scene_map=road_map()), 15.0) == 15.0).all()
    assert (posted_limit(make_scene(), 10.0) == 10.0).all()


def test_a_path_begins_with_the_ego_and_ends_beside_the_route():
    profile, ego = RouteProfile(STRAIGHT, EVER), EgoState(20.0, 1.5, 0.1, 8.0, 0, 0, 0)
    start = profile.locate(ego)
    poses = profile.poses(start, np.array([0.0, 1e-3, 60.0]), -1.0)
    np.testing.assert_allclose(poses[0], [20.0, 1.5, 0.1], atol=1e-9)
    np.testing.assert_allclose(poses[-1], [80.0, -1.0, 0.0], atol=0.02)
    assert poses[1, 1] - poses[0, 1] == pytest.approx(1e-3 * math.tan(0.1), rel=1e-2)


def test_a_path_planned_anew_on_the_way_is_the_same_path():
    profile = RouteProfile(STRAIGHT, EVER)
    before = profile.poses(RoutePosition(20.0, 1.5, 0.1, 6.4), np.linspace(0, 40, 81))
    x, y, yaw = before[16]
    after = profile.poses(profile.locate(EgoState(x, y, yaw, 8.0, 0, 0, 0)), np.linspace(0, 32, 65))
    np.testing.assert_allclose(after, before[16:], atol=1e-6)


def test_corridor_finds_who_is_in_the_way_and_when():
    made = agents(Agent(40, 0, vx=3.0), Agent(60, 2.4), Agent(30, -6.0, vy=2.5), Agent(-10, 0, vx=9.0))
    profile = RouteProfile(STRAIGHT, EVER)
    corridor = Corridor.of(
        lambda ahead: profile.poses(RoutePosition(0.0, 0.0, 0.0, 6.4), ahead), made, np.array([0.0, 2.0]), width=1.8
    )
    ahead, beside, crossing, behind = (int(np.argmin(np.abs(made.position[:, 0] - x))) for x in (40, 60, 30, -10))
    np.testing.assert_allclose(corridor.at[:, ahead], [40 - 2.25, 46 - 2.25], atol=1.0)
    assert np.isinf(corridor.at[:, beside]).all() and np.isinf(corridor.at[0, crossing])
    assert corridor.at[1, crossing] == pytest.approx(30 - 2.25, abs=1.0)
    gap, speed = corridor.leader(0, np.array([0.0, 20.0]), front=3.4)
    np.testing.assert_allclose(gap, [40 - 2.25 - 3.4, 20 - 2.25 - 3.4], atol=1.0)
    np.testing.assert_allclose(speed, 3.0, atol=1e-5)
    assert np.isfinite(corridor.at[1, behind]) and corridor.center[1, behind] == pytest.approx(8.0, abs=0.6)
    nobody = corridor.leader(0, np.array([70.0]), front=3.4)
    assert np.isinf(nobody[0]).all()


def test_corridor_of_an_empty_street():
    profile = RouteProfile(STRAIGHT, EVER)
    path = lambda ahead: profile.poses(RoutePosition(0.0, 0.0, 0.0, 6.4), ahead)  # noqa: E731
    gap, _ = Corridor.of(path, agents(), np.zeros(1), 1.8).leader(0, np.zeros(3), 3.4)
    assert np.isinf(gap).all() and gap.shape == (3,)


def test_driver_model_keeps_its_equilibrium():
    """Nobody ahead at the wished speed, or a leader of the same speed at the gap the model wishes for: no acceleration."""
    model = DriverModel(acceleration=1.0, braking=3.0, headway=1.5, gap=1.0, exponent=4.0)
    speed = np.array([10.0, 5.0])
    free = 1 - (5.0 / 10.0) ** 4
    gap = np.array([np.inf, (1.0 + 5.0 * 1.5) / math.sqrt(free)])
    np.testing.assert_allclose(model.accelerate(speed, np.full(2, 10.0), gap, np.array([0.0, 5.0])), 0.0, atol=1e-9)
    hard = model.accelerate(np.array([10.0]), np.array([10.0]), np.array([3.0]), np.zeros(1))
    assert hard == pytest.approx(-model.hardest)
    with pytest.raises(ConfigError):
        DriverModel(headway=0.0)


def test_rollout_reaches_the_wished_speed_gently():
    ego = EgoState(0, 0, 0, 5.0, -1.0, 0, 0)
    model = DriverModel(acceleration=1.5)
    driven = rollout(ego, lambda s: np.full(s.shape, 8.0), lambda t, s: (np.full(2, np.inf), np.zeros(2)), model, 2, 80)
    speed = np.diff(driven, axis=1) / 0.1
    assert driven.shape == (2, 81) and (driven[0] == driven[1]).all()
    assert speed[0, -1] == pytest.approx(8.0, abs=0.3)
    assert np.diff(np.diff(speed[0])).max() / 0.01 < 2.6 and speed[0, 1] < 5.0, "from braking into pulling at the onset's jerk"
