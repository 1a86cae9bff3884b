"""What each part of the models is worth: the same small training run with and without it, judged on scenes never trained on.

Every run starts from random weights of one seed and takes the same number of steps of one batch size from the same samples; only
one thing differs from the reference run of its model. Runs and judgements that are finished are kept below ``--runs``. Memory
policies need no training of their own: they are compared with one set of weights in closed loop. The number of evaluations is
ablated by ``sampling.py``, cycle consistency by ``cycle.py``.

    python -m benchmarks.ablation --samples RUN/samples --out benchmarks/results/ablation.json
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from benchmarks.common import Journal, header, mean_and_spread, run, write_json
from benchmarks.pixels import score
from benchmarks.rollouts import real_frames, through_codec
from benchmarks.sampling import Completion, aside, closed_loop, completion, one_steps, tables
from benchmarks.tables import print_table
from benchmarks.temporal import SIZE, Scores, average
from dist4d_env.errors import ConfigError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.composer import Composer
from dist4d_env.models.composition import compose
from dist4d_env.models.conditions import ViewInputs
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.dist_t import DiSTTTransformer
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.models.presets import Preset, preset
from dist4d_env.models.pretrained import load_model, resolve_weights
from dist4d_env.scenes.nuscenes import open_dataset
from dist4d_env.scenes.scene import Scene
from dist4d_env.training.checkpoint import load_checkpoint
from dist4d_env.training.codec import CodecRecipe
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.dist_t import DiSTTOptions, DiSTTRecipe
from dist4d_env.training.loop import LoopOptions, Recipe, train
from dist4d_env.training.rollouts import prepare_rollouts
from dist4d_env.training.samples import SampleStore
from dist4d_env.world.contract import World
from dist4d_env.world.factory import make_world
from dist4d_env.world.generative import GenerativeWorld

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
MEMORIES: dict[str, Literal["holes", "all", "never"]] = {
    "memory of holes": "holes",
    "memory of all": "all",
    "memory never grows": "never",
}
"""What of a generated frame enters the memory: ``PolicyConfig.grow``."""

ONE_STEP, LOOP, ASIDE, CODEC = "one_step_history", "closed_loop_history", "novel_view_2m", "through_codec"


@dataclass(frozen=True)
class Effect:
    """What a part does: the difference between two rows of a protocol."""

    protocol: str
    given: str
    without: str


EFFECTS = {
    "splat condition": Effect(ONE_STEP, "dist_t", "dist_t without splat"),
    "layout conditions": Effect(ONE_STEP, "dist_t", "dist_t without layout"),
    "composition": Effect(ONE_STEP, "dist_t", "dist_t without composition"),
    "splat condition and composition": Effect(ONE_STEP, "dist_t", "dist_t without splat and composition"),
    "cross-view attention": Effect(ONE_STEP, "dist_t", "dist_t without cross-view"),
    "roll-out training, one step": Effect(ONE_STEP, "dist_t with roll-outs", "dist_t"),
    "roll-out training, closed loop": Effect(LOOP, "dist_t with roll-outs", "dist_t"),
    "memory of holes, against whole frames": Effect(LOOP, "memory of holes", "memory of all"),
    "memory of holes, against none": Effect(LOOP, "memory of holes", "memory never grows"),
    "valid mask": Effect(ASIDE, "dist_s", "dist_s without mask"),
    "logarithmic depth, DiST-S": Effect(ASIDE, "dist_s", "dist_s with linear depth"),
    "logarithmic depth, codec": Effect(CODEC, "codec", "codec with linear depth"),
}
ELSEWHERE = {"evaluations 1, 2, 4, 30": "sampling.json", "cycle consistency": "cycle.json"}
"""Parts that other benchmarks switch on and off, and the files of their results."""


@dataclass(frozen=True)
class Options:
    """Train every variant under one small budget and judge it."""

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
    weights: str = "tiny"
    """Preset or folder with which memory policies are compared, and whose DiST-S stands beside each DiST-T."""
    only: tuple[str, ...] = ()
    """Names of variants to train and judge (default: all)."""
    train_dataroot: Path | None = None
    """The data set of the training samples, on which the reference run is rolled out; without it that variant is left out."""
    rollout_scenes: int = 8
    """How many training scenes are rolled out."""
    scenes: int = 8
    """How many val scenes to judge on."""
    starts: int = 4
    """Instants of each scene from which one step is predicted, and from which the cameras move aside."""
    duration: float = 4.0
    """Seconds in closed loop."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    dataroot: Path | None = None
    """A town data set to judge on; the default one is made when there is none."""
    quick: bool = False
    """Two steps, one scene, one instant, one second, to see that it runs."""
    out: Path | None = None
    """Result file (JSON); a stopped judgement goes on where it was."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.only if name not in VARIANTS]
        if unknown:
            raise ConfigError(f"no variant {unknown[0]!r}: use {', '.join(VARIANTS)}")


def main(options: Options) -> dict[str, Any]:
    if options.quick:
        options = replace(options, steps=2, scenes=1, starts=1, duration=1.0)
    chosen = {name: VARIANTS[name] for name in options.only or VARIANTS}
    if options.train_dataroot is None:
        chosen = {name: variant for name, variant in chosen.items() if not variant.rollouts}
    for name, variant in tqdm(chosen.items(), desc="variants", unit="run", disable=None):
        train_variant(name, variant, options)
    judge = Judge(chosen, options)
    dataset = open_dataset(options.dataroot)
    names = dataset.scene_names("val")[: options.scenes]
    key = {"runs": options.runs, "variants": list(chosen), "starts": options.starts, "duration": options.duration}
    journal = Journal(options.out, key | {"weights": options.weights, "seed": options.seed, "town": dataset.dataroot})
    for name in tqdm(names, desc="scenes", unit="scene", disable=None):
        if name not in journal.done:
            journal.add(name, judge.scene(dataset.load(name)))
    units = [journal.done[name] for name in names]
    results, worth = tables(units), effects(units)
    result = header("ablation", options) | {
        "scenes": names,
        "images": "6 x {} x {}".format(*SIZE),
        "budget": {"steps": options.steps, "batch": options.batch, "seed": options.seed},
        "results": results,
        "effects": worth,
        "left_out": [name for name in VARIANTS if name not in chosen],
        "elsewhere": ELSEWHERE,
    }
    if options.out:
        write_json(options.out, result)
    journal.finish()
    print_table(results)
    for name, row in worth.items():
        told = ", ".join(f"{key} {row[key]['mean']:+.3f} ±{row[key]['std']:.3f}" for key in row)
        print(f"{name:<40}{told}")
    return result


def train_variant(name: str, variant: Variant, options: Options) -> None:
    """Train to the last step, or go on where a run was left; a run of another budget is refused."""
    out = run_folder(name, options)
    budget = {"steps": options.steps, "batch": options.batch, "learning_rate": options.learning_rate, "seed": options.seed}
    budget |= {"preset": options.preset, "codec": options.codec}
    note = out / "budget.json"
    if note.is_file() and json.loads(note.read_text()) != budget:
        raise ConfigError(f"{out} holds a run of another budget: choose another --runs, or delete it")
    write_json(note, budget)
    begun = (out / "checkpoint.pt").is_file()
    if begun and load_checkpoint(out)["step"] >= options.steps:
        return
    loop = LoopOptions(
        out=out,
        steps=options.steps,
        learning_rate=options.learning_rate,
        warmup=min(30, options.steps // 4),
        seed=options.seed,
        log_every=10,
        validate_every=options.steps,
        resume=begun,
    )
    train(make_recipe(variant, options), loop)


def run_folder(name: str, options: Options) -> Path:
    """Where a variant's run lies."""
    return options.runs / name.replace(" ", "_")


