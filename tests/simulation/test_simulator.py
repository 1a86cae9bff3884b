"""The simulator as a pure function of its state."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dist4d_env.errors import ActionError, ConfigError
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.simulation.state import Command

from .road import Agent, make_scene

SCENE = make_scene(Agent(30, 3.5, vx=5.0), Agent(25, 0.0, vx=6.0), speed=8.0)
ROLL = np.zeros(2, np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def assert_equal(first, second):
    """Dataclasses of arrays and numbers, bit for bit."""
    if dataclasses.is_dataclass(first):
        for field in dataclasses.fields(first):
            assert_equal(getattr(first, field.name), getattr(second, field.name))
    elif isinstance(first, tuple):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert_equal(a, b)
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype and np.array_equal(first, second)
    else:
        assert first == second


def test_reset_is_the_logged_ego():
    state = Simulator(SCENE).reset(Scenario("road", start=2.0), rng())
    assert (state.tick, state.time) == (0, pytest.approx(2.0))
    assert (state.ego.x, state.ego.y, state.ego.yaw, state.ego.speed) == pytest.approx((16.0, 0.0, 0.0, 8.0))
    assert state.boxes.position[:, 0] == pytest.approx([40.0, 37.0])


def test_scenarios_move_the_ego():
    simulator = Simulator(SCENE)
    ego = simulator.reset(Scenario("road", start=1.0, ego_offset=0.5, ego_yaw=0.1, ego_speed=3.0), rng()).ego
    assert (ego.x, ego.y, ego.yaw, ego.speed) == pytest.approx((8.0, 0.5, 0.1, 3.0))


@pytest.mark.parametrize(
    "scenario, says",
    [
        (Scenario("elsewhere"), "plays in elsewhere"),
        (Scenario("road", start=11.0), "lies outside road"),
        (Scenario("road", traffic="idm"), "wants traffic='idm'"),
    ],
)
def test_impossible_scenarios_are_refused(scenario, says):
    with pytest.raises(ConfigError, match=says):
        Simulator(SCENE).reset(scenario, rng())


@pytest.mark.parametrize("wrong", [{"decision_dt": 0.25}, {"decision_dt": 0.0}, {"action": "wheels"}, {"traffic": "none"}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        SimulatorConfig(**wrong)


@pytest.mark.parametrize("decision_dt, ticks", [(0.1, 1), (0.5, 5), (2.0, 20)])
def test_a_decision_is_whole_ticks(decision_dt, ticks):
    simulator = Simulator(SCENE, SimulatorConfig(decision_dt))
    state, log = simulator.step(simulator.reset(0.0), ROLL)
    assert state.time == pytest.approx(decision_dt) and state.tick == ticks
    assert log.time == pytest.approx(0.1 * np.arange(1, ticks + 1))
    assert len(log.ego) == len(log.boxes) == ticks and log.ego[-1] == state.ego
    assert state.ego.x == pytest.approx(8.0 * decision_dt)


@pytest.mark.parametrize("traffic", ["replay", "idm"])
@pytest.mark.parametrize("action", ["controls", "discrete", "trajectory"])
def test_pure_and_deterministic(action, traffic):
    """Two simulators and two calls agree bit for bit, an earlier state is untouched, and going back goes the same way."""
    config = SimulatorConfig(0.5, action, traffic)
    plan = np.column_stack([3.0 * np.arange(1, 9), 0.02 * np.arange(1, 9) ** 2, np.zeros(8)])
    chosen = {"controls": np.array([0.4, 0.1]), "discrete": 25, "trajectory": plan}[action]
    simulator, other = Simulator(SCENE, config), Simulator(SCENE, config)
    start = simulator.reset(1.0, rng())
    copy = other.reset(1.0, rng())
    kept = start.boxes.position.copy(), start.path_position.copy()
    states = [start]
    for _ in range(8):
        states.append(simulator.step(states[-1], chosen)[0])
        copy = other.step(copy, chosen)[0]
    assert_equal(copy, states[-1])
    assert np.array_equal(kept[0], start.boxes.position) and np.array_equal(kept[1], start.path_position)
    assert_equal(simulator.step(states[3], chosen)[0], states[4])
    assert states[-1].ego != start.ego


def test_state_is_frozen():
    state = Simulator(SCENE).reset(0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.tick = 5  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.ego.x = 5.0  # type: ignore[misc]


def test_bad_actions_leave_no_trace():
    simulator = Simulator(SCENE)
    state = simulator.reset(0.0)
    with pytest.raises(ActionError, match="finite"):
        simulator.step(state, np.array([np.nan, 0.0]))


def test_drives_on_past_the_log():
    simulator = Simulator(SCENE, SimulatorConfig(2.0))
    state = simulator.reset(9.0)
    for _ in range(3):
        state, _ = simulator.step(state, ROLL)
    assert state.time == pytest.approx(15.0) and len(state.boxes) == 0
    assert state.ego.x == pytest.approx(8.0 * 15.0)


def test_a_plan_stands_until_the_next_decision():
    """A trajectory is followed on the simulator's clock: halfway through it the car is where the plan has it."""
    simulator = Simulator(SCENE, SimulatorConfig(0.5, "trajectory"))
    plan = np.column_stack([4.0 * np.arange(1, 9), np.zeros(8), np.zeros(8)])
    state, _ = simulator.step(simulator.reset(0.0), plan)
    assert state.command is not None and state.command.reference.start_tick == 0
    truth = simulator.scene_at(state)
    assert truth.anticipated_pose[:, 0, 3] == pytest.approx([8.0, 12.0, 16.0, 20.0], abs=0.05)


