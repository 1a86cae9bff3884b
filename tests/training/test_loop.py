"""The training loop: losses fall, interrupted runs go on bit for bit, gradients reach every weight."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dist4d_env.errors import ConfigError, DataError, WeightsError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.models.presets import PRESETS
from dist4d_env.models.pretrained import save_model
from dist4d_env.training.checkpoint import load_checkpoint
from dist4d_env.training.cli import TrainDiSTT
from dist4d_env.training.codec import CodecRecipe
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.dist_t import DiSTTRecipe
from dist4d_env.training.dist_t_batches import DiSTTOptions
from dist4d_env.training.export import Options as ExportOptions
from dist4d_env.training.export import blend
from dist4d_env.training.export import run as run_export
from dist4d_env.training.loop import LoopOptions, Recipe, rate_at, train
from dist4d_env.training.options import DataOptions
from dist4d_env.training.samples import SampleSettings, SampleStore, write_scene, write_settings
from tests.models.made import small_preset

from .conftest import HEIGHT, WIDTH, made_scene

pytestmark = pytest.mark.medium


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


def test_resume_without_a_checkpoint_is_refused(store: SampleStore, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"checkpoint\.pt does not exist"):
        train(make("codec", store), options(tmp_path, 2, resume=True))


def test_resume_with_fewer_steps_than_are_done_is_refused(store: SampleStore, tmp_path: Path) -> None:
    train(make("codec", store), options(tmp_path, 2))
    with pytest.raises(ConfigError, match=r"has done 2 steps, more than --steps 1: resume it with --steps 2 or more"):
        train(make("codec", store), options(tmp_path, 1, resume=True))
    assert train(make("codec", store), options(tmp_path, 2, resume=True)) == {}, "nothing is left to do"


def test_what_fails_in_a_validation_costs_no_steps(store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation is made up for when the run goes on, once."""
    failing = make("codec", store)
    monkeypatch.setattr(failing, "validate", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(failing, options(tmp_path, 2))
    assert load_checkpoint(tmp_path)["step"] == 2 and (tmp_path / "weights" / "codec").is_dir()
    assert set(train(make("codec", store), options(tmp_path, 2, resume=True))) == {"psnr", "abs_rel", "delta1"}
    assert train(make("codec", store), options(tmp_path, 2, resume=True)) == {}
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], "validation" in line) for line in lines] == [(1, False), (2, False), (2, True)]