def make_recipe(variant: Variant, options: Options) -> Recipe:
    """The recipe of a variant; the first weights are those of the seed."""
    given = changed(preset("tiny"), MINI) if options.preset == "mini" else preset(options.preset)
    sizes = changed(given, variant.preset)
    store = SampleStore(options.samples / "train")
    if variant.model == "codec":
        return CodecRecipe(sizes, store, None, options.batch, options.seed)
    if variant.model == "dist-s":
        recipe = DiSTSRecipe(sizes, store, None, options.batch, options.seed)
        if not variant.mask:
            recipe.unet = as_kind(UnmaskedDiSTS, recipe.unet)
            recipe.models["dist_s"] = recipe.unet
        return recipe
    codec = load_model(RGBDCodec, resolve_weights(options.codec) / "codec")
    made = rolled_out(options, store) if variant.rollouts else None
    told = DiSTTOptions(rollouts=made, **variant.options)
    full = DiSTTRecipe(sizes, codec, store, None, options.batch, options.seed, told)
    if not variant.layout:
        full.composer = as_kind(BlindComposer, full.composer)
        full.models["composer"] = full.composer
    return full


def changed(given: Preset, parts: Mapping[str, dict[str, Any]]) -> Preset:
    """A preset with other arguments of some parts."""
    return replace(given, **{part: getattr(given, part) | new for part, new in parts.items()})


def rolled_out(options: Options, store: SampleStore) -> SampleStore:
    """Samples of the reference run's own roll-outs on training scenes, made where they are missing."""
    dataset = open_dataset(options.train_dataroot)
    names = [scene.folder.name for scene in store.scenes[: options.rollout_scenes]]
    folder, weights = options.runs / "rollouts", run_folder("dist_t", options) / "weights"
    if not weights.is_dir():
        raise ConfigError(f"roll-outs are made by the run dist_t, which {options.runs} lacks: leave --only out")
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


Network = TypeVar("Network", Composer, DiSTSUNet)


