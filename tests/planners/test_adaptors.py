"""Agents written for NAVSIM and nuPlan drive here unchanged; what they are shown is right, what they get wrong is said."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.data.nuscenes import RING
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.drive import EnvSettings
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.planners.adaptors import AdaptorError, NavsimAgent, NuplanPlanner
from dist4d_env.planners.adaptors.common import History, driven_back, driving_command
from dist4d_env.planners.adaptors.navsim import AgentInput
from dist4d_env.planners.adaptors.nuplan_map import NuplanMap
from dist4d_env.planners.adaptors.nuplan_types import StateSE2, TrackedObjectType, TrafficLightStatusType
from dist4d_env.planners.contract import PlannerContext, PlannerInput
from dist4d_env.scenes.lights import GREEN, RED
from dist4d_env.scenes.route import Route
from dist4d_env.simulation.ego import EgoState
from tests.planners.driving import state_of
from tests.simulation.road import Agent, light_at, make_scene, road_map


@pytest.fixture(scope="module")
def env(town_dataroot):
    made = gym.make(
        "DiST4D-nuScenes-v0", dataroot=str(town_dataroot), scenes="val", world="none", action="trajectory", horizon=3.0,
        observation=("ego", "route", "agents"),
    )  # fmt: skip
    yield made
    made.close()


EGO = EgoState(0.0, 0.0, 0.0, 8.0, 0.5, 0.0, 0.0)


class ConstantVelocityAgent:
    """As NAVSIM's baseline is written: reads the last ego status, returns poses every half second."""

    requires_scene = False

    def __init__(self) -> None:
        self.inputs: list[AgentInput] = []
        self.initialized = 0

    def initialize(self) -> None:
        self.initialized += 1

    def get_sensor_config(self):
        return SimpleNamespace(cam_f0=[3], cam_l0=False, cam_r0=True, get_sensors_at_iteration=lambda i: ["cam_f0"] * (i == 3))

    def compute_trajectory(self, agent_input):
        self.inputs.append(agent_input)
        speed = float((agent_input.ego_statuses[-1].ego_velocity ** 2).sum() ** 0.5)
        poses = np.array([[0.5 * (i + 1) * speed, 0.0, 0.0] for i in range(8)], dtype=np.float32)
        return SimpleNamespace(poses=poses, trajectory_sampling=SimpleNamespace(time_horizon=4, interval_length=0.5))


class LeaderWatchingPlanner:
    """As a nuPlan planner is written: keeps the speed, stops for the first vehicle of its list, samples global states."""

    def initialize(self, initialization) -> None:
        self.initialization = initialization

    def compute_planner_trajectory(self, current_input):
        self.input = current_input
        ego, observation = current_input.history.current_state
        vehicles = observation.tracked_objects.get_tracked_objects_of_type(TrackedObjectType.VEHICLE)
        gap = min((v.center.x - v.box.half_length - ego.car_footprint.geometry.bounds[2] for v in vehicles), default=1e9)
        speed = ego.dynamic_car_state.rear_axle_velocity_2d.x if gap > 25 else 0.0
        axle = ego.rear_axle
        cos, sin = math.cos(axle.heading), math.sin(axle.heading)
        reached = [
            SimpleNamespace(
                rear_axle=StateSE2(axle.x + speed * t * cos, axle.y + speed * t * sin, axle.heading),
                time_point=SimpleNamespace(time_us=current_input.iteration.time_us + round(t * 1e6)),
            )
            for t in np.arange(0.0, 4.01, 0.1)
        ]
        return SimpleNamespace(get_sampled_trajectory=lambda: reached)


def given(time: float, ego: EgoState, state=None, **observation) -> PlannerInput:
    return PlannerInput(time, ego, observation, state)


