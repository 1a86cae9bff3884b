"""Stable Video Diffusion as the backbone of DiST-S: its UNet denoises RGB and depth latents together, its frame VAE is frozen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import nn

from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.models.arguments import check_options
from dist4d_env.models.inputs import ViewInputs
from dist4d_env.models.pretrained import load_diffusers

LOG_SIGMA_MEAN, LOG_SIGMA_STD = 0.7, 1.6
"""Log-normal noise levels of training (Karras et al. 2022)."""
FPS_ID, MOTION_BUCKET = 6.0, 127.0
"""SVD's micro-conditioning; its noise augmentation is 0."""


class SVDConditions(NamedTuple):
    """Conditions of N clips of F frames, made once for all noise levels.

    latents: (N, F, 8, h, w) of sparse RGB and sparse depth; masks: (N, F, M, h, w) in [0, 1]; context: (N, L, D) image tokens;
    missing: (N, F, 1, H, W), 1 where nothing was splatted.
    """

    latents: torch.Tensor
    masks: torch.Tensor
    context: torch.Tensor
    missing: torch.Tensor

    def withheld(self) -> SVDConditions:
        """The unconditional side of classifier-free guidance: nothing splatted, no image tokens."""
        zero = torch.zeros_like
        return self._replace(latents=zero(self.latents), masks=zero(self.masks), context=zero(self.context))


class SVDBackbone(nn.Module):
    """Denoiser D(x; sigma) over latents (N, F, 8, h, w), RGB's four channels and then depth's, of unit scale.

    D = c_skip x + c_out net(c_in x, c_noise, conditions), x = clean + sigma noise, with the coefficients of SVD's
    v-prediction: c_skip = 1 / (sigma^2 + 1), c_out = -sigma / sqrt(sigma^2 + 1), c_in = 1 / sqrt(sigma^2 + 1), c_noise =
    log(sigma) / 4. The UNet reads noisy RGB, noisy depth, sparse RGB, sparse depth (16 channels) and ``mask_channels`` masks,
    whose weights start at zero. As in SVD, noisy latents have the VAE's scaling factor and condition latents do not.
    """

    def __init__(self, unet: Mapping[str, Any], vae: Mapping[str, Any], mask_channels: int) -> None:
        """unet, vae: arguments of diffusers' classes; channel counts of the UNet are set here."""
        super().__init__()
        check_options(UNetSpatioTemporalConditionModel, "unet", unet)
        check_options(AutoencoderKLTemporalDecoder, "vae", vae)
        self.unet = UNetSpatioTemporalConditionModel(**{**unet, "in_channels": 16 + mask_channels, "out_channels": 8})
        self.vae = AutoencoderKLTemporalDecoder(**vae).requires_grad_(False)
        if self.vae.config.latent_channels != 4:
            raise ConfigError(f"vae: latent_channels must be 4, as SVD's, not {self.vae.config.latent_channels}")
        conditioning = (self.unet.config.addition_time_embed_dim, self.unet.config.projection_class_embeddings_input_dim)
        if conditioning[1] != 3 * conditioning[0]:
            raise ConfigError(
                "unet: projection_class_embeddings_input_dim must be three times addition_time_embed_dim, "
                f"not {conditioning[1]} with {conditioning[0]}"
            )
        self.mask_channels = mask_channels
        nn.init.zeros_(self.unet.conv_in.weight[:, 16:])

    def train(self, mode: bool = True) -> SVDBackbone:
        """The frozen VAE stays in evaluation mode."""
        super().train(mode)
        self.vae.eval()
        return self

    @property
    def factor(self) -> int:
        """Pixels per latent along each image axis."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def conditions(self, views: ViewInputs, context: torch.Tensor | None = None) -> SVDConditions:
        """Conditions of clips, ``views`` over (N, F).

        context: (N, L, D) CLIP tokens of the source image, zeros without them. Pixels where nothing was splatted are black and at
        no distance.
        """
        clips, valid = len(views.base), views.masks[:, :, :1]
        sparse = torch.where(valid > 0.5, views.base, -torch.ones_like(views.base))
        size = (sparse.shape[-2] // self.factor, sparse.shape[-1] // self.factor)
        masks = F.adaptive_avg_pool2d(views.masks[:, :, : self.mask_channels].flatten(0, 1), size).unflatten(0, (clips, -1))
        if context is None:
            width = self.unet.config.cross_attention_dim
            context = sparse.new_zeros(clips, 1, width if isinstance(width, int) else width[0])
        latents = self.encode(sparse) / self.vae.config.scaling_factor
        return SVDConditions(latents, masks, context, (valid <= 0.5).to(sparse))

    def forward(self, noisy: torch.Tensor, sigma: torch.Tensor, conditions: SVDConditions) -> torch.Tensor:
        """D(x; sigma): noisy (N, F, 8, h, w), sigma (N,) > 0. Shaped as ``noisy``."""
        dtype, scale = self.unet.dtype, sigma.view(-1, 1, 1, 1, 1)
        root = (scale.square() + 1).sqrt()
        inputs = torch.cat([noisy / root, conditions.latents, conditions.masks], 2).to(dtype)
        ids = sigma.new_tensor([FPS_ID, MOTION_BUCKET, 0.0]).expand(len(noisy), 3)
        made = self.unet(inputs, sigma.log() / 4, conditions.context.to(dtype), ids.to(dtype)).sample.to(noisy.dtype)
        return noisy / root.square() - made * scale / root

    def encode(self, rgbd: torch.Tensor) -> torch.Tensor:
        """RGB and depth code (N, F, 4, H, W) to latents (N, F, 8, h, w), one image at a time; ``ConfigError`` for other sizes."""
        height, width = rgbd.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ConfigError(f"images must be divisible by {self.factor} pixels, not {height} x {width}")
        flat = rgbd.flatten(0, 1).to(self.vae.dtype)
        images = torch.stack([flat[:, :3], flat[:, 3:].expand(-1, 3, -1, -1)], 1).flatten(0, 1)
        latents = torch.cat([self.vae.encode(image[None]).latent_dist.mode() for image in images])
        joint = latents.unflatten(0, (-1, 2)).flatten(1, 2) * self.vae.config.scaling_factor
        return joint.unflatten(0, rgbd.shape[:2]).to(rgbd.dtype)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (N, F, 8, h, w) to RGB, not clipped, and depth code (N, F, 4, H, W), clip by clip."""
        halves = (latents / self.vae.config.scaling_factor).to(self.vae.dtype).chunk(2, 2)
        rgb, depth = (torch.stack([self.vae.decode(clip, num_frames=len(clip)).sample for clip in half]) for half in halves)
        return torch.cat([rgb, depth.clamp(-1, 1).mean(2, keepdim=True)], 2).to(latents.dtype)


