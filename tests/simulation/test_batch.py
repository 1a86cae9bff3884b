"""Many egos driven at once: against each alone, bit for bit, and against recorded runs of NAVSIM's."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.errors import ActionError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.simulation.actions import follow
from dist4d_env.simulation.batch import References, advance_rows, drive_along, simulate_plans, track_rows
from dist4d_env.simulation.rows import STEERING, ego_rows, ego_state
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.simulation.state import EgoState
from dist4d_env.simulation.tracker import DT, reference_from_poses, track
from dist4d_env.simulation.vehicle import VehicleDynamics, advance

from .road import make_scene

CAR = VehicleParameters()
seeds = st.integers(0, 2**32 - 1)


def some_egos(random: np.random.Generator, count: int) -> np.ndarray:
    """Rows of cars that stand, crawl and drive, on the road or beside it."""
    speed = random.choice([0.0, 0.1, 1.0], count) * random.uniform(0, 20, count)
    columns = [*random.normal(0, 300, (2, count)), random.uniform(-np.pi, np.pi, count), speed]
    return np.column_stack([*columns, random.normal(0, 2, count), random.uniform(-0.6, 0.6, count), random.normal(0, 0.2, count)])


def some_plans(random: np.random.Generator, count: int, poses: int) -> np.ndarray:
    """Plans of one speed each, from standing to fast, that turn and wander; headings as they are told, in [-pi, pi)."""
    heading = np.cumsum(random.normal(0, 0.3, (count, poses)), 1)
    step = random.choice([0.0, 0.02, 1.0], (count, 1)) * random.uniform(0, 8, (count, poses))
    xy = np.cumsum(np.stack([step * np.cos(heading), step * np.sin(heading)], -1), 1)
    return np.concatenate([xy, ((heading + np.pi) % (2 * np.pi) - np.pi)[..., None]], 2)


def assert_bits(ours: np.ndarray, alone: np.ndarray) -> None:
    assert ours.shape == alone.shape
    assert np.ascontiguousarray(ours).tobytes() == np.ascontiguousarray(alone).tobytes(), np.abs(ours - alone).max()


@settings(max_examples=25, deadline=None)
@given(seed=seeds, count=st.integers(1, 9), poses=st.integers(4, 10), ticks=st.integers(1, 45))
def test_plans_are_driven_as_each_alone(seed, count, poses, ticks):
    """Beyond the end of the plan, too."""
    random = np.random.default_rng(seed)
    ego = ego_state(some_egos(random, 1)[0])
    plans = some_plans(random, count, poses)
    rows = simulate_plans(ego, plans, ticks=ticks)
    for plan, driven in zip(plans, rows, strict=True):
        reference, alone = follow(plan, 0.5, ego, 0).reference, [ego]
        for tick in range(ticks):
            acceleration, rate = track(alone[-1], reference, tick, CAR.wheelbase)
            steering = alone[-1].steering + rate * DT
            alone.append(advance(alone[-1], acceleration, steering, CAR, VehicleDynamics(), DT))
        assert_bits(driven, ego_rows(alone))


def test_plans_are_driven_as_the_simulator_drives_them():
    simulator = Simulator(make_scene(duration=20.0), SimulatorConfig(decision_dt=4.0, action="trajectory"))
    state = simulator.reset(3.0)
    plans = some_plans(np.random.default_rng(4), 6, 8)
    rows = simulate_plans(state.ego, plans)
    for plan, driven in zip(plans, rows, strict=True):
        _, ticks = simulator.execute(state, follow(plan, 0.5, state.ego, state.tick))
        assert_bits(driven, ego_rows([state.ego, *ticks.ego]))


@settings(max_examples=25, deadline=None)
@given(seed=seeds, count=st.integers(1, 9), reverse=st.booleans())
def test_mixed_references_and_limits_as_each_alone(seed, count, reverse):
    """Egos of their own on trajectories of different lengths, begun at different ticks, by cars of other limits."""
    random = np.random.default_rng(seed)
    ego, dynamics = some_egos(random, count), VehicleDynamics(0.3, 0.0, -5.0, 2.0, 0.5, 0.3, reverse)
    references = []
    for row in ego:
        moved = some_plans(random, 1, int(random.integers(8, 60)))[0] + row[:3]
        references.append(reference_from_poses(moved, int(random.integers(0, 20))))
    tick = random.integers(0, 70, count)
    together = References.of(references)
    acceleration, rate = track_rows(ego, together, tick, CAR.wheelbase)
    after = advance_rows(ego, acceleration, ego[:, STEERING] + rate * DT, CAR, dynamics, DT)
    for i, row in enumerate(ego):
        one = ego_state(row)
        assert (acceleration[i], rate[i]) == track(one, references[i], int(tick[i]), CAR.wheelbase)
        steering = one.steering + float(rate[i]) * DT
        assert_bits(after[i], ego_rows([advance(one, float(acceleration[i]), steering, CAR, dynamics, DT)])[0])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_align_with_navsim(stored_data, version):
    """Every plan of the golden file at once, state by state for four seconds."""
    golden = json.loads((stored_data / "golden" / f"navsim_{version}.json").read_text())
    unlimited = VehicleDynamics(
        min_acceleration=-100, max_acceleration=100, max_steering=math.pi / 3, max_steering_rate=100, reverse=True
    )
    plans = np.array([np.column_stack([plan["x"], plan["y"], plan["heading"]]) for plan in golden["plans"].values()])
    start = ego_rows([EgoState(0, 0, 0, golden["ego_start"]["speed"], 0, 0, 0)])
    vehicle = VehicleParameters(wheelbase=golden["vehicle"]["wheel_base"])
    rows = drive_along(start, References.fitted(plans, np.zeros(len(plans), int)), 40, vehicle, unlimited)
    assert rows.shape == (len(plans), 41, 7)
    for name, driven in zip(golden["plans"], rows, strict=True):
        for column, theirs in enumerate(("x", "y", "heading", "speed", None, "steering")):
            if theirs is not None:
                wanted = golden["simulated"][name][theirs]
                np.testing.assert_allclose(driven[:, column], wanted, atol=1e-6, err_msg=f"{name}: {theirs}")


def test_no_plans_give_no_rows():
    assert simulate_plans(EgoState(0, 0, 0, 5, 0, 0, 0), np.zeros((0, 8, 3))).shape == (0, 41, 7)


def test_plans_too_short_to_follow_are_refused():
    with pytest.raises(ActionError, match="too short to follow"):
        simulate_plans(EgoState(0, 0, 0, 5, 0, 0, 0), np.zeros((2, 2, 3)), dt=0.1)
