"""Drivable area, direction, lane keeping and speed limit on the straight road."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.metrics.driving.road import (
    drivable_area_compliance,
    driving_direction_compliance,
    lane_keeping,
    lane_offsets,
    speed_limit_compliance,
)
from dist4d_env.scenes.maps import make_map
from tests.simulation.road import road_map

from .traces import make_trace, straight

MAPLESS = (drivable_area_compliance, driving_direction_compliance, lane_keeping, speed_limit_compliance)


@pytest.mark.parametrize("metric", MAPLESS, ids=lambda metric: metric.__name__)
def test_not_valid_without_a_map(metric):
    result = metric(make_trace(scene_map=None))
    assert not result.valid and "map" in result.details["reason"]


def test_not_valid_where_the_layer_is_missing():
    bare = make_map("bare", {}, missing=("drivable_area",))
    assert not drivable_area_compliance(make_trace(scene_map=bare)).valid
    assert not driving_direction_compliance(make_trace(scene_map=bare)).valid


def test_a_corner_over_the_edge_counts():
    """The road ends at y = -1.75; the footprint's right side lies 0.865 m right of the axle."""
    assert drivable_area_compliance(make_trace(straight(y=-0.88))).value == 1.0
    drifting = straight()
    drifting[20:, 1] = -0.90
    result = drivable_area_compliance(make_trace(drifting))
    assert result.value == 0.0
    assert result.details == {"step": 20, "share_outside": pytest.approx(21 / 41)}


@pytest.mark.parametrize("seconds, value", [(0.2, 1.0), (0.5, 0.5), (2.0, 0.0)])
def test_metres_against_the_traffic(seconds, value):
    """At 8 m/s in the oncoming lane: 1.6 m are forgiven, 4 m cost half, 8 m within a second everything."""
    result = driving_direction_compliance(make_trace(straight(y=7.0, steps=round(seconds / 0.1) + 1)))
    assert result.value == value and result.valid
    assert result.details["distance"] == pytest.approx(8.0 * min(seconds, 1.1))
    assert result.details["step"] > 0


def test_driving_backwards_through_ones_own_lane_is_against_it():
    ego = straight()
    ego[:, 2] = np.pi
    assert driving_direction_compliance(make_trace(ego)).value == 0.0


def test_lane_offsets_are_those_of_the_nearest_lane_along():
    ego = straight(steps=4)
    ego[:, 1] = [0.0, 0.4, -0.7, 3.2]
    assert lane_offsets(make_trace(ego)) == pytest.approx([0.0, 0.4, 0.7, 0.3])


def test_two_seconds_off_the_middle_break_lane_keeping():
    ego = straight()
    ego[5:24, 1] = 0.8
    assert lane_keeping(make_trace(ego)).value == 1.0, "19 ticks are patience's last"
    ego[24, 1] = 0.8
    result = lane_keeping(make_trace(ego))
    assert result.value == 0.0 and result.details["step"] == 24
    assert result.details["largest"] == pytest.approx(0.8)


def test_overspeed_is_weighed_by_its_duration():
    """1 m/s too fast all the time: 1 - 1 / 2.23."""
    limited = road_map(speed_limit=7.0)
    result = speed_limit_compliance(make_trace(straight(8.0), scene_map=limited))
    assert result.value == pytest.approx(1 - 1 / 2.23)
    assert result.details == {"largest": pytest.approx(1.0), "step": 0, "share_known": 1.0}
    assert speed_limit_compliance(make_trace(straight(6.9), scene_map=limited)).value == 1.0
    assert not speed_limit_compliance(make_trace(straight(30.0))).valid, "a map that states no limit judges nobody"


def test_lane_points_along_agree_with_one_by_one():
    """Paths are looked up through a tree; the answer is the one of the plain search, also where lanes lie over each other."""
    scene_map, random = road_map(), np.random.default_rng(0)
    poses = np.column_stack([random.uniform(-120, 480, 200), random.uniform(-80, 80, 200), random.uniform(-4, 4, 200)])
    found = scene_map.lane_points_along(poses)
    for pose, point in zip(poses, found, strict=True):
        wanted = scene_map.nearest_lane_point(*pose.tolist())
        assert np.isnan(point).all() if wanted is None else np.array_equal(point, wanted[0].centerline[wanted[1]])
    held = [scene_map.lanes_at(x, y) for x, y in poses[:, :2]]
    assert scene_map.lanes_along(poses[:, :2]) == held


def test_real_lanes_along_agree_with_one_by_one(nuscenes_real):
    from dist4d_env.data.nuscenes import open_dataset
    from dist4d_env.geometry.transforms import yaw_of

    scene = open_dataset(nuscenes_real).load("scene-0061")
    pose = scene.ego.global_from_ego
    poses = np.column_stack([pose[:, :2, 3] + (0.0, 1.0), yaw_of(pose)])
    for xyz, point in zip(poses, scene.map.lane_points_along(poses), strict=True):
        lane, row = scene.map.nearest_lane_point(*xyz.tolist())
        assert np.array_equal(point, lane.centerline[row])
    assert scene.map.lanes_along(poses[:, :2]) == [scene.map.lanes_at(x, y) for x, y in poses[:, :2]]
    follow = scene.route.follow(poses[:, :2])
    position = None
    for (x, y), s in zip(poses[:, :2].tolist(), follow, strict=True):
        position = scene.route.project(x, y, position)[0]
        assert s == pytest.approx(position, abs=1e-9)
