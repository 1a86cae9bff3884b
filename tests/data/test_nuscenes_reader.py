"""Opening data sets: versions, splits, and one clear error for whatever is missing or broken."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.scenes.scene import Scene


def edit(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    """Applies ``change`` to a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_scene_is_complete(tiny_scene: Scene, tiny_root: Path) -> None:
    scene = tiny_scene
    assert (scene.name, scene.location, scene.version) == ("scene-0103", "singapore-onenorth", "v1.0-tiny")
    assert scene.dataroot == str(tiny_root) and scene.description == "a straight drive"
    assert scene.duration == pytest.approx(1.5) and len(scene.ego.time) == 16
    np.testing.assert_allclose(scene.ego.speed, 8.0, atol=1e-6)
    np.testing.assert_allclose(scene.ego_pose(0.77)[:3, 3], [100 + 8 * 0.77, 100, 0], atol=1e-6)
    np.testing.assert_allclose(scene.sensors.keyframe_time, [0, 0.5, 1.0, 1.5])


def test_splits_and_names(tiny_root: Path) -> None:
    dataset = open_dataset(tiny_root)
    assert dataset.names() == ("scene-0103", "town-extra")
    assert dataset.scene_names("val") == ["scene-0103"] == dataset.scene_names("mini_val")
    assert dataset.scene_names("all") == ["scene-0103", "town-extra"]
    assert dataset.scene_names(["town-extra", "val", "town-extra"]) == ["town-extra", "scene-0103"]
    for wanted, said in (
        ("train", r"split 'train' holds no scene.*val \(1\).*scene-0103"),
        ("scene-0104", r"'scene-0104' is neither.*Did you mean 'scene-0103'"),
        ([], "empty list"),
    ):
        with pytest.raises(DataError, match=said):
            dataset.scene_names(wanted)
    with pytest.raises(DataError, match="neither a split nor a scene"):
        dataset.load("nowhere")
    with pytest.raises(DataError, match="'val' is a split"):
        dataset.load("val")


def test_own_split_file_goes_before_the_official_one(broken_root: Path) -> None:
    (broken_root / "splits.json").write_text(json.dumps({"train": ["scene-0103"], "val": ["town-extra", "not-here"]}))
    dataset = open_dataset(broken_root)
    assert dataset.scene_names("val") == ["town-extra"] and dataset.splits()["train"] == ("scene-0103",)
    (broken_root / "splits.json").write_text("[1]")
    with pytest.raises(DataError, match=r"splits\.json"):
        os.utime(broken_root / "v1.0-tiny" / "scene.json")  # a changed data set is read again
        open_dataset(broken_root)


def test_dataset_pickles_as_its_names(tiny_root: Path) -> None:
    dataset = open_dataset(tiny_root)
    assert len(pickle.dumps(dataset)) < 500
    assert pickle.loads(pickle.dumps(dataset)).scene_names("val") == ["scene-0103"]
    assert dataset.load("scene-0103") is dataset.load("scene-0103")


