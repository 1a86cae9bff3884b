"""``python -m dist4d_env.training.segmenter``: train the town segmenter on a town with class images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dist4d_env.errors import ConfigError, DataError, run_script
from dist4d_env.geometry.cameras import optional_size
from dist4d_env.metrics.images.accuracy import confusion, intersection_over_union, mean_iou
from dist4d_env.models.pretrained import save_model
from dist4d_env.models.segmenter import CLASSES, TownSegmenter, layout_classes, pictures
from dist4d_env.training.loop import LoopOptions, train

WEIGHTS = torch.tensor([1.0, 1.0, 1.5, 1.2, 5.0])
"""Loss weight of each class: thin and small things are rare pixels."""
CROWDED = 20 / (64 * 112)
"""Share of a picture that people take from which on it is crowded; rare classes are learned because half of each batch is
crowded."""
PALETTE = np.array([[70, 80, 90], [160, 150, 150], [250, 230, 90], [60, 110, 220], [220, 60, 60]], np.uint8)
"""Colours of CLASSES."""


@dataclass(frozen=True)
class Options:
    """Train the town segmenter on pictures with class images (`python -m dist4d_env town --semantics`)."""

    dataroot: Path
    """A town written with --semantics, of train scenes."""
    val_dataroot: Path
    """A town written with --semantics, of val scenes."""
    out: Path
    """The run's folder: checkpoint, log.jsonl, and weights/segmenter with the model."""
    steps: int = 2400
    """Optimiser steps; a run resumed with more goes on."""
    crop: str | None = None
    """Height x width of the window of each picture that a step sees; None is the whole picture."""
    patch: Literal[2, 4] = 2
    """Pixels along each side of what the first layer takes together: 4 for large pictures."""
    blur: float = 1.2
    """Pixels of the strongest blur in training."""
    batch: int = 8
    """Pictures per step."""
    learning_rate: float = 1e-3
    """Plateau of the learning rate."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    resume: bool = False
    """Go on from the checkpoint in OUT."""


def run(options: Options) -> int:
    """Train and write float16 weights; 0 when done. Raises ``DataError`` where a town has no class images."""
    if (options.out / "checkpoint.pt").exists() and not options.resume:
        raise ConfigError(f"{options.out} already holds a run: go on with --resume or choose another --out")
    town, val = load_pictures(options.dataroot), load_pictures(options.val_dataroot)
    loop = LoopOptions(out=options.out, steps=options.steps, learning_rate=options.learning_rate, resume=options.resume)
    recipe = SegmenterRecipe(
        town, val, options.batch, options.seed, optional_size(options.crop), options.patch, options.blur
    )  # fmt: skip
    train(recipe, loop)
    return 0


def load_pictures(dataroot: Path) -> tuple[np.ndarray, np.ndarray]:
    """Every picture (N, H, W, 3) uint8 of a town data set that has a class image, and those as CLASSES (N, H, W) uint8."""
    files = sorted((dataroot / "semantics").glob("*/*.png"))
    if not files:
        raise DataError(f"{dataroot} has no class images: write the town with `python -m dist4d_env town --semantics --out ...`")
    rgb, classes = [], []
    for file in files:
        kinds = ("samples", "sweeps")
        beside = [path for kind in kinds if (path := dataroot / kind / file.parent.name / f"{file.stem}.jpg").is_file()]
        picture, semantics = cv2.imread(str(beside[0])) if beside else None, cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if picture is None or semantics is None or picture.shape[:2] != semantics.shape:
            raise DataError(f"{file} and its picture cannot be read or differ in size: write the town again")
        rgb.append(picture[..., ::-1])
        classes.append(layout_classes(semantics))
    return np.stack(rgb), np.stack(classes)


class SegmenterRecipe:
    """Cross-entropy on pictures that are mirrored, relit, blurred and made noisy, so that classes depend little on sharpness."""

    def __init__(
        self, train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray], batch: int, seed: int,
        crop: tuple[int, int] | None = None, patch: int = 2, blur: float = 1.2,
    ) -> None:  # fmt: skip
        torch.manual_seed(seed)
        self.model = TownSegmenter(patch=patch).to(memory_format=torch.channels_last)
        self.models: dict[str, nn.Module] = {"segmenter": self.model}
        self.train, self.val, self.count, self.seed, self.crop, self.blur = train, val, batch, seed, crop, blur
        height, width = train[1].shape[1:]
        if crop is not None and (crop[0] > height or crop[1] > width):
            raise ConfigError(f"windows of {crop[0]}x{crop[1]} do not fit into pictures of {height}x{width}")
        people = (train[1] == CLASSES.index("people")).sum((1, 2))
        self.crowded = np.flatnonzero(people >= min(CROWDED * train[1][0].size, people.max()))

    def batch(self, step: int, rank: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (N, 3, H, W) in [-1, 1] and their classes (N, H, W) int64."""
        generator = np.random.default_rng([self.seed, step, rank])
        rows = generator.integers(len(self.train[0]), size=self.count)
        rows[: self.count // 2] = generator.choice(self.crowded, self.count // 2)
        seen, classes = self.train[0][rows], self.train[1][rows]
        if self.crop is not None:
            windows = [self._window(one, row < self.count // 2, generator) for row, one in enumerate(classes)]
            seen, classes = (np.stack([one[w] for one, w in zip(whole, windows, strict=True)]) for whole in (seen, classes))
        images, truth = pictures(seen), torch.from_numpy(classes.astype(np.int64))
        mirrored = torch.from_numpy(generator.random(self.count) < 0.5)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        truth = torch.where(mirrored[:, None, None], truth.flip(-1), truth)
        return augmented(images, generator, self.blur), truth

    def _window(self, classes: np.ndarray, crowded: bool, generator: np.random.Generator) -> tuple[slice, slice]:
        """A window of a picture of classes (H, W); of a crowded one, around any pixel of its people."""
        assert self.crop is not None
        people = np.argwhere((classes == CLASSES.index("people")) & crowded)
        must = people[generator.integers(len(people))] if len(people) else None
        window = []
        for axis, (side, whole) in enumerate(zip(self.crop, classes.shape, strict=True)):
            low, high = (0, whole - side) if must is None else (max(0, must[axis] - side + 1), min(must[axis], whole - side))
            start = int(generator.integers(low, high + 1))
            window.append(slice(start, start + side))
        return window[0], window[1]

    def loss(self, batch: tuple[torch.Tensor, torch.Tensor], step: int) -> tuple[torch.Tensor, dict[str, float]]:
        images, truth = batch
        return F.cross_entropy(self.model(images).float(), truth, WEIGHTS.to(images.device)), {}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """mIoU and every class's, on the pictures as they are and (``blurred``) with a blur of one pixel."""
        device = next(self.model.parameters()).device
        counts, soft = (np.zeros((len(CLASSES), len(CLASSES)), np.int64) for _ in range(2))
        for start in range(0, len(self.val[0]), 32):
            images, truth = pictures(self.val[0][start : start + 32]).to(device), self.val[1][start : start + 32]
            counts += confusion(self.model(images).argmax(1).cpu().numpy(), truth, len(CLASSES))
            soft += confusion(self.model(blurred(images, 1.0)).argmax(1).cpu().numpy(), truth, len(CLASSES))
        each = {name: float(value) for name, value in zip(CLASSES, intersection_over_union(counts), strict=True)}
        return {"miou": mean_iou(counts), "miou_blurred": mean_iou(soft)} | each

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """Four val pictures above their true and their predicted classes."""
        rows = np.linspace(0, len(self.val[0]) - 1, 4).astype(int)
        device = next(self.model.parameters()).device
        found = self.model(pictures(self.val[0][rows]).to(device)).argmax(1).cpu().numpy()
        lines = (self.val[0][rows], PALETTE[self.val[1][rows]], PALETTE[found])
        return {"val": np.vstack([np.hstack(line) for line in lines])}

    def export(self, folder: Path) -> None:
        save_model(self.model, folder / "segmenter", torch.float16)


def augmented(images: torch.Tensor, generator: np.random.Generator, blur: float = 1.2) -> torch.Tensor:
    """Pictures (N, 3, H, W) relit, half of them blurred (up to ``blur`` pixels) and half noisy (up to 4 % of the range)."""
    count = len(images)

    def each(low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(generator.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))

    images = images * each(0.8, 1.2) + each(-0.15, 0.15)
    soft = torch.from_numpy(generator.random((count, 1, 1, 1)) < 0.5)
    images = torch.where(soft, blurred(images, float(generator.uniform(0.2, blur))), images)
    strength = each(0, 0.08) * torch.from_numpy((generator.random((count, 1, 1, 1)) < 0.5).astype(np.float32))
    grain = torch.from_numpy(generator.standard_normal(images.shape, np.float32))
    return (images + strength * grain).clamp(-1, 1)


def blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Pictures (N, 3, H, W) under a Gaussian of ``sigma`` pixels, mirrored at the border."""
    reach = max(1, round(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(images)
    channels = images.shape[1]
    across = kernel[None, None, None].expand(channels, 1, 1, -1)
    padded = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(padded, across, groups=channels), across.transpose(2, 3), groups=channels)


if __name__ == "__main__":
    run_script(run, Options)