def test_neither_package_is_imported():
    code = "import dist4d_env.planners.adaptors, sys\n"
    code += "print([m for m in sys.modules if m.split('.')[0] in ('navsim', 'nuplan', 'torch')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_navsim_agent_drives_an_episode(env):
    agent = ConstantVelocityAgent()
    agent.get_sensor_config = lambda: SimpleNamespace(get_sensors_at_iteration=lambda i: [])
    planner = NavsimAgent(agent)
    log = run_episode(env, planner, 0, RunOptions("town-val-0000", 0.0, plan_limit=600.0))
    assert log.error is None and len(log.steps) - 1 == len(agent.inputs) > 3 and not planner.requires.cameras
    run_episode(env, planner, 1, RunOptions("town-val-0001", 0.0, plan_limit=600.0))
    assert agent.initialized == 1
    # At each decision the frames are where the ego really was, seen from where it is.
    now, before = log.trace.ego[15], log.trace.ego[5]
    pose = agent.inputs[3].ego_statuses[1].ego_pose
    offset = before[:2] - now[:2]
    cos, sin = math.cos(now[2]), math.sin(now[2])
    np.testing.assert_allclose(pose[:2], [cos * offset[0] + sin * offset[1], cos * offset[1] - sin * offset[0]], atol=1e-4)


def test_navsim_history_before_the_start_is_the_motion_driven_back():
    agent = ConstantVelocityAgent()
    planner = NavsimAgent(agent)
    planner.reset(PlannerContext(scene_with_cameras(), 0.5, 4.0), 0)
    planner.plan(given(0.0, EGO, **pictures(1)))
    planner.plan(given(0.5, EgoState(4.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0), **pictures(2)))
    statuses = agent.inputs[-1].ego_statuses
    np.testing.assert_allclose([s.ego_pose[0] for s in statuses], [-12, -8, -4, 0], atol=1e-5)
    np.testing.assert_allclose(statuses[2].ego_acceleration, [0.5, 0.0])
    assert not statuses[0].in_global_frame and [list(s.driving_command) for s in statuses] == [[0, 1, 0, 0]] * 4
    shown = [frame.cam_f0.image for frame in agent.inputs[-1].cameras]
    assert shown[:3] == [None] * 3 and (shown[3] == 2).all() and agent.inputs[-1].cameras[3].cam_l1.image is None
    assert agent.inputs[-1].cameras[3].cam_r0.image is None and agent.inputs[-1].lidars[3].lidar_pc is None


def test_navsim_lidar_is_given_where_it_is_asked_for():
    """Valid points alone, in NAVSIM's six rows."""
    agent = ConstantVelocityAgent()
    agent.get_sensor_config = lambda: SimpleNamespace(get_sensors_at_iteration=lambda i: ["lidar_pc"] * (i == 3))
    planner = NavsimAgent(agent)
    planner.reset(PlannerContext(scene_with_cameras(), 0.5, 4.0), 0)
    points = np.array([[1, 2, 3, 0.5, 1], [4, 5, 6, 0.25, 1], [0, 0, 0, 0, 0]], np.float32)
    planner.plan(given(0.0, EGO, lidar=points))
    lidars = agent.inputs[-1].lidars
    assert [lidar.lidar_pc is None for lidar in lidars] == [True, True, True, False]
    assert lidars[3].lidar_pc.tolist() == [[1, 4], [2, 5], [3, 6], [0.5, 0.25], [0, 0], [0, 0]]


def test_navsim_lidar_comes_from_the_running_world(town_dataroot):
    """An agent that declares it drives an episode with the oracle's points around it."""
    agent = ConstantVelocityAgent()
    agent.get_sensor_config = lambda: SimpleNamespace(get_sensors_at_iteration=lambda i: ["lidar_pc"] * (i == 3))
    planner = NavsimAgent(agent)
    assert planner.requires.lidar and not planner.requires.cameras
    settings = EnvSettings(str(town_dataroot), "v1.0-town", ("town-val-0000",), world="oracle", horizon=1.0)
    assert "lidar" not in settings.make().observation_space.spaces
    env = settings.make(lidar=planner.requires.lidar)
    log = run_episode(env, planner, 0, RunOptions("town-val-0000", 0.0))
    env.close()
    assert log.error is None
    points = agent.inputs[-1].lidars[3].lidar_pc
    assert points.shape[0] == 6 and points.shape[1] > 20_000 and (points[3] > 0).all() and not points[4:].any()
    assert np.abs(np.median(points[2, points[2] < 0.5])) < 0.1, "most of what is low is the ground under the ego"