def test_where_the_data_set_comes_from(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUSCENES", str(tiny_root))
    assert open_dataset().dataroot == str(tiny_root)
    monkeypatch.setenv("NUSCENES", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"gone \(from \$NUSCENES\).*dataroot=.*\$NUSCENES.*built-in town"):
        open_dataset()
    assert open_dataset(tiny_root).dataroot == str(tiny_root)  # the argument comes first


def test_versions(broken_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no version 'v2' \(there: v1\.0-tiny\)"):
        open_dataset(broken_root, "v2")
    (broken_root / "v1.0-other").mkdir()
    with pytest.raises(DataError, match=r"several versions \(v1\.0-other, v1\.0-tiny\).*version="):
        open_dataset(broken_root)
    assert open_dataset(broken_root, "v1.0-tiny").version == "v1.0-tiny"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"holds no data set.*folder of tables"):
        open_dataset(empty)


def test_names_that_are_too_long_for_files_are_refused_as_others_are(tiny_root: Path) -> None:
    long = "x" * 5000
    for given in ({"dataroot": long}, {"dataroot": tiny_root, "version": long}, {"dataroot": long, "dataset": "nuscenes"}):
        with pytest.raises(DataError) as caught:
            open_dataset(**given)
        assert len(str(caught.value)) <= 300
    with pytest.raises(DataError, match=r"'x{70,80}\.\.\. is neither a split nor a scene of .* Scenes: "):
        open_dataset(tiny_root).scene_names(long)


def test_broken_tables(broken_root: Path) -> None:
    folder = broken_root / "v1.0-tiny"
    table = folder / "ego_pose.json"
    content = table.read_text()
    table.write_text(content[:1000])
    with pytest.raises(DataError, match=r"ego_pose\.json: not valid JSON"):
        open_dataset(broken_root)
    table.unlink()
    with pytest.raises(DataError, match=r"ego_pose\.json: table missing"):
        open_dataset(broken_root)
    records = json.loads(content)
    table.write_text(json.dumps(records[1:]))
    with pytest.raises(DataError, match=r"scene-0103.*sample_data\.json, row 0: ego_pose_token .*is in no row of ego_pose\.json"):
        open_dataset(broken_root).load("scene-0103")
    table.write_text(content)
    edit(folder / "sample_annotation.json", lambda rows: rows[0].update(instance_token="ghost"))
    with pytest.raises(DataError, match=r'sample_annotation\.json, row 0: instance_token "ghost" is in no row of instance\.json'):
        open_dataset(broken_root).load("scene-0103")
    assert len(open_dataset(broken_root).load("town-extra").tracks) == 3  # the other scene stays playable


def test_missing_camera_rows_and_circles(broken_root: Path) -> None:
    folder = broken_root / "v1.0-tiny"

    def drop_back(rows: list[dict]) -> None:
        rows[:] = [row for row in rows if row["token"] != "scene-0103-CAM_BACK-4"]

    edit(folder / "sample_data.json", drop_back)
    with pytest.raises(DataError, match=r"scene-0103: .*sample\.json, row 2: sample_data\.json has no key frame of CAM_BACK"):
        open_dataset(broken_root).load("scene-0103")
    edit(folder / "sample.json", lambda rows: rows[-1].update(next=rows[-2]["token"]))
    with pytest.raises(DataError, match="run in a circle"):
        open_dataset(broken_root).load("town-extra")


def test_missing_and_broken_maps(broken_root: Path) -> None:
    file = broken_root / "maps" / "expansion" / "singapore-onenorth.json"
    dataset = open_dataset(broken_root)
    edit(file, lambda tables: tables.update(version="1.0"))
    with pytest.raises(DataError, match=r"singapore-onenorth\.json.*outdated"):
        dataset.load("scene-0103")
    edit(file, lambda tables: tables.pop("connectivity"))
    edit(file, lambda tables: tables.update(version="1.3"))
    with pytest.raises(DataError, match=r"lacks 'connectivity'"):
        dataset.load("scene-0103")
    file.write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        dataset.load("scene-0103")
    file.unlink()
    with pytest.raises(DataError, match=r"scene-0103: .*onenorth\.json: no such map.*map expansion"):
        dataset.load("scene-0103")
    scene = dataset.load("scene-0103", require_map=False)
    assert scene.map is None and scene.route.lanes == () and scene.route.length >= 150


def test_map_mask_missing(broken_root: Path) -> None:
    (broken_root / "maps" / "mask.png").unlink()
    with pytest.raises(DataError, match=r"scene-0103: .*map\.json, row 0: maps/mask\.png is not there"):
        open_dataset(broken_root).load("scene-0103")


def test_reading_is_silent(tiny_root: Path) -> None:
    code = f"from dist4d_env.data.open import open_dataset; open_dataset({str(tiny_root)!r}).load('scene-0103')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
