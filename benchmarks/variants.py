"""The training runs that the ablation compares: each differs from its model's reference run in one thing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from benchmarks.common import write_json
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.composition import compose
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.inputs import ViewInputs
from dist4d_env.models.pipelines import DiSTTPipeline
from dist4d_env.models.presets import Preset, preset
from dist4d_env.models.pretrained import load_model, resolve_weights
from dist4d_env.training.checkpoint import load_checkpoint
from dist4d_env.training.codec import CodecRecipe
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.dist_t import DiSTTOptions, DiSTTRecipe
from dist4d_env.training.loop import LoopOptions, Recipe, train
from dist4d_env.training.rollouts import prepare_rollouts
from dist4d_env.training.samples import SampleStore

Model = Literal["codec", "dist-t", "dist-s"]

MINI: dict[str, dict[str, Any]] = {
    "dist_t": {"width": 96, "heads": 3, "depth": 3},
    "composer": {"widths": (24, 48, 64), "blocks": 1},
    "dist_s": {"widths": (24, 48, 80), "blocks": 1},
}
"""What is smaller than in the tiny preset, so that a run gets far in a few hundred steps."""


@dataclass(frozen=True)
class Variant:
    """One training run.

    preset: arguments that differ from the preset's, by part; options: those of ``DiSTTOptions`` that differ; rollouts: whether
    the reference run's roll-outs are trained on; mask: whether DiST-S is told what of its splat is valid; layout: whether DiST-T
    and its composer are told the projected layout.
    """

    model: Model
    preset: dict[str, dict[str, Any]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    rollouts: bool = False
    mask: bool = True
    layout: bool = True


VARIANTS = {
    "dist_t": Variant("dist-t"),
    "dist_t without splat": Variant("dist-t", {"dist_t": {"splat": False}}),
    "dist_t without layout": Variant("dist-t", {"dist_t": {"layout": False}}, layout=False),
    "dist_t without composition": Variant("dist-t", options={"compose": False}),
    "dist_t without splat and composition": Variant("dist-t", {"dist_t": {"splat": False}}, {"compose": False}),
    "dist_t without cross-view": Variant("dist-t", {"dist_t": {"cross_view": False}}),
    "dist_t with roll-outs": Variant("dist-t", rollouts=True),
    "dist_s": Variant("dist-s"),
    "dist_s without mask": Variant("dist-s", mask=False),
    "dist_s with linear depth": Variant("dist-s", {"dist_s": {"depth_code": "linear"}}),
    "codec": Variant("codec"),
    "codec with linear depth": Variant("codec", {"codec": {"depth_code": "linear"}}),
}


@dataclass(frozen=True)
class Budget:
    """What all runs have in common."""

    samples: Path
    """Folder of prepared training samples, as ``train`` makes them: train/ inside."""
    runs: Path
    """Folder for the runs; those in it go on or are judged as they are."""
    steps: int = 250
    """Optimiser steps of every run."""
    batch: int = 4
    """Frames of six cameras per step."""
    learning_rate: float = 1e-3
    """Plateau of the learning rate."""
    preset: str = "mini"
    """Sizes of images and models: "mini", the tiny preset at about half its widths, or a preset."""
    codec: str = "tiny"
    """Preset or folder whose codec DiST-T takes."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    train_dataroot: Path | None = None
    """The data set of the training samples, on which the reference run is rolled out; without it that variant is left out."""
    rollout_scenes: int = 8
    """How many training scenes are rolled out."""

    def folder(self, name: str) -> Path:
        """Where a variant's run lies."""
        return self.runs / name.replace(" ", "_")


