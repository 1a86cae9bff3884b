"""Depth completion by a small conditional rectified flow, in the spirit of DepthLab: an image and sparse depth to dense depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from dist4d_env.models.arguments import check_channels, check_levels
from dist4d_env.models.codec import ResidualConv
from dist4d_env.models.pretrained import SHIPPED, load_model
from dist4d_env.models.samplers import Euler
from dist4d_env.models.unet import PlainUNet

CLASSES = ("sky", "ground", "object")
CONDITIONS = (
    "red", "green", "blue", "depth", "returned", "upright", "above", "ground", "distance", "plane", "elevation",
    "below_top", "above_bottom", "focal",
)  # fmt: skip
"""Channels of the network's condition, as ``curation.prompt`` makes them."""
MIDDLE = float(np.log(15.0))
"""Depth d is coded as log(d) - MIDDLE, in which streets have about unit variance, as the noise has."""


class DepthFlow(PlainUNet, ModelMixin, ConfigMixin):
    """A UNet reads the condition (N, 14, H, W) once; a small network on its features, at half the size, is the flow's.

    The flow predicts the clean depth code and the logarithm of its expected error (a Laplace distribution's scale) from the
    noisy one: a mixture of two first guesses, the condition's channels "above" and "ground", and what it adds. Both grow to
    full size as means of 3 x 3 neighbours with weights read from the features, so that steps stay steps. H and W are divisible
    by 2 ** len(widths).
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, widths: tuple[int, ...] = (40, 64, 88, 88), blocks: int = 1, flow_blocks: int = 1) -> None:
        super().__init__()
        check_levels(widths, blocks)
        check_channels(flow_blocks=flow_blocks)
        first = widths[0]
        self.make_levels(len(CONDITIONS), tuple(widths), blocks)
        self.classes = nn.Conv2d(first, 4 * len(CLASSES), 3, padding=1)
        self.weights = nn.Conv2d(first, 4 * 9, 3, padding=1)
        self.enter = nn.Conv2d(first + 4, first, 3, padding=1)
        self.flow = nn.Sequential(*[ResidualConv(first) for _ in range(flow_blocks)])
        self.leave = nn.Conv2d(first, 3, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def features(self, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The condition (N, 14, H, W) to features (N, widths[0], H / 2, W / 2) and its first guesses (N, 2, H / 2, W / 2)."""
        _, x = self.through_levels(condition)
        guess = CONDITIONS.index("above")
        return F.silu(x), F.avg_pool2d(condition[:, guess : guess + 2], 2)

    def clean(
        self, noisy: torch.Tensor, level: torch.Tensor, features: torch.Tensor, guesses: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The clean depth code and the logarithm of its error, both as noisy (N, 1, H / 2, W / 2); level: (N,), 0 to 1."""
        levels = level.to(features)[:, None, None, None].expand_as(noisy)
        x = self.flow(self.enter(torch.cat([features, noisy, levels, guesses], 1)))
        change, share, error = self.leave(F.silu(x)).chunk(3, 1)
        above, ground = guesses.chunk(2, 1)
        return torch.lerp(above, ground, share.sigmoid()) + change, error.clamp(-6, 2) - 2

    def enlarge(self, fields: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Fields (N, C, H / 2, W / 2) at full size."""
        count, channels, height, width = fields.shape
        share = self.weights(features).view(count, 1, 4, 9, height, width).softmax(3)
        around = F.unfold(F.pad(fields, (1, 1, 1, 1), mode="replicate"), 3).view(count, channels, 1, 9, height, width)
        return F.pixel_shuffle((share * around).sum(3).flatten(1, 2), 2)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, 3, H, W) of CLASSES."""
        return F.pixel_shuffle(self.classes(features), 2)

    @torch.no_grad()
    def sample(self, condition: torch.Tensor, steps: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Depth (N, H, W) in metres, its expected error (N, H, W) as a logarithm's, and shares (N, 3, H, W) of CLASSES.

        condition: (N, 14, H, W) of any size. steps: evaluations of the flow; noise is drawn on the CPU from the seed.
        """
        height, width = condition.shape[-2:]
        block = 2 ** len(self.config.widths)
        condition = F.pad(condition, (0, -width % block, 0, -height % block), mode="replicate")
        features, guesses = self.features(condition)
        shape = (len(guesses), 1, *guesses.shape[2:])
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(guesses)
        errors = torch.zeros_like(noise)

        def model(noisy: torch.Tensor, level: float) -> torch.Tensor:
            code, errors[:] = self.clean(noisy, torch.full((len(noisy),), level), features, guesses)
            return code

        sampler = Euler()
        code = sampler.sample(model, noise, sampler.levels(steps))
        grown = self.enlarge(torch.cat([code, errors], 1), features)[..., :height, :width]
        shares = self.classify(features).softmax(1)[..., :height, :width]
        return (grown[:, 0] + MIDDLE).exp(), grown[:, 1].exp(), shares


def load_depth_flow(folder: str | Path | None = None) -> DepthFlow:
    """The network that ships, or one of a folder written by its training. Raises ``WeightsError``."""
    return load_model(DepthFlow, SHIPPED / "depth" if folder is None else Path(folder))
