"""The planner that measures: depth images become agents with velocities, lamps become states, and it drives by these alone."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode, visible_scene
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.planners.contract import PlannerContext, PlannerInput
from dist4d_env.planners.lane_keeping import LaneKeeping
from dist4d_env.planners.measuring import VARIANTS, MeasuringConfig, MeasuringPlanner
from dist4d_env.planners.observed_agents import Agents
from dist4d_env.planners.seen_boxes import boxes_of, clusters
from dist4d_env.planners.seen_lights import SeenLights, lamp_colour
from dist4d_env.planners.seen_obstacles import SeenObstacles
from dist4d_env.registry import MEASURING
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.lights import AMBER, GREEN, RED, UNKNOWN
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.simulation.ego import EgoState
from tests.simulation.road import light_at, make_scene, road_map

HEIGHT, WIDTH, FOCAL = 64, 112, 88.0
ROUTE = np.column_stack([np.arange(-20.0, 120.0), np.zeros(140)])
CAR, PERSON = (4.5, 1.9, 1.6), (0.6, 0.6, 1.7)


def ring(*yaws: float) -> CameraRig:
    """Cameras 1.5 m above the rear axle that look in these directions (radians to the left)."""
    poses = []
    for yaw in yaws:
        pose = pose_from_xy_yaw(0.0, 0.0, yaw)
        pose[:3, :3] = pose[:3, :3] @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
        pose[2, 3] = 1.5
        poses.append(pose)
    intrinsics = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    return CameraRig(
        tuple(f"CAM_{k}" for k in range(len(yaws))), np.tile(intrinsics, (len(yaws), 1, 1)), np.stack(poses), HEIGHT, WIDTH
    )


FRONT, AROUND = ring(0.0), ring(*np.radians([0, 60, 120, 180, 240, 300]))


def depth_images(rig: CameraRig, ego: EgoState, *boxes: tuple[tuple[float, float], tuple[float, float, float]]) -> np.ndarray:
    """(V, H, W) z-depth of a flat road with upright boxes: middle x, y (global) and size, sides along the axes."""
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    images = []
    for mounting, (fx, _, cx, _, fy, cy, *_) in zip(rig.ego_from_camera, rig.intrinsics.reshape(-1, 9), strict=True):
        rays = np.stack([(columns - cx) / fx, (rows - cy) / fy, np.ones_like(rows)], -1)
        pose = pose_from_xy_yaw(ego.x, ego.y, ego.yaw) @ mounting
        direction, origin = rays @ pose[:3, :3].T, pose[:3, 3]
        direction = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
        ground = -origin[2] / direction[..., 2]
        depth = np.where(ground > 0, ground, 100.0)
        for middle, size in boxes:
            low = np.array([*(np.array(middle) - np.array(size[:2]) / 2), 0.0])
            one, other = (low - origin) / direction, (low + size - origin) / direction
            near, far = np.minimum(one, other).max(-1), np.maximum(one, other).min(-1)
            depth = np.where((near < far) & (near > 0), np.minimum(depth, near), depth)
        images.append(np.minimum(depth, 100.0))
    return np.stack(images)


def seen(rig: CameraRig, times: np.ndarray, ego_speed: float, boxes, yaw: float = 0.0) -> tuple[Agents, EgoState]:
    """What is there after looks at ``times``, by an ego that drives along x; boxes: of a time; all turned by yaw."""
    obstacles = SeenObstacles(rig, ROUTE, road_map(), VehicleParameters())
    for time in times:
        ego = EgoState(ego_speed * time, 0.0, yaw, ego_speed, 0.0, 0.0, 0.0)
        depth = depth_images(rig, ego, *boxes(time))
        agents = obstacles.look(depth, rig.intrinsics, np.arange(len(depth)), ego, float(time))
    return agents, ego


TIMES = 0.5 * np.arange(4)


@pytest.mark.parametrize("speed", [0.0, 3.0, 12.0])
def test_a_leader_is_measured(speed):
    """Its back where it is, its speed, and nothing else on a bare road."""
    agents, _ = seen(FRONT, TIMES, 8.0, lambda time: [((20.0 + speed * time, 0.2), CAR)])
    assert len(agents) == 1
    back = agents.position[0, 0] - agents.size[0, 0] / 2
    assert back == pytest.approx(20.0 + speed * 1.5 - 2.25, abs=0.3)
    np.testing.assert_allclose(agents.velocity[0], [speed, 0], atol=0.6)
    assert agents.size[0, 1] == pytest.approx(1.9, abs=0.5) and agents.size[0, 0] >= 4.0
    assert agents.position[0, 1] == pytest.approx(0.2, abs=0.3)


def test_what_crosses_and_what_is_passed():
    """A car from the left has the speed it has; parked cars that the ego passes stand, although their visible sides change."""
    parked = [((x, 3.9), CAR) for x in (-4.0, 2.0, 8.0)]
    agents, _ = seen(AROUND, TIMES, 6.0, lambda time: [*parked, ((30.0, 8.0 - 4.0 * time), (1.9, 4.5, 1.6))])
    speed = np.hypot(*agents.velocity.T)
    moving = agents.select(speed > 0)
    assert len(agents) >= 4 and len(moving) == 1, "three stand, one moves"
    np.testing.assert_allclose(moving.velocity[0], [0, -4], atol=0.7)
    np.testing.assert_allclose(moving.position[0], [30, 2], atol=1.0)


def test_out_of_sight_is_believed_for_a_while():
    walking = lambda time: [] if time > 1.6 else [((15.0, -2.0 + 1.5 * time), PERSON)]  # noqa: E731
    counts = [len(seen(FRONT, 0.5 * np.arange(looks), 0.0, walking)[0]) for looks in (4, 5, 6, 7)]
    assert counts == [1, 1, 0, 0] or counts == [1, 1, 1, 0]
    hidden, _ = seen(FRONT, 0.5 * np.arange(5), 0.0, walking)
    np.testing.assert_allclose(hidden.position[0], [15, 1], atol=0.6)


def test_first_instant_takes_what_is_ahead_to_move_along():
    at_once, _ = seen(FRONT, np.zeros(1), 9.0, lambda time: [((25.0, 0.0), CAR), ((25.0, 5.0), CAR)])
    ahead = np.abs(at_once.position[:, 1]) < 1.5
    np.testing.assert_allclose(at_once.velocity[ahead], [[9, 0]], atol=1e-6)
    np.testing.assert_allclose(at_once.velocity[~ahead], 0)


def test_buildings_beside_the_road_are_none_and_people_are():
    """The drivable area ends at y = -1.75: a wall beyond it is no obstacle, someone there is one."""
    agents, _ = seen(FRONT, TIMES, 2.0, lambda time: [((30.0, -8.0), (40.0, 2.0, 6.0)), ((18.0, -3.0), PERSON)])
    assert len(agents) == 1 and agents.position[0] == pytest.approx([18.0, -3.0], abs=0.5)


def test_clusters_join_at_corners_and_not_across_gaps():
    points = np.array([[0.1, 0.1], [0.6, 0.6], [2.1, 0.1], [2.3, 0.2]])
    assert sorted(len(group) for group in clusters(points, 0.5)) == [2, 2] and clusters(np.zeros((0, 2)), 0.5) == []


STANDING = EgoState(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def side(x: float, y: float, width: float, along: bool = False, count: int = 12) -> np.ndarray:
    """Points on a straight side with its middle at (x, y), across the ego's road or along it."""
    place = np.linspace(-width / 2, width / 2, count)
    return np.column_stack([x + place, np.full(count, y)] if along else [np.full(count, x), y + place])


