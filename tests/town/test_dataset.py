"""The stock devkit reads a written town: tables, files, boxes on their objects, LiDAR that agrees with depth."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import transform_matrix
from pyquaternion import Quaternion

from dist4d_env.data.depth_files import read_depth
from dist4d_env.data.nuscenes import RING
from dist4d_env.town.textures_ground import SEMANTICS
from town.conftest import DURATION, SIZE

TABLES = {
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation",
    "sample_data", "scene", "sensor", "visibility",
}  # fmt: skip
CLASS_OF = {
    "vehicle.car": "vehicle", "vehicle.truck": "vehicle", "vehicle.bus": "vehicle", "vehicle.motorcycle": "two_wheeler",
    "vehicle.bicycle": "two_wheeler", "human": "pedestrian", "movable_object.barrier": "barrier",
    "movable_object.trafficcone": "cone",
}  # fmt: skip


@pytest.fixture(scope="module")
def nusc(written: Path) -> NuScenes:
    return NuScenes("v1.0-town", str(written), verbose=False)


def pose_of(nusc: NuScenes, data: dict) -> np.ndarray:
    """global_from_sensor of a sample_data record, through its own ego pose."""
    sensor, ego = nusc.get("calibrated_sensor", data["calibrated_sensor_token"]), nusc.get("ego_pose", data["ego_pose_token"])
    ego_from_sensor = transform_matrix(sensor["translation"], Quaternion(sensor["rotation"]))
    return transform_matrix(ego["translation"], Quaternion(ego["rotation"])) @ ego_from_sensor


def stored(nusc: NuScenes, data: dict, what: str) -> Path:
    """The depth or class image that belongs to a camera image."""
    return Path(nusc.dataroot) / what / data["channel"] / f"{Path(data['filename']).stem}.png"


def test_all_tables_are_there_and_refer_to_each_other(nusc: NuScenes, written: Path) -> None:
    assert {path.stem for path in (written / "v1.0-town").glob("*.json")} == TABLES
    tables = {name: json.loads((written / "v1.0-town" / f"{name}.json").read_text()) for name in TABLES}
    rows = {name: {row["token"]: row for row in table} for name, table in tables.items()}
    assert all(rows.values())
    assert all(len(rows[name]) == len(tables[name]) for name in TABLES)  # no token twice
    assert all(len(getattr(nusc, name)) == len(tables[name]) for name in TABLES)
    references = 0
    for name in TABLES:
        for row in rows[name].values():
            for key, value in row.items():
                table = {"prev": name, "next": name}.get(key, key.removesuffix("_token"))
                table = table.removeprefix("first_").removeprefix("last_")
                table = {"annotation": "sample_annotation"}.get(table, table)
                if (key.endswith("_token") or key in ("prev", "next")) and value != "":
                    assert value in rows[table], (name, key)
                    references += 1
    assert references > 1000
    (scene,) = nusc.scene
    assert scene["name"] == "town-val-0000" and scene["nbr_samples"] == len(nusc.sample) == round(DURATION / 0.5) + 1


def test_every_file_is_there_and_has_the_stated_size(nusc: NuScenes, written: Path) -> None:
    for data in nusc.sample_data:
        path = written / data["filename"]
        if data["sensor_modality"] == "lidar":
            assert path.stat().st_size % 20 == 0 and path.stat().st_size > 20 * 10_000
            continue
        assert (data["height"], data["width"]) == SIZE
        assert cv2.imread(str(path)).shape == (*SIZE, 3)
        assert read_depth(stored(nusc, data, "depth")).shape == SIZE
        classes = cv2.imread(str(stored(nusc, data, "semantics")), cv2.IMREAD_UNCHANGED)
        assert classes.shape == SIZE and classes.max() < len(SEMANTICS)


def test_keyframes_at_2_hz_and_sweeps_between_them_at_10_hz(nusc: NuScenes) -> None:
    first = nusc.sample[0]
    assert {sample["timestamp"] - first["timestamp"] for sample in nusc.sample} == {0, 500_000, 1_000_000, 1_500_000}
    for channel in (*RING, "LIDAR_TOP"):
        chain = [nusc.get("sample_data", first["data"][channel])]
        assert chain[0]["prev"] == ""
        while chain[-1]["next"]:
            chain.append(nusc.get("sample_data", chain[-1]["next"]))
        assert np.diff([data["timestamp"] for data in chain]).tolist() == [100_000] * round(DURATION / 0.1)
        assert [data["is_key_frame"] for data in chain] == [k % 5 == 0 for k in range(len(chain))]
        assert all(("samples/" if data["is_key_frame"] else "sweeps/") in data["filename"] for data in chain)
        for data in chain:
            assert abs(nusc.get("sample", data["sample_token"])["timestamp"] - data["timestamp"]) <= 300_000


def test_boxes_lie_on_their_objects_in_class_and_depth_images(nusc: NuScenes) -> None:
    """Wherever nothing stands before a box that is a few pixels large, its middle shows its class at its distance."""
    judged = 0
    for sample in nusc.sample:
        for channel in RING:
            data = nusc.get("sample_data", sample["data"][channel])
            _, boxes, intrinsic = nusc.get_sample_data(data["token"])
            depth = read_depth(stored(nusc, data, "depth"))
            classes = cv2.imread(str(stored(nusc, data, "semantics")), cv2.IMREAD_UNCHANGED)
            for box in boxes:
                z = box.center[2]
                column, row = (intrinsic @ box.center)[:2] / z if z > 1 else (-1, -1)
                pixels = intrinsic[0, 0] / max(z, 1) * min(box.wlh)
                if pixels < 4 or not (0 <= column < SIZE[1] and 0 <= row < SIZE[0]):
                    continue
                at, reach = (int(row), int(column)), np.linalg.norm(box.wlh) / 2 + 0.7  # 0.7 m: it moves until the LiDAR's time
                if depth[at] < z - reach:
                    continue  # something stands before it
                wanted = next(label for prefix, label in CLASS_OF.items() if box.name.startswith(prefix))
                assert SEMANTICS[classes[at]] == wanted, (channel, box.name, box.center)
                assert depth[at] < z + reach
                judged += 1
    assert judged >= 8


def test_lidar_points_lie_on_the_surfaces_of_the_depth_images(nusc: NuScenes, written: Path) -> None:
    """Still points that a camera sees have the depth of the pixels around them (cameras look a few ms before the LiDAR)."""
    agreeing = seen = 0
    for sample in nusc.sample[:2]:
        lidar = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        cloud = LidarPointCloud.from_file(str(written / lidar["filename"]))
        points = pose_of(nusc, lidar) @ np.concatenate([cloud.points[:3], np.ones((1, cloud.points.shape[1]))])
        assert np.unique(np.fromfile(written / lidar["filename"], np.float32).reshape(-1, 5)[:, 4]).size == 32
        for token in sample["anns"]:
            box = nusc.get_box(token)
            if np.linalg.norm(nusc.box_velocity(token)) > 0.1:
                points = points[:, np.abs(points[:3] - box.center[:, None]).max(0) > np.max(box.wlh)]
        for channel in RING:
            data = nusc.get("sample_data", sample["data"][channel])
            intrinsic = np.array(nusc.get("calibrated_sensor", data["calibrated_sensor_token"])["camera_intrinsic"])
            local = (np.linalg.inv(pose_of(nusc, data)) @ points)[:3]
            local = local[:, local[2] > 1.0]
            column, row = (intrinsic @ local)[:2] / local[2]
            inside = (column >= 0) & (column < SIZE[1]) & (row >= 0) & (row < SIZE[0])
            z, column, row = local[2, inside], column[inside].astype(int), row[inside].astype(int)
            depth = read_depth(stored(nusc, data, "depth"))
            nearest, farthest = cv2.erode(depth, np.ones((3, 3))), cv2.dilate(depth, np.ones((3, 3)))
            unhidden = z < 1.05 * farthest[row, column] + 0.3  # the LiDAR stands higher than the cameras and looks over things
            agree = (z > 0.99 * nearest[row, column] - 0.05) & (z < 1.01 * farthest[row, column] + 0.05)
            agreeing, seen = agreeing + (agree & unhidden).sum(), seen + unhidden.sum()
    assert seen > 20_000 and agreeing / seen > 0.97
