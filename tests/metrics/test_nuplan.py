"""nuPlan's closed-loop score on the straight road."""

from __future__ import annotations

import numpy as np
import pytest
from shapely.geometry import box

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.metrics.driving.rectangles import overlap
from dist4d_env.metrics.foreign.nuplan import nuplan_cls, nuplan_parts
from dist4d_env.metrics.foreign.nuplan_road import driven_lanes, within_lanes
from dist4d_env.metrics.foreign.nuplan_traffic import at_fault_collisions, direction, relevant_tracks, times_to_collision
from dist4d_env.scenes.maps import Lane, make_map
from tests.simulation.road import Agent, road_map

from . import worlds
from .traces import make_trace, straight

LIMITED = road_map(speed_limit=10.0)


def test_a_clean_drive_scores_one():
    result = nuplan_cls(make_trace(scene_map=LIMITED))
    assert result.valid and result.value == 1.0
    assert result.details["name"] == "nuplan_cls_nr" and result.details["dropped"] == []
    assert nuplan_cls(make_trace(scene_map=LIMITED), reactive=True).details["name"] == "nuplan_cls_r"


def test_every_part_enters_with_its_weight():
    """12 m/s where 10 are allowed, among nobody: (5 + 5 + 4 SL + 2) / 16 with SL = 1 - 2 / 2.23; 41 / 40 in the original."""
    result = nuplan_cls(make_trace(straight(12.0), scene_map=LIMITED))
    assert result.value == pytest.approx((12 + 4 * (1 - 2 / 2.23 * 41 / 40)) / 16)
    corrected = nuplan_cls(make_trace(straight(12.0), scene_map=LIMITED), form="corrected")
    assert corrected.value == pytest.approx((12 + 4 * (1 - 2 / 2.23)) / 16)
    slow = nuplan_cls(make_trace(straight(4.0), scene_map=LIMITED))  # half of the expert's way
    assert slow.value == pytest.approx((5 * 0.5 + 11) / 16)
    creeping = nuplan_cls(make_trace(straight(1.0), scene_map=LIMITED))  # an eighth: no progress made
    assert creeping.value == 0.0 and creeping.details["parts"]["making_progress"] == 0.0


def test_an_unknown_speed_limit_is_left_out_and_said():
    result = nuplan_cls(make_trace(straight(4.0)))
    assert result.valid and result.details["dropped"] == ["speed_limit_compliance"]
    assert "speed_limit_compliance" not in result.details["parts"]
    assert result.value == pytest.approx((5 * 0.5 + 7) / 12)


def test_without_a_map_it_is_not_valid():
    result = nuplan_cls(make_trace(scene_map=None))
    assert not result.valid and "map" in result.details["reason"]


def test_forms_differ_by_the_centripetal_acceleration():
    """15 m/s on a radius of 30 m: 7.5 m/s^2 that the original never sees."""
    ego = straight(15.0)
    ego[:, 6] = 0.5
    ego[:, 2] = 0.05 * np.arange(41)
    faithful, corrected = (nuplan_parts(make_trace(ego), form=form)["comfort"].value for form in ("faithful", "corrected"))
    assert (faithful, corrected) == (1.0, 0.0)
    with pytest.raises(ConfigError, match="faithful"):
        nuplan_cls(make_trace(), form="original")  # type: ignore[arg-type]


def test_the_whole_human_drive_is_the_reference():
    """An episode that ended after 2 s of the human's 4 made half of its way."""
    short, human = make_trace(straight(steps=21)), make_trace()
    assert nuplan_parts(short)["progress"].value == 1.0
    assert nuplan_parts(short, human)["progress"].value == pytest.approx(0.5)


def test_one_object_is_half_and_a_second_is_all():
    cones = [Agent(20.0, 0.0, category="traffic_cone", length=0.4, width=0.4)]
    assert nuplan_parts(make_trace(None, *cones))["no_at_fault_collision"].value == 0.5
    cones.append(Agent(26.0, 0.3, category="barrier", length=0.4, width=1.0))
    result = nuplan_parts(make_trace(None, *cones))["no_at_fault_collision"]
    assert result.value == 0.0 and result.details["counts"] == {"vru": 0, "vehicle": 0, "object": 2}
    assert result.details["impacts"]["object"] == [4.0, 4.0]


def test_a_side_hit_is_a_fault_only_while_leaving_the_lane():
    """A car of the next lane drifts into the ego's side; the same where the ego stands across both lanes."""
    drifting = Agent(0.5, 3.4, 8.0, -0.8)
    kept = nuplan_parts(make_trace(None, drifting))["no_at_fault_collision"]
    assert kept.value == 1.0 and kept.details["count"] == 0
    across = nuplan_parts(make_trace(straight(y=1.4), drifting))["no_at_fault_collision"]
    assert across.value == 0.0 and across.details["collisions"][0]["kind"] == "active_lateral"
    unknown = nuplan_parts(make_trace(None, drifting, scene_map=None))["no_at_fault_collision"]
    assert not unknown.valid


