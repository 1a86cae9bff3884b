"""Depth completion learns from a town, goes on where it was stopped, and its samples say what is true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.models.depth_flow import DepthFlow
from dist4d_env.models.pretrained import load_model
from dist4d_env.training import depth
from dist4d_env.training.depth import CROP, GROUND, OBJECT, SKY, DepthRecipe, depth_samples, removed, thinned
from dist4d_env.training.loop import LoopOptions, train
from dist4d_env.training.prepare import prepare
from dist4d_env.training.samples import SampleSettings, SampleStore


@pytest.fixture(scope="module")
def taken(town_dataroot: Path, tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    """Two keyframes of a town's scene."""
    folder, dataset = tmp_path_factory.mktemp("depth") / "train", open_dataset(town_dataroot)
    most, depth.MOST = depth.MOST, 2
    prepare(dataset, dataset.names()[:1], folder, SampleSettings(112, 199), 1, depth_samples)
    depth.MOST = most
    return SampleStore(folder)


def test_samples_are_true(taken: SampleStore):
    """Returns lie where the exact depth is, ground is below, sky is far."""
    arrays = taken.scenes[0].arrays
    assert arrays["rgb"].shape == (12, 112, 199, 3)
    sparse, exact, classes = (np.array(arrays[name]).astype(float) for name in ("sparse", "depth", "classes"))
    returned = sparse > 0
    assert returned.mean() > 0.02 and np.median(np.abs(sparse / np.maximum(exact, 0.1) - 1)[returned]) < 0.02
    assert (classes[returned] != SKY).mean() > 0.97
    assert (exact[classes == SKY] == 100).all() and (classes[:, -10:] == GROUND).mean() > 0.5 and (classes == OBJECT).any()


def test_returns_are_taken_away_as_told():
    sparse = np.full((112, 199), 10.0, np.float32)
    generator = np.random.default_rng(0)
    half, wedges = (removed(sparse, 158.0, kind, generator) for kind in ("half", "wedges"))
    assert (half > 0).mean() == pytest.approx(0.5, abs=0.02) and (wedges > 0).mean() == pytest.approx(2 / 3, abs=0.1)
    columns = (wedges > 0).any(0)
    assert ((wedges > 0).all(0) == columns).all(), "wedges are whole"
    upright = np.ones(sparse.shape, bool)
    shares = [float((thinned(sparse, upright, 158.0, generator)[0] > 0).mean()) for _ in range(40)]
    assert min(shares) < 0.3 and max(shares) > 0.97


def test_shifted_returns_stay_what_they_are():
    """Those 8 m away are upright, those 12 m away are ground, however they are augmented."""
    generator = np.random.default_rng(0)
    upright = generator.random((112, 199)) < 0.5
    sparse = np.where(upright, 8.0, 12.0).astype(np.float32)
    moved = 0
    for _ in range(20):
        kept, still = thinned(sparse, upright, 158.0, generator)
        right = (kept < 10) == still
        assert right[kept > 0].mean() > 0.99 if kept.any() else still is upright  # a few returns are of something else
        moved += not np.array_equal(still, upright)
    assert moved > 1


@pytest.mark.medium
def test_it_learns_and_goes_on_where_it_was(taken: SampleStore, tmp_path: Path):
    def options(steps: int, out: str, resume: bool = False) -> LoopOptions:
        return LoopOptions(tmp_path / out, steps, 2e-3, warmup=5, ema=0.8, validate_every=0, resume=resume)

    recipe = DepthRecipe(taken, None, 4, 0)
    assert recipe.batch(0).condition.shape == (4, 14, *CROP)
    before = recipe.validate()
    train(recipe, options(40, "whole"))
    after = recipe.validate()
    assert after["right"] > max(before["right"], 0.6) and after["all_wedges"] < 0.6 * before["all_wedges"]
    train(DepthRecipe(taken, None, 4, 0), options(3, "parts"))
    train(DepthRecipe(taken, None, 4, 0), options(5, "parts", resume=True))
    train(DepthRecipe(taken, None, 4, 0), options(5, "once"))
    parts, once = (load_model(DepthFlow, tmp_path / name / "weights" / "depth") for name in ("parts", "once"))
    assert all(torch.equal(a, b) for a, b in zip(parts.state_dict().values(), once.state_dict().values(), strict=True))


def test_scenes_without_files_are_named(nuscenes_real: Path):
    scene = open_dataset(nuscenes_real).load("scene-0103", False)
    with pytest.raises(DataError, match="scene-0103 has no keyframe with images, depth and LiDAR"):
        depth_samples(scene, SampleSettings(112, 199))
