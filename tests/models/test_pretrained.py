"""Folders of weights: what makes no sense is one WeightsError at loading; one that is replaced is whole at any instant."""

from __future__ import annotations

import json
import math
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.fuzzing.weights import ABSURD, KINDS, attempt, config_cases
from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.models.pretrained import SHIPPED, load_model, resolve_weights, save_model
from dist4d_env.models.segmenter import CLASSES, TownSegmenter
from dist4d_env.models.video_codec import load_codec
from dist4d_env.scenes import files
from dist4d_env.scenes.files import recovered, replacing_folder
from dist4d_env.training.checkpoint import remove_torn
from dist4d_env.worlds.dist4d import GenerativeWorld


def codec() -> RGBDCodec:
    torch.manual_seed(0)
    return RGBDCodec(4, 8, 8, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_are_finite_or_refused(tmp_path: Path, value: float) -> None:
    model = codec()
    save_model(model, tmp_path / "codec")
    file = tmp_path / "codec" / "model.safetensors"
    tensors = load_file(file)
    tensors["encoder.1.bias"][3] = value
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=r"codec: encoder\.1\.bias isn't finite in torch\.float32; train again"):
        load_codec(tmp_path / "codec")
    before = file.read_bytes()
    model.load_state_dict(tensors)
    with pytest.raises(WeightsError, match="isn't finite"):
        save_model(model, tmp_path / "codec")
    model.load_state_dict({name: torch.full_like(tensor, 1e6) for name, tensor in tensors.items()})
    with pytest.raises(WeightsError, match=r"isn't finite in torch\.float16"):
        save_model(model, tmp_path / "codec", torch.float16)
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["codec"]


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_make_no_sense_are_refused_at_loading(tmp_path: Path, kind: str) -> None:
    """Every field of every configuration; each absurd value somewhere (all pairs: ``benchmarks/fuzzing/weights.py``)."""
    cases = [case for case in config_cases() if case.kind == kind]
    assert len(config_cases()) > 4000 and math.gcd(29, len(ABSURD)) == 1, "a stride that meets all values"
    outcomes = []
    for number, case in enumerate(cases[::29]):
        (tmp_path / str(number)).mkdir()
        outcomes.append(attempt(case, tmp_path / str(number)))
    assert outcomes.count("refused") > len(outcomes) / 2


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("dist_t", "chunk", None), ("dist_t", "image_size", -1), ("dist_t", "image_size", [64, 113]), ("dist_t", "steps", 1.5),
        ("dist_t", "heads", 0), ("dist_t", "heads", 3), ("dist_t", "depth", 10**30), ("dist_s", "widths", []), ("dist_s",
        "blocks", 10**30),
        ("composer", "widths", [-8, 8]), ("composer", "most_detail", True), ("codec", "blocks", 10**30), ("codec", "width",
        10**9),
        ("codec", "depth_code", "cubic"), ("codec", "colour", 3), ("segmenter", "widths", [8, 8, 8, 8, 8]),
        ("video_codec", "vae", {"layers_per_block": 10**30}), ("video_codec", "vae", {"temporal_compression_ratio": 3}),
        ("svd", "unet", {"layers_per_block": 10**30}),
    ],
)  # fmt: skip
def test_what_is_said(tmp_path: Path, kind: str, field: str, value: object) -> None:
    folder = tmp_path / kind
    save_model(KINDS[kind].make(), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: value}))
    begun = time.monotonic()
    with pytest.raises(WeightsError, match=rf"config\.json does not describe a \w+: .*({field}|layers_per_block)") as caught:
        KINDS[kind].read(folder)
    assert len(str(caught.value)) <= 300 and time.monotonic() - begun < 20


def test_a_hundred_thousand_brackets(tmp_path: Path) -> None:
    save_model(codec(), tmp_path / "codec")
    (tmp_path / "codec" / "config.json").write_text("[" * 100_000)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_codec(tmp_path / "codec")


def test_models_that_do_not_belong_together(tmp_path: Path) -> None:
    def models(latents: int, image_size: tuple[int, int] = (64, 112)) -> DiSTTPipeline:
        transformer = DiSTTTransformer(2 * latents, 32, 2, 1, 1, image_size=image_size)
        return DiSTTPipeline(RGBDCodec(latents, 8, 8, 1), transformer, Composer((8, 8, 8), 1))

    models(4).save_pretrained(tmp_path)
    DiSTTPipeline.from_pretrained(tmp_path)
    save_model(RGBDCodec(8, 8, 8, 1), tmp_path / "codec")
    with pytest.raises(WeightsError, match="do not belong together: the transformer takes 8 latent channels, the codec makes 8"):
        DiSTTPipeline.from_pretrained(tmp_path)
    save_model(RGBDCodec(4, 8, 8, 1), tmp_path / "codec")
    save_model(Composer((8, 8, 8, 8), 1), tmp_path / "composer")
    save_model(DiSTTTransformer(8, 32, 2, 1, 1, image_size=(424, 800)), tmp_path / "dist_t")
    with pytest.raises(WeightsError, match="do not belong together: the composer takes multiples of 16 pixels"):
        DiSTTPipeline.from_pretrained(tmp_path)

    save_model(Composer((8, 8, 8), 1), tmp_path / "composer")
    save_model(DiSTSUNet((8, 8, 8, 8), 1), tmp_path / "dist_s")
    with pytest.raises(WeightsError, match="DiST-S takes multiples of 16 pixels"):
        GenerativeWorld.from_pretrained(tmp_path, device="cpu")


