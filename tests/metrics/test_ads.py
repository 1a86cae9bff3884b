"""DriveArena's and HUGSIM's parts for plans on the straight road: lanes at y = 0, 3.5 and 7, drivable from -1.75 to 8.75."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.metrics.driving.trace import Plans
from dist4d_env.metrics.foreign.ads import PlacedPlans, ads, area_score, drivable_shares, plan_comfort, planned_progress
from tests.simulation.road import Agent

from .traces import make_trace, straight


def cruise(speed=8.0, ticks=(0, 5, 10), poses=6, dt=0.5):
    plan = np.zeros((len(ticks), poses, 3))
    plan[..., 0] = speed * dt * np.arange(1, poses + 1)
    return Plans(np.array(ticks), plan, dt)


def test_plans_are_placed_where_the_ego_was():
    ego = straight(steps=21)
    ego[10, :3] = 5.0, 2.0, np.pi / 2
    placed = PlacedPlans.of(make_trace(ego), cruise(ticks=(10,)))
    assert placed.poses[0, :2] == pytest.approx(np.array([[5.0, 2.0, np.pi / 2], [5.0, 6.0, np.pi / 2]]))
    assert placed.ticks(make_trace(ego))[0].tolist() == [10, 15, 20, -1, -1, -1, -1]


def test_a_plan_that_goes_nowhere_keeps_its_heading():
    plans = cruise(0.0, ticks=(0,))
    plans.poses[..., 2] = 1.0
    assert (PlacedPlans.of(make_trace(), plans).poses[..., 2] == 0).all()


def test_a_perfect_drive_is_its_route_completion():
    """The log ends at 120 m of the route, the episode covers 32 of the 98.6 m that were left (box centre at 21.4)."""
    result = ads(make_trace(), cruise())
    assert result.valid and result.details["parts"]["pdms"] == pytest.approx(1.0)
    assert result.value == pytest.approx(32 / (120 - 21.4)) == result.details["route_completion"]
    meant = ads(make_trace(), cruise(), reference=40.0)
    assert meant.value == pytest.approx(32 / 40) == meant.details["route_completion"]
    assert not ads(make_trace(), cruise(), reference=2.0).valid, "no way to drive"


@pytest.mark.parametrize("category, faithful, corrected", [("car", 0.0, 0.0), ("pedestrian", 1.0, 0.0)])
def test_collisions_of_plans_with_what_is_there_later(category, faithful, corrected):
    """A plan of 8 m/s runs into what stands 20 m ahead; DriveArena knows only cars."""
    trace = make_trace(straight(0.0), Agent(20.0, 0.0, category=category))
    for form, value in (("faithful", faithful), ("corrected", corrected)):
        result = ads(trace, cruise(ticks=(0,)), form)
        assert result.details["parts"]["no_collision"] == value
        assert result.details["first_contact"] == (None if value else {"step": 0, "pose": 4, "track": 0})


def test_a_plan_is_compared_with_agents_when_it_gets_there():
    """The car has left by the time the plan arrives; poses due after the episode meet nothing."""
    leaving = make_trace(straight(0.0), Agent(14.0, 0.0, 8.0))
    assert ads(leaving, cruise(ticks=(0,))).details["parts"]["no_collision"] == 1.0
    standing = make_trace(straight(0.0, steps=11), Agent(20.0, 0.0))
    assert ads(standing, cruise(ticks=(0,))).details["parts"]["no_collision"] == 1.0


@pytest.mark.parametrize("x, value", [(33.0, 0.0), (37.5, 1.0)])
def test_time_to_collision_shifts_the_plan_by_a_second(x, value):
    """The last of six poses ends with its bumper at 27.44 m, a second later at 35.44: a car's rear at x - 2.25."""
    trace = make_trace(straight(0.0), Agent(x + 2.25, 0.0))
    assert ads(trace, cruise(ticks=(0,))).details["parts"] == pytest.approx(
        {
            **ads(make_trace(straight(0.0)), cruise(ticks=(0,))).details["parts"],
            "time_to_collision": value,
            "pdms": (5 * value + 2 + 5) / 12,
        }
    )


@pytest.mark.parametrize("y, exact, rastered", [(0.0, 1.0, 1.0), (-2.0, 0.3555, 0.5), (-2.3, 0.1821, 0.0)])
def test_share_of_the_footprint_on_the_road(y, exact, rastered):
    """The road ends at y = -1.75, the footprint is 1.73 m wide: two of its rows of cells lie strictly within it."""
    trace = make_trace(straight(y=y))
    placed = PlacedPlans.of(trace, cruise(ticks=(0,)))
    assert drivable_shares(trace, placed, "corrected") == pytest.approx(exact, abs=1e-4)
    assert drivable_shares(trace, placed, "faithful") == pytest.approx(rastered)


def test_shares_become_a_score():
    shares = np.array([[1.0, 0.5], [1.0, 0.49], [0.2, 1.0], [0.19, 0.4]])
    assert area_score(shares, 0.2, 0.5).tolist() == [1.0, 0.5, 0.5, 0.0]


def test_comfort_forms():
    """2 to 3.2 m/s^2 forward: within the original's wrong bound of 4.89, not within 2.40. A circle: only lateral tells."""
    t = 0.5 * np.arange(1, 7)
    fast = np.zeros((1, 6, 3))
    fast[..., 0] = 8 * t + 1.5 * t**2
    placed = PlacedPlans.of(make_trace(), Plans(np.array([0]), fast))
    assert plan_comfort(placed, False, 4.89)[0] and not plan_comfort(placed, False)[0]
    angle = 0.8 * t
    circle = np.stack([10 * np.sin(angle), 10 * (1 - np.cos(angle)), angle], -1)[None]  # 8 m/s, 6.4 m/s^2
    placed = PlacedPlans.of(make_trace(), Plans(np.array([0]), circle))
    assert plan_comfort(placed, False)[0] and not plan_comfort(placed, True)[0]


def test_progress_is_relative_to_the_log():
    trace = make_trace(straight(steps=61))
    plans = PlacedPlans.of(trace, cruise(6.0, ticks=(0,)))
    assert planned_progress(trace, plans)[0] == pytest.approx(0.75)
    slow = make_trace(straight(1.0, steps=61), expert_speed=1.0)
    assert planned_progress(slow, PlacedPlans.of(slow, cruise(0.5, ticks=(0,))))[0] == 1.0


def test_what_cannot_be_told_is_not_valid():
    assert "map" in ads(make_trace(scene_map=None), cruise()).details["reason"]
    assert "plans" in ads(make_trace(), cruise(ticks=())).details["reason"]
