"""The bicycle against closed forms, the actuators against their limits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.simulation.ego import EgoState, ego_rows, ego_state
from dist4d_env.simulation.vehicle import VehicleDynamics, advance

CAR = VehicleParameters()
PROMPT = VehicleDynamics(acceleration_lag=0.0, steering_lag=0.0, max_steering_rate=100.0)
START = EgoState(0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0)
finite = st.floats(-50, 50)


def step(ego: EgoState, acceleration: float, steering: float, dynamics: VehicleDynamics = PROMPT, dt: float = 0.1) -> EgoState:
    """One ego ``dt`` later."""
    return ego_state(advance(ego_rows([ego]), np.array([acceleration]), np.array([steering]), CAR, dynamics, dt)[0])


def drive(ego: EgoState, acceleration: float, steering: float, steps: int, dynamics=PROMPT, dt: float = 0.1) -> list[EgoState]:
    states = [ego]
    for _ in range(steps):
        states.append(step(states[-1], acceleration, steering, dynamics, dt))
    return states


def test_straight_line_at_constant_acceleration():
    """Speed is exact; the position integrates the speed before each step, so it lags by half a step of speed gained."""
    end = drive(START, 2.0, 0.0, 30)[-1]
    assert end.speed == pytest.approx(8.0 + 2.0 * 3.0)
    assert end.x == pytest.approx(8.0 * 3.0 + 2.0 * 3.0**2 / 2 - 2.0 * 0.1 / 2 * 3.0)
    assert (end.y, end.yaw, end.yaw_rate) == (0.0, 0.0, 0.0)


def test_rear_axle_runs_on_the_circle_of_the_bicycle():
    """Held wheels drive the rear axle along a circle of radius wheelbase / tan(steering); fine steps close it."""
    steering, dt = 0.3, 1e-3
    radius = CAR.wheelbase / math.tan(steering)
    turned = replace(START, steering=steering)
    lap = round(2 * math.pi * radius / turned.speed / dt)
    states = drive(turned, 0.0, steering, lap, dt=dt)
    for state in states[:: lap // 8]:
        assert math.hypot(state.x, state.y - radius) == pytest.approx(radius, rel=2e-3)
    assert math.hypot(states[-1].x, states[-1].y) < 0.05
    assert states[lap // 2].yaw_rate == pytest.approx(turned.speed / radius)


def test_smallest_turning_circle_is_the_zoes():
    """10.6 m between kerbs: the outer front wheel of the tightest turn."""
    rear = CAR.wheelbase / math.tan(VehicleDynamics().max_steering) + CAR.width / 2
    assert 2 * math.hypot(rear, CAR.wheelbase) == pytest.approx(10.6, abs=0.3)


def test_actuators_answer_as_low_passes():
    dynamics = VehicleDynamics(max_steering_rate=100.0)
    states = drive(START, 2.0, 0.1, 5, dynamics)
    for count, state in enumerate(states):
        assert state.acceleration == pytest.approx(2.0 * (1 - (1 - 0.1 / 0.3) ** count))
        assert state.steering == pytest.approx(0.1 * (1 - (1 - 0.1 / 0.15) ** count))


def test_old_speed_heading_and_steering_move_the_car():
    """nuPlan's order: the first step after a command moves nothing yet but the speed."""
    after = step(START, 3.0, 0.3)
    assert (after.x, after.y, after.yaw) == (pytest.approx(0.8), 0.0, 0.0)
    assert after.speed == pytest.approx(8.3) and after.steering == pytest.approx(0.3)


@given(acceleration=finite, steering=finite, speed=st.floats(0, 30), wheel=st.floats(-0.6, 0.6))
def test_limits_hold_for_any_command(acceleration, steering, speed, wheel):
    dynamics = VehicleDynamics()
    before = replace(START, speed=speed, steering=wheel)
    state = before
    for _ in range(20):
        after = step(state, acceleration, steering, dynamics)
        assert dynamics.min_acceleration <= after.acceleration <= dynamics.max_acceleration
        assert abs(after.steering) <= dynamics.max_steering
        assert abs(after.steering - state.steering) <= dynamics.max_steering_rate * 0.1 + 1e-12
        assert after.speed >= 0 and -math.pi <= after.yaw < math.pi
        state = after


def test_brakes_stop_the_car_and_hold_it():
    states = drive(replace(START, speed=2.0), -6.0, 0.0, 10)
    assert states[-1].speed == 0.0 and states[-1].acceleration == 0.0
    assert states[-1].x == states[-2].x < 1.0
    assert sum(s.acceleration for s in states) * 0.1 == pytest.approx(-2.0), "the accelerations told add up to the speed lost"
    backwards = drive(replace(START, speed=0.5), -2.0, 0.0, 10, replace(PROMPT, reverse=True))
    assert backwards[-1].speed == pytest.approx(-1.5)


@pytest.mark.parametrize(
    "wrong", [{"acceleration_lag": -0.1}, {"max_steering": 2.0}, {"min_acceleration": 1.0}, {"max_steering_rate": 0.0}]
)
def test_impossible_dynamics_are_refused(wrong):
    with pytest.raises(ConfigError, match="vehicle dynamics"):
        VehicleDynamics(**wrong)
