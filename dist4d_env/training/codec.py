"""Training of the codec: reconstruction of images and depth images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dist4d_env.errors import ConfigError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.inputs import rgbd_tensor
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import save_model
from dist4d_env.training.loading import as_stores, choose_store
from dist4d_env.training.losses import depth_errors, image_loss, psnr
from dist4d_env.training.run_log import rgbd_rows
from dist4d_env.training.samples import SampleStore

LATENT_NOISE = 0.05
"""Standard deviation of noise on the latents: keeps the decoder smooth under the denoiser's small errors."""


class CodecBatch(NamedTuple):
    """truth: (N, 4, H, W) RGB-D frames; noise: (N, 2 C, h, w), standard normal."""

    truth: torch.Tensor
    noise: torch.Tensor


class CodecRecipe:
    """Pixel loss on RGB-D frames and a small penalty on latents that are not of unit size.

    train: one store of samples or one per image size, of which each step draws one; encoder: whether that is trained,
    too (without, latents keep their meaning and DiST-T its worth). Raises ``ConfigError`` where the preset's codec is the video
    codec.
    """

    def __init__(
        self,
        preset: Preset,
        train: SampleStore | Sequence[SampleStore],
        val: SampleStore | None,
        batch: int,
        seed: int,
        encoder: bool = True,
    ) -> None:
        if preset.codec_class != RGBDCodec.__name__:
            raise ConfigError(
                f"a {preset.codec_class} is pretrained and not trained here: load it with "
                f"{preset.codec_class}.from_diffusers(FOLDER)"
            )
        torch.manual_seed(seed)
        self.codec = RGBDCodec(**preset.codec).to(memory_format=torch.channels_last)
        self.codec.encoder.requires_grad_(encoder)
        self.scaled = encoder
        self.models: dict[str, nn.Module] = {"codec": self.codec}
        self.stores, self.count, self.seed = as_stores(train), batch, seed
        self.size = (preset.height, preset.width)
        self.val = val or self.stores[0]

    @property
    def device(self) -> torch.device:
        return self.codec.latent_mean.device

    def frames(self, store: SampleStore, generator: np.random.Generator, count: int) -> torch.Tensor:
        """``count`` RGB-D frames of all cameras, (count V, 4, H, W)."""
        images = []
        for _ in range(count):
            scene = store.scenes[generator.integers(len(store.scenes))]
            keyframe = generator.integers(len(scene.arrays["frame_rgb"]))
            rgb, depth = scene.arrays["frame_rgb"][keyframe], scene.arrays["frame_depth"][keyframe]
            images.append(rgbd_tensor(rgb, depth, self.codec.config.depth_code))
        return torch.cat(images)

    def batch(self, step: int, rank: int = 0) -> CodecBatch:
        generator = np.random.default_rng([self.seed, step, rank])
        store, samples = choose_store(self.stores, self.count, self.size, generator)
        truth = self.frames(store, generator, samples)
        count, _, height, width = truth.shape
        draw = torch.Generator().manual_seed(int(generator.integers(2**62)))
        channels, factor = 2 * self.codec.config.latent_channels, self.codec.factor
        return CodecBatch(truth, torch.randn((count, channels, height // factor, width // factor), generator=draw))

    def loss(self, batch: CodecBatch, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        latents = self.codec.encode_rgbd(batch.truth)
        noise = LATENT_NOISE * batch.noise
        decoded = self.codec.decode_rgbd(latents + noise.to(latents.dtype)).float()
        size = latents.float().square().mean()
        return image_loss(decoded, batch.truth) + 0.01 * (size - 1).abs(), {"latent_size": size.detach()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR and errors of depth of 16 frames of all cameras."""
        truth = self.frames(self.val, np.random.default_rng(1), 16).to(self.device)
        decoded = self.codec.decode_rgbd(self.codec.encode_rgbd(truth))
        relative, within = depth_errors(decoded, truth, self.codec.config.depth_code)
        return {
            "psnr": psnr(decoded, truth).mean().item(),
            "abs_rel": relative.mean().item(),
            "delta1": within.mean().item(),
        }

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """One frame: truth, decoded."""
        truth = self.frames(self.val, np.random.default_rng(1), 1).to(self.device)
        return {"frame": rgbd_rows([truth, self.codec.decode_rgbd(self.codec.encode_rgbd(truth))])}

    @torch.no_grad()
    def fit_scale(self) -> None:
        """Set the latent buffers so that each channel has zero mean and unit variance over training frames."""
        self.codec.latent_mean.zero_()
        self.codec.latent_std.fill_(1.0)
        frames = self.frames(self.stores[0], np.random.default_rng(2), 64).to(self.device)
        latents = self.codec.encode_rgbd(frames)
        both = torch.cat(latents.chunk(2, 1)).transpose(0, 1).flatten(1)
        self.codec.latent_mean.copy_(both.mean(1))
        self.codec.latent_std.copy_(both.std(1).clamp(min=1e-3))

    def export(self, folder: Path) -> None:
        """Write the codec with its latents scaled, where its encoder is trained; the one in training keeps its own scale."""
        kept = self.codec.latent_mean.clone(), self.codec.latent_std.clone()
        if self.scaled:
            self.fit_scale()
        save_model(self.codec, folder / "codec")
        self.codec.latent_mean.copy_(kept[0])
        self.codec.latent_std.copy_(kept[1])
