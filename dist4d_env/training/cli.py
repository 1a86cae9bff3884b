"""``python -m dist4d_env train codec|dist-t|dist-s``: samples from a data set, then one recipe."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from dist4d_env.errors import ConfigError

if TYPE_CHECKING:
    from dist4d_env.models.presets import Preset


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
    sizes: tuple[str, ...] = ()
    """Image sizes to mix, such as 64x112 128x224 (default: the preset's); each step draws one."""
    codec: str | None = None
    """For dist-t: folder with codec/ inside (OUT/weights of a codec run), or a shipped preset's name."""
    init: str | None = None
    """Start from the weights in this folder, or from a shipped preset; a model that the folder lacks starts fresh."""
    steps: int = 6000
    """Optimiser steps; a run resumed with more goes on."""
    batch: int = 4
    """Frames of six cameras per step and process, at the preset's size; other sizes take as many as make the same pixels."""
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
    checkpoint_every: float = 180.0
    """Seconds between checkpoints; a killed run loses no more."""
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
    from dist4d_env.training.loop import LoopOptions, make_accelerator, train
    from dist4d_env.training.recipes import make_recipe
    from dist4d_env.training.samples import SampleStore

    preset = preset_named(options.preset)
    if options.out.is_dir() and (options.out / "checkpoint.pt").exists() and not options.resume:
        raise ConfigError(f"{options.out} already holds a run: go on with --resume or choose another --out")
    accelerator = make_accelerator()
    with accelerator.main_process_first():
        prepared = prepare_samples(options, preset)
    if options.prepare_only:
        return 0
    stores = [SampleStore(folder) for folder in prepared.train]
    recipe = make_recipe(options, preset, stores, SampleStore(prepared.val) if prepared.val else None)
    if accelerator.is_main_process:
        _write_options(options)
    loop = LoopOptions(
        out=options.out,
        steps=options.steps,
        learning_rate=options.learning_rate,
        decay=options.decay,
        seed=options.seed,
        validate_every=options.validate_every,
        checkpoint_every=options.checkpoint_every,
        resume=options.resume,
        precision=options.precision,
        gradient_checkpointing=options.gradient_checkpointing,
        loaders=options.loaders,
    )
    train(recipe, loop)
    return 0


@dataclass(frozen=True)
class Prepared:
    """Folders of samples: for training one per image size, for validation one or None."""

    train: tuple[Path, ...]
    val: Path | None


def prepare_samples(options: Options, preset: Preset) -> Prepared:
    """Make the samples that the options ask for and that are not there yet."""
    from dist4d_env.scenes.nuscenes import open_dataset
    from dist4d_env.training.prepare import prepare
    from dist4d_env.training.samples import SampleSettings

    root = options.samples or options.out / "samples"
    own = (preset.height, preset.width)
    settings = SampleSettings(*own, chunk=preset.chunk, seed=options.seed)
    dataset = open_dataset(options.dataroot, options.version, options.split)
    names = dataset.scene_names(options.split)[: options.scenes]
    folders = []
    for height, width in [parse_size(size) for size in options.sizes] or [own]:
        folders.append(root / ("train" if (height, width) == own else f"train-{height}x{width}"))
        prepare(dataset, names, folders[-1], replace(settings, height=height, width=width), options.workers)
    if options.val_split == "none":
        return Prepared(tuple(folders), None)
    if options.val_dataroot is None:
        other = open_dataset(options.dataroot, options.version, options.val_split)
    else:
        other = open_dataset(options.val_dataroot)
    val_names = other.scene_names(options.val_split)[: options.scenes]
    prepare(other, val_names, root / "val", replace(settings, noisy=0.0), options.workers)
    return Prepared(tuple(folders), root / "val")


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of "64x112"; ``ConfigError`` where it is no size that the codec can take."""
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise ConfigError(f"size {text!r} is not HEIGHTxWIDTH, such as 64x112")
    size = (int(height), int(width))
    if min(size) < 16 or any(side % 8 for side in size):
        raise ConfigError(f"size {text}: height and width must be multiples of 8, at least 16")
    return size


def _write_options(options: Options) -> None:
    """Keep the options beside the weights."""
    options.out.mkdir(parents=True, exist_ok=True)
    content = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    temporary = options.out / f".options.{os.getpid()}"
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, options.out / "options.json")