def test_navsim_calibration_fits_the_picture():
    """A point ahead of the ego lands where the camera that is given says, at the size that is given."""
    agent = ConstantVelocityAgent()
    planner = NavsimAgent(agent)
    planner.reset(PlannerContext(scene_with_cameras(), 0.5, 4.0), 0)
    planner.plan(given(0.0, EGO, **pictures(1)))
    camera = agent.inputs[0].cameras[-1].cam_f0
    point = camera.sensor2lidar_rotation.T @ (np.array([11.7, 0.0, 1.5]) - camera.sensor2lidar_translation)
    pixel = camera.intrinsics @ point / point[2]
    np.testing.assert_allclose(pixel[:2], [16.0, 8.0], atol=1e-9)


def test_commands_come_from_the_route():
    straight = Route.through(np.column_stack([np.arange(100.0), np.zeros(100)]))
    bend = np.concatenate([[[x, 0.0] for x in range(31)], [[30.0, y] for y in range(1, 40)]])
    left, right = Route.through(bend), Route.through(bend * [1, -1])
    assert driving_command(straight, 10.0) == "forward" and driving_command(left, 0.0) == "forward"
    assert driving_command(left, 20.0) == "left" and driving_command(right, 20.0) == "right"
    assert driving_command(straight, 99.0) == "forward", "past its end the route goes straight on"


def test_turning_ego_is_driven_back_on_its_arc():
    ego = EgoState(5.0, 5.0, math.pi / 2, 5.0, 1.0, 0.1, 0.5)  # a circle of 10 m about (-5, 5)
    before = driven_back(ego, 1.0)
    assert math.hypot(before.x + 5, before.y - 5) == pytest.approx(10) and before.yaw == pytest.approx(math.pi / 2 - 0.5)
    assert driven_back(EGO, 0.5).x == pytest.approx(-4.0)


def test_history_finds_the_instants():
    history = History(1.5)
    for tick in range(31):
        history.add(given(0.1 * tick, EgoState(0.8 * tick, 0, 0, 8, 0, 0, 0)))
    assert [moment.ego.x for moment in history.last(4, 0.5)] == pytest.approx([12, 16, 20, 24])


@pytest.mark.parametrize(
    "trajectory, says",
    [
        (np.zeros((8, 3)), "returned a ndarray: a trajectory has poses"),
        (SimpleNamespace(poses=np.zeros((8, 2))), r"shape \(8, 2\), not \(N, 3\)"),
        (SimpleNamespace(poses=np.full((8, 3), np.nan)), "not finite"),
        (SimpleNamespace(poses="far"), "no numbers"),
        (SimpleNamespace(poses=np.zeros((8, 3)), trajectory_sampling=SimpleNamespace(interval_length=0.0)), "interval of 0.0 s"),
    ],
)
def test_navsim_wrong_trajectories(trajectory, says):
    planner = NavsimAgent(SimpleNamespace(compute_trajectory=lambda agent_input: trajectory))
    planner.reset(PlannerContext(scene_with_cameras(), 0.5, 4.0), 0)
    with pytest.raises(AdaptorError, match=says):
        planner.plan(given(0.0, EGO, **pictures(1)))


