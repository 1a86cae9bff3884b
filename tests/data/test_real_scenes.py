"""The reader against real nuScenes scenes and the devkit's own chain of transforms. Skips where the data is absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely.geometry import Polygon

from dist4d_env.data.contract import Dataset
from dist4d_env.data.nuscenes import RING
from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.boxes import CATEGORIES, rectangle_corners
from dist4d_env.geometry.cameras import project
from dist4d_env.geometry.transforms import apply, invert, yaw_of
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import Scene

NAMES = ("scene-0061", "scene-0103", "scene-0655", "scene-0796", "scene-1094")


@pytest.fixture(scope="module")
def dataset(nuscenes_real: Path) -> Dataset:
    return open_dataset(nuscenes_real)


@pytest.fixture(scope="module")
def scene(dataset: Dataset) -> Scene:
    return dataset.load("scene-0061")


@pytest.fixture(scope="module")
def devkit(nuscenes_real: Path) -> Any:
    from nuscenes.nuscenes import NuScenes

    return NuScenes(version="v1.0-mini", dataroot=str(nuscenes_real), verbose=False)


def test_boxes_project_where_the_devkit_puts_them(scene: Scene, devkit: Any) -> None:
    """Corners of every box in all six cameras of the real keyframe, to a tenth of a pixel."""
    from nuscenes.utils.geometry_utils import BoxVisibility, view_points

    sample = devkit.get("sample", devkit.get("scene", scene.token)["first_sample_token"])
    boxes = scene.boxes(0.0)
    row_of = {scene.tracks.instance[token]: i for i, token in enumerate(boxes.token)}
    poses, _ = scene.sensors.cameras(0)
    compared = 0
    for view, channel in enumerate(RING):
        _, theirs, intrinsic = devkit.get_sample_data(sample["data"][channel], box_vis_level=BoxVisibility.ALL)
        for box in theirs:
            row = row_of[devkit.get("sample_annotation", box.token)["instance_token"]]
            expected = view_points(box.corners(), np.array(intrinsic), normalize=True)[:2].T
            pixels, depth = project(apply(invert(poses[view]), boxes.corners()[row]), scene.rig.intrinsics[view])
            assert (depth > 0).all()
            # The devkit lists the corners in another order: compare them as sets.
            distance = np.linalg.norm(pixels[:, None] - expected[None], axis=-1)
            assert distance.min(0).max() < 0.1 and distance.min(1).max() < 0.1
            compared += 1
    assert compared > 50


def lidar_pixels(scene: Scene, view: int, global_from_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sweep = scene.sensors.lidar(0)
    points = apply(invert(global_from_camera) @ sweep.global_from_lidar, sweep.points[:, :3].astype(float))
    return project(points, scene.rig.intrinsics[view])


@pytest.mark.parametrize("channel", RING)
def test_lidar_projects_where_the_devkit_puts_it(scene: Scene, devkit: Any, channel: str) -> None:
    from nuscenes.nuscenes import NuScenesExplorer

    sample = devkit.get("sample", devkit.get("scene", scene.token)["first_sample_token"])
    expected, theirs, _ = NuScenesExplorer(devkit).map_pointcloud_to_image(sample["data"]["LIDAR_TOP"], sample["data"][channel])
    view = RING.index(channel)
    pixels, depth = lidar_pixels(scene, view, scene.sensors.cameras(0)[0][view])
    inside = (depth > 1.0) & (pixels > 1).all(1) & (pixels[:, 0] < 1599) & (pixels[:, 1] < 899)
    assert inside.sum() == expected.shape[1] > 1000
    # The devkit works in float32, where metres of 1000 have steps of 0.1 mm: less than 0.1 px beyond 1 m.
    assert np.abs(pixels[inside] - expected[:2].T).max() < 0.1
    assert np.abs(depth[inside] - theirs).max() < 1e-3


def test_one_pose_for_all_sensors_would_be_wrong(scene: Scene) -> None:
    """Cameras hung on the LiDAR's ego pose instead of their own are off by up to 0.4 m at this keyframe: far beyond a pixel."""
    poses, time_ = scene.sensors.cameras(0)
    shared = scene.ego_pose(0.0) @ scene.rig.ego_from_camera
    offset = np.linalg.norm(shared[:, :3, 3] - poses[:, :3, 3], axis=1)
    assert 0.3 < offset.max() < 0.5
    assert (np.abs(time_) > 1e-4).all() and len(np.unique(time_)) == len(RING)
    view = int(np.argmax(offset))
    ours, depth = lidar_pixels(scene, view, poses[view])
    wrong, _ = lidar_pixels(scene, view, shared[view])
    near = (depth > 3) & (depth < 15) & (ours > 0).all(1) & (ours[:, 0] < 1600) & (ours[:, 1] < 900)
    assert np.median(np.linalg.norm(ours - wrong, axis=1)[near]) > 5