def draw_sigma(count: int, generator: torch.Generator) -> torch.Tensor:
    """Noise levels of training, (count,): log sigma is normal."""
    return torch.exp(LOG_SIGMA_MEAN + LOG_SIGMA_STD * torch.randn(count, generator=generator))


def edm_weight(sigma: torch.Tensor) -> torch.Tensor:
    """Weight of the clean latent's squared error, (sigma^2 + 1) / sigma^2, equal for all levels in the network's own target."""
    return (sigma.square() + 1) / sigma.square()


def load_svd(folder: str | Path, mask_channels: int) -> tuple[SVDBackbone, dict[str, Any], dict[str, Any]]:
    """SVD's UNet and VAE of a local folder in diffusers' layout (``unet``, ``vae``), widened; and their configurations.

    Input layer: noisy RGB takes SVD's weights for its noisy latent, sparse RGB those for its conditioning image, every other
    channel zero. Output layer: depth takes a copy of RGB's weights. So the RGB half is at first exactly SVD's answer.
    Raises ``WeightsError``.
    """
    folder = Path(folder)
    unet = load_diffusers(UNetSpatioTemporalConditionModel, folder / "unet")
    vae = load_diffusers(AutoencoderKLTemporalDecoder, folder / "vae")
    if (unet.config.in_channels, unet.config.out_channels) != (8, 4):
        counts = f"{unet.config.in_channels} input and {unet.config.out_channels} output channels"
        raise WeightsError(f"{folder / 'unet'} has {counts}: give an image-to-video SVD, which has 8 and 4")
    unet_config, vae_config = (
        {name: value for name, value in model.config.items() if not name.startswith("_")} for model in (unet, vae)
    )
    backbone = SVDBackbone(unet_config, vae_config, mask_channels)
    backbone.vae.load_state_dict(vae.state_dict())
    weights = unet.state_dict()
    narrow = weights["conv_in.weight"]
    wide = narrow.new_zeros(len(narrow), 16 + mask_channels, 3, 3)
    wide[:, 0:4], wide[:, 8:12] = narrow[:, :4], narrow[:, 4:]
    weights["conv_in.weight"] = wide
    for name in ("conv_out.weight", "conv_out.bias"):
        weights[name] = torch.cat([weights[name], weights[name]])
    backbone.unet.load_state_dict(weights)
    return backbone, unet_config, vae_config
