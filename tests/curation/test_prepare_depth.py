"""Depth for a data set: as good as it claims on scenes whose depth is known, taken up again where it stopped, honest errors."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dist4d_env.__main__ import main
from dist4d_env.curation.camera import CurationConfig
from dist4d_env.curation.prepare import camera_view, depth_root, prepare_keyframe, prepare_scenes
from dist4d_env.data.depth_files import read_depth
from dist4d_env.data.nuscenes import RING
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.geometry.cameras import project
from dist4d_env.geometry.transforms import apply, invert
from tests.data import tiny_nuscenes

SMALL = CurationConfig(height=24, before=1, after=1)


@pytest.mark.medium
def test_agrees_with_the_towns_exact_depth(town_dataroot, tmp_path):
    """Six cameras from eleven sweeps of a 32-beam LiDAR: AbsRel 0.04 and delta1 0.95 below 60 m, two thirds of the sky, where
    this was measured; so small a picture shows little sky."""
    dataset = open_dataset(town_dataroot)
    scene = dataset.load(dataset.names()[1])
    assert prepare_keyframe(scene, 5, tmp_path, CurationConfig()).written == len(RING)
    exact = scene.sensors.depth(5, 64, 112)
    made = np.stack([read_depth(tmp_path / scene.sensors.depth_name(5, view)) for view in range(len(RING))])
    assert made.shape == exact.shape
    near = exact < 60
    relative = np.abs(made - exact)[near] / exact[near]
    ratio = np.maximum(made / exact, exact / made)[near]
    assert relative.mean() < 0.06 and np.median(relative) < 0.015 and (ratio < 1.25).mean() > 0.92
    sky = exact >= 100
    assert (made[~sky] < 99).mean() > 0.99 and (made[sky] >= 99).mean() > 0.5
    assert not (made[exact > 5] < 1.2).any(), "rims of roofs against the sky must not float before the camera"


def test_every_camera_looks_from_where_it_was(tiny_root):
    """Each camera of the tiny data set has a stamp and an ego pose of its own, 4 cm apart at 8 m/s."""
    scene = open_dataset(tiny_root).load("scene-0103")
    for view in range(len(RING)):
        seen = camera_view(scene, 1, view, np.zeros((0, 3)), SMALL)
        at = 0.5 - 0.005 * (view + 1)
        assert seen.global_from_ego[0, 3] == pytest.approx(tiny_nuscenes.ego_x(at), abs=1e-6)
        assert np.allclose(seen.global_from_ego @ scene.rig.ego_from_camera[view], seen.global_from_camera)


@pytest.mark.medium
def test_real_depth_meets_the_lidar(nuscenes_real, tmp_path):
    """On the real keyframe, where the LiDAR hit something and nothing nearer lies around, depth is the LiDAR's."""
    scene = open_dataset(nuscenes_real).load("scene-0061")
    sensors = scene.sensors
    assert prepare_keyframe(scene, 0, tmp_path, CurationConfig(height=225)).written == len(RING)
    sweep = sensors.lidar(0)
    points = apply(sweep.global_from_lidar, sweep.points[:, :3].astype(float))
    for view in range(len(RING)):
        depth = read_depth(tmp_path / sensors.depth_name(0, view))
        seen = camera_view(scene, 0, view, points, CurationConfig(height=225))
        pixels, z = project(apply(invert(seen.global_from_camera), points), seen.intrinsics)
        inside = (z > 1) & (z < 60) & (pixels >= 0).all(1) & (pixels[:, 0] < depth.shape[1]) & (pixels[:, 1] < depth.shape[0])
        columns, rows = pixels[inside].astype(int).T
        ratio = depth[rows, columns] / z[inside]
        assert np.median(np.abs(ratio - 1)) < 0.02 and (np.abs(ratio - 1) < 0.1).mean() > 0.8


