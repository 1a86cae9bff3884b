"""The lane follower and the log follower on the straight road."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.rectangles import overlap
from dist4d_env.planners.contract import PlannerContext, PlannerInput, in_ego_frame
from dist4d_env.planners.lane_follower import LaneFollower, LaneFollowerConfig
from dist4d_env.planners.log_follower import LogFollower
from dist4d_env.scenes.route import Route
from dist4d_env.simulation.actions import TRAJECTORY_HIGH, TRAJECTORY_LOW
from dist4d_env.simulation.ego import EgoState
from tests.planners.driving import Episode, agent_features, state_of
from tests.simulation.road import Agent, make_scene, road_map

CAR = VehicleParameters()


def drive(scene, planner, decisions: int, start: float = 0.0, truth: bool = True):
    """The ego and the boxes of every tick."""
    episode = Episode(scene, start, action="trajectory")
    planner.reset(PlannerContext(scene, 0.5, decisions * 0.5), 0)
    for _ in range(decisions):
        state = episode.state
        plan = planner.plan(PlannerInput(state.time, state.ego, {}, state if truth else None))
        assert plan.trajectory.shape == (8, 3) and np.isfinite(plan.trajectory).all()
        assert (plan.trajectory >= TRAJECTORY_LOW).all() and (plan.trajectory <= TRAJECTORY_HIGH).all()
        episode.step(plan.trajectory)
    return tuple(zip(*episode.ticks(), strict=True))


def assert_no_contact(egos, boxes):
    for ego, here in zip(egos, boxes, strict=True):
        center = np.array([ego.x + 1.4 * np.cos(ego.yaw), ego.y + 1.4 * np.sin(ego.yaw)])
        size = np.array([CAR.length, CAR.width])
        assert not overlap(center, ego.yaw, size, here.position[:, :2], here.yaw, here.size[:, :2]).any()


def test_ego_frame():
    ego = EgoState(10.0, 5.0, np.pi / 2, 0, 0, 0, 0)
    np.testing.assert_allclose(
        in_ego_frame(np.array([[10.0, 8.0, np.pi], [9.0, 5.0, -np.pi]]), ego), [[3, 0, np.pi / 2], [0, 1, np.pi / 2]], atol=1e-12
    )


def test_log_follower_reproduces_the_log_and_goes_on_after_it():
    egos, _ = drive(make_scene(speed=8.0, duration=5.0, scene_map=road_map()), LogFollower(), 16)
    times = 0.1 * np.arange(1, len(egos) + 1)
    np.testing.assert_allclose([ego.x for ego in egos], 8.0 * times, atol=0.3)
    assert egos[-1].speed == pytest.approx(8.0, abs=0.1)


def test_lane_follower_returns_to_its_lane():
    from dist4d_env.scenes.scenario import Scenario

    scene = make_scene(scene_map=road_map())
    episode, planner = Episode(scene, Scenario("road", ego_offset=1.0), action="trajectory"), LaneFollower()
    planner.reset(PlannerContext(scene, 0.5, 10.0), 0)
    for _ in range(16):
        state = episode.state
        episode.step(planner.plan(PlannerInput(state.time, state.ego, {}, state)).trajectory)
    state = episode.state
    assert abs(state.ego.y) < 0.15 and state.ego.speed == pytest.approx(8.0, abs=0.4)


def test_lane_follower_keeps_its_distance():
    """Behind a slower leader, before a parked car and before one that brakes in: never a touch, and it stops where it must."""
    for agent in (Agent(30, 0, vx=4.0), Agent(60, 0), Agent(25, 3.5, vx=4.0, vy=-0.5)):
        egos, boxes = drive(make_scene(agent, duration=12.0, scene_map=road_map()), LaneFollower(), 20)
        assert_no_contact(egos, boxes)
    egos, _ = drive(make_scene(Agent(60, 0), duration=20.0, scene_map=road_map()), LaneFollower(), 30)
    bumper = 60 - 2.25 - (egos[-1].x + CAR.rear_axle_to_center + CAR.length / 2)
    assert egos[-1].speed < 0.3 and 0.5 < bumper < 5.0


def test_lane_follower_passes_what_is_beside_its_lane():
    egos, boxes = drive(make_scene(Agent(40, 3.5), Agent(50, -2.9), scene_map=road_map()), LaneFollower(), 18)
    assert_no_contact(egos, boxes)
    assert egos[-1].x > 65


def test_lane_follower_reads_agents_from_the_observation():
    """Without the truth it uses the "agents" rows: the same leader, the same plan."""
    scene = make_scene(Agent(30, 0, vx=2.0), scene_map=road_map())
    state = state_of(scene)
    plans = []
    for given in ({"state": state}, {"state": None}):
        planner = LaneFollower()
        planner.reset(PlannerContext(scene, 0.5, 10.0), 0)
        observation = {"agents": agent_features(state.boxes, state.ego)}
        plans.append(planner.plan(PlannerInput(0.0, state.ego, observation, **given)).trajectory)
    np.testing.assert_allclose(*plans, atol=1e-3)
    assert plans[0][-1, 0] < 8.0 * 4 - 3, "it slows down"


def test_lane_follower_slows_for_curves():
    scene = make_scene(speed=14.0)
    angle = np.linspace(0, np.pi / 2, 60)
    bend = np.column_stack([60 + 20 * np.sin(angle), 20 - 20 * np.cos(angle)])
    before, after = np.column_stack([np.arange(0.0, 60.0), np.zeros(60)]), bend[-1:] + [[0, y] for y in range(1, 60)]
    points = np.concatenate([before, bend, after])
    egos, _ = drive(replace(scene, route=Route.through(points)), LaneFollower(), 24)
    turning = [ego for ego in egos if abs(ego.yaw_rate) > 0.1]
    assert turning and max(abs(ego.speed * ego.yaw_rate) for ego in turning) < 3.2, "2 m/s^2 and what the tracker adds"
    assert max(ego.speed for ego in egos) > 12


def test_swerve_goes_to_either_side():
    planner = LaneFollower(LaneFollowerConfig(swerve_amplitude=1.0, swerve_period=6.0))
    egos, _ = drive(make_scene(duration=20.0, scene_map=road_map()), planner, 24)
    side = np.array([ego.y for ego in egos])
    assert side.max() > 0.6 and side.min() < -0.6 and np.abs(side).max() < 1.5


@pytest.mark.parametrize(
    "wrong", [{"target_speed": -1.0}, {"swerve_period": 0.0}, {"headway": 0.0}, {"swerve_amplitude": float("nan")}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        LaneFollowerConfig(**wrong)
