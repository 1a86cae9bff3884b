"""What more compute, or a larger network, would bring: DiST-S trained with parts of a budget, by one recipe and schedule.

Prints the gain over the splat on recorded-path validation pairs for each, the gain per doubling of the budget (least squares on
its logarithm), and where ten times the budget would end on that line: an extrapolation.

    python -m benchmarks.scaling --samples runs/samples --init runs/stage1 --runs runs/scaling
    python -m benchmarks.scaling --samples runs/samples --init none --preset small --shares 1 --runs runs/small
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import header, run, write_json
from dist4d_env.errors import ConfigError
from dist4d_env.models.composition import parameters_in_millions
from dist4d_env.models.presets import preset
from dist4d_env.models.pretrained import resolve_weights
from dist4d_env.training.checkpoint import CHECKPOINT, load_checkpoint
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.loop import LoopOptions, train
from dist4d_env.training.recipes import initialise
from dist4d_env.training.samples import SampleStore


@dataclass(frozen=True)
class Options:
    """Train DiST-S with parts of a budget and extrapolate."""

    samples: Path
    """Folder of samples with train/ and val/, as the training command makes it."""
    runs: Path
    """Where the runs are kept; stopped ones go on."""
    init: str = "tiny"
    """Weights that every run starts from; "none": random ones."""
    preset: str = "tiny"
    """Whose DiST-S is trained; images have the samples' size whatever the preset's."""
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
    gains = {round(share * options.steps): gain(round(share * options.steps), options) for share in options.shares}
    line = extrapolate({steps: found["psnr_gain"] for steps, found in gains.items()})
    result = header("scaling", options) | {"runs": {str(steps): found for steps, found in gains.items()}, "line": line}
    if options.out:
        write_json(options.out, result)
    for steps, found in gains.items():
        print(f"{steps:>6} steps: {found['psnr_gain']:+.3f} dB over the splat, AbsRel {found['abs_rel']:.4f}")
    if line:
        print(f"{line['per_doubling']:+.3f} dB per doubling; at ten times as many steps {line['at_ten_times']:+.3f} dB")
    return result


def gain(steps: int, options: Options) -> dict[str, Any]:
    """One run to its end: PSNR over the filled splat's, AbsRel and delta1 on validation pairs, parameters and what a step costs
    (None where the run was finished before)."""
    train_samples, val_samples = (SampleStore(options.samples / name) for name in ("train", "val"))
    settings = train_samples.settings
    sized = replace(preset(options.preset), height=settings.height, width=settings.width)
    recipe = DiSTSRecipe(sized, train_samples, val_samples, options.batch, options.seed)
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
    return {
        "psnr_gain": found["composed"] - found["splat"],
        "abs_rel": found["abs_rel"],
        "delta1": found["delta1"],
        "parameters_m": parameters_in_millions(recipe.unet),
        "processor_seconds_per_step": seconds,
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
