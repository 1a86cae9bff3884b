"""Experts with errors: the error that is said, nothing else, and the worse the stronger."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.planners import experts
from dist4d_env.planners.experts import ErringExpert, RecordedDrive
from dist4d_env.registry import EXPERT_ERRORS
from tests.planners.driving import drive
from tests.simulation.road import make_scene, road_map

SCENE = make_scene(speed=8.0, duration=16.0, scene_map=road_map())


def braking_scene():
    """8 m/s for 4 s, then 2 m/s^2 of braking to a stand."""
    scene = make_scene(speed=8.0, duration=16.0, scene_map=road_map())
    speed = np.clip(8.0 - 2.0 * (scene.ego.time - 4.0), 0.0, 8.0)
    x = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * 0.1)])
    poses = np.stack([pose_from_xy_yaw(at, 0.0, 0.0) for at in x])
    return replace(scene, ego=replace(scene.ego, speed=speed, global_from_ego=poses))


@pytest.mark.parametrize("kind", EXPERT_ERRORS)
def test_without_strength_it_is_the_recorded_drive(kind):
    for scene in (SCENE, braking_scene()):
        trace = drive(scene, ErringExpert(kind, 0.0), 20).trace
        away = np.hypot(*(trace.ego[:, :2] - trace.expert[:, :2]).T)
        assert away.max() < 1.0, "the tracker rolls out where the record stands"


def test_bias_is_metres_to_the_right():
    driven = drive(SCENE, ErringExpert("bias", 1.5), 20)
    assert abs(driven.y[0]) < 1e-6 and driven.y[-1] == pytest.approx(-1.5, abs=0.15)
    np.testing.assert_allclose(driven.x, SCENE.ego.global_from_ego[: len(driven.x), 0, 3], atol=0.4)


def test_delay_is_seconds_behind():
    driven = drive(SCENE, ErringExpert("delay", 1.0), 24)
    assert driven.x[-1] == pytest.approx(8.0 * (12.0 - 1.0), abs=0.4)
    assert driven.speed.min() > 3.5 and (np.diff(driven.x) > 0).all()


def test_late_braking_is_just_that():
    scene = braking_scene()
    on_time, late = drive(scene, ErringExpert("late", 0.0), 20), drive(scene, ErringExpert("late", 1.5), 20)
    before = slice(0, 35)
    np.testing.assert_allclose(late.x[before], on_time.x[before], atol=0.3)
    assert late.speed[50] > on_time.speed[50] + 1.0
    # Keeping the speed of 1.5 s ago while the record brakes with a is 1/2 a 1.5^2 ahead.
    assert late.x[-1] - on_time.x[-1] == pytest.approx(0.5 * 2.0 * 1.5**2, abs=0.6)
    assert (np.diff(late.x) >= 0).all(), "it waits, it does not back up"


def test_noise_is_drawn_per_plan_from_the_seed():
    one, same, other = (drive(SCENE, ErringExpert("noise", 1.0), 12, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.plans, same.plans)
    assert np.abs(np.array(one.plans) - np.array(other.plans)).max() > 0.3
    ends = np.array([plan[-1, 1] - plan[-1, 1].mean() for plan in one.plans])
    assert len(np.unique(ends)) == 1 and 0.1 < one.y.std() < 2.0
    twice = drive(SCENE, ErringExpert("noise", 2.0), 12, seed=3)
    assert np.abs(twice.y).max() > 1.5 * np.abs(one.y).max()


@pytest.mark.parametrize("kind", EXPERT_ERRORS)
def test_stronger_errors_lead_farther_from_the_record(kind):
    scene = braking_scene()
    away = []
    for strength in EXPERT_ERRORS[kind]:
        driven = drive(scene, ErringExpert(kind, strength), 20).trace
        away.append(np.hypot(*(driven.ego[:, :2] - driven.expert[:, :2]).T).max())
    assert (np.diff(away) > 0).all()


def test_a_reset_forgets_the_last_episode():
    planner = ErringExpert("delay", 2.0)
    first = drive(SCENE, planner, 6)
    drive(make_scene(speed=5.0, duration=16.0), planner, 6, start=4.0)
    np.testing.assert_array_equal(drive(SCENE, planner, 6).plans, first.plans)


def test_the_record_goes_on_along_the_route():
    record = RecordedDrive(make_scene(speed=8.0, duration=5.0))
    np.testing.assert_allclose(record.at(np.array([4.0, 5.0, 9.0]))[:, 0], [32.0, 40.0, 72.0], atol=1e-6)
    np.testing.assert_allclose(record.after(np.array([32.0, 72.0]))[:, 0], [32.0, 72.0], atol=1e-6)


def test_any_strength_has_a_name():
    made = getattr(experts, "late_1.25")()
    assert (made.kind, made.strength) == ("late", 1.25) and made.requires.privileged
    for wrong in ("late_", "late_soon", "early_1"):
        with pytest.raises(AttributeError):
            getattr(experts, wrong)
    for kind, strength in (("early", 1.0), ("late", -1.0), ("late", float("nan"))):
        with pytest.raises(ConfigError):
            ErringExpert(kind, strength)
