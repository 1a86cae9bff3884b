"""AlpaSim's scorers on the straight road, drivable from y = -1.75 to 8.75."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from dist4d_env.metrics.driving.trace import Plans
from dist4d_env.metrics.foreign.alpasim import (
    alpasim_collisions,
    alpasim_offroad,
    alpasim_scene_score,
    alpasim_wrong_lane,
    plan_deviation,
    rounded_footprints,
)
from tests.simulation.road import Agent

from .traces import make_trace, straight


def test_footprints_are_smaller_and_rounded():
    polygon = rounded_footprints(np.array([[1.0, 2.0]]), np.array([0.0]), np.array([[4.0, 2.0]]))[0]
    assert polygon.bounds == pytest.approx((1 - 1.96, 2 - 0.98, 1 + 1.96, 2 + 0.98))
    radius = 0.5 * 1.96 / 2
    assert polygon.area == pytest.approx(3.92 * 1.96 - (4 - np.pi) * radius**2, rel=2e-3)
    assert not polygon.contains(shapely.Point(1 + 1.9, 2 + 0.92))


@pytest.mark.parametrize(
    "agent, kind",
    [
        (Agent(30.0, 0.0), "collision_front"),
        (Agent(-10.0, 0.0, 14.0), "collision_rear"),
        (Agent(0.5, 3.4, 8.0, -0.8), "collision_lateral"),
    ],
)
def test_kinds_of_collision(agent, kind):
    found = alpasim_collisions(make_trace(None, agent))
    first = {name: int(hits.argmax()) for name, hits in found.items() if hits.any()}
    assert min(first, key=first.__getitem__) == kind
    result = alpasim_scene_score(make_trace(None, agent))
    assert result.details["parts"]["collision_at_fault"] == float(kind != "collision_rear")
    assert result.details["first_contact"] == {"step": first[kind], "track": 0, "kind": kind}
    assert (result.value == 0.0) == (kind != "collision_rear")


def test_every_contact_of_a_step_counts():
    together = alpasim_collisions(make_trace(straight(0.0), Agent(5.5, 0.0), Agent(-2.7, 0.0)))
    assert together["collision_front"][0] and together["collision_rear"][0]


def test_a_touch_within_the_shrinkage_is_none():
    """The sides of the true boxes overlap by 1 cm, the shrunk ones are 2.7 cm apart."""
    assert not any(hits.any() for hits in alpasim_collisions(make_trace(straight(0.0), Agent(1.0, 1.855))).values())
    assert any(hits.any() for hits in alpasim_collisions(make_trace(straight(0.0), Agent(1.0, 1.82))).values())


def test_offroad_is_to_touch_the_edge_outside_all_lanes():
    """The road's edge is at y = -1.75, the shrunk side 0.848 m right of the axle; wholly beside the road there is no edge."""
    assert alpasim_offroad(make_trace(straight(y=-0.9, steps=3))).tolist() == [False] * 3
    assert alpasim_offroad(make_trace(straight(y=-0.91, steps=3))).tolist() == [True] * 3
    assert alpasim_offroad(make_trace(straight(y=-3.0, steps=3))).tolist() == [False] * 3
    assert alpasim_offroad(make_trace(straight(y=1.75, steps=3))).tolist() == [False] * 3  # across two lanes


def test_wrong_lane():
    assert not alpasim_wrong_lane(make_trace()).any() and alpasim_wrong_lane(make_trace(straight(y=7.0))).all()


@pytest.mark.parametrize("speed, value", [(8.0, 1.0), (6.4, 1.0), (4.0, 0.625), (0.0, 0.0)])
def test_progress_is_full_from_four_fifths_of_the_path(speed, value):
    assert alpasim_scene_score(make_trace(straight(speed))).value == pytest.approx(value)


def test_the_path_of_the_whole_human_drive():
    human = make_trace(straight(steps=101))
    result = alpasim_scene_score(make_trace(), human)
    assert result.value == pytest.approx(0.5) and result.details["parts"]["gt_distance"] == pytest.approx(80.0)


def test_progress_ends_with_a_collision():
    """A car runs into the rear after about a second: not the ego's fault, and the end of its way."""
    result = alpasim_scene_score(make_trace(None, Agent(-9.0, 0.0, 14.0)))
    step = result.details["parts"]["step"]
    assert result.details["failed"] == [] and 5 < step < 20
    assert result.value == pytest.approx(min(step / 40 / 0.8, 1.0))


def test_a_short_path_asks_for_no_progress():
    assert alpasim_scene_score(make_trace(straight(0.0), expert_speed=1.0)).value == 1.0


def test_without_a_map_it_is_not_valid():
    assert not alpasim_scene_score(make_trace(scene_map=None)).valid


def test_plans_that_change_deviate():
    step = np.array([0, 5])
    poses = np.zeros((2, 6, 3))
    poses[..., 0] = 4.0 * np.arange(1, 7)
    assert plan_deviation(make_trace(), Plans(step, poses)) == pytest.approx(0.0)
    poses[1, :, 1] = [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    weights = np.exp(-0.1 * np.arange(5))
    assert plan_deviation(make_trace(), Plans(step, poses)) == pytest.approx(weights[1:].sum() / weights.sum())
    assert plan_deviation(make_trace(), Plans(step[:1], poses[:1])) is None
