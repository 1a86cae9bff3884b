"""Errors of recorded frames: of the strength that is asked for, where they belong, the same for a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.scenes.scene import Scene
from dist4d_env.training.source_errors import (
    UPRIGHT,
    SourceErrors,
    annotated_tokens,
    flawed_sources,
    height_over_road,
    with_box_noise,
    with_depth_errors,
)


@pytest.fixture(scope="module")
def scene(town_dataroot: Path) -> Scene:
    dataset = open_dataset(town_dataroot)
    return dataset.load(dataset.scene_names("val")[0])


@pytest.fixture(scope="module")
def frame(scene: Scene) -> RGBDFrame:
    return scene.sensors.rgbd(0, 64, 112)


def test_depth_errors_are_upright_things_and_the_sky_beside_them(frame: RGBDFrame) -> None:
    flawed = with_depth_errors(frame, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(flawed.rgb, frame.rgb)
    assert flawed.depth.dtype == np.float32 and (flawed.depth > 0).all() and (flawed.depth <= FAR).all()
    off = np.abs(np.log(flawed.depth / frame.depth))
    upright = (height_over_road(frame) > UPRIGHT) & (frame.depth < FAR)
    ground = ~upright & (frame.depth < FAR)
    assert (off[upright] > 0.22).mean() > 0.02 and np.median(off[upright]) < 0.05
    assert np.median(off[ground]) < 0.01
    sky = frame.depth >= FAR
    assert 0.005 < (flawed.depth[sky] < FAR).mean() < 0.5  # outlines have grown over some of it


def test_strength_scales_and_zero_changes_nothing(frame: RGBDFrame) -> None:
    weak, strong = (np.abs(np.log(with_depth_errors(frame, s, np.random.default_rng(1)).depth / frame.depth)) for s in (0.3, 1.0))
    assert weak.mean() < 0.6 * strong.mean()
    np.testing.assert_array_equal(with_depth_errors(frame, 0.0, np.random.default_rng(1)).depth, frame.depth)


def test_sources_repeat_with_a_seed_and_are_off_by_centimetres(scene: Scene, frame: RGBDFrame) -> None:
    def made(seed: int, errors: SourceErrors) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        (source,) = flawed_sources(scene, [frame], annotated_tokens(scene, errors, generator), errors, generator)
        return source.frame.global_from_camera, source.frame.depth

    errors = SourceErrors(1.0)
    (poses, depth), (again, same), (other, _) = made(0, errors), made(0, errors), made(1, errors)
    np.testing.assert_array_equal(poses, again)
    np.testing.assert_array_equal(depth, same)
    assert (poses != other).any()
    moved = np.linalg.norm(poses[:, :3, 3] - frame.global_from_camera[:, :3, 3], axis=1)
    assert 0 < moved.max() < 3.0  # 0.1 s at the ego's speed and some centimetres
    np.testing.assert_allclose(made(0, SourceErrors(0.0))[0], frame.global_from_camera, atol=1e-9)


def test_some_boxes_are_missing_in_some_samples(scene: Scene) -> None:
    errors, generator = SourceErrors(1.0), np.random.default_rng(0)
    counts = [len(annotated_tokens(scene, errors, generator)) for _ in range(60)]
    assert max(counts) == len(scene.tracks) > min(counts)
    boxes = scene.boxes(0.0)
    known = with_box_noise(boxes, boxes.token[:1], errors, generator)
    assert list(known.token) == list(boxes.token[:1]) and (known.position != boxes.position[:1]).any()