def train_variant(name: str, variant: Variant, budget: Budget) -> None:
    """Train to the last step, or go on where a run was left; a run of another budget is refused."""
    out = budget.folder(name)
    noted = {key: getattr(budget, key) for key in ("steps", "batch", "learning_rate", "seed", "preset", "codec")}
    note = out / "budget.json"
    if note.is_file() and json.loads(note.read_text()) != noted:
        raise ConfigError(f"{out} holds a run of another budget: choose another --runs, or delete it")
    write_json(note, noted)
    begun = (out / "checkpoint.pt").is_file()
    if begun and load_checkpoint(out)["step"] >= budget.steps:
        return
    loop = LoopOptions(
        out=out,
        steps=budget.steps,
        learning_rate=budget.learning_rate,
        warmup=min(30, budget.steps // 4),
        seed=budget.seed,
        log_every=10,
        validate_every=budget.steps,
        resume=begun,
    )
    train(make_recipe(variant, budget), loop)


def make_recipe(variant: Variant, budget: Budget) -> Recipe:
    """The recipe of a variant; the first weights are those of the seed."""
    given = changed(preset("tiny"), MINI) if budget.preset == "mini" else preset(budget.preset)
    sizes = changed(given, variant.preset)
    store = SampleStore(budget.samples / "train")
    if variant.model == "codec":
        return CodecRecipe(sizes, store, None, budget.batch, budget.seed)
    if variant.model == "dist-s":
        recipe = DiSTSRecipe(sizes, store, None, budget.batch, budget.seed)
        if not variant.mask:
            recipe.unet = as_kind(UnmaskedDiSTS, recipe.unet)
            recipe.models["dist_s"] = recipe.unet
        return recipe
    codec = load_model(RGBDCodec, resolve_weights(budget.codec) / "codec")
    made = rolled_out(budget, store) if variant.rollouts else None
    told = DiSTTOptions(rollouts=made, **variant.options)
    full = DiSTTRecipe(sizes, codec, store, None, budget.batch, budget.seed, told)
    if not variant.layout:
        full.composer = as_kind(BlindComposer, full.composer)
        full.models["composer"] = full.composer
    return full


def changed(given: Preset, parts: Mapping[str, dict[str, Any]]) -> Preset:
    """A preset with other arguments of some parts."""
    return replace(given, **{part: getattr(given, part) | new for part, new in parts.items()})


def rolled_out(budget: Budget, store: SampleStore) -> SampleStore:
    """Samples of the reference run's own roll-outs on training scenes, made where they are missing."""
    dataset = open_dataset(budget.train_dataroot)
    names = [scene.folder.name for scene in store.scenes[: budget.rollout_scenes]]
    folder, weights = budget.runs / "rollouts", budget.folder("dist_t") / "weights"
    if not weights.is_dir():
        raise ConfigError(f"roll-outs are made by the run dist_t, which {budget.runs} lacks: leave --only out")
    prepare_rollouts(dataset, names, folder, store.settings, str(weights), workers=1)
    return SampleStore(folder)


class UnmaskedDiSTS(DiSTSUNet):
    """DiST-S that is not told where its splat is valid: sparse images keep their holes, all masks are zero, as published."""

    def predict_clean(self, noisy: torch.Tensor, noise_level: torch.Tensor, told: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if noisy.ndim == 5:
            frames = noisy.shape[1]
            flat = ViewInputs(*(t.flatten(0, 1) for t in (told.base, told.other, told.masks)))
            clean, share = self.predict_clean(noisy.flatten(0, 1), noise_level.repeat_interleave(frames), flat)
            return clean.unflatten(0, (-1, frames)), share.unflatten(0, (-1, frames))
        sparse = told.base * told.masks[:, :1]
        seen = torch.cat([noisy, sparse, torch.zeros_like(told.masks), told.base, told.other], 1)
        prediction = self.net(seen, noise_level[:, None]).to(told.base.dtype)
        return compose(told.base, prediction[:, :4], told.other, prediction[:, 4:])


class BlindComposer(Composer):
    """A composer that is not told the layout."""

    def forward(
        self,
        generated: torch.Tensor,
        base: torch.Tensor,
        other: torch.Tensor,
        masks: torch.Tensor,
        layout: torch.Tensor,
        interval: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(generated, base, other, masks, torch.zeros_like(layout), interval)


def blind(weights: Path) -> DiSTTPipeline:
    """DiST-T of a folder whose composer is not told the layout."""
    codec, transformer = load_model(RGBDCodec, weights / "codec"), load_model(DiSTTTransformer, weights / "dist_t")
    return DiSTTPipeline(codec, transformer, load_model(BlindComposer, weights / "composer"))


Network = TypeVar("Network", Composer, DiSTSUNet)


def as_kind(kind: type[Network], model: Network) -> Network:
    """The same network with the same weights as a class that computes otherwise."""
    twin: Network = kind.from_config(model.config).to(memory_format=torch.channels_last)
    twin.load_state_dict(model.state_dict())
    return twin
