"""The sampling planner: what it rolls is the simulator, what it fears costs, and how it drives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.planners.contract import PlannerContext, PlannerInput
from dist4d_env.planners.mpc import Forecast, MpcConfig, SamplingMPC
from dist4d_env.planners.mpc_costs import CostWeights, plan_costs
from dist4d_env.planners.observed_agents import Agents
from dist4d_env.simulation.commands import Commands
from dist4d_env.simulation.drive import simulate_plans
from dist4d_env.simulation.ego import EgoState, ego_rows
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from tests.planners.driving import Episode, agent_features, state_of
from tests.planners.test_lane_follower import assert_no_contact
from tests.simulation.road import Agent, make_scene, road_map

CAR = VehicleParameters()
EGO = EgoState(0.0, 0.0, 0.0, 8.0, 0.3, 0.01, 8.0 * np.tan(0.01) / CAR.wheelbase)
ONLY = CostWeights(0, 0, 0.8, 0, 0, 0, 0, 0, 0)
LIGHT = MpcConfig(samples=24, elites=6, iterations=2)


def seen(*agents: Agent) -> Agents:
    state = state_of(make_scene(*agents))
    return Agents.of(PlannerInput(0.0, EGO, {"agents": agent_features(state.boxes, EGO)}))


def forecast(*agents: Agent, step: float = 0.2) -> Forecast:
    return Forecast(make_scene(scene_map=road_map(13.0)), EGO, seen(*agents), 0.0, CAR, step)


def drive(scene, decisions: int, seed: int = 0):
    """The ego and the boxes of every tick, and the plans."""
    episode, planner, plans = Episode(scene, action="trajectory"), SamplingMPC(LIGHT), []
    planner.reset(PlannerContext(scene, 0.5, decisions * 0.5), seed)
    for _ in range(decisions):
        state = episode.state
        plans.append(planner.plan(PlannerInput(state.time, state.ego, {"agents": agent_features(state.boxes, state.ego)})))
        episode.step(plans[-1].trajectory)
    return *zip(*episode.ticks(), strict=True), plans


def cost_of(rows: np.ndarray, *agents: Agent, **weights: float) -> list[float]:
    """Costs under one term alone; rows (B, 41, 7)."""
    limit = np.full(len(make_scene().route.points), 13.0)
    return plan_costs(rows, forecast(*agents).expected, limit, 40.0, replace(ONLY, **weights)).tolist()


def straight(*speeds: float, beside: float = 0.0) -> np.ndarray:
    """Rows of egos at constant speeds along the road."""
    rows = np.zeros((len(speeds), 41, 7))
    rows[..., 0], rows[..., 1], rows[..., 3] = np.outer(speeds, 0.1 * np.arange(41)), beside, np.array(speeds)[:, None]
    return rows


def test_what_is_rolled_is_the_simulator():
    controls = np.random.default_rng(0).normal(size=(5, 2, 20)) * [[1.5], [0.1]]
    rows = forecast(Agent(30, 0)).rollout(controls[:, 0], controls[:, 1])
    assert rows.shape == (5, 41, 7)
    simulator = Simulator(SimulatorConfig(0.2, "controls"), [make_scene()])
    state = replace(simulator.reset([0], [0.0]), ego=ego_rows([EGO]))
    for step in range(20):
        state, _ = simulator.execute(state, Commands.controls(controls[3, 0, [step]], steering=controls[3, 1, [step]]))
        assert np.array_equal(rows[3, 2 * step + 2], state.ego[0])


def test_controls_lead_through_what_was_driven():
    """A guide that the tracker follows, turned into controls for lagging actuators, is the same drive to decimetres."""
    planner = SamplingMPC()
    plan = np.column_stack([[4, 8.2, 12.6, 17, 21, 24, 26, 27], np.linspace(0, 1.5, 8), np.full(8, 0.05)])
    rows = simulate_plans(EGO, plan[None])
    controls = planner._as_controls(rows)
    again = forecast().rollout(controls[:, 0], controls[:, 1])
    assert np.abs(again[..., :2] - rows[..., :2]).max() < 0.3


def test_foresight_knows_no_recorded_future():
    """Who brakes in the recording is expected to drive on; nothing but the "agents" rows is looked at."""
    expected = forecast(Agent(30, 1, vx=5.0)).expected
    np.testing.assert_allclose(expected.position[:, 0, 0], 30 + 0.5 * np.arange(51), atol=1e-4)
    leader = state_of(make_scene(Agent(25, 0, vx=5.0))).boxes
    planner, now, plans = SamplingMPC(LIGHT), {"agents": agent_features(leader, EGO)}, []
    for other in (make_scene(scene_map=road_map()), make_scene(Agent(9, 0), scene_map=road_map())):
        planner.reset(PlannerContext(other, 0.5, 10.0), 0)
        plans.append(planner.plan(PlannerInput(0.0, EGO, now)).trajectory)
    assert np.array_equal(*plans)


def test_costs_grow_with_what_is_wrong():
    assert cost_of(straight(8.0), clearance=1.0) == [0.0], "an empty road"
    near, far = (cost_of(straight(8.0, beside=side), Agent(20, 3.0), clearance=1.0)[0] for side in (0.6, 0.0))
    assert near > 0 == far
    late, early = (cost_of(straight(8.0), Agent(x, 0), clearance=1.0)[0] for x in (30, 15))
    assert early > late > 0
    slow, fast = cost_of(straight(4.0, 10.0), Agent(30, 0, vx=4.0), following=1.0)
    assert fast > slow == 0
    assert cost_of(straight(8.0), Agent(20, 3.5), following=1.0) == [0.0], "not in the way"
    assert cost_of(straight(13.0, 15.0), speeding=1.0) == pytest.approx([0.0, 2.0])
    assert cost_of(straight(8.0, beside=1.0), offset=2.0) == pytest.approx([2.0])
    assert cost_of(straight(10.0, 5.0, 0.0), score=12.0) == pytest.approx([0.0, 2.5, 5.0]), "5 of 12 parts are progress"


def test_same_seed_same_plans():
    scene = make_scene(Agent(30, 0, vx=5.0), Agent(20, 3.5, vx=9.0), scene_map=road_map(13.0))
    first, again, other = (drive(scene, 4, seed)[2] for seed in (1, 1, 2))
    assert all(np.array_equal(a.trajectory, b.trajectory) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.trajectory, b.trajectory) for a, b in zip(first, other, strict=True))


def test_it_drives_at_the_limit_on_an_empty_road():
    egos, _, _ = drive(make_scene(duration=20.0, scene_map=road_map(13.0)), 16)
    assert egos[-1].speed == pytest.approx(13.0, abs=0.7) and max(abs(ego.y) for ego in egos) < 0.3
    assert max(abs(ego.acceleration) for ego in egos) < 3


@pytest.mark.parametrize(
    "agent", [Agent(50, 0), Agent(30, 0, vx=3.0), Agent(45, -9, vy=1.5, category="pedestrian", length=0.7, width=0.7)]
)
def test_it_touches_nobody(agent):
    egos, boxes, _ = drive(make_scene(agent, duration=12.0, scene_map=road_map(10.0, oncoming=True)), 20)
    assert_no_contact(egos, boxes)
    assert egos[-1].x > 25


def test_it_needs_the_agents_and_no_cameras():
    planner = SamplingMPC()
    assert planner.requires.map and not planner.requires.privileged and not planner.requires.cameras
    planner.reset(PlannerContext(make_scene(scene_map=road_map()), 0.5, 10.0), 0)
    with pytest.raises(ConfigError, match="'agents'"):
        planner.plan(PlannerInput(0.0, EGO, {}))


@pytest.mark.parametrize("wrong", [{"elites": 1}, {"elites": 65}, {"iterations": 0}, {"knots": 1}, {"step": 0.3}, {"speeds": ()}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        MpcConfig(**wrong)