def test_roof_and_back_of_one_car_are_one_box_and_two_cars_are_two():
    back, roof, next_car = side(30.0, 0.0, 1.7), side(31.4, 0.1, 1.5), side(36.0, 0.0, 1.7)
    (whole,) = boxes_of([roof, back], [0.0, 0.0], STANDING)
    assert whole.center == pytest.approx([32.1, 0.0], abs=0.1) and whole.size == pytest.approx([4.2, 1.7], abs=0.1)
    assert len(boxes_of([back, next_car], [0.0, 0.0], STANDING)) == 2
    assert len(boxes_of([back, side(30.0, 3.0, 1.7)], [0.0, 0.0], STANDING)) == 2


@pytest.mark.parametrize("along", [False, True])
def test_a_box_has_no_step_in_what_is_seen(along):
    """A side that grows by five centimetres, up to a truck's, moves no corner by over forty."""
    corners = []
    for width in np.arange(0.3, 6.0, 0.05):
        (box,) = boxes_of([side(20.0, 2.5, width, along)], [0.0], STANDING)
        cos, sin = np.cos(box.yaw), np.sin(box.yaw)
        turned = np.array([[cos, -sin], [sin, cos]]) @ np.diag(box.size / 2) @ np.array([[1, 1, -1, -1], [1, -1, 1, -1]])
        places = box.center[:, None] + turned
        corners.append([places.min(1), places.max(1)])
    assert np.abs(np.diff(corners, axis=0)).max() < 0.4
    size = np.ptp(np.array(corners), axis=1)
    assert size[0] == pytest.approx([0.5, 0.5]) and size[-1].max() > 5.9 and size[-1].min() == pytest.approx(1.8)