@pytest.fixture(scope="module")
def made(tiny_root, tmp_path_factory) -> Path:
    """Depth of the tiny scene, made by one process; to be copied."""
    folder = tmp_path_factory.mktemp("depth") / "made"
    total = len(RING) * tiny_nuscenes.KEYFRAMES
    assert prepare_scenes(open_dataset(tiny_root), ["scene-0103"], folder, SMALL).written == total
    return folder


def test_is_taken_up_again(made, tiny_root, tmp_path):
    dataset = open_dataset(tiny_root)
    total = len(RING) * tiny_nuscenes.KEYFRAMES
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    files = sorted(tmp_path.rglob("*.png"))
    everything = [*files, *{file.parent for file in files}, tmp_path / "prepared.json"]
    assert len(files) == total and sorted(tmp_path.rglob("*")) == sorted(everything)
    code = cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED)
    assert code.dtype == np.uint16 and code.shape == (24, round(24 * tiny_nuscenes.COLUMNS / tiny_nuscenes.ROWS))
    before = files[0].read_bytes()
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-20])  # cut off when it was copied
    again = prepare_scenes(dataset, ["scene-0103"], tmp_path, SMALL)
    assert (again.written, again.kept) == (2, total - 2) and files[0].read_bytes() == before
    assert cv2.imread(str(files[1]), cv2.IMREAD_UNCHANGED) is not None
    kept = prepare_scenes(dataset, ["scene-0103"], tmp_path, SMALL, workers=2)
    assert (kept.written, kept.kept) == (0, total)
    assert prepare_scenes(dataset, ["scene-0103"], tmp_path, SMALL, overwrite=True, workers=2).written == total
    assert files[0].read_bytes() == before  # the same on any number of processes


@pytest.mark.parametrize("completion", ["flow", "least_squares"])
def test_either_way_of_completing_makes_the_same_depth_again(completion, made, tiny_root, tmp_path):
    """In one process or several; the two do not mix in one folder."""
    dataset, config = open_dataset(tiny_root), replace(SMALL, completion=completion)
    if config == SMALL:
        shutil.copytree(made, tmp_path / "one")
    else:
        prepare_scenes(dataset, ["scene-0103"], tmp_path / "one", config)
    prepare_scenes(dataset, ["scene-0103"], tmp_path / "two", config, workers=2)
    one, two = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.png")} for n in ("one", "two"))
    assert one == two and len(one) == len(RING) * tiny_nuscenes.KEYFRAMES
    other = replace(SMALL, completion="flow" if completion == "least_squares" else "least_squares")
    with pytest.raises(DataError, match=f"with completion {completion} \\(now {other.completion}\\)"):
        prepare_scenes(dataset, ["scene-0103"], tmp_path / "one", other)


def test_past_only_depth_owes_nothing_to_later_sweeps(broken_root, tmp_path):
    scene = open_dataset(broken_root).load("scene-0103")
    sensors, past = scene.sensors, replace(SMALL, after=0)
    names = [sensors.depth_name(1, view) for view in range(len(RING))]

    def made(folder: str, config: CurationConfig) -> list[bytes]:
        assert prepare_keyframe(scene, 1, tmp_path / folder, config).written == len(RING)
        return [(tmp_path / folder / name).read_bytes() for name in names]

    both, before = made("both", SMALL), made("past", past)
    for file, time in zip(sensors.lidar_files, sensors.lidar_time, strict=True):
        if time > sensors.keyframe_time[1] + 1e-6:
            path = broken_root / file
            (np.fromfile(path, np.float32) * np.float32(0.8)).tofile(path)
    assert made("both in another future", SMALL) != both, "the change can be seen"
    assert made("past in another future", past) == before