def test_navsim_wrong_agents_and_settings():
    with pytest.raises(ConfigError, match="no compute_trajectory"):
        NavsimAgent(object())
    with pytest.raises(ConfigError, match="requires NAVSIM's scene"):
        NavsimAgent(SimpleNamespace(compute_trajectory=print, requires_scene=True))
    with pytest.raises(ConfigError, match=r"decision_dt=0\.3 does not divide"):
        NavsimAgent(ConstantVelocityAgent()).reset(PlannerContext(make_scene(), 0.3, 4.0), 0)
    planner = NavsimAgent(ConstantVelocityAgent())
    planner.reset(PlannerContext(scene_with_cameras(), 0.5, 4.0), 0)
    with pytest.raises(AdaptorError, match="nothing shows CAM_FRONT"):
        planner.plan(given(0.0, EGO))


def test_nuplan_planner_drives_an_episode(env):
    planner = LeaderWatchingPlanner()
    log = run_episode(env, NuplanPlanner(planner), 0, RunOptions("town-val-0000", 0.0, plan_limit=600.0))
    assert log.error is None and planner.input.iteration.index == len(log.steps) - 2
    assert planner.input.history.size == 5 and planner.input.history.duration == 2.0


def test_nuplan_planner_sees_the_street():
    scene = make_scene(Agent(20, 0, vx=1.0), Agent(10, 5, category="pedestrian"), scene_map=road_map(speed_limit=13.9))
    inner = LeaderWatchingPlanner()
    planner = NuplanPlanner(inner)
    planner.reset(PlannerContext(scene, 0.5, 4.0), 0)
    state = state_of(scene)
    plan = planner.plan(given(0.0, state.ego, state))
    assert plan.dt == 0.5 and plan.trajectory.shape == (8, 3) and (plan.trajectory == 0).all(), "the leader is 14 m ahead"
    objects = inner.input.history.observations[0].tracked_objects
    assert [o.tracked_object_type.name for o in objects] == ["VEHICLE", "PEDESTRIAN"]
    assert objects.tracked_objects[0].center.x == pytest.approx(18.0), "two seconds ago"
    assert objects.tracked_objects[0].track_token == "agent-0" and len(objects.get_agents()) == 2
    ego = inner.input.history.ego_states[0]
    assert ego.rear_axle.x == pytest.approx(-16) and ego.center.x == pytest.approx(-16 + VehicleParameters().rear_axle_to_center)
    assert ego.time_us == -2_000_000 and ego.dynamic_car_state.speed == 8.0
    assert inner.initialization.route_roadblock_ids == ["A"] and inner.initialization.mission_goal.x > 300


def test_nuplan_planner_is_told_what_lights_show():
    """Every lane that a light controls, as it is now."""
    lights = replace(light_at(40.0, np.repeat([RED, GREEN], 30)), lanes=(("A", "B"),))
    scene, inner = make_scene(scene_map=road_map(), lights=lights), LeaderWatchingPlanner()
    planner = NuplanPlanner(inner)
    planner.reset(PlannerContext(scene, 0.5, 4.0), 0)
    for time, status in ((0.0, TrafficLightStatusType.RED), (3.5, TrafficLightStatusType.GREEN)):
        state = replace(state_of(scene), lights=scene.light_states(time))
        planner.plan(replace(given(time, state.ego, state), lights=state.lights))
        told = [(one.status, one.lane_connector_id, one.timestamp) for one in inner.input.traffic_light_data]
        assert told == [(status, "A", round(time * 1e6)), (status, "B", round(time * 1e6))]


def test_nuplan_map():
    layer = SimpleNamespace(name="LANE")
    street = NuplanMap(road_map(speed_limit=13.9))
    lane = street.get_one_map_object(StateSE2(5.0, 3.0, 0.0), layer)
    assert lane.id == "B" == lane.get_roadblock_id() and lane.speed_limit_mps == 13.9
    assert lane.baseline_path.length == pytest.approx(450)
    assert street.get_map_object("B", layer) is lane and street.get_map_object("B", "LANE_CONNECTOR") is None
    assert street.is_in_layer(StateSE2(0.0, 0.0, 0.0), "DRIVABLE_AREA")
    assert not street.is_in_layer(StateSE2(0.0, -9.0, 0.0), "LANE")
    near = street.get_proximal_map_objects(StateSE2(0.0, 0.0, 0.0), 2.0, [layer.name])["LANE"]
    assert [thing.id for thing in near] == ["A", "B"]
    assert street.get_distance_to_nearest_map_object(StateSE2(0.0, -2.75, 0.0), "LANE") == ("A", pytest.approx(1.0))
    with pytest.raises(AdaptorError, match="no layer BASELINE_PATHS"):
        street.is_in_layer(StateSE2(0.0, 0.0, 0.0), "BASELINE_PATHS")
    with pytest.raises(AdaptorError, match="this scene has none"):
        NuplanMap(None).is_in_layer(StateSE2(0.0, 0.0, 0.0), "LANE")


