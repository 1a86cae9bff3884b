"""What more compute, or a larger network, would bring: a model trained with parts of a budget, by one recipe and schedule.

Prints the gain over the splat on recorded-path validation pairs for each, the gain per doubling of the budget (least squares on
its logarithm), and where ten times the budget would end on that line: an extrapolation. DiST-T trains on roll-outs and against a
discriminator too, as the shipped one did, and each run then lives eight seconds on what it makes: layout agreement, sharpness,
Frechet distance and pixels (``layout_agreement.py``) get lines of their own.

    python -m benchmarks.scaling --samples runs/samples --init runs/stage1 --runs runs/scaling
    python -m benchmarks.scaling --samples runs/samples --init none --preset small --shares 1 --runs runs/small
    python -m benchmarks.scaling --model dist-t --samples runs/samples --init none --dataroot runs/val --runs runs/scaling_t
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from benchmarks.common import Journal, header, run, write_json
from benchmarks.layout_agreement import TRUTH, appearance
from benchmarks.protocols import STEP, Judge, average
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.models.composition import parameters_in_millions
from dist4d_env.models.pipelines import DiSTTPipeline
from dist4d_env.models.presets import preset
from dist4d_env.models.pretrained import resolve_weights
from dist4d_env.models.segmenter import load_segmenter
from dist4d_env.models.video_codec import load_codec
from dist4d_env.training.checkpoint import CHECKPOINT, load_checkpoint
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.dist_t import DiSTTOptions, DiSTTRecipe
from dist4d_env.training.loop import LoopOptions, train
from dist4d_env.training.recipes import initialise
from dist4d_env.training.samples import SampleStore
from dist4d_env.worlds.dist4d import GenerativeWorld

DURATION = 8.0
"""Seconds that DiST-T lives on what it makes."""
LOOP = "closed_loop_history"
MODELS = ("dist_s", "dist_t", "composer")
"""What parameters are counted of."""


@dataclass(frozen=True)
class Options:
    """Train DiST-S or DiST-T with parts of a budget and extrapolate."""

    samples: Path
    """Folder of samples with train/ and val/, for DiST-T also rollouts/, as the training command makes it."""
    runs: Path
    """Where the runs are kept; stopped ones go on."""
    model: Literal["dist-s", "dist-t"] = "dist-s"
    """What to train."""
    init: str = "tiny"
    """Weights that every run starts from; "none": random ones."""
    preset: str = "tiny"
    """Whose sizes the model has; images have the samples' size whatever the preset's."""
    codec: str = "tiny"
    """For DiST-T: whose codec it works on."""
    adversarial: float = 0.25
    """For DiST-T: weight of the discriminator's gradient in steps on roll-outs."""
    dataroot: Path | None = None
    """For DiST-T: the town whose val scenes it drives in closed loop; the default one is made when there is none."""
    scenes: int = 8
    """For DiST-T: how many of them."""
    steps: int = 1000
    """The whole budget, in optimiser steps."""
    shares: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Parts of it to train."""
    batch: int = 4
    """Frames of six cameras per step."""
    learning_rate: float = 7e-4
    """Plateau of the learning rate; it falls to zero over the last 60 % of each run."""
    seed: int = 0
    """Seed of order and noise."""
    out: Path | None = None
    """Result file (JSON)."""

    def __post_init__(self) -> None:
        if len(self.shares) < 1 or min(self.shares) <= 0 or self.steps < 1:
            raise ConfigError("shares must be positive, and steps at least 1")


def main(options: Options) -> dict[str, Any]:
    budgets = [round(share * options.steps) for share in options.shares]
    gains = {steps: gain(steps, options) for steps in budgets}
    line = extrapolate({steps: found["psnr_gain"] for steps, found in gains.items()})
    result = header("scaling", options) | {"runs": {str(steps): found for steps, found in gains.items()}, "line": line}
    for steps, found in gains.items():
        print(f"{steps:>6} steps: {found['psnr_gain']:+.3f} dB over the splat, AbsRel {found['abs_rel']:.4f}")
    if line:
        print(f"{line['per_doubling']:+.3f} dB per doubling; at ten times as many steps {line['at_ten_times']:+.3f} dB")
    if options.model == "dist-t":
        loops = closed_loops(budgets, options)
        lines = {name: extrapolate({steps: found[name] for steps, found in loops.items()}) for name in loops[budgets[0]]}
        result |= {"closed_loop": {str(steps): found for steps, found in loops.items()}, "closed_loop_lines": lines}
        for name, its in lines.items():
            told = ", ".join(f"{found[name]:.4g}" for found in loops.values())
            print(f"{name:<18}{told}" + (f"; at ten times as many steps {its['at_ten_times']:.4g}" if its else ""))
    if options.out:
        write_json(options.out, result)
    return result


def make_recipe(options: Options) -> DiSTSRecipe | DiSTTRecipe:
    """The model that is trained, untrained."""
    train_samples, val_samples = (SampleStore(options.samples / name) for name in ("train", "val"))
    settings = train_samples.settings
    sized = replace(preset(options.preset), height=settings.height, width=settings.width)
    told = (train_samples, val_samples, options.batch, options.seed)
    if options.model == "dist-s":
        return DiSTSRecipe(sized, *told)
    rollouts = SampleStore(options.samples / "rollouts")
    codec = load_codec(resolve_weights(options.codec) / "codec")
    return DiSTTRecipe(sized, codec, *told, DiSTTOptions(rollouts=rollouts, adversarial=options.adversarial))


def gain(steps: int, options: Options) -> dict[str, Any]:
    """One run to its end: PSNR over the filled splat's, AbsRel and delta1 on validation pairs, parameters and what a step costs
    (None where the run was finished before)."""
    recipe = make_recipe(options)
    if options.init != "none":
        initialise(recipe, resolve_weights(options.init))
    out = options.runs / f"{steps}"
    loop = LoopOptions(
        out,
        steps,
        learning_rate=options.learning_rate,
        decay=0.6,
        seed=options.seed,
        validate_every=steps,
        resume=(out / CHECKPOINT).is_file(),
        precision="float32",
    )
    before, first = time.process_time(), load_checkpoint(out)["step"] if loop.resume else 0
    train(recipe, loop)
    seconds = (time.process_time() - before) / (steps - first) if first < steps else None
    initialise(recipe, out / "weights")  # the averaged weights, also of a run that was finished before
    found = recipe.validate()
    ahead = "" if options.model == "dist-s" else "@1"
    return {
        "psnr_gain": found[f"composed{ahead}"] - found[f"splat{ahead}"],
        "abs_rel": found[f"abs_rel{ahead}"],
        "delta1": found[f"delta1{ahead}"],
        "parameters_m": sum(parameters_in_millions(recipe.models[n]) for n in MODELS if n in recipe.models),
        "processor_seconds_per_step": seconds,
    }


def closed_loops(budgets: Sequence[int], options: Options) -> dict[int, dict[str, float]]:
    """steps -> looks and pixels of that run's DiST-T over all scenes, living on what it made since their history ended."""
    dataset, segmenter = open_dataset(options.dataroot), load_segmenter()
    names = dataset.scene_names("val")[: options.scenes]
    shipped = GenerativeWorld.from_pretrained(options.codec, memory="history")
    worlds = {}
    for steps in budgets:
        dist_t = DiSTTPipeline.from_pretrained(options.runs / f"{steps}" / "weights")
        worlds[steps] = GenerativeWorld(dist_t, shipped.dist_s, "history", shipped.policy)
    key = {"runs": options.runs, "budgets": list(budgets), "scenes": names, "seed": options.seed, "town": dataset.dataroot}
    journal = Journal(options.out, key)
    for name in tqdm(names, desc="closed loops", unit="scene", disable=None):
        if name in journal.done:
            continue
        judge = Judge(dataset.load(name), segmenter, DURATION, starts=1)
        (stretch,) = next(protocol for protocol in judge.protocols if protocol.name == LOOP).situations
        rows = {f"{steps}": judge.roll(world, stretch, options.seed).frames for steps, world in worlds.items()}
        journal.add(name, judge.judged({LOOP: [rows | {TRUTH: stretch.truth}]}))
    looks = appearance([(name, journal.done[name]["looks"][LOOP]) for name in names], STEP)["all"]
    pixels = average([journal.done[name]["scores"][LOOP]["mean"] for name in names])
    journal.finish()
    return {
        steps: {name: looks[f"{steps}"][name]["mean"] for name in ("share_of_truth", "sharpness", "frechet")}
        | {name: pixels[f"{steps}"]["all"][name] for name in ("psnr", "ssim", "delta1")}
        for steps in budgets
    }


def extrapolate(gains: dict[int, float]) -> dict[str, float]:
    """Least squares of gain on log2(steps), and its value at ten times the most steps; nothing from a single run."""
    if len(gains) < 2:
        return {}
    steps, values = np.array(list(gains), float), np.array(list(gains.values()))
    slope, offset = np.polyfit(np.log2(steps), values, 1)
    return {"per_doubling": float(slope), "at_ten_times": float(offset + slope * np.log2(10 * steps.max()))}


if __name__ == "__main__":
    run(main, Options)
