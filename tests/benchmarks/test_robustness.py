"""Noise on labels is as large as it says, the same each time, and touches nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.noisy_labels import with_noisy_boxes, with_noisy_sensors
from benchmarks.robustness import CONDITIONS, judge, losses
from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.transforms import invert
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.memory import Memory

SIZE = (64, 112)


@pytest.fixture(scope="module")
def scene(town_dataroot: Path):
    dataset = open_dataset(town_dataroot)
    return dataset.load(dataset.scene_names("val")[0])


def test_pose_noise_moves_the_rig_as_one_and_leaves_the_pictures(scene):
    noisy, again = (with_noisy_sensors(scene, 3, pose=0.1, angle=0.01) for _ in range(2))
    offsets = []
    for k, time in enumerate(scene.sensors.keyframe_time):
        exact, moved = scene.sensors.cameras(k)[0], noisy.sensors.cameras(k)[0]
        assert np.array_equal(moved, again.sensors.cameras(k)[0])
        between = invert(exact[0]) @ exact
        assert np.allclose(invert(moved[0]) @ moved, between, atol=1e-9)
        ego = scene.ego_pose(float(time))
        error = invert(ego) @ moved[0] @ invert(exact[0]) @ ego
        assert abs(error[2, 3]) < 1e-9 and abs(error[2, 2] - 1) < 1e-12  # planar
        offsets.append([*error[:2, 3], np.arctan2(error[1, 0], error[0, 0])])
    assert 0.05 < np.std(offsets, axis=0)[:2].mean() < 0.15 and 0.005 < np.std(offsets, axis=0)[2] < 0.015
    frame, exact = noisy.sensors.rgbd(2, *SIZE), scene.sensors.rgbd(2, *SIZE)
    assert np.array_equal(frame.rgb, exact.rgb) and np.array_equal(frame.depth, exact.depth)
    assert not np.array_equal(with_noisy_sensors(scene, 4, pose=0.1).sensors.cameras(1)[0], noisy.sensors.cameras(1)[0])


def test_depth_noise_is_relative_and_leaves_poses_and_sky(scene):
    noisy = with_noisy_sensors(scene, 0, depth=0.07)
    frame, exact = noisy.sensors.rgbd(2, *SIZE), scene.sensors.rgbd(2, *SIZE)
    assert np.array_equal(frame.depth, with_noisy_sensors(scene, 0, depth=0.07).sensors.rgbd(2, *SIZE).depth)
    assert np.allclose(frame.global_from_camera, exact.global_from_camera, atol=1e-9)
    sky, near = exact.depth >= 100, exact.depth < 60
    assert np.array_equal(frame.depth[sky], exact.depth[sky])
    assert 0.05 < np.std(np.log(frame.depth[near] / exact.depth[near])) < 0.09


def test_box_noise_is_drawn_at_keyframes_and_interpolated(scene):
    noisy = with_noisy_boxes(scene, 1, 0.2, 0.1, missing=0.0)
    tracks, times = noisy.tracks, scene.sensors.keyframe_time
    assert np.array_equal(tracks.valid, scene.tracks.valid) and np.array_equal(tracks.size, scene.tracks.size)
    off = tracks.position - scene.tracks.position
    assert (off[..., 2] == 0).all()
    ticks = np.round(times / 0.1).astype(int)
    assert 0.15 < off[:, ticks, :2].std() < 0.25 and 0.08 < (tracks.yaw - scene.tracks.yaw)[:, ticks].std() < 0.12
    middle = (ticks[1] + ticks[2]) / 2
    low, high = int(np.floor(middle)), int(np.ceil(middle))
    straight = (off[:, ticks[1]] + off[:, ticks[2]]) / 2
    assert np.allclose((off[:, low] + off[:, high]) / 2, straight, atol=1e-9)


def test_a_missing_annotation_takes_its_object_away_between_its_neighbours(scene):
    noisy = with_noisy_boxes(scene, 2, 0.0, 0.0, missing=0.3)
    ticks = np.round(scene.sensors.keyframe_time / 0.1).astype(int)
    there, left = scene.tracks.valid[:, ticks], noisy.tracks.valid[:, ticks]
    assert not (left & ~there).any()
    assert 0.2 < 1 - left.sum() / there.sum() < 0.4
    for n, k in np.argwhere(there & ~left):
        before, after = ticks[max(k - 1, 0)], ticks[min(k + 1, len(ticks) - 1)]
        assert not noisy.tracks.valid[n, before + 1 : after].any()
    kept = np.argwhere(left[:, :-1] & left[:, 1:] & there[:, :-1] & there[:, 1:])
    assert len(kept) and all(
        np.array_equal(noisy.tracks.valid[n, ticks[k] : ticks[k + 1] + 1], scene.tracks.valid[n, ticks[k] : ticks[k + 1] + 1])
        for n, k in kept
    )
    nobody = with_noisy_boxes(replace(scene, tracks=_none(scene.tracks)), 0, 0.2, 0.1, 0.05)
    assert len(nobody.boxes(1.0)) == 0


def _none(tracks):
    arrays = ("category", "size", "position", "yaw", "velocity", "valid")
    return replace(tracks, instance=(), name=(), **{name: getattr(tracks, name)[:0] for name in arrays})


def test_a_memory_of_noisy_labels_is_not_the_cached_exact_one(scene):
    rig = scene.rig.at_size(*SIZE)
    pictures = {}
    for name, perturb in CONDITIONS.items():
        believed = perturb(scene, 0)
        memory = Memory.from_log(believed, rig, 2.0, "history")
        cameras = scene.ego_pose(2.5) @ rig.ego_from_camera
        pictures[name] = memory.render(rig, cameras, believed.boxes(2.5), 2.5).filled()[0]
    for name in ("depth", "pose", "boxes"):
        assert (pictures[name] != pictures["exact"]).any(), name


def test_a_model_that_is_the_splat_loses_nothing_beyond_it(scene):
    splat = make_world("dist4d", weights="splat", memory="history")
    unit = judge(scene, 0, 1, {"splat": splat, "dist4d": splat})
    assert set(unit) == set(CONDITIONS)
    lost = losses([unit])
    assert set(lost) == {"depth", "pose", "boxes"}
    assert all(row["beyond"]["mean"] == 0 for row in lost.values())
    assert lost["depth"]["splat"]["mean"] > 0.3 and lost["pose"]["splat"]["mean"] > 0


def test_losses_beyond_the_splat_are_paired_by_unit():
    def unit(exact: tuple[float, float], depth: tuple[float, float]):
        def row(pair):
            return {name: {"all": {"psnr": value}} for name, value in zip(("splat", "dist4d"), pair, strict=True)}

        return {"exact": row(exact), "depth": row(depth), "pose": row(exact), "boxes": row(exact)}

    lost = losses([unit((20, 25), (18, 22)), unit((24, 26), (23, 25.5))])["depth"]
    assert lost["splat"]["mean"] == 1.5 and lost["dist4d"]["mean"] == 1.75
    assert lost["beyond"] == {"mean": 0.25, "std": pytest.approx(np.sqrt(1.125)), "n": 2}
