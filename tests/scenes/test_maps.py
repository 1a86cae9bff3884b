"""Map queries, the raster, and arc-line paths against the devkit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, box

from dist4d_env.data.arclines import discretize
from dist4d_env.data.location import LocationMap
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.scenes.maps import BEV_LAYERS, make_map
from dist4d_env.scenes.scene import Scene


def test_layers_lanes_and_what_is_missing(tiny_scene: Scene) -> None:
    lane_map = tiny_scene.map
    assert lane_map is not None
    assert lane_map.missing == {"walkway", "carpark_area", "road_divider", "road_block"}
    assert set(lane_map.layers) == set(BEV_LAYERS) and lane_map.layers["walkway"] == ()
    second, left = lane_map.lanes["second"], lane_map.lanes["left"]
    assert second.predecessors == ("first",) and second.successors == ("on", "left") and not second.is_connector
    assert left.is_connector and left.successors == ("north",)
    assert lane_map.lanes["first"].speed_limit == 13.9 and second.speed_limit is None


def test_points_on_the_road(tiny_scene: Scene) -> None:
    lane_map = tiny_scene.map
    assert lane_map is not None
    points = np.array([[[100, 100], [100, 90]], [[255, 104], [210, 150]]])  # road, beside it, its hole, the road north
    assert lane_map.on_drivable(points).tolist() == [[True, False], [False, True]]
    assert lane_map.in_intersection(np.array([[210, 100], [190, 100]])).tolist() == [True, False]


def test_lanes_at_and_nearest(tiny_scene: Scene) -> None:
    lane_map = tiny_scene.map
    assert lane_map is not None
    assert [lane.token for lane in lane_map.lanes_at(204, 100)] == ["on", "left"]
    assert lane_map.lanes_at(100, 90) == ()
    # Beside the line between the two directions, heading decides.
    for yaw, token in ((0.1, "second"), (np.pi - 0.1, "oncoming"), (-np.pi, "oncoming"), (4 * np.pi, "second")):
        found = lane_map.nearest_lane_point(150, 101.8, yaw)
        assert found is not None and found[0].token == token
    assert lane_map.nearest_lane_point(150, 120)[0].token == "oncoming"  # type: ignore[index]
    assert lane_map.nearest_lane_point(150, 400) is None


def test_bev_axes_and_channels(tiny_scene: Scene) -> None:
    lane_map = tiny_scene.map
    assert lane_map is not None
    image = lane_map.bev(pose_from_xy_yaw(120, 100, 0))
    assert image.shape == (8, 200, 200) and image.dtype == np.uint8 and set(np.unique(image)) == {0, 1}
    crossing = np.argwhere(image[BEV_LAYERS.index("ped_crossing")]).mean(0)
    # 22 m ahead, middle of the road 1.75 m to the left: row 99.5 - 2 * 22, column 99.5 - 2 * 1.75.
    np.testing.assert_allclose(crossing, [55.5, 96.0], atol=0.6)
    assert image[[BEV_LAYERS.index(name) for name in lane_map.missing]].sum() == 0
    assert image[BEV_LAYERS.index("lane_divider"), 100, 93:98].sum() >= 1  # 1.75 m to the left
    # Turned by 90 degrees to the left, what was ahead is to the right.
    turned = lane_map.bev(pose_from_xy_yaw(120, 100, np.pi / 2))
    np.testing.assert_allclose(np.argwhere(turned[1]).mean(0), [96.0, 143.5], atol=0.6)


@pytest.mark.parametrize("yaw", [0.0, 0.4, 2.5, -1.2])
def test_bev_agrees_with_the_geometry(tiny_scene: Scene, yaw: float) -> None:
    """Cells clear of an edge by a cell's width hold what the polygon query says at their centre."""
    lane_map = tiny_scene.map
    assert lane_map is not None
    pose = pose_from_xy_yaw(215, 104, yaw)
    rows, columns = np.mgrid[:200, :200]
    ego = np.stack([49.75 - rows / 2, 49.75 - columns / 2, 0 * rows, 0 * rows + 1], -1)
    points = (ego @ pose.T)[..., :2]
    clear = shapely.distance(shapely.points(points), lane_map.drivable.boundary) > 0.75
    inside = lane_map.on_drivable(points)
    np.testing.assert_array_equal(lane_map.bev(pose)[0][clear], inside[clear])
    assert 0.05 < inside.mean() < 0.6 and clear.mean() > 0.8


def test_overlapping_polygons_do_not_cancel() -> None:
    crossing = [box(-20, -3, 20, 3), box(-3, -20, 3, 20)]
    lane_map = make_map("here", {"drivable_area": crossing, "road_divider": [LineString([(0, 5), (9, 5)])]})
    image = lane_map.bev(np.eye(4))
    assert image[0, 100, 100] == 1 and image[0, 70, 100] == 1 and image[0, 100, 70] == 1 and image[0, 70, 70] == 0
    assert image[BEV_LAYERS.index("road_divider")].sum() >= 18
    assert lane_map.nearest_lane_point(0, 0) is None and lane_map.lanes_at(0, 0) == ()


def test_crop_keeps_lanes_whole_and_their_graph_closed(tiny_root: Path) -> None:
    tables = json.loads((tiny_root / "maps" / "expansion" / "singapore-onenorth.json").read_text())
    near = LocationMap("singapore-onenorth", tables).around(np.array([[30.0, 100], [40, 100]]), radius=50)
    assert set(near.lanes) == {"first", "oncoming"} and near.lanes["first"].successors == ()
    assert near.lanes["first"].centerline[-1, 0] == 140
    assert near.drivable.bounds[2] == pytest.approx(90, abs=0.1) and not near.on_drivable(np.array([150, 100]))
    # A layer that is merely out of reach is not missing.
    assert near.layers["ped_crossing"] == () and "ped_crossing" not in near.missing


def test_map_pickles_with_its_answers(tiny_scene: Scene) -> None:
    lane_map = tiny_scene.map
    assert lane_map is not None
    back = pickle.loads(pickle.dumps(lane_map))
    pose = pose_from_xy_yaw(120, 100, 0.3)
    np.testing.assert_array_equal(back.bev(pose), lane_map.bev(pose))
    assert back.on_drivable(np.array([100.0, 100.0])) and [lane.token for lane in back.lanes_at(204, 100)] == ["on", "left"]


def test_arclines_agree_with_the_devkit() -> None:
    from nuscenes.map_expansion.arcline_path_utils import pose_at_length

    rng = np.random.default_rng(3)
    for shape in ("LSR", "RSL", "LRL", "RLR", "LSL", "RSR"):
        path = {"start_pose": [*rng.normal(0, 50, 2), rng.uniform(-3, 3)], "shape": shape, "radius": 15.0}
        path["segment_length"] = rng.uniform(0.5, 12, 3).tolist()
        points = discretize([path])
        length = sum(path["segment_length"])
        at = np.linspace(0, length, len(points))
        expected = np.array([path["start_pose"], *(pose_at_length(path, s) for s in at[1:])])
        np.testing.assert_allclose(points[:, :2], expected[:, :2], atol=1e-9)
        np.testing.assert_allclose(np.exp(1j * points[:, 2]), np.exp(1j * expected[:, 2]), atol=1e-9)
        assert np.hypot(*np.diff(points[:, :2], axis=0).T).max() <= 1.0 + 1e-9
    assert discretize([]).shape == (0, 3)
