"""``python -m dist4d_env train codec|dist-t|dist-s``: samples from a data set, then one recipe."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from dist4d_env.errors import ConfigError


@dataclass(frozen=True)
class Options:
    """Train one of the models on a nuScenes-format data set with metric depth."""

    model: Positional[Literal["codec", "dist-t", "dist-s"]]
    """What to train. DiST-T needs a trained codec (--codec)."""
    out: Path
    """The run's folder: checkpoint, log.jsonl, options.json and weights/, which --weights of the other verbs takes."""
    dataroot: Path | None = None
    """Data set (default: $NUSCENES, else the built-in town)."""
    version: str | None = None
    """Version folder of the data set; found by itself where there is one."""
    split: str = "train"
    """Split or scene to train on."""
    val_dataroot: Path | None = None
    """Data set to validate on (default: the same)."""
    val_split: str = "val"
    """Split or scene to validate on; "none" validates on training samples."""
    samples: Path | None = None
    """Folder of prepared samples, shared between runs (default: OUT/samples)."""
    preset: str = "tiny"
    """Sizes of images and models."""
    codec: str | None = None
    """For dist-t: folder with codec/ inside (OUT/weights of a codec run), or a shipped preset's name."""
    init: str | None = None
    """Start from the weights in this folder, or from a shipped preset."""
    steps: int = 6000
    """Optimiser steps; a run resumed with more goes on."""
    batch: int = 4
    """Frames of six cameras per step."""
    learning_rate: float = 1e-3
    """Plateau of the learning rate."""
    decay: float = 0.3
    """Share of the steps over which the learning rate falls to zero."""
    scenes: int | None = None
    """Use only so many scenes."""
    workers: int = 2
    """Processes that make samples."""
    validate_every: int = 1000
    """Steps between validations."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the networks; weights and losses stay in float32. auto: bfloat16 on GPUs that have it."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    loaders: int = 0
    """Processes that make batches ahead of the step; 0 makes each when it is needed."""
    seed: int = 0
    """Seed of samples, weights and noise."""
    resume: bool = False
    """Go on from the checkpoint in OUT."""
    prepare_only: bool = False
    """Make the samples and stop."""


def run(options: Options) -> int:
    """Prepare samples, train, write weights; 0 when done."""
    from dist4d_env.models.presets import preset as preset_named
    from dist4d_env.training.loop import LoopOptions, train
    from dist4d_env.training.recipes import make_recipe
    from dist4d_env.training.samples import SampleStore

    preset = preset_named(options.preset)
    if options.out.is_dir() and (options.out / "checkpoint.pt").exists() and not options.resume:
        raise ConfigError(f"{options.out} already holds a run: go on with --resume or choose another --out")
    samples = options.samples or options.out / "samples"
    prepared = _prepare(options, samples)
    if options.prepare_only:
        return 0
    train_folder, val_folder = prepared
    val = None if val_folder is None else SampleStore(val_folder)
    recipe = make_recipe(options, preset, SampleStore(train_folder), val)
    _write_options(options)
    loop = LoopOptions(
        out=options.out,
        steps=options.steps,
        learning_rate=options.learning_rate,
        decay=options.decay,
        seed=options.seed,
        validate_every=options.validate_every,
        resume=options.resume,
        precision=options.precision,
        gradient_checkpointing=options.gradient_checkpointing,
        loaders=options.loaders,
    )
    train(recipe, loop)
    return 0


def _prepare(options: Options, samples: Path) -> tuple[Path, Path | None]:
    """Folders of training and validation samples, made where they are missing."""
    from dist4d_env.models.presets import preset as preset_named
    from dist4d_env.scenes.nuscenes import open_dataset
    from dist4d_env.training.prepare import prepare
    from dist4d_env.training.samples import SampleSettings

    preset = preset_named(options.preset)
    dataset = open_dataset(options.dataroot, options.version, options.split)
    names = dataset.scene_names(options.split)[: options.scenes]
    settings = SampleSettings(preset.height, preset.width, chunk=preset.chunk, seed=options.seed)
    prepare(dataset, names, samples / "train", settings, options.workers)
    if options.val_split == "none":
        return samples / "train", None
    if options.val_dataroot is None:
        other = open_dataset(options.dataroot, options.version, options.val_split)
    else:
        other = open_dataset(options.val_dataroot)
    exact = SampleSettings(preset.height, preset.width, chunk=preset.chunk, noisy=0.0, seed=options.seed)
    prepare(other, other.scene_names(options.val_split)[: options.scenes], samples / "val", exact, options.workers)
    return samples / "train", samples / "val"


def _write_options(options: Options) -> None:
    """Keep the options beside the weights."""
    options.out.mkdir(parents=True, exist_ok=True)
    content = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    temporary = options.out / f".options.{os.getpid()}"
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, options.out / "options.json")
