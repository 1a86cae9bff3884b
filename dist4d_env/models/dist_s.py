"""DiST-S: completes a sparse splat at a new pose to a dense RGB-D image."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from dist4d_env.models.composition import COMPOSE_CHANNELS, CompositionUNet, compose
from dist4d_env.models.conditions import MASK_CHANNELS, ViewInputs
from dist4d_env.models.dist_t import MIN_NOISE


class DiSTSUNet(ModelMixin, ConfigMixin):
    """Rectified flow in pixels: noisy RGB-D, sparse RGB, sparse depth, an explicit valid mask and both fills in, velocity out.

    The clean image is composed from the splat, the network's own dense image and the other fill; untrained it is the
    filled splat, exactly.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, widths: tuple[int, ...] = (48, 96, 160), blocks: int = 2, depth_code: str = "log") -> None:
        super().__init__()
        channels = 4 + 4 + len(MASK_CHANNELS) + 4 + 3
        self.net = CompositionUNet(channels, 4 + COMPOSE_CHANNELS, tuple(widths), blocks, scalars=1)

    def forward(self, noisy: torch.Tensor, noise_level: torch.Tensor, views: ViewInputs) -> torch.Tensor:
        """The velocity at ``noisy = (1 - s) clean + s noise``; images (N, 4, H, W), noise levels (N,) in (0, 1]."""
        clean, _ = self.predict_clean(noisy, noise_level, views)
        return (noisy - clean) / noise_level.clamp(min=MIN_NOISE).view(-1, 1, 1, 1)

    def predict_clean(
        self, noisy: torch.Tensor, noise_level: torch.Tensor, views: ViewInputs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The clean image (N, 4, H, W) that the network believes in, and the generated share (N, 1, H, W) in [0, 1]."""
        sparse = views.base * views.masks[:, :1]
        told = torch.cat([noisy, sparse, views.masks, views.base, views.other], 1)
        prediction = self.net(told, noise_level[:, None]).to(views.base.dtype)
        return compose(views.base, prediction[:, :4], views.other, prediction[:, 4:])