def test_nor_has_one_that_shows_two_sides_or_crosses_the_egos_axis():
    """The back of a car whose flank comes into view is as long as before; a cyclist ahead has no other side from one look to the
    next."""
    back = side(20.0, 2.5, 1.8)
    for flank in np.arange(0.1, 4.0, 0.1):
        corner = np.concatenate([back, side(20.0 + flank / 2, 1.6, flank, along=True)])
        (box,) = boxes_of([corner], [0.0], STANDING)
        assert box.size == pytest.approx([4.2, 1.8], abs=0.05) and box.center == pytest.approx([22.1, 2.5], abs=0.05)
    middles = []
    for aside in np.arange(-0.6, 0.6, 0.02):
        (box,) = boxes_of([np.concatenate([side(15.0, aside, 0.6), side(15.85, aside, 1.7, along=True)])], [0.0], STANDING)
        middles.append(box.center)
    assert np.abs(np.diff(middles, axis=0)).max() < 0.1


def test_boxes_stand_along_the_route_not_the_ego():
    """Also where a slanted one would be a little smaller, as a car's rounded corners make it."""
    turn = np.array([[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]])
    rounded = np.concatenate([side(20.5, 0.0, 0.6), side(21.5, -0.9, 1.6, along=True), side(22.6, 0.0, 1.0), [[20.9, 0.8]]])
    (box,) = boxes_of([rounded @ turn.T], [0.35], STANDING)
    (other,) = boxes_of([rounded @ turn.T], [0.35 + np.pi / 4], STANDING)
    assert (box.yaw - 0.35) % (np.pi / 2) == pytest.approx(0.0, abs=1e-6) or (box.yaw - 0.35) % (np.pi / 2) > np.pi / 2 - 1e-6
    assert other.yaw != pytest.approx(box.yaw, abs=0.05)
    turned, _ = seen(FRONT, TIMES, 2.0, lambda time: [((14.0, 0.5), CAR)], yaw=0.1)
    assert abs((turned.yaw[0] + np.pi / 2) % np.pi - np.pi / 2) < 1e-6


LAMPS = {RED: (235, 30, 25), AMBER: (235, 150, 30), GREEN: (30, 220, 140), UNKNOWN: (60, 64, 66)}


@pytest.mark.parametrize("state", LAMPS)
def test_colours_of_lamps(state):
    assert lamp_colour(np.array([(40.0, 40, 42), LAMPS[state], (90, 95, 97)]))[1] == state


