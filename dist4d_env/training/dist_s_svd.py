"""Training of DiST-S on Stable Video Diffusion: RGB and depth latents of clips, conditioned on splats (FreeVS, DiST-4D)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dist4d_env.errors import ConfigError
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.inputs import ViewInputs, rgbd_tensor
from dist4d_env.models.pipelines import DiSTSPipeline
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import save_model
from dist4d_env.models.svd import SVDConditions, draw_sigma, edm_weight
from dist4d_env.progress import say
from dist4d_env.training.loading import as_stores, evenly
from dist4d_env.training.losses import mean_scores, scores
from dist4d_env.training.run_log import rgbd_rows
from dist4d_env.training.samples import SPACE, SampleStore
from dist4d_env.training.view_samples import ViewSamples, clip_length, runs

WITHHELD = 0.2
"""Share of clips trained without conditions, for classifier-free guidance (FreeVS)."""
VALIDATION_CLIPS, VALIDATION_STEPS = 4, 10
"""Clips that are sampled in a validation, and network evaluations of each, for all cameras."""


class DiSTSVideoBatch(NamedTuple):
    """N clips of F images: splats and true frames over (N, F), noise (N, F, 8, h, w), its level (N,), withheld (N,) bool."""

    views: ViewInputs
    truth: torch.Tensor
    noise: torch.Tensor
    sigma: torch.Tensor
    withheld: torch.Tensor


class DiSTSVideoRecipe:
    """The samples of ``DiSTSRecipe`` as clips of ``frames`` successive keyframes (None: the preset's chunk), a clip per camera.

    Loss: squared error of both latents with EDM's weight, sigma log-normal (Karras et al. 2022, section 5). Where a store's
    scenes have no clips of that length, clips are of one frame, with a message. The VAE is frozen; so is the cross-attention to
    image tokens, because there are none: its output is its bias alone, and weight decay would erase what it was pretrained to.
    """

    def __init__(
        self,
        preset: Preset,
        train: SampleStore | Sequence[SampleStore],
        val: SampleStore | None,
        batch: int,
        seed: int,
        frames: int | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.unet = DiSTSUNet(**preset.dist_s, image_size=(preset.height, preset.width)).train()
        if not self.unet.is_svd:
            raise ConfigError("this preset's DiST-S is the composition: train it with DiSTSRecipe")
        freeze_cross_attention(self.unet.svd.unet)
        self.models: dict[str, nn.Module] = {"dist_s": self.unet}
        self.frozen: dict[str, nn.Module] = {"vae": self.unet.svd.vae}
        self.seed, asked = seed, frames or preset.chunk
        length = clip_length(as_stores(train), asked)
        if length < asked:
            say(f"the samples have no clips of {asked} successive keyframes: clips are of one frame")
        size, code = (preset.height, preset.width), str(self.unet.config.depth_code)
        self.samples = ViewSamples(train, batch, size, code, length)
        self.val = val or self.samples.stores[0]

    def batch(self, step: int, rank: int = 0) -> DiSTSVideoBatch:
        generator = np.random.default_rng([self.seed, step, rank])
        views, truth = self.samples.draw(generator)
        draw = torch.Generator().manual_seed(int(generator.integers(2**62)))
        sigma, withheld = draw_sigma(len(truth), draw), torch.rand(len(truth), generator=draw) < WITHHELD
        return DiSTSVideoBatch(views, truth, torch.randn(self.unet.noise_shape(views), generator=draw), sigma, withheld)

    def loss(self, batch: DiSTSVideoBatch, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with torch.no_grad():
            clean, conditions = self.unet.encode(batch.truth), self.unet.prepare(batch.views)
        assert isinstance(conditions, SVDConditions)
        noisy = clean + batch.sigma.view(-1, 1, 1, 1, 1) * batch.noise
        predicted, _ = self.unet.predict_clean(noisy, batch.sigma, without_conditions(conditions, batch.withheld))
        error = edm_weight(batch.sigma).view(-1, 1, 1, 1, 1) * (predicted - clean).square()
        rgb, depth = (half.mean() for half in error.chunk(2, 2))
        return (rgb + depth) / 2, {"rgb": rgb.detach(), "depth": depth.detach()}

    def sample(self, clip: tuple[int, list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Filled splats, truth and sampled images, each over (V, F), of a validation clip; on the CPU."""
        scene, rows = clip
        views, truth = self.samples.collate(self.val, [clip])
        images = [self.val.scenes[scene].images(row) for row in rows]
        noise = torch.Generator().manual_seed(0)
        sampled = DiSTSPipeline(self.unet)(images, generator=noise, steps=VALIDATION_STEPS, frames=len(rows))
        return views.base, truth, rgbd_tensor(sampled.rgb, sampled.depth, self.samples.code).transpose(0, 1)

    def clips(self, count: int) -> list[tuple[int, list[int]]]:
        """Up to ``count`` validation clips, always the same ones; shorter than in training where the scenes are."""
        pool = runs(self.val, SPACE, self.samples.frames) or runs(self.val, SPACE, 1)
        generator = np.random.default_rng(0)
        return [one.clip(generator) for one in evenly(pool, count)]

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR of the filled splat and of what is sampled, and errors of depth, on recorded-path clips."""
        rows = []
        for clip in self.clips(VALIDATION_CLIPS):
            base, truth, sampled = (images.flatten(0, 1) for images in self.sample(clip))
            rows.append(scores("sampled", sampled, base, truth, self.samples.code))
        return mean_scores(rows)

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """The first and last frame of a clip: truth, filled splat, sampled."""
        base, truth, sampled = self.sample(self.clips(3)[-1])
        return {name: rgbd_rows([truth[:, k], base[:, k], sampled[:, k]]) for name, k in (("first", 0), ("last", -1))}

    def export(self, folder: Path) -> None:
        """Write DiST-S with its VAE."""
        save_model(self.unet, folder / "dist_s")


def without_conditions(conditions: SVDConditions, withheld: torch.Tensor) -> SVDConditions:
    """The conditions with those of some clips, (N,) bool, replaced by the unconditional side of guidance."""
    pairs = zip(conditions.withheld(), conditions, strict=True)
    return SVDConditions(*(torch.where(withheld.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


def freeze_cross_attention(unet: nn.Module) -> None:
    """Freeze the attention to image tokens and the norm before it."""
    for name, parameter in unet.named_parameters():
        if "transformer_blocks." in name and (".attn2." in name or ".norm2." in name):
            parameter.requires_grad_(False)
