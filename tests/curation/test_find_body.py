"""The car's own body is found where it is painted into pictures, and nowhere else; every camera says how."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dist4d_env.__main__ import main
from dist4d_env.curation import body
from dist4d_env.curation.body import FRAMES, IMAGE, MOTION, find_body, prepare_body
from dist4d_env.data.body_masks import find_mask, write_mask
from dist4d_env.data.images import read_image
from dist4d_env.data.nuscenes import RING
from dist4d_env.data.open import open_dataset
from dist4d_env.data.sensors import FileSensorLog
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds import frame_cache
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.replay import SplatWorld
from tests.curation.painted_car import outline, paint


def painted_copy(source: Path, root: Path) -> Path:
    """A town whose cameras see a car."""
    shutil.copytree(source, root)
    scene = open_dataset(root).load(open_dataset(root).names()[0], False)
    sensors, generator = scene.sensors, np.random.default_rng(0)
    for keyframe in range(len(sensors.keyframe_time)):
        for view, channel in enumerate(sensors.camera_names):
            path = sensors.image_path(keyframe, view)
            rgb = paint(read_image(path, sensors.image_size[view], *sensors.image_size[view]), channel, generator)
            assert cv2.imwrite(str(path), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return root


@pytest.fixture(scope="module")
def painted(town_dataroot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_copy(town_dataroot, tmp_path_factory.mktemp("painted") / "town")


@pytest.fixture
def opaque(monkeypatch: pytest.MonkeyPatch, town_dataroot: Path) -> None:
    """LiDARs look through paint: what they return from behind it does not count, but in the town as it is."""
    look = body._pictures

    def pictures(scene: Scene, sensors, view: int, keyframes):
        found = look(scene, sensors, view, keyframes)
        if scene.dataroot == str(town_dataroot):
            return found
        return replace(found, returned=found.returned * ~outline(sensors.camera_names[view], *found.returned.shape))

    monkeypatch.setattr(body, "_pictures", pictures)


def agreement(mask: np.ndarray, channel: str) -> float:
    truth = outline(channel, *mask.shape)
    return float((mask & truth).sum() / (mask | truth).sum())


def first(root: Path) -> Scene:
    return open_dataset(root).load(open_dataset(root).names()[0], False)


@pytest.mark.medium
def test_found_from_motion_and_nowhere_where_there_is_none(painted: Path, town_dataroot: Path, opaque: None):
    """At 64 x 112 a rim of two pixels is a fifth of a flank."""
    quality = []
    for view, channel in enumerate(RING):
        mask, how = find_body(first(painted), view)
        assert how == MOTION
        quality.append(agreement(mask, channel))
        clean, how = find_body(first(town_dataroot), view)
        assert how == MOTION and not clean.any(), channel
    assert min(quality) > 0.5 and np.mean(quality) > 0.7


@pytest.mark.medium
def test_no_body_is_found_where_a_real_camera_shows_none(kitti_real: Path):
    mask, how = find_body(open_dataset(kitti_real).load("scene-9100", False), 0)
    assert how == MOTION and mask.shape == (225, 745) and not mask.any()


@pytest.mark.medium
def test_a_bonnet_painted_into_real_frames_is_found(kitti_real: Path, opaque: None, monkeypatch: pytest.MonkeyPatch):
    """From all frames a metre apart, and from as few as motion needs."""
    generator = np.random.default_rng(0)
    read = FileSensorLog.image
    monkeypatch.setattr(FileSensorLog, "image", lambda *args: paint(read(*args), "CAM_FRONT", generator))
    scene = open_dataset(kitti_real).load("scene-9100", False)
    for most in (32, FRAMES):
        monkeypatch.setattr(body, "MOST_FRAMES", most)
        mask, how = find_body(scene, 0)
        assert how == MOTION and agreement(mask, "CAM_FRONT") > 0.85, most


@pytest.mark.medium
def test_a_single_image_shows_the_boot_of_a_real_car(nuscenes_real: Path):
    """One keyframe of six cameras, of which only the rear one sees its car: a strip along the lower border, about 10
    of 225 rows high in the middle."""
    scene = open_dataset(nuscenes_real).load("scene-0061", False)
    for view, channel in enumerate(scene.rig.names):
        mask, how = find_body(scene, view)
        assert how == IMAGE and mask.shape == (225, 400)
        if channel != "CAM_BACK":
            assert not mask.any(), channel
            continue
        height = mask.sum(0)
        assert 0.02 < mask.mean() < 0.04 and not mask[:-14].any() and mask[-3:, 80:340].all()
        assert (np.abs(height[160:260] - 10) <= 3).all() and not height[:20].any()


@pytest.mark.medium
def test_no_single_image_decides_where_the_lidar_does_not_look(town_dataroot: Path, monkeypatch: pytest.MonkeyPatch):
    """Missing returns are the evidence of a body in one image: where there is none at all they would all be it."""
    look = body._pictures
    monkeypatch.setattr(body, "FRAMES", 1000)
    scene = first(town_dataroot)
    assert find_body(scene, 0)[1] == IMAGE
    monkeypatch.setattr(body, "_pictures", lambda *seen: replace(found := look(*seen), returned=0 * found.returned))
    assert find_body(scene, 0) is None


def test_prepare_writes_masks_and_says_how(painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, opaque: None):
    root = Path(shutil.copytree(painted, tmp_path / "town", ignore=shutil.ignore_patterns("depth")))
    scene = first(root)
    write_mask(root / "body" / "CAM_FRONT.png", outline("CAM_FRONT", 64, 112))
    command = ["prepare", "--dataroot", str(root), "--scenes", scene.name, "--workers", "1"]
    assert main(command) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "own body" in line]
    assert [line.split(":")[0] for line in lines] == sorted(RING)
    assert all(line.endswith("mask found from motion in 1 scene") for line in lines if not line.startswith("CAM_FRONT:"))
    assert next(line for line in lines if line.startswith("CAM_FRONT:")).endswith("mask given in 1 scene")
    places = {channel: find_mask(root, scene.name, channel) for channel in RING}
    assert places["CAM_BACK"] == root / "depth" / "body" / scene.name / "CAM_BACK.png"
    assert places["CAM_FRONT"] == root / "body" / "CAM_FRONT.png"
    before = places["CAM_BACK"].read_bytes()
    write_mask(places["CAM_BACK"], np.zeros((64, 112), bool))
    assert main(command) == 0 and "CAM_BACK: the car's own body covers nothing; mask kept from before" in capsys.readouterr().out
    prepare_body(scene, root / "depth", overwrite=True)
    assert places["CAM_BACK"].read_bytes() == before


def shown(root: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """What the splat of the past shows of the next keyframes of a scene, and what is there."""
    scene, pairs = first(root), []
    rig = scene.rig.at_size(64, 112)
    for keyframe in range(3, len(scene.sensors.keyframe_time) - 1):
        time = float(scene.sensors.keyframe_time[keyframe + 1])
        world = SplatWorld("history")
        (state,) = world.reset([WorldStart(scene, rig, float(scene.sensors.keyframe_time[keyframe]), 0)])
        now = SceneAt(time, scene.ego_pose(time), scene.boxes(time), np.zeros(0), np.zeros((0, 4, 4)), ())
        ((_, frame, _),) = world.step([state], [now])
        pairs.append((frame.rgb, scene.sensors.rgb(keyframe + 1, 64, 112)))
    return pairs


def psnr(pairs: list[tuple[np.ndarray, np.ndarray]], where: np.ndarray) -> float:
    return float(np.mean([10 * np.log10(255**2 / np.mean((a[where].astype(float) - b[where]) ** 2)) for a, b in pairs]))


@pytest.mark.medium
def test_found_masks_pay_in_the_next_frame(painted: Path, tmp_path: Path, opaque: None):
    """Half a second ahead, memory "history": all pixels, and all but the car's."""
    root = Path(shutil.copytree(painted, tmp_path / "town"))
    outside = ~np.stack([outline(channel, 64, 112) for channel in RING])
    without = shown(root)
    prepare_body(first(root), root / "depth")
    frame_cache._kept.clear()  # frames read before there were masks
    masked = shown(root)
    everywhere = np.ones_like(outside)
    quality = [psnr(pairs, where) for pairs in (without, masked) for where in (everywhere, outside)]
    print("PSNR everywhere and outside, without and with masks:", np.round(quality, 2))
    assert quality[2] > quality[0] + 0.4 and quality[3] > quality[1] + 0.05
