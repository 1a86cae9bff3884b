"""Training of DiST-S: complete splats of keyframes that the memory lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.inputs import ViewInputs
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import save_model
from dist4d_env.training.loading import evenly, to_device
from dist4d_env.training.losses import beyond, decibels, hole_weight, image_loss, mean_scores, scores
from dist4d_env.training.run_log import rgbd_rows
from dist4d_env.training.samples import SPACE, SampleStore
from dist4d_env.training.view_samples import ViewSamples

PURE_NOISE = 0.8
"""Share of samples at noise level 1, where one-step sampling spends its only evaluation."""
DECIBELS = 0.1
"""Weight of each image's logarithmic error beside the pixel loss, in which near views, with small errors, hardly count."""

BEYOND, HOLES = 0.4, 9.0
"""Weight of the share of depth that is off by more than a factor of 1.25, and how much more holes count in it."""


class DiSTSBatch(NamedTuple):
    """N images: splats, the true frames and noise (N, 4, H, W), noise levels (N,)."""

    views: ViewInputs
    truth: torch.Tensor
    noise: torch.Tensor
    level: torch.Tensor


class DiSTSRecipe:
    """Pairs from the recorded path: keyframes t +- 1, 2 splatted to t, agents moved with their boxes.

    train: one store of samples or one per image size, of which each step draws one. For the composition; ``DiSTSVideoRecipe``
    trains Stable Video Diffusion.
    """

    def __init__(
        self,
        preset: Preset,
        train: SampleStore | Sequence[SampleStore],
        val: SampleStore | None,
        batch: int,
        seed: int,
    ) -> None:
        torch.manual_seed(seed)
        self.unet = DiSTSUNet(**preset.dist_s, image_size=(preset.height, preset.width)).to(memory_format=torch.channels_last)
        self.models: dict[str, nn.Module] = {"dist_s": self.unet}
        self.seed = seed
        size, code = (preset.height, preset.width), str(self.unet.config.depth_code)
        self.samples = ViewSamples(train, batch, size, code)
        self.val = val or self.samples.stores[0]

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    def batch(self, step: int, rank: int = 0) -> DiSTSBatch:
        generator = np.random.default_rng([self.seed, step, rank])
        views, truth = single_images(*self.samples.draw(generator))
        draw = torch.Generator().manual_seed(int(generator.integers(2**62)))
        level = torch.sigmoid(torch.randn(len(truth), generator=draw))
        level = torch.where(torch.rand(len(truth), generator=draw) < PURE_NOISE, torch.ones(len(truth)), level)
        return DiSTSBatch(views, truth, torch.randn(truth.shape, generator=draw), level)

    def loss(self, batch: DiSTSBatch, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        s = batch.level.view(-1, 1, 1, 1)
        clean, share = self.unet.predict_clean((1 - s) * batch.truth + s * batch.noise, batch.level, batch.views)
        clean, valid = clean.float(), batch.views.masks[:, :1]
        pixels = image_loss(clean, batch.truth, hole_weight(valid))
        missed = beyond(clean, batch.truth, str(self.unet.config.depth_code), hole_weight(valid, HOLES))
        total = pixels + DECIBELS * decibels(clean, batch.truth) + BEYOND * missed
        return total, {"pixels": pixels.detach(), "beyond": missed.detach(), "share": share.detach().float().mean()}

    def pair(self, row: tuple[int, int]) -> tuple[ViewInputs, torch.Tensor, torch.Tensor]:
        """Inputs and truth of a validation sample and DiST-S's answer to pure noise, (V, ...)."""
        scene, splat = row
        views, truth = to_device(single_images(*self.samples.collate(self.val, [(scene, [splat])])), self.device)
        noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        clean, _ = self.unet.predict_clean(noise, torch.ones(len(truth), device=self.device), views)
        return views, truth, clean

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR of the filled splat and of DiST-S from noise, and errors of depth, on recorded-path pairs."""
        code, rows = str(self.unet.config.depth_code), []
        pool = self.val.rows(SPACE)
        for place in evenly(pool, 48):
            views, truth, clean = self.pair(place)
            rows.append(scores("composed", clean, views.base, truth, code))
        return mean_scores(rows)

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """One pair: truth, filled splat, DiST-S."""
        pool = self.val.rows(SPACE)
        views, truth, clean = self.pair(pool[len(pool) // 2])
        return {"pair": rgbd_rows([truth, views.base, clean])}

    def export(self, folder: Path) -> None:
        """Write DiST-S."""
        save_model(self.unet, folder / "dist_s")


def single_images(views: ViewInputs, truth: torch.Tensor) -> tuple[ViewInputs, torch.Tensor]:
    """Clips (N, F, ...) as images (N F, ...)."""
    return ViewInputs(*(tensor.flatten(0, 1) for tensor in views)), truth.flatten(0, 1)