def look_at_light(lights, seen_lights, distance, state, time, hidden=False):
    """One look of a front camera at the head of ``light_at``, so far away; a lit lamp of one pixel or more."""
    pose = pose_from_xy_yaw(100.0 - distance, -3.0, 0.0) @ FRONT.ego_from_camera[0]
    rgb, depth = np.full((1, HEIGHT, WIDTH, 3), 50, np.uint8), np.full((1, HEIGHT, WIDTH), distance)
    row = HEIGHT / 2 - FOCAL * 1.5 / distance
    rgb[0, int(row), WIDTH // 2] = LAMPS[state]
    if hidden:
        depth[:] = distance / 2
    return seen_lights.look(rgb, depth, FRONT.intrinsics, pose[None], time)[0]


def test_lights_are_known_as_far_as_they_are_seen():
    lights = light_at(100.0, [GREEN]).unseen
    known = SeenLights(lights)
    assert look_at_light(lights, known, 70.0, RED, 0.0) == UNKNOWN, "too far"
    assert look_at_light(lights, known, 30.0, RED, 0.5) == RED
    assert look_at_light(lights, known, 28.0, GREEN, 1.0, hidden=True) == RED, "a truck before it: remembered"
    assert look_at_light(lights, known, 26.0, GREEN, 3.5, hidden=True) == UNKNOWN, "not for ever"
    assert look_at_light(lights, known, 24.0, GREEN, 4.0) == GREEN
    turned = SeenLights(replace(lights, heads=lights.heads * [1, 1, 1, 0]))
    assert look_at_light(lights, turned, 24.0, RED, 0.0) == UNKNOWN, "the back of a head"


def given(scene, ego, time=0.0, boxes=(), **other):
    pictures = {}
    for name, depth in zip(AROUND.names, depth_images(AROUND, ego, *boxes), strict=True):
        pictures |= {name: np.full((HEIGHT, WIDTH, 3), 60, np.uint8), f"{name}/depth": depth[..., None].astype(np.float32)}
    return PlannerInput(time, ego, {**pictures, **other}, lights=scene.lights.state[:, 0])


def planned(config, looks=3, seed=0, **other):
    """Plans of an ego at 8 m/s behind a car that stands 35 m ahead at first, with one from behind."""
    scene = replace(make_scene(scene_map=road_map(), lights=light_at(60.0, [RED])), rig=AROUND)
    planner = MeasuringPlanner(config)
    planner.reset(PlannerContext(visible_scene(scene, planner.requires), 0.5, 10.0), seed)
    plans = []
    for time in 0.5 * np.arange(looks):
        ego = EgoState(8.0 * time, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0)
        plans.append(planner.plan(given(scene, ego, float(time), [((35.0, 0.0), CAR)], **other)).trajectory)
    return np.stack(plans), planner


@pytest.mark.parametrize("driver", ["pdm", "idm"])
def test_it_drives_by_pictures_alone(driver):
    """A leader in the depth images is braked for; agents and lights of the observation are not looked at."""
    plans, _ = planned(MeasuringConfig(driver=driver))
    assert 8.0 + plans[-1, -1, 0] < 35.0 - 2.25 - 3.4, "the third plan ends behind the leader's back"
    agents = np.zeros((64, 9))
    agents[0] = [8, 0, 0, 4.5, 2, 0, 0, 0, 1]
    np.testing.assert_array_equal(planned(MeasuringConfig(driver=driver), agents=agents)[0], plans)


def test_variants_see_less():
    count = {}
    for name, config in {"whole": MeasuringConfig(), **VARIANTS}.items():
        plans, planner = planned(config)
        assert np.isfinite(plans).all()
        _, depth = planner._pictures[0]
        count[name] = depth.shape, len(planner._pictures)
    assert count["whole"] == ((6, HEIGHT, WIDTH), 1) and count["front"] == ((1, HEIGHT, WIDTH), 1)
    assert count["late"] == ((6, HEIGHT, WIDTH), 2) and count["coarse"] == ((6, HEIGHT // 2, WIDTH // 2), 1)
    noisy = [planned(MeasuringConfig(noise=0.1), seed=seed)[1]._pictures[0][1] for seed in (0, 0, 1)]
    assert np.array_equal(noisy[0], noisy[1]) and not np.array_equal(noisy[0], noisy[2])


def test_names_and_settings():
    assert set(MEASURING) == set(VARIANTS)
    assert make_planner("measuring_late").config.late == 1
    for wrong in ({"driver": "rl"}, {"cameras": "back"}, {"late": -1}, {"noise": 1.0}, {"coarse": 0}):
        with pytest.raises(ConfigError):
            MeasuringConfig(**wrong)
    scene = replace(make_scene(scene_map=road_map()), rig=AROUND)
    planner = MeasuringPlanner()
    planner.reset(PlannerContext(scene, 0.5, 10.0), 0)
    with pytest.raises(ConfigError, match="add it to the environment's observation"):
        planner.plan(PlannerInput(0.0, EgoState(0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0), {}))
    behind = replace(scene, rig=ring(np.pi))
    with pytest.raises(ConfigError, match="looks ahead"):
        MeasuringPlanner(MeasuringConfig(cameras="front")).reset(PlannerContext(behind, 0.5, 10.0), 0)


@pytest.mark.medium
def test_it_stops_for_what_stands_in_the_pictures(town_dataroot):
    """A truck in the way, in a world with pictures: it stops; who only keeps the lane drives into it."""
    env = gym.make("DiST4D-nuScenes-v0", dataroot=str(town_dataroot), world="oracle", action="trajectory", scenes="val")
    scenario = Scenario("town-val-0001", edits=(Insert(category="truck", ahead=28.0),), horizon=6.5)
    options = RunOptions(scenario=scenario, plan_limit=600.0)
    looks, blind = (run_episode(env, planner, 0, options) for planner in (MeasuringPlanner(), LaneKeeping()))
    env.close()
    assert looks.error is None and (looks.outcome, blind.outcome) == ("horizon", "collision")
    assert looks.trace.ego[-1, 3] < 2.0