def test_one_folder_has_one_way_of_making_depth(tiny_root, tmp_path):
    """Another run says what differs and mixes nothing; told to overwrite it leaves no file of the old kind."""
    dataset, past = open_dataset(tiny_root), replace(SMALL, after=0)
    prepare_scenes(dataset, ["scene-0103"], tmp_path, SMALL)
    files = {file: file.read_bytes() for file in tmp_path.rglob("*.png")}
    higher = replace(SMALL, height=32)
    for config, says in (past, r"after a keyframe 1 \(now 0\); --overwrite .* --out"), (higher, r"height 24 \(now 32\)"):
        with pytest.raises(DataError, match=says):
            prepare_scenes(dataset, ["scene-0103"], tmp_path, config)
    (tmp_path / "CAM_FRONT" / "of_another_scene.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 images of other scenes"):
        prepare_scenes(dataset, ["scene-0103"], tmp_path, past, overwrite=True)
    (tmp_path / "CAM_FRONT" / "of_another_scene.png").unlink()
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.png")} == files, "refused, nothing is touched"
    assert prepare_scenes(dataset, ["scene-0103"], tmp_path, past, overwrite=True).written == len(files)
    assert prepare_scenes(dataset, ["scene-0103"], tmp_path, past).kept == len(files)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.png")} != files
    (tmp_path / "prepared.json").unlink()
    with pytest.raises(DataError, match="nothing says how the depth there was made"):
        prepare_scenes(dataset, ["scene-0103"], tmp_path, past)


def test_what_cannot_be_made_anew_is_not_lost(broken_root, tmp_path):
    """Neither files that are gone, nor settings that come to nothing, nor a broken image cost the depth that is there."""
    dataset, root, higher = open_dataset(broken_root), tmp_path / "depth", replace(SMALL, height=32)
    prepare_scenes(dataset, ["scene-0103"], root, SMALL)
    files = {file: file.read_bytes() for file in root.rglob("*.*")}
    sensors = dataset.load("scene-0103").sensors
    sweeps = [*broken_root.rglob("*.pcd.bin")]
    for gone, missing in (([sensors.image_path(0, 2)], 1), (sweeps, len(files) - 1)):
        for path in gone:
            path.rename(f"{path}.gone")
        with pytest.raises(DataError, match=f"height 24 .now 32., and {missing} of its images, such as CAM.* --out"):
            prepare_scenes(dataset, ["scene-0103"], root, higher, overwrite=True)
        for path in gone:
            Path(f"{path}.gone").rename(path)
    whole = {path: path.read_bytes() for path in (*sweeps, sensors.image_path(2, 3))}
    for path in sweeps:
        np.zeros((40, 5), np.float32).tofile(path)
    with pytest.raises(DataError, match="24 with fewer than 30 LiDAR returns"):
        prepare_scenes(dataset, ["scene-0103"], root, higher, overwrite=True)
    for path, content in whole.items():
        path.write_bytes(content[:200] if path.suffix == ".jpg" else content)
    with pytest.raises(DataError, match=sensors.image_path(2, 3).name):
        prepare_scenes(dataset, ["scene-0103"], root, higher, overwrite=True)
    made = len([*root.glob("anew/*/*.png")])
    assert {file: file.read_bytes() for file in root.rglob("*.*") if "anew" not in file.parts} == files and made > 12
    assert prepare_scenes(dataset, ["scene-0103"], root, SMALL).kept == len(files) - 1, "it is still used"
    sensors.image_path(2, 3).write_bytes(whole[sensors.image_path(2, 3)])
    done = prepare_scenes(dataset, ["scene-0103"], root, higher, overwrite=True)
    assert (done.written, done.kept) == (len(files) - 1 - made, made), "it goes on where it was"
    assert files.keys() == set(root.rglob("*.*")) and {read_depth(file).shape[0] for file in root.rglob("*.png")} == {32}