def test_nuplan_types_equal_their_originals():
    """nuPlan's enumeration is another class with the same names and values."""
    from enum import Enum

    theirs = Enum("TrackedObjectType", {"VEHICLE": 0, "PEDESTRIAN": 1})
    assert TrackedObjectType.VEHICLE == theirs.VEHICLE and TrackedObjectType.VEHICLE != theirs.PEDESTRIAN


def states(times, x=lambda t: 8.0 * t, **changed):
    made = [SimpleNamespace(rear_axle=StateSE2(x(t), 0.0, 0.0), time_us=round(t * 1e6)) for t in times]
    for state in made:
        state.__dict__.update(changed)
    return made


@pytest.mark.parametrize(
    "result, says",
    [
        (None, "NoneType without at least two sampled states"),
        (states([0.0]), "list without at least two"),
        ([SimpleNamespace(pose=1), SimpleNamespace(pose=2)], "a state has rear_axle"),
        (states([0.0, 1.0], lambda t: math.nan), "not finite"),
        (states([1.0, 0.0]), "not in order of time"),
        (states([1.0, 4.0]), "from 1.00 s to 4.00 s"),
        (states([0.0, 0.1]), "must span the next 0.5 s"),
    ],
)
def test_nuplan_wrong_trajectories(result, says):
    scene = make_scene(scene_map=road_map())
    inner = SimpleNamespace(initialize=lambda initialization: None, compute_planner_trajectory=lambda current_input: result)
    planner, state = NuplanPlanner(inner), state_of(scene)
    planner.reset(PlannerContext(scene, 0.5, 4.0), 0)
    with pytest.raises(AdaptorError, match=says):
        planner.plan(given(0.0, state.ego, state))


def test_nuplan_plan_is_the_trajectory_in_the_ego_frame():
    scene = make_scene(scene_map=road_map())
    inner = SimpleNamespace(initialize=lambda i: None, compute_planner_trajectory=lambda i: states(np.arange(0.0, 3.01, 0.25)))
    planner, state = NuplanPlanner(inner), state_of(scene)
    planner.reset(PlannerContext(scene, 0.5, 4.0), 0)
    trajectory = planner.plan(given(0.0, state.ego, state)).trajectory
    np.testing.assert_allclose(trajectory[:, 0], 4.0 * np.arange(1, 7), atol=1e-9)


def test_nuplan_wrong_planners():
    with pytest.raises(ConfigError, match="no initialize and no compute_planner_trajectory"):
        NuplanPlanner(object())
    with pytest.raises(ConfigError, match="requires nuPlan's scenario"):
        NuplanPlanner(SimpleNamespace(initialize=print, compute_planner_trajectory=print, requires_scenario=True))


def pictures(value: int) -> dict[str, np.ndarray]:
    return {name: np.full((16, 32, 3), value, np.uint8) for name in RING}


def scene_with_cameras():
    """The straight road, with six cameras 1.7 m ahead of the axle and 1.5 m up that all look forward."""
    from dataclasses import replace

    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], (1.7, 0.0, 1.5)
    intrinsics = np.array([[100.0, 0, 64], [0, 100.0, 32], [0, 0, 1]])
    return replace(make_scene(), rig=CameraRig(RING, np.tile(intrinsics, (6, 1, 1)), np.tile(pose, (6, 1, 1)), 64, 128))
