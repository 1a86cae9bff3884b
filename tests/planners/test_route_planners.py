"""The planners that follow the route: they keep their lane, their distance and their manners."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.collision import no_at_fault_collision
from dist4d_env.metrics.driving.comfort import comfort
from dist4d_env.planners.constant_velocity import ConstantVelocity
from dist4d_env.planners.contract import PlannerContext, PlannerInput
from dist4d_env.planners.idm import IdmPlanner
from dist4d_env.planners.lane_follower import LaneFollower
from dist4d_env.planners.lane_keeping import LaneKeeping
from dist4d_env.planners.mpc import MpcConfig, SamplingMPC
from dist4d_env.planners.pdm_closed import PdmClosed, PdmConfig
from dist4d_env.scenes.lights import AMBER, GREEN, RED
from dist4d_env.scenes.route import Route
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.simulation.ego import EgoState
from tests.planners.driving import drive
from tests.simulation.road import Agent, light_at, make_scene, road_map

CAR = VehicleParameters()
FRONT = CAR.rear_axle_to_center + CAR.length / 2
FOLLOWERS = (LaneKeeping, IdmPlanner, PdmClosed)
CAREFUL = (IdmPlanner, PdmClosed)
SAMPLING = partial(SamplingMPC, MpcConfig(samples=24, elites=6, iterations=2))


def bend(radius: float) -> Route:
    """60 m ahead, a quarter turn to the left, and on."""
    angle = np.linspace(0, np.pi / 2, 40)
    turn = np.column_stack([60 + radius * np.sin(angle), radius - radius * np.cos(angle)])
    before = np.column_stack([np.arange(0.0, 60.0), np.zeros(60)])
    return Route.through(np.concatenate([before, turn, turn[-1:] + [[0, y] for y in range(1, 80)]]))


def test_constant_velocity_goes_straight_on():
    driven = drive(make_scene(Agent(30, 0), speed=8.0), ConstantVelocity(), 10)
    np.testing.assert_allclose(driven.speed, 8.0, atol=1e-6)
    np.testing.assert_allclose(driven.y, 0.0, atol=1e-9)
    assert driven.touched, "and sees nobody"


@pytest.mark.parametrize("planner", FOLLOWERS)
def test_from_beside_the_lane_back_into_it(planner):
    scene = make_scene(scene_map=road_map(speed_limit=9.0), duration=12.0)
    driven = drive(scene, planner(), 16, Scenario("road", ego_offset=1.0, ego_yaw=0.1))
    assert abs(driven.y[-1]) < 0.25 and np.abs(driven.y).max() < 1.6
    assert comfort(driven.trace).value == 1.0


@pytest.mark.parametrize("planner", CAREFUL)
def test_speed_limit_is_reached_and_kept(planner):
    driven = drive(make_scene(scene_map=road_map(speed_limit=11.0), speed=8.0, duration=20.0), planner(), 30)
    assert 10.2 < driven.speed[-1] < 11.2 and driven.speed.max() < 11.3


@pytest.mark.parametrize("planner", [*CAREFUL, LaneFollower, SAMPLING])
def test_red_lights_are_stopped_at_and_left_on_green(planner):
    """A light at 60 m, red for the first 12 s, and none of it known beforehand."""
    scene = make_scene(
        scene_map=road_map(speed_limit=9.0), duration=25.0, lights=light_at(60.0, np.repeat([RED, GREEN], [120, 131]))
    )
    driven = drive(scene, planner(), 44)
    front = driven.x + FRONT
    assert 56.0 < front[119] < 60.0 and driven.speed[119] < 0.3
    assert front[-1] > 75.0 and not (front[:120] > 60.0).any()
    assert np.diff(driven.speed).min() / 0.1 > -4.5


@pytest.mark.parametrize("planner", CAREFUL)
def test_amber_is_run_by_those_who_could_only_stop_hard(planner):
    for left, goes in ((6.0, True), (30.0, False)):
        states = np.repeat([AMBER, RED], [35, 120])
        scene = make_scene(scene_map=road_map(speed_limit=9.0), duration=15.0, lights=light_at(FRONT + left, states))
        driven = drive(scene, planner(), 14)
        assert (driven.x[-1] + FRONT > FRONT + left) == goes
        assert (driven.x[35] > left) == goes, "and over the line before it is red"


def test_lane_keeping_keeps_its_acceleration_up_to_the_limit():
    scene = make_scene(scene_map=road_map(speed_limit=11.0), speed=8.0)
    start = Scenario("road", ego_speed=8.0)
    np.testing.assert_allclose(drive(scene, LaneKeeping(), 8, start).speed, 8.0, atol=0.05)
    scene = replace(scene, ego=replace(scene.ego, acceleration=np.full_like(scene.ego.acceleration, 1.0)))
    gaining = drive(scene, LaneKeeping(), 14).speed
    assert gaining[10] > 8.6 and 10.5 < gaining[-1] < 11.1


@pytest.mark.parametrize("planner", FOLLOWERS)
def test_curves_are_driven_at_a_human_lateral_acceleration(planner):
    scene = replace(make_scene(speed=10.0, duration=20.0), route=bend(15.0))
    driven = drive(scene, planner(), 26)
    lateral = np.abs(driven.trace.ego[:, 3] * driven.trace.ego[:, 6])
    heading = driven.trace.ego[-1, 2]
    assert lateral.max() < 3.2, "2 m/s^2 and what the tracker adds"
    assert heading == pytest.approx(np.pi / 2, abs=0.1)


@pytest.mark.parametrize("planner", CAREFUL)
@pytest.mark.parametrize("category", ["car", "traffic_cone"])
def test_stops_behind_what_stands_in_its_lane(planner, category):
    # As wide as the road, so that there is no way past it.
    wall = Agent(60, 3.5, category=category, length=1.0, width=10.4)
    driven = drive(make_scene(wall, duration=20.0, scene_map=road_map(speed_limit=9.0)), planner(), 36)
    bumper = 60 - 0.5 - (driven.x[-1] + FRONT)
    assert not driven.touched
    assert driven.speed[-1] < 0.3 and 0.3 < bumper < 6.0


@pytest.mark.parametrize("planner", CAREFUL)
def test_follows_a_slower_car(planner):
    scene = make_scene(Agent(30, 0, vx=4.0, width=3.4), duration=16.0, scene_map=road_map(speed_limit=9.0))
    driven = drive(scene, planner(), 30)
    assert not driven.touched
    assert driven.speed[-20:].mean() == pytest.approx(4.0, abs=0.6)


@pytest.mark.parametrize("planner", CAREFUL)
def test_passes_what_stands_beside_its_lane(planner):
    scene = make_scene(Agent(40, 3.2), Agent(50, -2.9), scene_map=road_map(speed_limit=9.0), duration=12.0)
    driven = drive(scene, planner(), 20)
    assert not driven.touched and driven.x[-1] > 65


def test_pdm_closed_goes_round_what_it_can_go_round():
    scene = make_scene(Agent(40, -1.7), scene_map=road_map(speed_limit=9.0), duration=16.0)
    driven, behind = drive(scene, PdmClosed(), 24), drive(scene, IdmPlanner(), 24)
    assert behind.speed[-1] < 0.5, "the IDM planner has only one path"
    assert not driven.touched and driven.x[-1] > 70 and driven.y.max() > 0.5


@pytest.mark.parametrize("early", [0.0, 0.6, 1.2])
def test_pdm_closed_hits_no_crossing_pedestrian(early):
    """Who walks at 1.5 m/s meets the ego 40 m ahead, 5 s from now or a little earlier, if both go on."""
    walker = Agent(42, -1.5 * (5.0 - early), vy=1.5, category="pedestrian", length=0.7, width=0.7, yaw=np.pi / 2)
    scene = make_scene(walker, scene_map=road_map(speed_limit=9.0), duration=14.0)
    assert drive(scene, ConstantVelocity(), 16).touched or early > 0.5, "or else there would be nothing to it"
    driven = drive(scene, PdmClosed(), 24)
    assert not driven.touched and driven.x[-1] > 45


def test_pdm_closed_brakes_hard_where_no_proposal_helps():
    """A wall that appears 15 m ahead of 8 m/s: comfortable braking takes 13 m and the reaction of the car."""
    wall = Agent(FRONT + 11.5, 0, length=1.0, width=12.0, first=0.0)
    driven = drive(make_scene(wall, speed=8.0, duration=10.0, scene_map=road_map(speed_limit=9.0)), PdmClosed(), 12)
    assert no_at_fault_collision(driven.trace).value == 1.0
    assert driven.trace.ego[:, 4].min() < -4.0 and driven.speed[-1] < 0.1
    assert np.diff(driven.x).min() >= 0, "a plan that asks for less than standing makes nobody reverse"


@pytest.mark.parametrize("planner", [ConstantVelocity, *FOLLOWERS])
def test_same_episode_again_and_after_a_reset(planner):
    scene = make_scene(Agent(30, 0, vx=4.0), Agent(50, 3.5), scene_map=road_map(9.0))
    other = make_scene(Agent(20, 0), speed=5.0, scene_map=road_map(12.0), name="other")
    used = planner()
    first = drive(scene, used, 10)
    drive(other, used, 4)
    for again in (drive(scene, used, 10), drive(scene, planner(), 10)):
        np.testing.assert_array_equal(first.plans, again.plans)
        np.testing.assert_array_equal(first.trace.ego, again.trace.ego)


def test_without_a_map_the_original_speeds_are_wished_for():
    for planner, speed in ((IdmPlanner, 10.0), (PdmClosed, 15.0)):
        driven = drive(make_scene(speed=speed - 2, duration=20.0), planner(), 36)
        assert driven.speed[-1] == pytest.approx(speed, abs=0.6)


@pytest.mark.parametrize("planner", CAREFUL)
def test_an_environment_that_shows_no_agents_is_refused(planner):
    scene, made = make_scene(), planner()
    made.reset(PlannerContext(scene, 0.5, 10.0), 0)
    with pytest.raises(ConfigError, match="agents"):
        made.plan(PlannerInput(0.0, EgoState(0, 0, 0, 8, 0, 0, 0), {}))


@pytest.mark.parametrize("wrong", [{"fractions": ()}, {"offsets": ()}, {"fractions": (0.0,)}, {"free_speed": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        PdmConfig(**wrong)
