"""Imagination: branches of the running world show what a plan leads to and leave the world alone; depth tells what is free."""

from __future__ import annotations

from dataclasses import astuple

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.data.nuscenes import RING
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.imagination import BranchingImagination, ConstantVelocityTraffic
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.planners.contract import Plan, PlannerContext
from dist4d_env.planners.imagine import Candidate, ImagineConfig, ImaginingPlanner, free_distance, obstacle_points
from dist4d_env.planners.lane_follower import LaneFollower
from dist4d_env.planners.route_profile import PathSamples
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.simulation.drive import simulate_plans
from tests.planners.driving import Episode
from tests.simulation.road import Agent, make_scene

PLACE = {"scene": "town-val-0000", "start": 0.0}
STRAIGHT = Plan(np.column_stack([3.0 * np.arange(1, 9), np.zeros((8, 2))]))
LEFT = Plan(np.column_stack([3.0 * np.arange(1, 9), np.linspace(0, 2, 8), np.full(8, 0.08)]))


@pytest.fixture(scope="module")
def make(town_dataroot):
    """Environments on the test town, in a world with pictures."""
    made = []

    def env(world="oracle", **keywords):
        settings = {"dataroot": str(town_dataroot), "horizon": 3.0, "size": (32, 56), "observation": ("ego",), **keywords}
        made.append(gym.make("DiST4D-nuScenes-v0", world=world, action="trajectory", scenes="val", **settings))
        return made[-1]

    yield env
    for one in made:
        one.close()


def test_imagining_leaves_the_running_world_alone(make):
    env, ends = make("replay"), []
    for imagines in (False, True):
        env.reset(seed=3, options=PLACE)
        for _ in range(3):
            if imagines:
                BranchingImagination(env.unwrapped).try_plans([STRAIGHT, LEFT], (0.5, 1.5))
            observation, reward, *_ = env.step(STRAIGHT.trajectory.astype(np.float32))
        ends.append((observation["ego"], reward, env.unwrapped.episode.frame, env.unwrapped.np_random.random()))
    assert np.array_equal(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1] and ends[0][3] == ends[1][3]
    assert np.array_equal(ends[0][2].rgb, ends[1][2].rgb) and np.array_equal(ends[0][2].depth, ends[1][2].depth)


def test_imagined_ego_moves_as_the_real_one(make):
    env = make("replay")
    env.reset(seed=0, options=PLACE)
    before = env.unwrapped.episode.state.ego
    straight, left = BranchingImagination(env.unwrapped).try_plans([STRAIGHT, LEFT], (0.5, 1.5))
    assert [instant.time for instant in left] == pytest.approx([0.0, 0.5, 1.5]) and left[0].ego == before
    driven = simulate_plans(before, LEFT.trajectory[None])[0]
    assert np.hypot(left[2].ego.x - driven[15, 0], left[2].ego.y - driven[15, 1]) < 0.1, "the plan goes on from where it was"
    env.step(STRAIGHT.trajectory.astype(np.float32))
    after = env.unwrapped.episode
    np.testing.assert_allclose(astuple(straight[1].ego), astuple(after.state.ego), atol=1e-9)
    np.testing.assert_allclose(straight[1].frame.global_from_camera, after.frame.global_from_camera, atol=1e-9)


def test_agents_are_foreseen_not_recorded():
    state = Episode(make_scene(Agent(20, 3, vx=4.0, vy=1.0), Agent(5, -3)), 1.0).now
    traffic, scene, row = ConstantVelocityTraffic(state.agents, 10), np.zeros(1, int), np.array([10])
    agents, own = traffic.step(scene, row, state.ego, state.agents, {})
    np.testing.assert_allclose(agents.position[0, :, :2], [[24.4, 4.1], [5, -3]])
    np.testing.assert_array_equal(traffic.advance(scene, row, 1, 2).values[:, :, 0], agents.values)
    later = traffic.anticipate(scene, row + 1, agents, own, np.array([[30]]))
    np.testing.assert_allclose(later.position[0, 0, :, :2], [[32, 6], [5, -3]])
    assert state.agents.position[0, 0, 0] == 24.0


def test_what_cannot_be_imagined_is_said(make):
    env = make("none")
    env.reset(seed=0, options=PLACE)
    with pytest.raises(ConfigError, match="imagination needs pictures"):
        BranchingImagination(env.unwrapped)
    seeing = make("replay")
    seeing.reset(seed=0, options=PLACE)
    for times in ((), (0.0,), (1.0, 0.5), (0.25,)):
        with pytest.raises(ConfigError, match=r"multiples of 0\.1 s"):
            BranchingImagination(seeing.unwrapped).try_plans([STRAIGHT], times)
    with pytest.raises(ConfigError, match="nothing to imagine with"):
        ImaginingPlanner().reset(PlannerContext(make_scene(), 0.5, 10.0), 0)