def test_depth_replaced_in_part_is_noticed(made, tiny_root, tmp_path, monkeypatch):
    """Stopped while new files take the place of old ones."""
    dataset, past, root = open_dataset(tiny_root), replace(SMALL, after=0), tmp_path / "depth"
    shutil.copytree(made, root)
    moved = []

    def stops(source, target):
        if len(moved) == 7 and "anew" in Path(source).parts:
            raise KeyboardInterrupt
        rename(source, target)
        moved.extend([target] * ("anew" in Path(source).parts and "anew" not in Path(target).parts))

    rename = os.replace
    monkeypatch.setattr("os.replace", stops)
    with pytest.raises(KeyboardInterrupt):
        prepare_scenes(dataset, ["scene-0103"], root, past, overwrite=True)
    monkeypatch.undo()
    for config in (SMALL, past):
        with pytest.raises(DataError, match="nothing says how the depth there was made"):
            prepare_scenes(dataset, ["scene-0103"], root, config)
    done = prepare_scenes(dataset, ["scene-0103"], root, past, overwrite=True)
    assert (done.written, done.kept) == (7, len(RING) * tiny_nuscenes.KEYFRAMES - 7) and not (root / "anew").exists()
    prepare_scenes(dataset, ["scene-0103"], tmp_path / "fresh", past)
    names = {file.relative_to(root) for file in root.rglob("*.*")}
    assert all((root / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes() for name in names) and len(names) == 25


def test_past_only_depth_is_used_alone_and_only_where_named(tiny_root, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DIST4D_DEPTH", raising=False)
    root = Path(shutil.copytree(tiny_root, tmp_path / "data"))
    wanted = ["--dataroot", str(root), "--scenes", "scene-0103", "--height", "24", "--sweeps", "1", "--workers", "1"]
    assert main(["prepare", *wanted, "--past-only"]) == 0
    folder = root / "depth_past_only"
    assert f"export DIST4D_DEPTH={folder}" in capsys.readouterr().out
    sensors = open_dataset(root).load("scene-0103").sensors
    assert not sensors.has_depth(0), "found only where the variable names it"
    assert main(["prepare", *wanted]) == 0, "its folder is another"
    assert sensors.find_depth(0, 0).parent.parent == root / "depth"
    monkeypatch.setenv("DIST4D_DEPTH", str(folder))
    chosen = sensors.find_depth(0, 0)
    assert folder in chosen.parents
    chosen.unlink()
    assert not sensors.has_depth(0), "what is missing does not come from elsewhere, with the future in it"
    assert main(["prepare", *wanted]) == 2
    error = capsys.readouterr().err.strip()
    assert "after a keyframe 0 (now 1)" in error and "\n" not in error


def test_broken_settings_are_named(tiny_root, tmp_path):
    dataset = open_dataset(tiny_root)
    for content in ("{", "[]"):
        (tmp_path / "prepared.json").write_text(content)
        with pytest.raises(DataError, match=r"prepared\.json.*delete it"):
            prepare_scenes(dataset, ["scene-0103"], tmp_path, SMALL)
    assert prepare_scenes(dataset, ["scene-0103"], tmp_path, SMALL, overwrite=True).written
    assert json.loads((tmp_path / "prepared.json").read_text())["height"] == SMALL.height


def test_command_line_tells_where_depth_is_and_how_to_use_it(tiny_root, tmp_path, monkeypatch, capsys):
    root = Path(shutil.copytree(tiny_root, tmp_path / "data"))
    out = tmp_path / "depth"
    wanted = ["--dataroot", str(root), "--scenes", "scene-0103", "--height", "24", "--workers", "1"]
    assert main(["prepare", *wanted, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    ahead, done = said.splitlines()[:2]
    assert re.fullmatch(rf"24 depth images to make in {re.escape(str(out))}/\S+: about \d+ s, [\d.e-]+ MB", ahead), ahead
    told, written = float(ahead.split()[-2]), sum(path.stat().st_size for path in out.rglob("*.png")) / 1e6
    assert 0.3 < told / written < 3 and done.startswith("24 depth images written")
    assert main(["prepare", *wanted, "--out", str(out)]) == 0 and "to make" not in capsys.readouterr().out
    assert "24 depth images written" in said and f"export DIST4D_DEPTH={out}" in said
    assert main(["prepare", *wanted, "--out", str(out), "--sweeps", "1", "--overwrite"]) == 0
    said = capsys.readouterr().out
    assert "24 depth images to make in" in said and "/anew: about" in said and not list(out.rglob("anew"))
    scene = open_dataset(root).load("scene-0103")
    assert not scene.sensors.has_depth(0)
    monkeypatch.setenv("DIST4D_DEPTH", str(out))
    assert scene.sensors.has_depth(0) and scene.sensors.depth(0, 24, 43).shape == (6, 24, 43)
    monkeypatch.delenv("DIST4D_DEPTH")
    assert depth_root(str(root), None) == root / "depth"


def test_keyframes_without_files_are_counted_and_skipped(broken_root, tmp_path):
    dataset = open_dataset(broken_root)
    sensors = dataset.load("scene-0103").sensors
    sensors.image_path(0, 2).unlink()
    done = prepare_scenes(dataset, ["scene-0103"], tmp_path, SMALL)
    assert (done.written, done.without_image) == (len(RING) * tiny_nuscenes.KEYFRAMES - 1, 1)


def test_a_camera_that_the_lidar_does_not_see_gets_no_depth(broken_root, tmp_path, capsys):
    for path in [*broken_root.rglob("*.pcd.bin")]:
        points = np.fromfile(path, np.float32).reshape(-1, 5)
        points[points[:, 0] > 0].tofile(path)  # what lies to the right
    arguments = ["prepare", "--dataroot", str(broken_root), "--scenes", "scene-0103", "--out", str(tmp_path), "--sweeps", "1"]
    assert main([*arguments, "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "with fewer than 30 LiDAR returns in view: CAM_BACK_LEFT (4), CAM_FRONT_LEFT (4)" in printed
    assert not [*tmp_path.rglob("CAM_BACK_LEFT/*.png")] and [*tmp_path.rglob("CAM_FRONT/*.png")]


def test_returns_of_the_car_itself_are_none(broken_root, tmp_path):
    for path in [*broken_root.rglob("*.pcd.bin")]:
        np.zeros((40, 5), np.float32).tofile(path)
    with pytest.raises(DataError, match=r"24 with fewer than 30 LiDAR returns in view: CAM_BACK \(4\)") as found:
        prepare_scenes(open_dataset(broken_root), ["scene-0103"], tmp_path / "depth", SMALL)
    assert "scene-0103" in str(found.value) and not (tmp_path / "depth").exists()


def test_nothing_to_work_with_is_an_error(broken_root, tmp_path):
    shutil.rmtree(broken_root / "samples" / "LIDAR_TOP")
    shutil.rmtree(broken_root / "sweeps")
    with pytest.raises(DataError, match=r"scene-0103.*without LiDAR.*fetch"):
        prepare_scenes(open_dataset(broken_root), ["scene-0103"], tmp_path / "depth", SMALL)
    assert not (tmp_path / "depth").exists()


def test_a_truncated_image_is_named(broken_root, tmp_path):
    dataset = open_dataset(broken_root)
    path = dataset.load("scene-0103").sensors.image_path(0, 0)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=path.name):
        prepare_scenes(dataset, ["scene-0103"], tmp_path, SMALL)


def test_bad_options_are_one_line(tiny_root, tmp_path, capsys):
    with pytest.raises(ConfigError, match="height 3: depth images have at least 16 rows"):
        CurationConfig(height=3)
    with pytest.raises(ConfigError, match="sweeps -1: 0 or more"):
        CurationConfig(before=-1)
    assert main(["prepare", "--dataroot", str(tiny_root), "--scenes", "scene-9", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert "scene-9" in error and "\n" not in error
    file = tmp_path / "file"
    file.touch()
    assert main(["prepare", "--dataroot", str(tiny_root), "--out", str(file)]) == 2
    assert str(file) in (said := capsys.readouterr()).err and "images to make" not in said.out, "before the forecast"
    file.unlink()
    for workers in ("0", "-3"):
        assert main(["prepare", "--dataroot", str(tiny_root), "--out", str(tmp_path), "--workers", workers]) == 2
        assert capsys.readouterr().err == f"dist4d_env prepare: --workers {workers}: give 1 or more\n"
    assert not list(tmp_path.iterdir())
