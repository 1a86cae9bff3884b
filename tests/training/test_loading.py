"""Batches: the same in order and bits for any number of worker processes, any nesting reaches the device, sizes mix fairly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from dist4d_env.training.codec import CodecBatch, CodecRecipe
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.loading import choose_store, load, to_device
from dist4d_env.training.samples import SampleSettings, SampleStore, write_scene, write_settings
from tests.models.made import small_preset

from .conftest import HEIGHT, WIDTH, made_scene


def tensors(batch: Any) -> list[torch.Tensor]:
    if isinstance(batch, torch.Tensor):
        return [batch]
    return [tensor for part in batch for tensor in tensors(part)] if isinstance(batch, tuple) else []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", [CodecRecipe, DiSTSRecipe])
def test_workers_change_neither_order_nor_bits(kind: type, workers: int, store: SampleStore) -> None:
    recipe = kind(small_preset(), store, None, 2, 0)
    torch.manual_seed(3)
    alone = [tensors(batch) for batch in load(recipe.batch, 2, 9)]
    torch.manual_seed(4)
    before = torch.get_rng_state()
    ahead = [tensors(batch) for batch in load(recipe.batch, 2, 9, workers=workers)]
    assert torch.equal(torch.get_rng_state(), before), "loading must not draw from the stream that a model may use"
    assert len(alone) == len(ahead) == 7
    for one, other in zip(alone, ahead, strict=True):
        assert len(one) == len(other) > 1 and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(alone[0][0], alone[1][0])


def test_processes_and_seeds_get_batches_of_their_own(store: SampleStore) -> None:
    recipe, other = (CodecRecipe(small_preset(), store, None, 2, seed) for seed in (0, 1))
    assert not torch.equal(recipe.batch(0, 0).noise, recipe.batch(0, 1).noise)
    assert not torch.equal(recipe.batch(0, 0).noise, other.batch(0, 0).noise)


def test_a_worker_that_fails_stops_the_run() -> None:
    def broken(step: int, rank: int) -> torch.Tensor:
        if step == 1:
            raise ValueError("no such frame")
        return torch.zeros(1)

    batches = load(broken, 0, 3, workers=1)
    next(batches)
    with pytest.raises(ValueError, match="no such frame"):
        next(batches)


class Pair(NamedTuple):
    first: torch.Tensor
    second: str


def test_every_nesting_reaches_the_device() -> None:
    batch = (CodecBatch(torch.zeros(1), torch.zeros(2)), Pair(torch.zeros(3), "kept"), (torch.zeros(4), None))
    moved = to_device(batch, "meta")
    assert [t.device.type for t in tensors(moved)] == ["meta"] * 4
    assert isinstance(moved[0], CodecBatch) and moved[1].second == "kept" and moved[2][1] is None


@pytest.fixture
def half(tmp_path: Path) -> SampleStore:
    """A store of images half as wide."""
    write_settings(tmp_path, SampleSettings(HEIGHT, WIDTH // 2, chunk=2))
    arrays = made_scene(5)
    for name, array in arrays.items():
        if array.shape[2:4] == (HEIGHT, WIDTH):
            arrays[name] = array[:, :, :, ::2]
    write_scene(tmp_path, "scene-5", arrays)
    return SampleStore(tmp_path)


@pytest.mark.parametrize("kind", [CodecRecipe, DiSTSRecipe])
@pytest.mark.medium
def test_sizes_mix_at_equal_pixels(kind: type, store: SampleStore, half: SampleStore) -> None:
    recipe = kind(small_preset(), (store, half), None, 2, 0)
    shapes = [tuple(recipe.batch(step).truth.shape) for step in range(20)]
    assert set(shapes) == {(6, 4, HEIGHT, WIDTH), (12, 4, HEIGHT, WIDTH // 2)}
    assert 4 < shapes.count((6, 4, HEIGHT, WIDTH)) < 16
    loss, _ = recipe.loss(recipe.batch(shapes.index((12, 4, HEIGHT, WIDTH // 2))), 0)
    loss.backward()
    assert torch.isfinite(loss)


def test_larger_images_come_one_at_least(store: SampleStore) -> None:
    assert choose_store([store], 1, (HEIGHT // 4, WIDTH // 4), np.random.default_rng(0)) == (store, 1)
