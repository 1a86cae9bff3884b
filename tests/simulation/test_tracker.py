"""The LQR tracker: against recorded runs of NAVSIM's, and how closely it keeps to a path."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.simulation.actions import PLAN_DT, follow
from dist4d_env.simulation.drive import drive_along
from dist4d_env.simulation.ego import EgoState, ego_rows, ego_state
from dist4d_env.simulation.tracker import DT, References, track
from dist4d_env.simulation.vehicle import VehicleDynamics

CAR = VehicleParameters()


def reference(poses: np.ndarray) -> References:
    """One trajectory (P, 3) from tick 0 on."""
    return References.fitted(poses[None], np.zeros(1, int))


def drive(ego: EgoState, followed: References, ticks: int) -> list[EgoState]:
    return [ego_state(row) for row in drive_along(ego_rows([ego]), followed, ticks, CAR, VehicleDynamics())[0]]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_align_with_navsim(stored_data, version):
    """Every plan of the golden file, state by state for four seconds."""
    golden = json.loads((stored_data / "golden" / f"navsim_{version}.json").read_text())
    vehicle = VehicleParameters(wheelbase=golden["vehicle"]["wheel_base"])
    unlimited = VehicleDynamics(
        min_acceleration=-100, max_acceleration=100, max_steering=math.pi / 3, max_steering_rate=100, reverse=True
    )
    plans = np.array([np.column_stack([plan["x"], plan["y"], plan["heading"]]) for plan in golden["plans"].values()])
    assert len(plans) == len(golden["simulated"]) >= 10
    start = ego_rows([EgoState(0, 0, 0, golden["ego_start"]["speed"], 0, 0, 0)])
    rows = drive_along(start, References.fitted(plans, np.zeros(len(plans), int)), 40, vehicle, unlimited)
    for name, driven in zip(golden["plans"], rows, strict=True):
        for column, theirs in enumerate(("x", "y", "heading", "speed", None, "steering")):
            if theirs is not None:
                wanted = golden["simulated"][name][theirs]
                np.testing.assert_allclose(driven[:, column], wanted, atol=1e-6, err_msg=f"{name}: {theirs}")


def test_straight_line_is_followed_from_beside_it():
    """From 0.5 m to the left and 2 m/s too slow: past the line by less than a third of that, then settling."""
    times = np.arange(81) * DT
    followed = reference(np.column_stack([10 * times, np.zeros(81), np.zeros(81)]))
    states = drive(EgoState(0, 0.5, 0, 8, 0, 0, 0), followed, 80)
    side = np.array([state.y for state in states])
    assert side.min() > -0.15 and np.abs(side[60:]).max() < 0.05
    assert states[60].speed == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("radius, speed", [(30.0, 6.0), (-20.0, 5.0), (80.0, 12.0)])
def test_curve_is_followed(radius, speed):
    """A circle entered with the wheels straight costs up to 0.8 m (the controller does not look ahead), then settles."""
    angle = speed * np.arange(81) * DT / radius
    followed = reference(np.column_stack([radius * np.sin(angle), radius * (1 - np.cos(angle)), angle]))
    states = drive(EgoState(0, 0, 0, speed, 0, 0, 0), followed, 70)
    error = np.array([abs(math.hypot(state.x, state.y - radius) - abs(radius)) for state in states])
    assert error.max() < 0.8
    assert error[40:].max() < 0.25 and error[-10:].max() < 0.2
    assert states[-1].yaw_rate == pytest.approx(speed / radius, rel=0.15)


def test_comes_to_rest_after_a_stopping_plan():
    """The speed is tracked, not the place: the car stands about 2 m past the end, as with NAVSIM's."""
    times = np.arange(81) * DT
    x = np.where(times < 4, 8 * times - times**2, 16.0)
    states = drive(EgoState(0, 0, 0, 8, 0, 0, 0), reference(np.column_stack([x, 0 * x, 0 * x])), 80)
    assert states[-1].speed < 0.05 and 15 < states[-1].x < 18.5
    assert all(state.speed >= 0 for state in states)


def test_beyond_its_end_a_plan_stands():
    """After its last pose the last speed and curvature are kept, so a late planner does not slam the brakes."""
    followed = reference(np.column_stack([8 * np.arange(11) * DT, np.zeros(11), np.zeros(11)]))
    acceleration, _ = track(ego_rows([EgoState(40, 0, 0, 8, 0, 0, 0)]), followed, np.array([50]), CAR.wheelbase)
    assert acceleration[0] == pytest.approx(0, abs=1e-6)


def test_plans_are_given_in_the_ego_frame():
    """The same plan from two poses drives the same path, turned and shifted."""
    plan = np.column_stack([4 * np.arange(1, 9), 0.1 * np.arange(1, 9) ** 1.5, np.full(8, 0.05)])
    starts = EgoState(0, 0, 0, 8, 0, 0, 0), EgoState(100, -50, 2.5, 8, 0, 0, 0)
    followed = follow(np.stack([plan, plan]), PLAN_DT, ego_rows(starts), np.zeros(2, int)).references
    here, there = (
        [ego_state(row) for row in rows] for rows in drive_along(ego_rows(starts), followed, 30, CAR, VehicleDynamics())
    )
    for a, b in zip(here, there, strict=True):
        x, y = 100 + math.cos(2.5) * a.x - math.sin(2.5) * a.y, -50 + math.sin(2.5) * a.x + math.cos(2.5) * a.y
        assert (b.x, b.y) == (pytest.approx(x, abs=1e-6), pytest.approx(y, abs=1e-6))
