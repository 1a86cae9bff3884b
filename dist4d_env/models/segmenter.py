"""A small semantic segmenter of town pictures, by which benchmarks measure whether generated frames follow their layout."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from dist4d_env.models.arguments import check_choice, check_levels
from dist4d_env.models.pretrained import SHIPPED, load_model
from dist4d_env.models.unet import PlainUNet
from dist4d_env.town.textures_ground import SEMANTICS

CLASSES = ("background", "drivable", "markings", "vehicles", "people")
"""Classes: "markings" are crossings and painted lines, "people" pedestrians and two-wheelers with their riders."""

_CLASS_OF = {"road": "drivable", "marking": "markings", "crossing": "markings", "vehicle": "vehicles"}
_CLASS_OF |= {"pedestrian": "people", "two_wheeler": "people"}
_TABLE = np.array([CLASSES.index(_CLASS_OF.get(name, "background")) for name in SEMANTICS], np.uint8)

TRAINED_AT = {64: "segmenter", 224: "segmenter_224x400"}
"""Height of the pictures that a shipped segmenter was trained on -> its folder."""


def layout_classes(semantics: np.ndarray) -> np.ndarray:
    """The town renderer's class ids (any shape, uint8) as indices into CLASSES, same shape."""
    return _TABLE[semantics]


class TownSegmenter(PlainUNet, ModelMixin, ConfigMixin):
    """A UNet on space-to-depth pixels, (N, 3, H, W) in [-1, 1] to class logits (N, 5, H, W).

    H and W must be divisible by patch * 2 ** (len(widths) - 1); patch: pixels along each side of what the first layer takes
    together, 2 or 4. The Frechet distance between sets of town pictures compares pooled features of its first and last level
    (``look``).
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, widths: tuple[int, ...] = (32, 64, 96), blocks: int = 1, patch: int = 2) -> None:
        super().__init__()
        check_choice("patch", patch, (2, 4))
        check_levels(widths, blocks, patch)
        self.make_levels(3, tuple(widths), blocks, patch)
        self.head = nn.Conv2d(widths[0], patch**2 * len(CLASSES), 3, padding=1)

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, 3, H, W) to features of the first level (edges and grain) and of the last before the head (semantic), both
        (N, widths[0], H / patch, W / patch)."""
        first, last = self.through_levels(images)
        return F.silu(first), F.silu(last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(images)[1])

    def classify(self, last: torch.Tensor) -> torch.Tensor:
        """The last features to class logits (N, 5, H, W)."""
        return F.pixel_shuffle(self.head(last), self.config.patch)

    @torch.no_grad()
    def look(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pictures (N, H, W, 3) uint8 to classes (N, H, W) uint8 and pooled features (N, 2 widths[0]) float64.

        Pooled: the mean over the picture of the last features, and the standard deviation of the first level's, as blur and
        grain, which the classes should not depend on, hardly show in the last. One picture at a time, so that the bits of one
        do not depend on the others.
        """
        classes, pooled = [], []
        for picture in rgb:
            first, last = self.features(pictures(picture[None]))
            classes.append(self.classify(last)[0].argmax(0).to(torch.uint8).numpy())
            mean, deviation = last[0].flatten(1).double().mean(1), first[0].flatten(1).double().std(1)
            pooled.append(torch.cat([mean, deviation]).numpy())
        return np.stack(classes), np.stack(pooled)


def pictures(rgb: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(0, 3, 1, 2).float() / 127.5 - 1


def segmenter_for(size: tuple[int, int]) -> Path:
    """The folder of the segmenter that ships for pictures of (height, width): it was trained at the nearest height, by ratio."""
    return SHIPPED / TRAINED_AT[min(TRAINED_AT, key=lambda height: abs(math.log(size[0] / height)))]


def load_segmenter(folder: str | Path | None = None) -> TownSegmenter:
    """The segmenter that ships for pictures of 64 x 112, or one of a folder (``segmenter_for``, or written by its training).

    Raises ``WeightsError``.
    """
    return load_model(TownSegmenter, segmenter_for((64, 112)) if folder is None else Path(folder))
