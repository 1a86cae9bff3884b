"""Fine-tuning of weights: their own sizes, a codec whose latents keep their meaning, keyframes that samples never show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dist4d_env.data.open import open_dataset
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.presets import preset
from dist4d_env.models.pretrained import load_model, resolve_weights
from dist4d_env.models.video_codec import encode_alike
from dist4d_env.training import adapting
from dist4d_env.training.codec import CodecRecipe
from dist4d_env.training.loop import LoopOptions, train
from dist4d_env.training.prepare import Keyframes, scene_samples
from dist4d_env.training.samples import SampleSettings, SampleStore, read_settings, write_settings
from tests.models.made import small_preset

HIDDEN = SampleSettings(32, 48, chunk=2, flawed=0.0, held_out=(("town-val-0000", 8),))


def test_sizes_are_those_of_the_weights() -> None:
    found, shipped = adapting.preset_of("tiny"), preset("tiny")
    assert (found.height, found.width, found.chunk, found.steps) == (64, 112, 4, 1)
    assert found.codec == shipped.codec and found.dist_t.items() >= shipped.dist_t.items()
    assert found.composer["most_detail"] == 0.4 and "gains" not in found.composer and "gains" not in found.dist_s
    assert "image_size" not in found.dist_s, "it is given beside them"
    assert found.codec_class == "RGBDCodec"


def test_every_part_starts_from_the_weights(store: SampleStore) -> None:
    tiny = resolve_weights("tiny")
    for part in adapting.SHARES:
        recipe = adapting.recipe_of(part, tiny, tiny / "codec", [store], 1, 0)
        for name, model in recipe.models.items():
            stored = load_model(type(model), tiny / name).state_dict()
            assert all(torch.equal(stored[key], value) for key, value in model.state_dict().items())


def test_a_video_codec_is_left_as_it_is() -> None:
    assert list(adapting.parts_of(preset("tiny"))) == ["codec", "dist_t", "dist_s"]
    parts = adapting.parts_of(preset("paper"))
    assert list(parts) == ["dist_t", "dist_s"] and sum(parts.values()) == pytest.approx(1)


def test_a_codec_without_its_encoder_keeps_its_latents(store: SampleStore, tmp_path: Path) -> None:
    recipe = CodecRecipe(small_preset(), store, None, 1, 0, encoder=False)
    before = RGBDCodec.from_config(recipe.codec.config)
    before.load_state_dict(recipe.codec.state_dict())
    assert train(recipe, LoopOptions(tmp_path, 3, warmup=1, ema=0.0, validate_every=0)) == {}
    after = load_model(RGBDCodec, tmp_path / "weights" / "codec")
    assert encode_alike(before, after)
    assert any(not torch.equal(a, b) for a, b in zip(before.decoder.parameters(), after.decoder.parameters(), strict=True))


def test_steps_follow_from_the_time(store: SampleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = CodecRecipe.batch
    ticks, steps = iter([9.0, 9.0 + adapting.TIMED / 2]), []  # half a second for each after the first
    monkeypatch.setattr(adapting, "_clock", lambda device: next(ticks))
    monkeypatch.setattr(CodecRecipe, "batch", lambda self, step, _=made: steps.append(step) or _(self, step))
    recipe = CodecRecipe(small_preset(), store, None, 1, 0)
    assert adapting.steps_within(recipe, 60.2, torch.device("cpu"), "float32") == 120
    assert steps == list(range(1 + adapting.TIMED))
    ticks = iter([0.0, 100.0])
    assert adapting.steps_within(recipe, 0.1, torch.device("cpu"), "float32") == 1


def test_samples_neither_show_nor_use_what_is_held_out(town_dataroot: Path) -> None:
    scene = open_dataset(town_dataroot).load("town-val-0000")
    known, free = Keyframes.read(scene, HIDDEN), Keyframes.read(scene, replace(HIDDEN, held_out=()))
    assert len(known.frames) == 8 and known.times == free.times[:8] and len(free.frames) == 13
    arrays = scene_samples(scene, HIDDEN)
    assert arrays["target"].max() == 7 and arrays["time"].tolist() == free.times[:8]
    assert np.array_equal(arrays["frame_rgb"], np.stack([frame.rgb for frame in free.frames[:8]]))


def test_what_is_held_out_belongs_to_the_settings(tmp_path: Path) -> None:
    write_settings(tmp_path, HIDDEN)
    assert read_settings(tmp_path) == HIDDEN