@pytest.mark.parametrize("name", ["\0", "a" * 5000, "", "/"])
def test_names_that_can_be_no_folder(name: str) -> None:
    with pytest.raises(WeightsError):
        load_model(Composer, resolve_weights(name) / "composer")


def test_folders_without_models_of_a_world_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where other networks ship under their names."""
    monkeypatch.chdir(tmp_path)
    for name in (".", "..", "depth", "stereo", "segmenter", SHIPPED / "depth", tmp_path):
        with pytest.raises(WeightsError, match=f"^no weights at {re.escape(str(name))}: .* or one of splat, tiny$"):
            resolve_weights(name)
    DiSTSPipeline(DiSTSUNet((8, 8), 1)).save_pretrained("depth")
    assert resolve_weights("depth") == Path("depth") and resolve_weights("tiny") == SHIPPED / "tiny"


@pytest.mark.parametrize(("patch", "most"), [(2, 4), (4, 3)])
def test_as_many_levels_as_any_picture_can_be_halved(patch: int, most: int) -> None:
    assert TownSegmenter([8] * most, 1, patch)(torch.zeros(1, 3, 16, 48)).shape == (1, len(CLASSES), 16, 48)
    with pytest.raises(ConfigError, match=f"widths must be a list of 1 to {most} numbers"):
        TownSegmenter([8] * (most + 1), 1, patch)


def save_for_ever(folder: Path) -> None:
    models = []
    for width in (8, 16):
        model = RGBDCodec(4, width, 8, 1)
        model.load_state_dict({name: torch.full_like(tensor, float(width)) for name, tensor in model.state_dict().items()})
        models.append(model)
    while True:
        for model in models:
            save_model(model, folder)


@pytest.mark.parametrize("exchanges", [True, False])
def test_killed_at_any_instant_a_whole_model_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool) -> None:
    """Configuration and weights are of the same model of the two that are written by turns."""
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    chance, seen = random.Random(0), set()
    for _ in range(25):
        child = os.fork()
        if not child:
            save_for_ever(tmp_path / "codec")
        while not recovered(tmp_path / "codec").exists():
            time.sleep(0.01)
        time.sleep(0.05 + chance.random() / 10)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        model = load_codec(tmp_path / "codec")
        assert all((tensor == model.config.width).all() for tensor in model.state_dict().values())
        seen.add(model.config.width)
    assert seen == {8, 16}


def fill(folder: Path, text: str) -> None:
    for name in "ab":
        (folder / name).write_text(text)


def read(folder: Path) -> set[str]:
    return {(folder / name).read_text() for name in "ab"}


def test_between_the_two_renames_the_old_folder_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that cannot exchange, killed at the worst instant."""
    place = tmp_path / "model"
    with replacing_folder(place) as fresh:
        fill(fresh, "old")
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    rename, calls = os.rename, []

    def killed(source: object, target: object) -> None:
        calls.append(target)
        if len(calls) == 3:  # refused, put aside, and then
            raise KeyboardInterrupt
        rename(source, target)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "rename", killed)
        with replacing_folder(place) as fresh:
            fill(fresh, "new")
    assert not place.exists() and read(recovered(place)) == {"old"}
    with replacing_folder(place) as fresh:
        fill(fresh, "new")
    assert read(place) == {"new"} and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_goes_wrong_leaves_the_old_folder(tmp_path: Path) -> None:
    place = tmp_path / "model"
    with replacing_folder(place) as fresh:
        fill(fresh, "old")
    (tmp_path / "link").symlink_to(place, target_is_directory=True)
    with pytest.raises(OSError, match="full"), replacing_folder(place) as fresh:
        (fresh / "a").write_text("new")
        raise OSError("the disk is full")
    assert read(place) == {"old"}
    with replacing_folder(tmp_path / "link") as fresh:
        fill(fresh, "new")
    assert read(place) == {"new"} and sorted(path.name for path in tmp_path.iterdir()) == ["link", "model"]
    with pytest.raises(ConfigError, match="holds a folder of something else"), replacing_folder(tmp_path / "x") as fresh:
        files.keep_beside(tmp_path, fresh)


def test_a_killed_training_s_leftovers_are_removed(tmp_path: Path) -> None:
    for name in (".weights-abc", ".weights.old"):
        (tmp_path / name / "codec").mkdir(parents=True)
    (tmp_path / ".checkpoint.pt.123").write_text("half")
    remove_torn(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights"]
