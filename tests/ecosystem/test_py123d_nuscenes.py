"""Real nuScenes scenes through py123d's own parser are what the nuScenes reader says of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely

from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError

from .town_logs import relative

SCENES = ("scene-0061", "scene-0103", "scene-0655", "scene-0796", "scene-1094")


@pytest.fixture(scope="module")
def converted(nuscenes_real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five scenes as logs whose pictures stay files of the data set. There is no CAN bus: the parser gets an empty folder."""
    place = tmp_path_factory.mktemp("nuscenes")
    source, logs = place / "source", place / "logs"
    (source / "can_bus").mkdir(parents=True)
    for folder in ("maps", "samples", "v1.0-mini"):
        (source / folder).symlink_to(nuscenes_real / folder)
    command = [sys.executable, "-m", "py123d.script.run_conversion", "dataset=nuscenes-mini", "execution=sequential_executor"]
    roots = {"PY123D_DATA_ROOT": str(logs), "NUSCENES_DATA_ROOT": str(source)}
    done = subprocess.run(command, cwd=place, env=os.environ | roots, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return logs


@pytest.fixture(scope="module", autouse=True)
def _pictures(converted: Path) -> None:
    """py123d reads once per process where the files of a data set lie."""
    from py123d.common.runtime import dataset_paths

    dataset_paths._global_dataset_paths = dataset_paths.DatasetPaths(nuscenes_data_root=converted.parent / "source")


def test_scenes_and_splits(converted):
    dataset = open_dataset(converted)
    assert sorted(dataset.names()) == sorted(SCENES) and dataset.version == "nuscenes-mini"
    assert dataset.splits()["val"] == ("scene-0103",)


@pytest.mark.parametrize("name", SCENES)
def test_logs_tracks_and_maps(nuscenes_real, converted, name):
    ours, theirs = open_dataset(nuscenes_real).load(name), open_dataset(converted).load(name, name != "scene-0061")
    np.testing.assert_allclose(theirs.ego.time, ours.ego.time)
    assert relative(ours.ego.global_from_ego, theirs.ego.global_from_ego) < (1e-6, 1e-6)
    np.testing.assert_allclose(theirs.sensors.keyframe_time, ours.sensors.keyframe_time)
    row = [theirs.tracks.instance.index(instance) for instance in ours.tracks.instance]
    np.testing.assert_array_equal(theirs.tracks.category[row], ours.tracks.category)
    np.testing.assert_array_equal(theirs.tracks.valid[row], ours.tracks.valid)
    for field in ("position", "velocity", "size"):
        np.testing.assert_allclose(getattr(theirs.tracks, field)[row], getattr(ours.tracks, field), atol=1e-9)
    if theirs.map is None:  # the parser cannot make the lanes of this map, of which the shared data has a part alone
        return
    assert theirs.map.missing == ours.map.missing and len(theirs.map.lanes) == len(ours.map.lanes)
    assert shapely.symmetric_difference(theirs.map.drivable, ours.map.drivable).area < 1e-6
    driven = ours.route.points[: round(ours.route.log_length)].tolist()
    assert max(abs(theirs.route.project(x, y)[1]) for x, y in driven) < 1e-3


def test_the_real_keyframe(nuscenes_real, converted):
    ours, theirs = open_dataset(nuscenes_real).load("scene-0061"), open_dataset(converted).load("scene-0061", False)
    assert theirs.rig.names == ours.rig.names and theirs.sensors.has_images(0) and not theirs.sensors.has_images(1)
    np.testing.assert_array_equal(theirs.sensors.rgb(0, 224, 400), ours.sensors.rgb(0, 224, 400))
    np.testing.assert_allclose(theirs.sensors.camera_time[0], ours.sensors.camera_time[0], atol=1e-9)
    assert relative(ours.sensors.global_from_camera[0], theirs.sensors.global_from_camera[0]) < (1e-6, 1e-6)
    np.testing.assert_allclose(theirs.rig.intrinsics, ours.rig.intrinsics)
    here, there = ours.sensors.lidar(0), theirs.sensors.lidar(0)
    np.testing.assert_allclose(there.points, here.points, atol=1e-4)
    assert relative(here.global_from_lidar, there.global_from_lidar) < (1e-6, 1e-6) and there.time == pytest.approx(here.time)


def test_a_map_whose_conversion_failed_is_said_to_be_empty(converted):
    """The parser's command says nothing of it and ends well."""
    with pytest.raises(DataError, match=r"the map of singapore-onenorth below .* is empty: its conversion failed"):
        open_dataset(converted).load("scene-0061")
