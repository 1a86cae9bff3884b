"""DiST-S: completes a sparse splat at a new pose to a dense RGB-D image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from dist4d_env.errors import ConfigError
from dist4d_env.models.arguments import check_choice, check_image_size, check_levels, check_whole
from dist4d_env.models.composition import (
    COMPOSE_CHANNELS,
    CompositionUNet,
    Gains,
    check_gains,
    coarse_size,
    compose,
    gain_image,
    resized,
)
from dist4d_env.models.conditions import MASK_CHANNELS
from dist4d_env.models.depth_code import DEPTH_CODES
from dist4d_env.models.inputs import ViewInputs
from dist4d_env.models.precision import reduced
from dist4d_env.models.samplers import MIN_NOISE
from dist4d_env.models.svd import SVDBackbone, SVDConditions, load_svd


class DiSTSUNet(ModelMixin, ConfigMixin):
    """Sparse RGB, sparse depth and an explicit valid mask in, dense RGB and depth out, by one of two backbones.

    - ``"composition"``: rectified flow in pixels, in one step or a few, ``noisy = (1 - s) clean + s noise``. The clean image is
      composed from the splat, the network's own dense image and the other fill; untrained it is the filled splat, exactly.
    - ``"svd"``: the published one. Stable Video Diffusion's UNet over the latents of its frame VAE (``SVDBackbone``),
      ``noisy = clean + sigma noise``, in tens of Euler steps; ``encode`` and ``decode`` go between images and latents.

    Both take single images (N, C, H, W) or clips (N, F, C, H, W); the composition completes a clip's frames one by one, SVD
    lets them attend to each other. Both predict the clean sample at a noise level l; the velocity is (noisy - clean) / l.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        widths: tuple[int, ...] = (48, 96, 160),
        blocks: int = 2,
        depth_code: str = "log",
        backbone: str = "composition",
        mask_channels: int = len(MASK_CHANNELS),
        unet: dict[str, Any] | None = None,
        vae: dict[str, Any] | None = None,
        image_size: tuple[int, int] = (64, 112),
        gains: tuple[float, ...] | None = None,
    ) -> None:
        """widths, blocks: of the composition; unet, vae: arguments of diffusers' UNetSpatioTemporalConditionModel and
        AutoencoderKLTemporalDecoder for SVD; mask_channels: how many of MASK_CHANNELS SVD takes (0 as published; the
        composition takes all of them); image_size: height and width that the weights are trained for, of much larger pictures the
        composition sees a reduced copy (``coarse_size``); gains: what of the composition's change of the splat's colours is kept
        by kind of pixel, ``composition.REGIONS`` (None: all).
        """
        super().__init__()
        check_levels(widths, blocks)
        check_choice("depth_code", depth_code, DEPTH_CODES)
        check_choice("backbone", backbone, ("composition", "svd"))
        check_whole("mask_channels", mask_channels, 0, len(MASK_CHANNELS))
        check_image_size(image_size)
        check_gains(gains)
        if backbone == "composition":
            if unet is not None or vae is not None:
                raise ConfigError("unet and vae are for backbone='svd': leave them null")
            channels = 4 + 4 + len(MASK_CHANNELS) + 4 + 3
            self.net = CompositionUNet(channels, 4 + COMPOSE_CHANNELS, tuple(widths), blocks, scalars=1)
        else:
            if gains is not None:
                raise ConfigError("gains are for backbone='composition': leave them null")
            self.svd = SVDBackbone({} if unet is None else unet, {} if vae is None else vae, mask_channels)
            self._supports_gradient_checkpointing = True

    @classmethod
    def from_svd(cls, folder: str | Path, mask_channels: int = len(MASK_CHANNELS), depth_code: str = "linear") -> DiSTSUNet:
        """Stable Video Diffusion of a local folder in diffusers' layout, widened to RGB-D as in ``load_svd``.

        Raises ``WeightsError`` where the folder holds something else.
        """
        backbone, unet, vae = load_svd(folder, mask_channels)
        with torch.device("meta"):
            model = cls(depth_code=depth_code, backbone="svd", mask_channels=mask_channels, unet=unet, vae=vae)
        model.svd = backbone
        return model.eval()

    @property
    def is_svd(self) -> bool:
        """Whether noisy images are latents of Stable Video Diffusion."""
        return self.config.backbone == "svd"

    def noise_shape(self, views: ViewInputs) -> tuple[int, ...]:
        """The shape of what is denoised: images shaped as ``views.base``, or their latents."""
        if not self.is_svd:
            return tuple(views.base.shape)
        height, width = views.base.shape[-2:]
        return (*views.base.shape[:-3], 8, height // self.svd.factor, width // self.svd.factor)

    def prepare(self, views: ViewInputs, context: torch.Tensor | None = None) -> ViewInputs | SVDConditions:
        """The conditions of ``predict_clean``, made once for all noise levels; context: as in ``SVDBackbone.conditions``, the
        composition takes none.
        """
        if self.is_svd:
            clips = views if views.base.ndim == 5 else ViewInputs(*(tensor[:, None] for tensor in views))
            return self.svd.conditions(clips, context)
        if context is not None:
            raise ConfigError("image tokens are for backbone='svd', and this is the composition")
        return views

    def forward(self, noisy: torch.Tensor, noise_level: torch.Tensor, conditions: ViewInputs | SVDConditions) -> torch.Tensor:
        """The velocity d(noisy) / d(noise level); shapes as in ``predict_clean``."""
        clean, _ = self.predict_clean(noisy, noise_level, conditions)
        return (noisy - clean) / noise_level.clamp(min=MIN_NOISE).view(-1, *[1] * (noisy.ndim - 1))

    def predict_clean(
        self, noisy: torch.Tensor, noise_level: torch.Tensor, conditions: ViewInputs | SVDConditions, gains: Gains = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The predicted clean images or latents, shaped as ``noisy`` (``noise_shape``), and the generated share (..., 1, H, W) in
        [0, 1]: the composition's own, or all that was not splatted.

        noise_level: (N,), in (0, 1] for the composition, any positive sigma for SVD; conditions: views, or of ``prepare``;
        gains: of the composition, in place of the weights' own.
        """
        if self.is_svd:
            prepared = self.prepare(conditions) if isinstance(conditions, ViewInputs) else conditions
            assert isinstance(prepared, SVDConditions)
            if noisy.ndim == 5:
                return self.svd(noisy, noise_level, prepared), prepared.missing
            return self.svd(noisy[:, None], noise_level, prepared)[:, 0], prepared.missing[:, 0]
        if not isinstance(conditions, ViewInputs):
            raise ConfigError("the composition takes views, not conditions of SVD")
        if noisy.ndim == 5:
            frames = noisy.shape[1]
            flat = ViewInputs(*(tensor.flatten(0, 1) for tensor in conditions))
            clean, share = self.predict_clean(noisy.flatten(0, 1), noise_level.repeat_interleave(frames), flat, gains)
            return clean.unflatten(0, (-1, frames)), share.unflatten(0, (-1, frames))
        base, other, masks = conditions
        size = base.shape[-2:]
        coarse = coarse_size(size, self.config.image_size)
        if coarse != size:  # picked, for averaged noise would be fainter
            noisy = F.interpolate(noisy, coarse, mode="nearest")
        splat = (resized(image, *coarse) for image in (base * masks[:, :1], masks, base, other))
        images = torch.cat([noisy, *splat], 1)
        with reduced(images):
            prediction = self.net(images, noise_level[:, None])
        prediction = resized(prediction.to(base.dtype), *size)
        gain = gain_image(masks, self.config.gains if gains is None else gains)
        return compose(base, prediction[:, :4], other, prediction[:, 4:], gain=gain)

    def encode(self, rgbd: torch.Tensor) -> torch.Tensor:
        """True images (..., 4, H, W) as targets of ``predict_clean``."""
        if not self.is_svd:
            return rgbd
        return self.svd.encode(rgbd) if rgbd.ndim == 5 else self.svd.encode(rgbd[:, None])[:, 0]

    def decode(self, clean: torch.Tensor) -> torch.Tensor:
        """The images (..., 4, H, W) of predictions of ``predict_clean``."""
        if not self.is_svd:
            return clean
        return self.svd.decode(clean) if clean.ndim == 5 else self.svd.decode(clean[:, None])[:, 0]