def test_scenes_too_short_to_validate_on_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four keyframes, where chunks of four follow a first one."""
    write_settings(tmp_path / "val", SampleSettings(HEIGHT, WIDTH, chunk=4))
    write_scene(tmp_path / "val", "short", made_scene(0))
    short = SampleStore(tmp_path / "val")
    monkeypatch.setitem(PRESETS, "small-test", replace(small_preset(), chunk=4))
    monkeypatch.setattr(TrainDiSTT, "training_stores", lambda self, strides: [short])
    save_model(RGBDCodec(**small_preset().codec), tmp_path / "weights" / "codec")
    chosen = TrainDiSTT(
        tmp_path / "run", preset="small-test", codec=str(tmp_path / "weights"), data=DataOptions(val_split="none")
    )
    with pytest.raises(
        DataError, match=r"val holds no 4 keyframes in a row .* scenes \(--dataroot, --split\), of at least 5 keyframes"
    ):
        chosen.recipe()
    with pytest.raises(ConfigError, match=r"holds no rollouts of 4 keyframes .* at least 5 keyframes"):
        codec = RGBDCodec(**small_preset().codec)
        DiSTTRecipe(replace(small_preset(), chunk=4), codec, short, None, 1, 0, DiSTTOptions(rollouts=short))


def test_rate_rises_holds_and_falls() -> None:
    rates = [rate_at(step, 100, 10, 0.3) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[10:70] == [1.0] * 60 and rates[99] < 0.05


def test_runs_are_gathered_at_half_precision(store: SampleStore, tmp_path: Path) -> None:
    train(make("dist_t", store), options(tmp_path / "t", 1))
    train(make("dist_s", store), options(tmp_path / "s", 1))
    (tmp_path / "out" / "codec").mkdir(parents=True)
    (tmp_path / "out" / "README.md").write_text("kept")
    assert run_export(ExportOptions(tmp_path / "t", tmp_path / "s", tmp_path / "out")) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "codec", "composer", "dist_s", "dist_t"]
    whole = DiSTTPipeline.from_pretrained(tmp_path / "t" / "weights").transformer.state_dict()
    half = DiSTTPipeline.from_pretrained(tmp_path / "out").transformer.state_dict()
    assert all(torch.equal(half[name], tensor.half().float()) for name, tensor in whole.items())


def test_detail_is_bounded_in_the_weights_that_are_written(store: SampleStore, tmp_path: Path) -> None:
    train(make("dist_t", store), options(tmp_path / "t", 1))
    train(make("dist_s", store), options(tmp_path / "s", 1))
    runs = {"dist_t": tmp_path / "t", "dist_s": tmp_path / "s", "out": tmp_path / "out"}
    run_export(ExportOptions(**runs, most_detail=0.4))
    composer = DiSTTPipeline.from_pretrained(tmp_path / "out").composer
    assert composer is not None and composer.config.most_detail == 0.4
    with pytest.raises(ConfigError, match="a bound above 0, not 0"):
        run_export(ExportOptions(**runs, most_detail=0.0))


def test_a_loss_that_is_no_number_never_reaches_a_checkpoint(store: SampleStore, tmp_path: Path) -> None:
    recipe = make("codec", store)
    with torch.no_grad():
        next(recipe.models["codec"].parameters())[0] = torch.nan
    with pytest.raises(ConfigError, match="the loss is nan at step 1"):
        train(recipe, options(tmp_path, 2))
    assert not (tmp_path / "checkpoint.pt").exists()


def test_activations_are_recomputed_where_a_model_can(store: SampleStore, tmp_path: Path) -> None:
    plain, saving = make("dist_t", store), make("dist_t", store)
    train(plain, options(tmp_path / "plain", 2))
    train(saving, options(tmp_path / "saving", 2, gradient_checkpointing=True))
    transformer = saving.models["dist_t"]
    assert transformer.is_gradient_checkpointing and not plain.models["dist_t"].is_gradient_checkpointing
    for name, tensor in plain.models["dist_t"].state_dict().items():
        torch.testing.assert_close(transformer.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="codec cannot recompute activations"):
        train(make("codec", store), options(tmp_path / "codec", 1, gradient_checkpointing=True))


def test_bfloat16_trains_and_keeps_weights_in_float32(store: SampleStore, tmp_path: Path) -> None:
    exact, rough = make("dist_s", store), make("dist_s", store)
    train(exact, options(tmp_path / "exact", 3))
    train(rough, replace(options(tmp_path / "rough", 3), precision="bfloat16"))
    pairs = [(a, b) for a, b in zip(exact.models["dist_s"].parameters(), rough.models["dist_s"].parameters(), strict=True)]
    assert all(b.dtype == torch.float32 for _, b in pairs)
    assert any(not torch.equal(a, b) for a, b in pairs), "bfloat16 rounds differently"


def test_an_absent_extra_is_named(store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("accelerate", "torch.utils.tensorboard"):
        with monkeypatch.context() as hidden:
            hidden.setitem(sys.modules, module, None)
            with pytest.raises(ConfigError, match=r"pip install 'dist4d_env\[train\]'"):
                train(make("codec", store), options(tmp_path / module, 1))


def test_runs_are_blended(store: SampleStore, tmp_path: Path) -> None:
    train(make("dist_t", store), options(tmp_path / "t", 1))
    train(make("dist_t", store), options(tmp_path / "later", 3))
    train(make("dist_s", store), options(tmp_path / "s", 1))
    train(make("dist_t", store), options(tmp_path / "other", 2))
    run_export(ExportOptions(tmp_path / "t", tmp_path / "s", tmp_path / "out", (tmp_path / "later",), blend_share=0.25))
    run_export(
        ExportOptions(
            tmp_path / "t", tmp_path / "s", tmp_path / "three", (tmp_path / "later", tmp_path / "other"), blend_share=0.8
        )
    )
    folders = [tmp_path / run / "weights" for run in ("t", "later", "other")] + [tmp_path / "out", tmp_path / "three"]
    first, second, third, made, mean = (DiSTTPipeline.from_pretrained(folder).transformer.state_dict() for folder in folders)
    for name, tensor in made.items():
        assert torch.allclose(tensor, 0.75 * first[name] + 0.25 * second[name], atol=2e-3), name
        assert torch.allclose(mean[name], 0.2 * first[name] + 0.4 * second[name] + 0.4 * third[name], atol=2e-3), name
    assert any(not torch.equal(first[name], made[name]) for name in made)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        run_export(ExportOptions(tmp_path / "t", tmp_path / "s", tmp_path / "out", (tmp_path / "later",), blend_share=2.0))


def test_runs_of_dist_s_are_blended(store: SampleStore, tmp_path: Path) -> None:
    train(make("dist_t", store), options(tmp_path / "t", 1))
    for name, steps in (("s", 1), ("later", 3)):
        train(make("dist_s", store), options(tmp_path / name, steps))
    run_export(ExportOptions(tmp_path / "t", tmp_path / "s", tmp_path / "out", blend_s=(tmp_path / "later",), blend_share=0.25))
    folders = tmp_path / "s" / "weights", tmp_path / "later" / "weights", tmp_path / "out"
    first, second, made = (DiSTSPipeline.from_pretrained(folder).unet.state_dict() for folder in folders)
    for name, tensor in made.items():
        assert torch.allclose(tensor, 0.75 * first[name] + 0.25 * second[name], atol=2e-3), name
    assert any(not torch.equal(first[name], made[name]) for name in made)


def test_decoders_are_blended_under_the_same_encoder_only(store: SampleStore, tmp_path: Path) -> None:
    train(make("dist_t", store), options(tmp_path, 1))
    mine, theirs = (DiSTTPipeline.from_pretrained(tmp_path / "weights") for _ in range(2))
    before = {name: value.clone() for name, value in mine.codec.state_dict().items()}
    with torch.no_grad():
        for parameter in theirs.codec.decoder.parameters():
            parameter += 0.4
    blend(mine, [theirs], 0.25)
    for name, value in mine.codec.state_dict().items():
        moved = 0.1 if name.startswith("decoder.") else 0.0
        assert torch.allclose(value, before[name] + moved, atol=1e-6), name
    with torch.no_grad():
        next(theirs.codec.encoder.parameters()).add_(0.1)
    with pytest.raises(WeightsError, match="encoders differ"):
        blend(mine, [theirs], 0.25)
