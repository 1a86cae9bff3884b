"""The stock ``NuScenesMap`` answers questions about a written town."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nuscenes.map_expansion.arcline_path_utils import discretize_lane
from nuscenes.map_expansion.map_api import NuScenesMap
from nuscenes.nuscenes import NuScenes

from dist4d_env.town.model import TownScene

LAYERS = ["drivable_area", "road_segment", "lane", "walkway"]


@pytest.fixture(scope="module")
def town_map(written: Path) -> NuScenesMap:
    return NuScenesMap(str(written), "singapore-onenorth")


@pytest.fixture(scope="module")
def ego_path(scene: TownScene) -> np.ndarray:
    """Where the expert drives in twenty seconds, (N, 2)."""
    return scene.ego_pose[::10, :2, 3]


def test_the_ego_drives_on_drivable_area_in_a_lane(town_map: NuScenesMap, ego_path: np.ndarray) -> None:
    for x, y in ego_path:
        layers = town_map.layers_on_point(x, y, LAYERS)
        assert layers["drivable_area"] and layers["road_segment"]
        assert layers["lane"] or town_map.get("road_segment", layers["road_segment"])["is_intersection"]
        assert not layers["walkway"]


def test_the_closest_lane_runs_the_way_the_ego_goes(town_map: NuScenesMap, scene: TownScene) -> None:
    for pose in scene.ego_pose[::20]:
        x, y = pose[:2, 3]
        lane = town_map.get_closest_lane(x, y, radius=3)
        points = np.array(discretize_lane(town_map.get_arcline_path(lane), 0.5))
        nearest = points[np.hypot(*(points[:, :2] - (x, y)).T).argmin()]
        assert np.hypot(*(nearest[:2] - (x, y))) < 1.5
        assert np.cos(nearest[2]) * pose[0, 0] + np.sin(nearest[2]) * pose[1, 0] > 0.7


def test_lanes_go_on_where_their_predecessors_end(town_map: NuScenesMap) -> None:
    links = 0
    for lane in [*town_map.lane, *town_map.lane_connector]:
        end = discretize_lane(town_map.get_arcline_path(lane["token"]), 0.5)[-1]
        for follower in town_map.get_outgoing_lane_ids(lane["token"]):
            assert lane["token"] in town_map.get_incoming_lane_ids(follower)
            start = discretize_lane(town_map.get_arcline_path(follower), 0.5)[0]
            assert np.hypot(end[0] - start[0], end[1] - start[1]) < 0.1
            assert np.cos(end[2] - start[2]) > 0.99
            links += 1
    assert links > 10
    assert any(len(town_map.get_outgoing_lane_ids(lane["token"])) > 1 for lane in town_map.lane)  # somewhere there is a choice


def test_layers_patches_and_bounds(town_map: NuScenesMap, ego_path: np.ndarray) -> None:
    x, y = ego_path[0]
    layers = ["lane", "road_segment", "ped_crossing", "walkway", "stop_line", "lane_divider", "road_divider"]
    everywhere = town_map.get_records_in_patch((x - 300, y - 300, x + 300, y + 300), layers)
    assert all(everywhere[layer] for layer in layers[:5])
    near = town_map.get_records_in_radius(x, y, 40, layers)
    assert near["road_segment"] and set(near["road_segment"]) <= set(everywhere["road_segment"])
    token = town_map.record_on_point(x, y, "road_segment")
    west, south, east, north = town_map.get_bounds("road_segment", token)
    assert west <= x <= east and south <= y <= north
    mask = town_map.get_map_mask((x, y, 40, 40), 0, ["drivable_area", "walkway"], (80, 80))
    assert mask.shape == (2, 80, 80) and mask[0, 40, 40] == 1 and mask[1, 40, 40] == 0
    assert 0 < mask[0].mean() < 1


def test_the_mask_image_shows_where_one_can_drive(written: Path, ego_path: np.ndarray) -> None:
    (record,) = NuScenes("v1.0-town", str(written), verbose=False).map
    mask = record["mask"]
    assert (mask.is_on_mask(*ego_path.T) == 1).all()
    assert not mask.is_on_mask(*(ego_path.min(0) - 200.0)).all()  # no street leads there
