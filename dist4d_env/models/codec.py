"""The image codec: RGB and depth images to latents an eighth as wide and high, and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from dist4d_env.models.arguments import MOST_BLOCKS, check_channels, check_choice, check_whole
from dist4d_env.models.depth_code import DEPTH_CODES
from dist4d_env.models.precision import reduced


class Pointwise(nn.Linear):
    """A 1x1 convolution as a matrix product over channels: the convolution's sums depend on the number of threads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, D, H, W), channels last in memory."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualConv(nn.Module):
    """Two 3x3 convolutions beside a skip; starts as the identity, which replaces normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class RGBDCodec(ModelMixin, ConfigMixin):
    """Convolutional autoencoder, 8 x 8 pixels to one latent of ``latent_channels``; depth is coded as a grey image.

    Images are (N, 3, H, W) in [-1, 1] with H and W divisible by 8; latents (N, C, H / 8, W / 8), scaled to about unit variance
    by buffers that training fits. RGB and depth go through the same weights (as in DiST-4D), depth repeated to three
    channels and averaged after decoding.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        width: int = 64,
        deep_width: int = 96,
        blocks: int = 2,
        depth_code: str = "log",
    ) -> None:
        super().__init__()
        check_channels(latent_channels=latent_channels, width=width, deep_width=deep_width)
        check_whole("blocks", blocks, 0, MOST_BLOCKS)
        check_choice("depth_code", depth_code, DEPTH_CODES)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, width, 3, padding=1),
            *[ResidualConv(width) for _ in range(blocks)],
            nn.Conv2d(width, deep_width, 4, stride=2, padding=1),
            *[ResidualConv(deep_width) for _ in range(blocks)],
            Pointwise(deep_width, latent_channels),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, deep_width, 3, padding=1),
            *[ResidualConv(deep_width) for _ in range(blocks)],
            Pointwise(deep_width, 4 * width),
            nn.PixelShuffle(2),
            *[ResidualConv(width) for _ in range(blocks)],
            nn.Conv2d(width, 48, 3, padding=1),
            nn.PixelShuffle(4),
        )
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    @property
    def factor(self) -> int:
        """Pixels per latent along each image axis."""
        return 8

    @property
    def time_factor(self) -> int:
        """Frames per latent: every frame has its own."""
        return 1

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) to latents (N, C, H / 8, W / 8)."""
        latents = self.encoder(images)
        return (latents - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (N, C, h, w) to images (N, 3, 8 h, 8 w), not clipped."""
        return self.decoder(latents * self.latent_std[:, None, None] + self.latent_mean[:, None, None])

    def encode_rgbd(self, rgbd: torch.Tensor) -> torch.Tensor:
        """RGB and depth code (..., 4, H, W) to latents (..., 2 C, h, w): RGB's first, then depth's."""
        shape = rgbd.shape
        flat = rgbd.reshape(-1, *shape[-3:])
        images = torch.cat([flat[:, :3], flat[:, 3:].expand(-1, 3, -1, -1)])
        images = images.contiguous(memory_format=torch.channels_last)
        with reduced(images):
            latents = self.encode(images)
        rgb, depth = latents.to(rgbd.dtype).chunk(2)
        return torch.cat([rgb, depth], 1).reshape(*shape[:-3], -1, *latents.shape[-2:])

    def decode_rgbd(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (..., 2 C, h, w) to RGB and depth code (..., 4, H, W)."""
        shape = latents.shape
        flat = latents.reshape(-1, *shape[-3:])
        images = torch.cat(flat.chunk(2, 1)).contiguous(memory_format=torch.channels_last)
        with reduced(images):
            decoded = self.decode(images)
        rgb, depth = decoded.to(latents.dtype).chunk(2)
        rgbd = torch.cat([rgb, depth.mean(1, keepdim=True)], 1)
        return rgbd.reshape(*shape[:-3], *rgbd.shape[1:])
