"""Stereo learns from a town, goes on where it was stopped, and its samples say what is true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.models.pretrained import load_model
from dist4d_env.models.stereo import StereoNetwork, depth_code, warp
from dist4d_env.training import stereo
from dist4d_env.training.loop import LoopOptions, train
from dist4d_env.training.prepare import prepare
from dist4d_env.training.samples import SampleSettings, SampleStore, write_scene, write_settings
from dist4d_env.training.stereo import CROP, StereoRecipe, stereo_samples


@pytest.fixture(scope="module")
def taken(town_dataroot: Path, tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    """A town's scene."""
    folder, dataset = tmp_path_factory.mktemp("stereo") / "train", open_dataset(town_dataroot)
    prepare(dataset, dataset.names()[:1], folder, SampleSettings(64, 112), 1, stereo_samples)
    return SampleStore(folder)


def test_windows_of_sources_show_what_the_reference_shows(taken: SampleStore, monkeypatch: pytest.MonkeyPatch):
    """Warped by the true depth, sources have the reference's colours, at every scale and place."""
    monkeypatch.setattr(stereo, "augmented", lambda images, generator: images)
    batch = StereoRecipe(taken, None, 6, 0).batch(0)
    assert batch.images.shape == (6, 4, 3, *CROP) and batch.pixels.shape == (6, 3, 3, 4)
    codes = depth_code(batch.truth.clamp(min=0.5))[:, None]
    better = []
    for index in range(3):
        source = torch.cat([batch.images[:, index + 1], batch.seen[:, index + 1]], 1)
        there, elsewhere = (warp(source, CROP, batch.pixels[:, index].float(), c, 1)[:, :, 0] for c in (codes, 0.6 * codes))
        both = (batch.truth > 3) & (batch.truth < 40) & (there[:, 3] > 0.99) & (elsewhere[:, 3] > 0.99)
        off, wrong = ((F.avg_pool2d((w[:, :3] - batch.images[:, 0]).abs(), 5, 1, 2).mean(1)[both]) for w in (there, elsewhere))
        better.append((off.mean() / wrong.mean()).item())
    assert max(better) < 0.9, better


@pytest.mark.medium
def test_it_learns_and_goes_on_where_it_was(taken: SampleStore, tmp_path: Path):
    def options(steps: int, out: str, resume: bool = False) -> LoopOptions:
        return LoopOptions(tmp_path / out, steps, 3e-3, warmup=5, ema=0.8, validate_every=0, resume=resume)

    recipe = StereoRecipe(taken, None, 1, 0)
    before = np.mean([recipe.loss(recipe.batch(step), step)[0].item() for step in range(100, 106)])
    train(recipe, options(30, "whole"))
    with torch.no_grad():
        after = np.mean([recipe.loss(recipe.batch(step), step)[0].item() for step in range(100, 106)])
    assert after < 0.97 * before
    train(StereoRecipe(taken, None, 1, 0), options(2, "parts"))
    train(StereoRecipe(taken, None, 1, 0), options(3, "parts", resume=True))
    train(StereoRecipe(taken, None, 1, 0), options(3, "once"))
    parts, once = (load_model(StereoNetwork, tmp_path / name / "weights" / "stereo") for name in ("parts", "once"))
    assert all(torch.equal(a, b) for a, b in zip(parts.state_dict().values(), once.state_dict().values(), strict=True))


def test_a_parked_car_gives_nothing_to_compare(taken: SampleStore, tmp_path: Path):
    """Alone it is refused; beside a drive it is passed over."""
    arrays = dict(taken.scenes[0].arrays)
    poses = np.repeat(arrays["global_from_camera"][:1], len(arrays["rgb"]), 0)
    for name, scenes in {"parked": ["a"], "both": ["a", "b"]}.items():
        write_settings(tmp_path / name, taken.settings)
        for scene in scenes:
            write_scene(tmp_path / name, scene, arrays if scene == "b" else arrays | {"global_from_camera": poses})
    with pytest.raises(DataError, match=r"parked: in no scene do two keyframes lie 0.5 to 10 m apart .* in which the car drives"):
        StereoRecipe(SampleStore(tmp_path / "parked"), None, 1, 0)
    with pytest.raises(DataError, match="parked: in no scene"):
        StereoRecipe(taken, SampleStore(tmp_path / "parked"), 1, 0)
    assert StereoRecipe(SampleStore(tmp_path / "both"), None, 2, 0).batch(0).images.shape == (2, 4, 3, *CROP)


def test_scenes_without_files_are_named(nuscenes_real: Path):
    scene = open_dataset(nuscenes_real).load("scene-0103", False)
    with pytest.raises(DataError, match="scene-0103 has fewer than two keyframes with images and depth"):
        stereo_samples(scene, SampleSettings(64, 112))