def test_only_those_who_ask_are_given_it(make):
    seen = []

    class Curious(LaneFollower):
        def reset(self, context, seed):
            seen.append(context.imagination)
            super().reset(context, seed)

    run_episode(make("none"), Curious(), 0, RunOptions("town-val-0000", 0.0, plan_limit=600.0))
    assert seen == [None]


def wall(distance: float, left: float, right: float) -> tuple[RGBDFrame, CameraRig]:
    """Six cameras that look ahead from 1.5 m above the axle at a wall from ``left`` to ``right`` on a flat road."""
    pose = np.eye(4)
    pose[:3, :3], pose[2, 3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], 1.5
    intrinsics = np.array([[40.0, 0, 32], [0, 40.0, 16], [0, 0, 1]])
    rig = CameraRig(RING, np.tile(intrinsics, (6, 1, 1)), np.tile(pose, (6, 1, 1)), 32, 64)
    columns, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(32) + 0.5)
    x, y = (columns - 32) / 40, (rows - 16) / 40  # right and down of the axis, at depth 1
    ground = np.where(y > 0, 1.5 / np.maximum(y, 1e-6), FAR)
    depth = np.where((-x * distance < left) & (-x * distance > right) & (ground > distance), distance, np.minimum(ground, FAR))
    rgb, depth = np.zeros((6, 32, 64, 3), np.uint8), np.tile(depth.astype(np.float32), (6, 1, 1))
    return RGBDFrame(rgb, depth, rig.intrinsics, np.tile(pose, (6, 1, 1)), np.zeros(6)), rig


@pytest.mark.parametrize("left, right, free", [(3.0, -3.0, 12.0), (0.6, -0.6, 12.0), (4.0, 1.8, 40.0), (0.0, 0.0, 40.0)])
def test_free_distance(left, right, free):
    """A wall across the way, a post in it, one beside it, and the road alone."""
    points = obstacle_points(*wall(12.0, left, right))
    metres = np.arange(0.0, 40.5, 0.5)
    path = np.column_stack([metres, np.zeros((len(metres), 2))])
    assert free_distance(points, PathSamples(metres, path), 1.1) == pytest.approx(free, abs=0.1)


def test_free_distance_on_a_bend():
    """What stands straight ahead does not matter to who turns off, and what stands round the corner does."""
    metres = np.arange(0.0, 30.5, 0.5)
    angle = np.maximum(metres - 10, 0) / 10
    path = np.column_stack([np.minimum(metres, 10) + 10 * np.sin(angle), 10 - 10 * np.cos(angle), angle])
    ahead, corner = np.tile([25.0, 0.0], (9, 1)), np.tile(path[44, :2], (9, 1))
    assert free_distance(ahead, PathSamples(metres, path), 1.0) == 30.0
    assert free_distance(corner, PathSamples(metres, path), 1.0) == pytest.approx(22.0)
    assert free_distance(corner[:3], PathSamples(metres, path), 1.0) == 30.0, "a speck"


@pytest.mark.medium
def test_it_brakes_for_what_it_sees(make):
    """A truck stands in the way: it is in the pictures, and the ego stops in time; a planner that ignores them drives into it."""
    env, tried = make(), (Candidate(0.0), Candidate(1.0))
    scenario = Scenario("town-val-0001", edits=(Insert(category="truck", ahead=28.0),), horizon=5.0)
    options = RunOptions(scenario=scenario, plan_limit=600.0)
    looks = run_episode(env, ImaginingPlanner(ImagineConfig(tried)), 0, options)
    blind = run_episode(env, ImaginingPlanner(ImagineConfig(tried, distance_weight=0.0, contact_weight=0.0)), 0, options)
    assert (looks.outcome, blind.outcome) == ("horizon", "collision") and looks.trace.ego[-1, 3] < 2.0


@pytest.mark.medium
def test_in_the_generated_world(make):
    """The shipped weights, two decisions: frames are generated, and imagining twice shows the same bits."""
    env = make("dist4d", size=None, horizon=1.0, observation=("cameras", "depth", "ego"))
    light = ImagineConfig(candidates=(Candidate(0.3), Candidate(1.0)))
    log = run_episode(env, ImaginingPlanner(light), 5, RunOptions("town-val-0000", 0.0, plan_limit=600.0))
    assert log.error is None and len(log.steps) == 3
    env.reset(seed=5, options=PLACE)
    first, again = (BranchingImagination(env.unwrapped).try_plans([STRAIGHT], (1.0,))[0][1] for _ in range(2))
    assert set(first.source) <= {"dist_t", "dist_s"} and 0 < first.trust < 1
    assert np.array_equal(first.frame.depth, again.frame.depth) and first.ego == again.ego


@pytest.mark.parametrize("wrong", [{"candidates": ()}, {"times": ()}, {"pull": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        ImagineConfig(**wrong)
