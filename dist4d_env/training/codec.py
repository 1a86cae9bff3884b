"""Training the codec: reproduce images and depth images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.conditions import rgbd_tensor
from dist4d_env.models.presets import Preset
from dist4d_env.models.pretrained import save_model
from dist4d_env.training.losses import depth_errors, image_loss, psnr
from dist4d_env.training.samples import SampleStore


class CodecRecipe:
    """Pixel loss on RGB-D frames and a light pull of the latents towards unit size."""

    def __init__(self, preset: Preset, train: SampleStore, val: SampleStore | None, batch: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.codec = RGBDCodec(**preset.codec).to(memory_format=torch.channels_last)
        self.models: dict[str, nn.Module] = {"codec": self.codec}
        self.train, self.val, self.batch, self.seed = train, val, batch, seed

    def frames(self, store: SampleStore, generator: np.random.Generator, count: int) -> torch.Tensor:
        """``count`` RGB-D frames of all cameras, (count V, 4, H, W)."""
        images = []
        for _ in range(count):
            scene = store.scenes[generator.integers(len(store.scenes))]
            keyframe = generator.integers(len(scene.arrays["frame_rgb"]))
            rgb, depth = scene.arrays["frame_rgb"][keyframe], scene.arrays["frame_depth"][keyframe]
            images.append(rgbd_tensor(rgb, depth, self.codec.config.depth_code))
        return torch.cat(images)

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        truth = self.frames(self.train, np.random.default_rng([self.seed, step]), self.batch)
        latents = self.codec.encode_rgbd(truth)
        # A little noise on the latents keeps the decoder smooth, which the denoiser's small errors need.
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step)) * 0.05
        decoded = self.codec.decode_rgbd(latents + noise.to(latents.dtype)).float()
        size = latents.float().square().mean()
        return image_loss(decoded, truth) + 0.01 * (size - 1).abs(), {"latent_size": size.item()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        generator = np.random.default_rng(1)
        truth = self.frames(self.val or self.train, generator, 16)
        decoded = self.codec.decode_rgbd(self.codec.encode_rgbd(truth))
        relative, within = depth_errors(decoded, truth, self.codec.config.depth_code)
        return {
            "psnr": psnr(decoded, truth).mean().item(),
            "abs_rel": relative.mean().item(),
            "delta1": within.mean().item(),
        }

    @torch.no_grad()
    def fit_scale(self) -> None:
        """Set the latent buffers so that each channel has zero mean and unit variance over training frames."""
        self.codec.latent_mean.zero_()
        self.codec.latent_std.fill_(1.0)
        frames = self.frames(self.train, np.random.default_rng(2), 64)
        latents = self.codec.encode_rgbd(frames)
        both = torch.cat(latents.chunk(2, 1)).transpose(0, 1).flatten(1)
        self.codec.latent_mean.copy_(both.mean(1))
        self.codec.latent_std.copy_(both.std(1).clamp(min=1e-3))

    def export(self, folder: Path) -> None:
        kept = self.codec.latent_mean.clone(), self.codec.latent_std.clone()
        self.fit_scale()
        save_model(self.codec, folder / "codec")
        self.codec.latent_mean.copy_(kept[0])
        self.codec.latent_std.copy_(kept[1])