def as_kind(kind: type[Network], model: Network) -> Network:
    """The same network with the same weights as a class that computes otherwise."""
    twin: Network = kind.from_config(model.config).to(memory_format=torch.channels_last)
    twin.load_state_dict(model.state_dict())
    return twin


class Decoded(nn.Module):
    """In place of the composer: what was generated is shown as it is."""

    def forward(self, generated: torch.Tensor, *told: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return generated, torch.ones_like(generated[:, :1])


class Judge:
    """The trained variants side by side on one scene after another."""

    def __init__(self, chosen: Mapping[str, Variant], options: Options) -> None:
        self.options = options
        self.steps: dict[str, World] = {"splat": make_world("dist4d", weights="splat", memory="history")}
        self.loops = dict(self.steps)
        self.completions: dict[str, Completion] = {}
        self.codecs: dict[str, RGBDCodec] = {}
        shipped = GenerativeWorld.from_pretrained(options.weights, memory="history")
        for name, variant in chosen.items():
            weights = run_folder(name, options) / "weights"
            if variant.model == "codec":
                self.codecs[name] = load_model(RGBDCodec, weights / "codec")
            elif variant.model == "dist-s":
                kind = DiSTSUNet if variant.mask else UnmaskedDiSTS
                self.completions[name] = completion(DiSTSPipeline(load_model(kind, weights / "dist_s")), 1)
            else:
                shown = Composer if variant.layout else BlindComposer
                composer = load_model(shown, weights / "composer") if variant.options.get("compose", True) else Decoded()
                parts = load_model(RGBDCodec, weights / "codec"), load_model(DiSTTTransformer, weights / "dist_t")
                self.steps[name] = GenerativeWorld(DiSTTPipeline(*parts, composer), shipped.dist_s, "history", shipped.policy)
        looped = [effect for effect in EFFECTS.values() if effect.protocol == LOOP]
        wanted = {row for effect in looped for row in (effect.given, effect.without)}
        self.loops |= {name: world for name, world in self.steps.items() if name in wanted}
        if not options.only:
            for name, grow in MEMORIES.items():
                policy = replace(shipped.policy, grow=grow)
                self.loops[name] = GenerativeWorld(shipped.dist_t, shipped.dist_s, "history", policy)

    def scene(self, scene: Scene) -> dict[str, Scores]:
        """protocol -> variant -> region -> score, mean over the protocol's frames."""
        options = self.options
        protocols: dict[str, Callable[[], list[Scores]]] = {
            ONE_STEP: lambda: [s for s, _ in one_steps(self.steps, scene, options.seed, options.starts)],
            LOOP: lambda: [s for s, _ in closed_loop(self.loops, scene, options.seed, options.duration)],
            ASIDE: lambda: [s for s, _ in aside(self.completions, scene, options.seed, options.starts)],
            CODEC: lambda: self.coded(scene),
        }
        asked = {ONE_STEP: len(self.steps) > 1, LOOP: len(self.loops) > 1, ASIDE: self.completions, CODEC: self.codecs}
        judged = {name: protocol() for name, protocol in protocols.items() if asked[name]}
        return {name: average(scored) for name, scored in judged.items() if scored}

    def coded(self, scene: Scene) -> list[Scores]:
        """Scores of real frames encoded and decoded."""
        real = [frame for _, frame in real_frames(scene, *SIZE)]
        picked = [real[k] for k in np.linspace(0, len(real) - 1, self.options.starts).round().astype(int)]
        whole = [{"all": np.ones(frame.depth.shape, bool)} for frame in picked]
        return [
            {name: score(through_codec(codec, frame), frame, masks) for name, codec in self.codecs.items()}
            for frame, masks in zip(picked, whole, strict=True)
        ]


def effects(units: Sequence[Mapping[str, Scores]]) -> dict[str, dict[str, Any]]:
    """part -> metric -> with the part minus without it on the same scene, mean and spread over scenes; negative AbsRel is better.

    psnr, ssim, abs_rel and delta1 over all pixels, and PSNR over never-seen and moving ones where scenes have them.
    """
    result: dict[str, dict[str, Any]] = {}
    for name, effect in EFFECTS.items():
        pairs = [
            (unit[effect.protocol][effect.given], unit[effect.protocol][effect.without])
            for unit in units
            if {effect.given, effect.without} <= set(unit.get(effect.protocol, {}))
        ]
        if not pairs:
            continue
        row = {
            metric: mean_and_spread([a["all"][metric] - b["all"][metric] for a, b in pairs])
            for metric in ("psnr", "ssim", "abs_rel", "delta1")
        }
        for region in ("never_seen", "moving"):
            both = [(a[region], b[region]) for a, b in pairs if region in a and region in b]
            if both:
                row[f"psnr_{region}"] = mean_and_spread([a["psnr"] - b["psnr"] for a, b in both])
        result[name] = row
    return result


if __name__ == "__main__":
    run(main, Options)
