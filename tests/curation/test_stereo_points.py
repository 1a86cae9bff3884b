"""Stereo: plane sweeps meet the true depth, views have to agree, LiDAR goes first, and prepare uses it from end to end."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dist4d_env.__main__ import main
from dist4d_env.curation import body, stereo
from dist4d_env.curation.camera import Completion, CurationConfig, dense_depth
from dist4d_env.curation.prepare import sensor_files, stereo_maps
from dist4d_env.curation.sources import choose_sources, keyframes_around, moving, pixel_from_pixel
from dist4d_env.curation.stereo import StereoMap, StereoMaps, confidence, fused
from dist4d_env.curation.views import View
from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.cameras import covering_intrinsics, project
from dist4d_env.models.stereo import StereoNetwork, code_depth, depth_code, warp

SIZE = (64, 112)
MATRIX = np.array([[80.0, 0, 56], [0, 80.0, 32], [0, 0, 1]])


def moved(x: float = 0.0, z: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3], pose[2, 3] = x, z
    return pose


def test_planes_of_the_same_camera_are_its_own_image():
    image = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    codes = depth_code(torch.tensor([100.0, 10.0, 3.0]))[None, :, None, None].expand(1, 3, *SIZE)
    same = torch.from_numpy(pixel_from_pixel(MATRIX, np.eye(4), MATRIX, np.eye(4))[None])
    assert torch.allclose(warp(image, SIZE, same, codes, 1), image[:, :, None].expand(-1, -1, 3, -1, -1), atol=1e-4)
    assert torch.allclose(code_depth(depth_code(torch.tensor([2.0, 60.0]))), torch.tensor([2.0, 60.0]), rtol=1e-4)


def test_a_known_step_aside_shifts_by_focal_length_over_depth():
    image = torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    codes = depth_code(torch.tensor([16.0, 8.0]))[None, :, None, None].expand(1, 2, *SIZE)
    aside = torch.from_numpy(pixel_from_pixel(MATRIX, np.eye(4), MATRIX, moved(x=1.0))[None])
    found = warp(image, SIZE, aside, codes, 1)[0, 0]
    for plane, shift in enumerate((5, 10)):
        assert torch.allclose(found[plane, :, shift:], image[0, 0, :, :-shift], atol=1e-4)
        assert (found[plane, :, : shift - 1] == 0).all(), "nothing is known beyond the source's border"


def test_a_sweep_of_bare_colours_recovers_a_rendered_towns_depth(town_dataroot: Path):
    """Best plane of the likeness of small windows, with no network: between two keyframes of a drive."""
    scene = open_dataset(town_dataroot).load("town-val-0000")
    sensors, hits = sensor_files(scene), []
    matrices = covering_intrinsics(sensors.intrinsics[4], sensors.image_size, SIZE)
    planes = depth_code(torch.tensor(1 / np.linspace(1 / 60, 1 / 3, 64), dtype=torch.float32))
    for view in range(len(sensors.camera_names)):
        one, other = (torch.from_numpy(sensors.image(k, view, *SIZE).copy()).permute(2, 0, 1)[None].float() / 255 for k in (4, 5))
        poses = sensors.global_from_camera[:, view]
        pixels = torch.from_numpy(pixel_from_pixel(matrices[view], poses[4], matrices[view], poses[5])[None])
        marked = torch.cat([other, torch.ones_like(other[:, :1])], 1)
        warped = warp(marked, SIZE, pixels, planes[None, :, None, None].expand(1, -1, *SIZE), 1)
        unlike = (warped[:, :3] - one[:, :, None]).abs().mean(1) + (warped[:, 3] < 0.99)
        found = code_depth(planes)[F.avg_pool2d(unlike, 5, 1, 2)[0].argmin(0)].numpy()
        exact = sensors.depth_of(4, view, *SIZE)
        grey = one[0].mean(0).numpy()
        textured = np.hypot(*np.gradient(grey)) > 0.03
        counts = textured & (exact > 4) & (exact < 30) & (warped[0, 3].amin(0) > 0.99).numpy()
        hits.extend((np.abs(found - exact) / exact < 0.15)[counts])
    assert len(hits) > 300 and np.mean(hits) > 0.5


def test_neighbours_are_where_the_car_has_moved():
    positions = np.zeros((12, 3))
    positions[:, 0] = [0, 0, 0, 0.4, 0.8, 1.2, 3.0, 6.0, 9.0, 9.1, 9.1, 9.1]
    assert keyframes_around(positions, 6) == [5, 7]
    assert keyframes_around(positions, 4) == [6, 7], "the first metre has nothing before it"
    assert keyframes_around(positions, 11) == [7, 6] and keyframes_around(positions, 7, past=True) == [6, 5]
    assert keyframes_around(np.zeros((5, 3)), 2) == [] and keyframes_around(positions[:3] + np.arange(3)[:, None] * 50, 1) == []


def test_sources_see_the_same_with_parallax():
    aside, same, back = moved(x=1.5), np.eye(4), np.diag([-1.0, 1, -1, 1])
    cameras = [(MATRIX, pose, SIZE) for pose in (back, same, aside, moved(z=2.0))]
    assert choose_sources(MATRIX, np.eye(4), SIZE, cameras) == [2, 3]


def test_what_moves_is_masked():
    def box(speed: float) -> Boxes:
        at = np.array([[0.0, 0, 10]])
        return Boxes(np.array([0]), np.array([0], np.int8), at, np.array([[4.0, 2, 2]]), np.zeros(1), np.array([[speed, 0]]))

    assert moving(box(3.0), MATRIX, np.eye(4), SIZE).sum() > 300 and moving(box(float("nan")), MATRIX, np.eye(4), SIZE).any()
    assert not moving(box(0.0), MATRIX, np.eye(4), SIZE).any()


def wall(depth: float, pose: np.ndarray) -> StereoMap:
    everywhere = np.ones(SIZE, bool)
    return StereoMap(np.full(SIZE, depth, np.float32), np.full(SIZE, 0.9, np.float32), everywhere, MATRIX, pose, ())


def test_views_have_to_agree():
    """A wall 10 m ahead, seen also from a metre aside and from two metres nearer."""
    one, aside, nearer = wall(10, np.eye(4)), wall(10, moved(x=1.0)), wall(8, moved(z=2.0))
    inner = np.s_[16:48, 30:80]
    assert confidence(one, [aside, nearer])[inner] == pytest.approx(0.9)
    assert (confidence(one, [wall(13, moved(x=1.0)), wall(5, moved(z=-2.0))])[inner] == 0).all()
    assert confidence(one, [aside, wall(4, moved(x=-1.0))])[inner] == pytest.approx(0.9), "what hides says nothing"
    assert (confidence(one, [aside, wall(14, moved(x=-1.0))])[inner] == 0).all(), "one for, one against"
    assert (confidence(one, [])[inner] == 0).all() and (confidence(wall(90, np.eye(4)), [wall(90, moved(x=1.0))]) == 0).all()
    blind = replace(aside, seen=np.zeros(SIZE, bool))
    assert (confidence(one, [blind])[inner] == 0).all() and (confidence(replace(one, seen=blind.seen), [aside]) == 0).all()


def test_lidar_goes_first():
    view = View(MATRIX, np.eye(4), np.eye(4), np.zeros(3))
    sparse = np.zeros(SIZE, np.float32)
    sparse[20:40, 20:40] = 10.0
    points = wall(10.2, np.eye(4)).points.reshape(-1, 3)
    added = fused(sparse, points, view)
    assert (added[19:41, 20:40] == 0).all() and added[5, 5] == pytest.approx(10.2)
    assert not fused(sparse, 2 * points, view).any(), "stereo that is wrong where LiDAR is isn't used elsewhere"


def test_a_network_lives_on_any_device():
    """Whatever it makes lies where its input does: nothing is made on the CPU beside it."""
    with torch.device("meta"):
        network = StereoNetwork()
    images, seen = torch.empty(1, 3, *SIZE, device="meta"), torch.empty(1, 1, *SIZE, device="meta")
    made = network.features(images, seen)
    depth, sure = network.depth(made, [made] * 2, torch.empty(1, 2, 3, 4, device="meta"))
    assert depth.device.type == sure.device.type == "meta" and depth.shape == sure.shape == (1, *SIZE)


def test_history_sees_no_later_image(town_dataroot: Path):
    scene = open_dataset(town_dataroot).load("town-val-0000")
    past, both = (stereo_maps(scene, CurationConfig(stereo=True, after=after)) for after in (0, 5))
    assert isinstance(past, StereoMaps) and isinstance(both, StereoMaps)
    assert max(past.around(6)) < 6 < max(both.around(6)) and stereo_maps(scene, CurationConfig()) is None


def test_the_number_of_threads_does_not_matter(town_dataroot: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stereo, "ROWS", 32)
    scene, threads, found = open_dataset(town_dataroot).load("town-val-0000"), torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            maps = stereo_maps(scene, CurationConfig(stereo=True))
            assert maps is not None and torch.get_num_threads() == count
            found.append([field for one in maps.maps(4) for field in (one.depth, one.sure)])
    finally:
        torch.set_num_threads(threads)
    assert all((one == other).all() for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("completion", ["least_squares", "flow"])
def test_stereo_fills_what_lidar_leaves(completion: Completion):
    """A wall 8 m ahead that no return is from, between returns of one 30 m away."""
    view = View(MATRIX, np.eye(4), np.diag([1.0, 1, 1, 1]), np.array([0.0, 0, -2]))
    image = np.full((*SIZE, 3), 90, np.uint8)
    image[16:48, 40:72] = (200, 60, 60)
    far = wall(30, np.eye(4)).points[::4, ::4].reshape(-1, 3)
    pixels, _ = project(far, MATRIX)
    beside = (np.abs(pixels - (56, 32)) > 18).any(1)
    near = wall(8, np.eye(4)).points[16:48:2, 40:72:2].reshape(-1, 3)
    config = CurationConfig(height=64, completion=completion, stereo=True)
    known = far[beside], np.ones(beside.sum(), bool)
    with_it, without = (dense_depth(image, *known, view, config, extra)[0][28:36, 48:64] for extra in (near, None))
    assert np.median(with_it) == pytest.approx(8, rel=0.1) and np.median(without) > 10


@pytest.mark.medium
def test_prepare_with_stereo_from_end_to_end(
    town_dataroot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """It is made again bit for bit, says how it was made, and nothing of the car's own body is matched, which is found first."""
    monkeypatch.setattr(stereo, "ROWS", 32)
    bonnet = np.repeat([False, True], 16)[:, None].repeat(56, 1)
    monkeypatch.setattr(body, "find_body", lambda scene, view: (bonnet, body.MOTION))
    matched, look = list[np.ndarray](), StereoMaps._of_image
    monkeypatch.setattr(StereoMaps, "_of_image", lambda *asked: matched.append((made := look(*asked))[2]) or made)
    root = Path(shutil.copytree(town_dataroot, tmp_path / "town"))
    sensors = sensor_files(open_dataset(root).load("town-val-0000"))
    for view in range(len(sensors.camera_names)):
        for keyframe in range(3, len(sensors.keyframe_time)):
            sensors.image_path(keyframe, view).unlink()
    words = ["prepare", "--dataroot", str(root), "--scenes", "town-val-0000", "--out", str(tmp_path / "made"), "--height", "24"]
    words += ["--workers", "1", "--stereo"]
    assert main(words) == 0
    assert matched[-1][:16].any() and not matched[-1][16:].any()
    assert "depth images to make" in capsys.readouterr().out
    (settings,) = tmp_path.glob("made/*/prepared.json")
    assert json.loads(settings.read_text())["stereo"] is True
    files = sorted(tmp_path.glob("made/*/CAM*/*.png"))
    before = files[7].read_bytes()
    files[7].unlink()
    assert main(words) == 0 and files[7].read_bytes() == before
    assert "1 depth images written" in capsys.readouterr().out
    assert main([word for word in words if word != "--stereo"]) != 0
    assert "stereo True (now False)" in capsys.readouterr().err