def test_times_to_collision_are_those_of_the_geometry():
    """Bumper (3.442 m ahead of the axle) to the rear of a car standing at 30 m (27.75 m): 24.308 m at 8 m/s, in full tenths."""
    times, met = times_to_collision(make_trace(None, Agent(30.0, 0.0), Agent(80.0, 0.0), scene_map=None))
    gap = 27.75 - 3.442 - 0.8 * np.arange(41)
    expected = np.ceil(gap / 8.0 / 0.1 - 1e-9) * 0.1
    near = (gap > 0) & (expected < 3.0 - 1e-9)
    assert times[near] == pytest.approx(expected[near]) and near[2:31].all()
    assert np.isinf(times[0]) and times[31] == 0.0 and np.isinf(times[32:]).all()
    assert (met == np.where(np.isfinite(times), 0, -1)).all()
    result = nuplan_parts(make_trace(None, Agent(60.0, 0.0), Agent(30.0, 0.0)))["time_to_collision"]
    assert result.value == 0.0 and result.details == {"least": 0.0, "step": 31, "track": 1, "category": "car"}


@pytest.mark.parametrize("seed", [1, 4, 6, 9])
def test_times_to_collision_are_those_of_projecting_step_by_step(seed):
    """Boxes moved on by a tenth of a second at a time, as the original does, up to 2.9 s."""
    trace, _ = worlds.random_trace(seed)
    judged = at_fault_collisions(trace)
    times, met = times_to_collision(trace, judged)
    own, sizes = np.array([trace.vehicle.length, trace.vehicle.width]), trace.size[:, :2]
    static = np.isin(trace.category, [CATEGORIES.index(name) for name in ("traffic_cone", "barrier", "other")])
    speed = np.where(static, 0.0, np.linalg.norm(trace.velocity, axis=-1))
    expected, counts = np.full(len(trace.time), np.inf), relevant_tracks(trace, judged, True)
    for k in range(29, 0, -1):
        ahead = 0.1 * k
        center = trace.center + ahead * trace.ego[:, 3, None] * direction(trace.ego[:, 2])
        there = trace.position[..., :2] + ahead * speed[..., None] * direction(trace.yaw)
        hit = overlap(center[:, None], trace.ego[:, 2, None], own, there, trace.yaw, sizes) & counts
        expected[hit.any(1)] = ahead
    expected[[c.step for c in judged.at_fault]] = 0.0
    assert times == pytest.approx(expected) and ((met >= 0) == np.isfinite(times)).all()
    assert np.isfinite(times).any()


def test_what_overtakes_is_no_danger_and_what_crosses_is():
    passing = Agent(-15.0, 3.5, 14.0)
    assert nuplan_parts(make_trace(None, passing))["time_to_collision"].value == 1.0
    walker = Agent(24.0, -6.0, 0.0, 1.8, "pedestrian", 0.6, 0.6, yaw=np.pi / 2)
    result = nuplan_parts(make_trace(None, walker))["time_to_collision"]
    assert result.value == 0.0 and result.details["least"] <= 0.95


def test_a_hand_beside_the_road_is_forgiven():
    """The road ends at y = -1.75 and the footprint's side is 0.865 m right of the axle."""
    assert nuplan_parts(make_trace(straight(y=-1.18)))["drivable_area_compliance"].value == 1.0
    result = nuplan_parts(make_trace(straight(y=-1.19)))["drivable_area_compliance"]
    assert result.value == 0.0 and result.details["distance"] == pytest.approx(0.305)


@pytest.mark.parametrize("speed, value", [(1.5, 1.0), (4.0, 0.5), (8.0, 0.0)])
def test_metres_driven_against_the_lane_in_a_second(speed, value):
    """11 steps of a tenth of a second, nuPlan's window: 1.65 m, 4.4 m and 8.8 m."""
    result = nuplan_parts(make_trace(straight(speed, y=7.0)))["driving_direction_compliance"]
    assert result.value == value and result.details["distance"] == pytest.approx(1.1 * speed)


def test_lanes_that_lead_on_count_as_one():
    first = Lane("first", False, _line(0, 20), box(0, -2, 20, 2), (), ("second",))
    second = Lane("second", True, _line(20, 40), box(20, -2, 40, 2), ("first",), ())
    astray = Lane("astray", True, _line(20, 40), box(20, -2, 40, 2), (), ())
    scene_map = make_map("two", {}, [first, astray, second])
    trace = make_trace(straight(x=0.0, speed=10.0, steps=31), scene_map=scene_map)
    lanes = driven_lanes(scene_map, trace.center)
    assert [lane.token for lane in lanes[:19]] == ["first"] * 19 and {lane.token for lane in lanes[19:]} == {"second"}
    corners = np.array([[[x + 2, 1], [x - 2, 1], [x - 2, -1], [x + 2, -1.0]] for x in (10, 20, 30, 39)])
    assert within_lanes(scene_map, corners).tolist() == [True, True, True, False]
    assert not within_lanes(make_map("apart", {}, [first, astray]), corners)[1]


def _line(start, end):
    x = np.arange(start, end + 1.0)
    return np.column_stack([x, np.zeros(len(x)), np.zeros(len(x))])