def test_scene_at_anticipates_ego_and_agents():
    simulator = Simulator(SCENE)
    state, _ = simulator.step(simulator.reset(0.0), np.array([0.0, 0.0]))
    truth = simulator.scene_at(state)
    assert truth.time == pytest.approx(0.5) and truth.boxes is state.boxes
    assert truth.global_from_ego[:2, 3] == pytest.approx([4.0, 0.0])
    assert truth.anticipated_time == pytest.approx([1.0, 1.5, 2.0, 2.5])
    assert truth.anticipated_pose.shape == (4, 4, 4)
    assert truth.anticipated_pose[:, 0, 3] == pytest.approx([8.0, 12.0, 16.0, 20.0])
    assert [boxes.position[0, 0] for boxes in truth.anticipated_boxes] == pytest.approx([35.0, 37.5, 40.0, 42.5])
    assert len(simulator.scene_at(state, decisions=0).anticipated_pose) == 0


def test_an_action_in_mind_changes_what_is_anticipated():
    """With the action given, the anticipated poses are those that deciding it leads to (a plan: to the end of it)."""
    simulator = Simulator(SCENE, SimulatorConfig(0.5, "trajectory"))
    start = simulator.reset(0.0)
    plan = np.column_stack([3.0 * np.arange(1, 9), 0.1 * np.arange(1, 9), np.zeros(8)])
    expected = simulator.scene_at(start, plan).anticipated_pose
    state, reached = start, []
    for _ in range(4):
        state, _ = simulator.execute(state, simulator.step(start, plan)[0].command)
        reached.append(simulator.pose(state.ego))
    np.testing.assert_allclose(expected, reached, atol=1e-9)


def test_poses_are_the_logged_ones_on_the_log():
    """Height, roll and pitch come from the nearest logged pose; a turned car turns them along."""
    tilt, scene = 0.05, make_scene()
    poses = scene.ego.global_from_ego.copy()
    poses[:, :3, :3] = [[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]]
    poses[:, 2, 3] = 0.3
    simulator = Simulator(dataclasses.replace(scene, ego=dataclasses.replace(scene.ego, global_from_ego=poses)))
    ego = simulator.logged_ego(20)
    np.testing.assert_allclose(simulator.pose(ego), poses[20], atol=1e-12)
    turned = simulator.pose(dataclasses.replace(ego, yaw=ego.yaw + 1.0, y=2.0))
    assert turned[2, 3] == 0.3 and turned[:2, 3] == pytest.approx([16.0, 2.0])
    np.testing.assert_allclose(turned[:3, :3].T @ turned[:3, :3], np.eye(3), atol=1e-12)
    assert turned[2, 0] == pytest.approx(-np.sin(tilt))


def test_real_log_is_rebuilt_by_its_own_trajectory(nuscenes_real):
    """Following the recorded ego of a real scene with fresh plans stays within 0.6 m of it for ten seconds."""
    from dist4d_env.data.open import open_dataset
    from dist4d_env.planners.contract import PlannerContext, PlannerInput
    from dist4d_env.planners.log_follower import LogFollower

    scene = open_dataset(nuscenes_real).load("scene-0061")
    simulator, planner = Simulator(scene, SimulatorConfig(0.5, "trajectory")), LogFollower()
    planner.reset(PlannerContext(scene, 0.5, 10.0), 0)
    state = simulator.reset(0.0)
    away = []
    for _ in range(20):
        plan = planner.plan(PlannerInput(state.time, state.ego, {}, state))
        state, ticks = simulator.step(state, plan.trajectory)
        rows = np.round(ticks.time / 0.1).astype(int)
        logged = scene.ego.global_from_ego[rows, :2, 3]
        away += [float(np.hypot(e.x - x, e.y - y)) for e, (x, y) in zip(ticks.ego, logged, strict=True)]
    assert max(away) < 0.6


def test_commands_of_physical_units_are_carried_out():
    simulator = Simulator(SCENE, SimulatorConfig(2.0))
    state, _ = simulator.execute(simulator.reset(0.0), Command(acceleration=-3.0, steering=0.1))
    assert state.ego.acceleration == pytest.approx(-3.0, abs=0.01) and state.ego.steering == pytest.approx(0.1, abs=1e-3)