def test_tracks_are_the_annotations(scene: Scene, devkit: Any) -> None:
    token, seen = devkit.get("scene", scene.token)["first_sample_token"], 0
    for k in range(len(scene.sensors.keyframe_time)):
        sample = devkit.get("sample", token)
        boxes = scene.boxes(float(scene.sensors.keyframe_time[k]))
        row_of = {scene.tracks.instance[t]: i for i, t in enumerate(boxes.token)}
        assert len(boxes) == len(sample["anns"])
        for annotation in sample["anns"]:
            record = devkit.get("sample_annotation", annotation)
            row = row_of[record["instance_token"]]
            np.testing.assert_allclose(boxes.position[row], record["translation"], atol=1e-6)
            turn = boxes.yaw[row] - devkit.get_box(annotation).orientation.yaw_pitch_roll[0]
            assert abs(np.angle(np.exp(1j * turn))) < 1e-6
            assert scene.tracks.name[boxes.token[row]] == record["category_name"]
            seen += 1
        token = sample["next"]
    assert seen > 2000


def test_velocities_are_near_the_devkits(scene: Scene, devkit: Any) -> None:
    sample = devkit.get("sample", devkit.get("scene", scene.token)["first_sample_token"])
    for _ in range(10):
        sample = devkit.get("sample", sample["next"])
    boxes = scene.boxes(5.0)
    row_of = {scene.tracks.instance[t]: i for i, t in enumerate(boxes.token)}
    theirs = {devkit.get("sample_annotation", a)["instance_token"]: devkit.box_velocity(a)[:2] for a in sample["anns"]}
    compared = [(boxes.velocity[row_of[i]], v) for i, v in theirs.items() if np.isfinite(v).all()]
    assert len(compared) > 20
    np.testing.assert_allclose(*map(np.array, zip(*compared, strict=True)), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_ego_is_on_the_road_and_the_route(dataset: Dataset, name: str) -> None:
    scene = dataset.load(name)
    lane_map, car = scene.map, VehicleParameters()
    assert lane_map is not None
    x, y = scene.ego.global_from_ego[:, 0, 3], scene.ego.global_from_ego[:, 1, 3]
    yaw = yaw_of(scene.ego.global_from_ego)
    ahead = car.rear_axle_to_center
    corners = rectangle_corners(
        x + ahead * np.cos(yaw), y + ahead * np.sin(yaw), yaw, np.full_like(x, car.length), np.full_like(x, car.width)
    )
    rows = np.round(scene.sensors.keyframe_time / 0.1).astype(int)
    assert lane_map.on_drivable(np.stack([x, y], -1)).all()
    assert lane_map.on_drivable(corners[rows]).mean() > 0.98
    assert {"ped_crossing", "walkway", "stop_line", "carpark_area"} <= lane_map.missing
    projected = np.array([scene.route.project(*point) for point in zip(x, y, strict=True)])
    assert np.abs(projected[:, 1]).max() < 0.3 and (np.diff(projected[:, 0]) > -0.3).all()
    assert scene.route.length - projected[-1, 0] > 145
    assert len(scene.route.lanes) >= 3 and all(token in lane_map.lanes for token in scene.route.lanes)
    # Every lane of the route leads to the next, or lies beside one that does (a lane change).
    follows = [b in lane_map.lanes[a].successors for a, b in zip(scene.route.lanes[:-1], scene.route.lanes[1:], strict=True)]
    assert np.mean(follows) > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_the_log_is_driveable(dataset: Dataset, name: str) -> None:
    ego = dataset.load(name).ego
    assert ego.time[0] == 0 and np.allclose(np.diff(ego.time), 0.1) and len(ego.time) >= 190
    assert ego.speed.min() > -0.5 and ego.speed.max() < 20
    assert np.abs(ego.acceleration).max() < 6 and np.abs(ego.yaw_rate).max() < 1.0
    travelled = np.abs(np.hypot(*np.diff(ego.global_from_ego[:, :2, 3], axis=0).T).sum())
    assert np.abs(ego.speed).sum() * 0.1 == pytest.approx(travelled, rel=0.05, abs=0.5)


@pytest.mark.parametrize("name", NAMES)
def test_the_ego_never_overlaps_a_track(dataset: Dataset, name: str) -> None:
    scene, car = dataset.load(name), VehicleParameters()
    for keyframe in scene.sensors.keyframe_time:
        pose, boxes = scene.ego_pose(keyframe), scene.boxes(keyframe)
        centre, yaw = pose[:2, 3] + car.rear_axle_to_center * pose[:2, 0], float(yaw_of(pose))
        ego = Polygon(rectangle_corners(*centre, yaw, car.length, car.width))
        near = boxes.select(np.hypot(*(boxes.position[:, :2] - centre).T) < 10)
        for i in range(len(near)):
            other = rectangle_corners(*near.position[i, :2], near.yaw[i], *near.size[i, :2])
            assert not ego.intersects(Polygon(other)), (keyframe, CATEGORIES[near.category[i]])


def test_later_keyframes_without_images(scene: Scene) -> None:
    from dist4d_env.errors import DataError

    assert scene.sensors.has_images(0) and not any(scene.sensors.has_images(k) for k in range(1, 39))
    assert scene.sensors.rgb(0, 64, 112).std() > 30
    with pytest.raises(DataError, match=r"keyframe 7 has no image .*keyframes with images: 0\)"):
        scene.sensors.rgb(7, 64, 112)
    assert [len(scene.sensors.sweeps(0, 3, 3)), len(scene.sensors.sweeps(5, 2, 2))] == [1, 0]


def test_splits_of_the_real_scenes(dataset: Dataset) -> None:
    assert dataset.names() == NAMES
    assert dataset.scene_names("mini_val") == ["scene-0103"] and len(dataset.scene_names("mini_train")) == 4
