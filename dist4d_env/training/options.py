"""Options that all recipes of ``train`` share, and the sample stores and loop that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import torch
from tyro.conf import arg

from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.models.presets import Preset, preset
from dist4d_env.training.loop import LoopOptions
from dist4d_env.training.prepare import Maker, prepare
from dist4d_env.training.samples import SampleSettings, SampleStore

Folder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]
Weights = Annotated[str | None, arg(metavar="DIR", help_behavior_hint="")]
Count = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]
"""Optional values with short names in the help, which shows a recipe's options on one screen (docs/commands.md says more)."""


@dataclass(frozen=True)
class DataOptions:
    """Data sets and samples."""

    dataroot: Folder = None
    """Data set (default: $NUSCENES, else the built-in town)."""
    version: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Its version folder, where it has several."""
    also: Folder = None
    """Another data set, mixed in half and half."""
    split: str = "train"
    """Split or scene to train on."""
    scenes: Count = None
    """Use only so many scenes."""
    sizes: Annotated[tuple[str, ...], arg(help_behavior_hint="")] = ()
    """Image sizes as 64x112, one drawn per step (default: the preset's)."""
    val_dataroot: Folder = None
    """Data set to validate on (default: the same)."""
    val_split: str = "val"
    """Split or scene to validate on; none: training samples."""
    flawed: float = 0.25
    """Share of training samples with errors as in recordings."""
    samples: Folder = None
    """Prepared samples, shared between runs (default: OUT/samples)."""
    workers: Count = None
    """Processes that make samples (default: 2), for a GPU batches too (4)."""

    @property
    def sample_workers(self) -> int:
        """Processes that make samples."""
        return 2 if self.workers is None else self.workers


@dataclass(frozen=True)
class OptimiserOptions:
    """Optimiser and precision."""

    steps: int = 6000
    """Optimiser steps; 0 makes the samples only."""
    batch: int = 4
    """Frames of all cameras per step and process."""
    learning_rate: float = 1e-3
    """Plateau of the learning rate."""
    decay: float = 0.3
    """Share of the steps in which it falls to zero."""
    seed: int = 0
    """Seed of samples, weights and noise."""
    precision: Annotated[Literal["auto", "float32", "bfloat16"], arg(metavar="TYPE")] = "auto"
    """Arithmetic: auto, float32 or bfloat16."""


@dataclass(frozen=True)
class RunOptions:
    """Options of every recipe."""

    out: Path
    """Folder of the run, with its weights/."""
    preset: str = "tiny"
    """Sizes of images and models."""
    init: Weights = None
    """Start from weights, a folder or a shipped preset."""
    resume: bool = False
    """Go on from the checkpoint in OUT."""
    data: DataOptions = field(default_factory=DataOptions)
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)

    @property
    def sized(self) -> Preset:
        """The preset; ``ConfigError`` where its name is unknown."""
        return preset(self.preset)

    @property
    def samples(self) -> Path:
        """Folder of the sample stores."""
        return self.data.samples or self.out / "samples"

    @property
    def maker(self) -> Maker | None:
        """What makes a scene's samples, where the recipe's are of its own kind."""
        return None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the samples."""
        return self.sized.height, self.sized.width

    def settings(self, exact: bool = False, strides: tuple[int, ...] = (1,)) -> SampleSettings:
        """How samples of the preset's size are made; exact: without errors, for validation and rollouts."""
        settings = SampleSettings(
            *self.size, chunk=self.sized.chunk, seed=self.optimiser.seed, strides=strides, flawed=self.data.flawed
        )
        return replace(settings, flawed=0.0) if exact else settings

    def scenes(self) -> tuple[Dataset, list[str]]:
        """The data set to train on and the names of its scenes."""
        dataset = open_dataset(self.data.dataroot, self.data.version, self.data.split)
        return dataset, dataset.scene_names(self.data.split)[: self.data.scenes]

    def training_stores(self, strides: tuple[int, ...] = (1,)) -> list[SampleStore]:
        """One store per image size and data set, made where missing."""
        own, settings, stores = self.size, self.settings(strides=strides), []
        sizes = [codec_size(size) for size in self.data.sizes] or [own]
        roots = {"train": self.scenes()}
        if self.data.also is not None:
            dataset = open_dataset(self.data.also, None, self.data.split)
            roots["also"] = dataset, dataset.scene_names(self.data.split)[: self.data.scenes]
        for (height, width), (name, (dataset, names)) in product(sizes, roots.items()):
            folder = self.samples / (name if (height, width) == own else f"{name}-{height}x{width}")
            prepare(dataset, names, folder, replace(settings, height=height, width=width), self.data.sample_workers, self.maker)
            stores.append(SampleStore(folder, names))
        return stores

    def validation_store(self) -> SampleStore | None:
        """The store to validate on, made where missing; None for training samples."""
        data = self.data
        if data.val_split == "none":
            return None
        version = data.version if data.val_dataroot is None else None
        dataset = open_dataset(data.val_dataroot or data.dataroot, version, data.val_split)
        names = dataset.scene_names(data.val_split)[: data.scenes]
        prepare(dataset, names, self.samples / "val", self.settings(exact=True), data.sample_workers, self.maker)
        return SampleStore(self.samples / "val", names)

    def loop(self) -> LoopOptions:
        """Options of the loop."""
        chosen = self.optimiser
        return LoopOptions(
            out=self.out,
            steps=chosen.steps,
            learning_rate=chosen.learning_rate,
            decay=chosen.decay,
            resume=self.resume,
            precision=chosen.precision,
            gradient_checkpointing=getattr(self, "gradient_checkpointing", False),
            loaders=self.data.workers if torch.cuda.is_available() else None,
        )


def codec_size(text: str) -> tuple[int, int]:
    """(height, width) of "64x112"; ``ConfigError`` where it is no size that the codec can take."""
    size = parse_size(text)
    if min(size) < 16 or any(side % 8 for side in size):
        raise ConfigError(f"size {text}: height and width must be multiples of 8, at least 16")
    return size
