"""The training loop: losses fall, interrupted runs go on bit for bit, gradients reach every weight."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dist4d_env.errors import DataError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.training.codec import CodecRecipe
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.dist_t import DiSTTRecipe
from dist4d_env.training.export import Options as ExportOptions
from dist4d_env.training.export import run as run_export
from dist4d_env.training.loop import LoopOptions, Recipe, train
from dist4d_env.training.samples import SampleStore
from dist4d_env.training.schedule import rate_at

from .conftest import HEIGHT, WIDTH, small_preset


def make(name: str, store: SampleStore) -> Recipe:
    preset = small_preset()
    if name == "codec":
        return CodecRecipe(preset, store, None, 2, 0)
    if name == "dist_s":
        return DiSTSRecipe(preset, store, None, 2, 0)
    torch.manual_seed(1)
    return DiSTTRecipe(preset, RGBDCodec(**preset.codec), store, None, 2, 0)


def options(out: Path, steps: int, **extra: object) -> LoopOptions:
    return LoopOptions(out, steps, warmup=2, log_every=1, validate_every=100, checkpoint_every=1e9, precision="float32", **extra)


@pytest.mark.parametrize("name", ["codec", "dist_s", "dist_t"])
def test_training_lowers_the_loss(name: str, store: SampleStore, tmp_path: Path) -> None:
    recipe = make(name, store)
    with torch.no_grad():
        before = sum(recipe.loss(recipe.batch(1000 + k), 1000 + k)[0].item() for k in range(4))
    train(recipe, options(tmp_path, 30))
    with torch.no_grad():
        after = sum(recipe.loss(recipe.batch(1000 + k), 1000 + k)[0].item() for k in range(4))
    assert after < 0.8 * before


@pytest.mark.parametrize("name", ["codec", "dist_s", "dist_t"])
def test_resumed_run_is_bit_identical(name: str, store: SampleStore, tmp_path: Path) -> None:
    whole = make(name, store)
    train(whole, options(tmp_path / "whole", 4, decay=1e-9))
    train(make(name, store), options(tmp_path / "parts", 2, decay=1e-9))
    resumed = make(name, store)
    train(resumed, options(tmp_path / "parts", 4, decay=1e-9, resume=True))
    for part, model in whole.models.items():
        for key, value in model.state_dict().items():
            assert torch.equal(value, resumed.models[part].state_dict()[key]), f"{part}.{key}"
    lines = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["codec", "dist_s", "dist_t"])
def test_gradients_reach_every_weight(name: str, store: SampleStore) -> None:
    recipe = make(name, store)
    # Zero-initialised outputs pass nothing back at first: move every weight off zero.
    for model in recipe.models.values():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(0))
    for step in range(3):
        recipe.loss(recipe.batch(step), step)[0].backward()
    for part, model in recipe.models.items():
        silent = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not silent, f"{part}: {silent}"


def test_exported_weights_load_into_pipelines(store: SampleStore, tmp_path: Path) -> None:
    train(make("dist_t", store), options(tmp_path, 1))
    train(make("dist_s", store), options(tmp_path, 1))
    config = DiSTTPipeline.from_pretrained(tmp_path / "weights").transformer.config
    assert config.width == 32 and (tuple(config.image_size), config.chunk, config.steps) == ((HEIGHT, WIDTH), 2, 1)
    assert DiSTSPipeline.from_pretrained(tmp_path / "weights").unet.config.blocks == 1


def test_resume_without_a_checkpoint_says_so(store: SampleStore, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"checkpoint\.pt does not exist"):
        train(make("codec", store), options(tmp_path, 2, resume=True))


def test_rate_rises_holds_and_falls() -> None:
    rates = [rate_at(step, 100, 10, 0.3) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[10:70] == [1.0] * 60 and rates[99] < 0.05


def test_runs_are_gathered_at_half_precision(store: SampleStore, tmp_path: Path) -> None:
    train(make("dist_t", store), options(tmp_path / "t", 1))
    train(make("dist_s", store), options(tmp_path / "s", 1))
    assert run_export(ExportOptions(tmp_path / "t", tmp_path / "s", tmp_path / "out")) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["codec", "composer", "dist_s", "dist_t"]
    whole = DiSTTPipeline.from_pretrained(tmp_path / "t" / "weights").transformer.state_dict()
    half = DiSTTPipeline.from_pretrained(tmp_path / "out").transformer.state_dict()
    assert all(torch.equal(half[name], tensor.half().float()) for name, tensor in whole.items())
