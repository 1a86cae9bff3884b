"""Which samples a run needs: made from its data sets where they are missing, opened where they are there."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.models.presets import Preset
from dist4d_env.training.cycle import prepare_cycle
from dist4d_env.training.prepare import prepare
from dist4d_env.training.rollouts import prepare_rollouts
from dist4d_env.training.samples import SampleSettings, SampleStore

if TYPE_CHECKING:
    from dist4d_env.training.cli import Options

RENEWED = 4
"""One in so many scenes is rolled out again when roll-outs are renewed."""


@dataclass(frozen=True)
class Stores:
    """train: one store per image size, and one of another data set; val: None validates on training samples; rollouts: of
    DiST-T's own making; cycle: for the second stage of DiST-S.
    """

    train: tuple[SampleStore, ...]
    val: SampleStore | None
    rollouts: SampleStore | None
    cycle: SampleStore | None


def prepare_stores(options: Options, preset: Preset) -> Stores:
    """The samples that the options ask for, below ``options.samples`` or ``options.out``; each scene is made once."""
    root = options.samples or options.out / "samples"
    own, exact = (preset.height, preset.width), exact_settings(options, preset)
    settings = SampleSettings(*own, chunk=preset.chunk, seed=options.seed, strides=options.strides)
    sizes = [parse_size(size) for size in options.sizes] or [own]
    dataset, names = training_scenes(options)

    train = []
    for height, width in sizes:
        folder = root / ("train" if (height, width) == own else f"train-{height}x{width}")
        prepare(dataset, names, folder, replace(settings, height=height, width=width), options.workers)
        train.append(SampleStore(folder))
    if options.also is not None:
        beside = open_dataset(options.also, None, options.split)
        chosen = beside.scene_names(options.split)[: options.scenes]
        prepare(beside, chosen, root / "also", replace(settings, strides=(1,)), options.workers)
        train.append(SampleStore(root / "also"))
    rollouts = cycle = val = None
    if options.rollouts is not None:
        prepare_rollouts(dataset, names, root / "rollouts", exact, options.rollouts, options.workers)
        rollouts = SampleStore(root / "rollouts")
    if options.model == "cycle" and options.init is not None:
        prepare_cycle(dataset, names, root / "cycle", settings, options.init, options.workers)
        cycle = SampleStore(root / "cycle")
    if options.val_split != "none":
        if options.val_dataroot is None:
            other = open_dataset(options.dataroot, options.version, options.val_split)
        else:
            other = open_dataset(options.val_dataroot, None, options.val_split)
        prepare(other, other.scene_names(options.val_split)[: options.scenes], root / "val", exact, options.workers)
        val = SampleStore(root / "val")
    return Stores(tuple(train), val, rollouts, cycle)


def renew_rollouts(options: Options, preset: Preset, step: int) -> SampleStore:
    """Roll-outs of the run's weights as they are after ``step`` steps, on one quarter of its scenes after the other."""
    dataset, names = training_scenes(options)
    chosen = names[step // options.renew % RENEWED :: RENEWED] or names
    weights, made = stretch(options.out, step) / "weights", stretch(options.out, step) / "samples"
    if not weights.is_dir():
        copied = weights.with_name(f".weights.{os.getpid()}")
        shutil.copytree(options.out / "weights", copied)
        copied.rename(weights)
    prepare_rollouts(dataset, chosen, made, exact_settings(options, preset), str(weights), options.workers)
    return SampleStore(made)


def training_scenes(options: Options) -> tuple[Dataset, list[str]]:
    """The data set to train on and the names of its scenes that the options ask for."""
    dataset = open_dataset(options.dataroot, options.version, options.split)
    return dataset, dataset.scene_names(options.split)[: options.scenes]


def exact_settings(options: Options, preset: Preset) -> SampleSettings:
    """Of samples with exact depth, keyframe after keyframe: roll-outs and validation."""
    return SampleSettings(preset.height, preset.width, chunk=preset.chunk, seed=options.seed, noisy=0.0)


def stretch(out: Path, step: int) -> Path:
    """Folder of what a run that renews its roll-outs does from a step on."""
    return out / "rollouts" / f"{step:06d}"


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of "64x112"; ``ConfigError`` where it is no size that the codec can take."""
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise ConfigError(f"size {text!r} is not HEIGHTxWIDTH, such as 64x112")
    size = (int(height), int(width))
    if min(size) < 16 or any(side % 8 for side in size):
        raise ConfigError(f"size {text}: height and width must be multiples of 8, at least 16")
    return size
