"""The composition network: a UNet that predicts gates and detail, and the blend that starts at the splat."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from dist4d_env.errors import ConfigError
from dist4d_env.models.codec import Pointwise, ResidualConv
from dist4d_env.models.conditions import MASK_CHANNELS
from dist4d_env.scenes.edits import is_number

MOST_PIXELS = 3.125
"""Times the pixels of the pictures that weights are trained for: larger ones the networks see reduced. What they generate is
smooth, and texture comes from the splat at the picture's own size, so that little is lost and most of the time saved."""


def coarse_size(size: Sequence[int], trained: Sequence[int]) -> tuple[int, int]:
    """Height and width at which networks trained at one size work on pictures of another: about a whole fraction of it, in
    multiples of 16. Trained at (64, 112) they see (224, 400) and (448, 800) as (112, 208)."""
    height, width = size
    times = math.ceil(math.sqrt(height * width / (MOST_PIXELS * trained[0] * trained[1])) - 1e-9)
    return (height, width) if times <= 1 else (_sixteens(height / times), _sixteens(width / times))


def _sixteens(length: float) -> int:
    """The nearest multiple of 16."""
    return math.floor(length / 16 + 0.5) * 16


def resized(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Images (..., C, H, W) at another size: averaged over areas where it is smaller, interpolated where it is larger."""
    if images.shape[-2:] == (height, width):
        return images
    flat = images.flatten(0, -4)
    if height * width < flat.shape[-2] * flat.shape[-1]:
        flat = F.interpolate(flat, (height, width), mode="area")
    else:
        flat = F.interpolate(flat, (height, width), mode="bilinear", align_corners=False)
    return flat.unflatten(0, images.shape[:-3])


def fourier_features(values: torch.Tensor, frequencies: int) -> torch.Tensor:
    """Values (..., D) beside sines and cosines of 1, 2, 4, ... times them: (..., D (1 + 2 frequencies))."""
    scaled = [values * (2.0**k) for k in range(frequencies)]
    return torch.cat([values, *[torch.sin(s) for s in scaled], *[torch.cos(s) for s in scaled]], -1)


class ScalarEmbedding(nn.Module):
    """Scalars (B, D), each about in [0, 4], to vectors (B, width)."""

    def __init__(self, scalars: int, width: int, frequencies: int = 4) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.net = nn.Sequential(nn.Linear(scalars * (1 + 2 * frequencies), width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.net(fourier_features(values, self.frequencies))


class CompositionUNet(nn.Module):
    """A UNet on space-to-depth pixels whose features are shifted and scaled by a vector (noise level, frame interval).

    In: (N, in_channels, H, W) and (N, scalars); out: (N, out_channels, H, W), exactly zero before training. H and W must be
    divisible by 2 ** len(widths).
    """

    def __init__(
        self, in_channels: int, out_channels: int, widths: tuple[int, ...], blocks: int, scalars: int, embedding: int = 64
    ) -> None:
        super().__init__()
        self.embedding = ScalarEmbedding(scalars, embedding)
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, widths[0], 3, padding=1))
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        self.downsample = nn.ModuleList()
        self.upsample = nn.ModuleList()
        self.merge = nn.ModuleList()
        self.modulate = nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(nn.ModuleList([ResidualConv(width) for _ in range(blocks)]))
            self.modulate.append(nn.Linear(embedding, 2 * width))
            nn.init.zeros_(self.modulate[-1].weight)
            nn.init.zeros_(self.modulate[-1].bias)
            if level + 1 < len(widths):
                self.downsample.append(nn.Conv2d(width, widths[level + 1], 2, stride=2))
                self.upsample.append(nn.Sequential(Pointwise(widths[level + 1], 4 * width), nn.PixelShuffle(2)))
                self.merge.append(Pointwise(2 * width, width))
                self.up.append(nn.ModuleList([ResidualConv(width) for _ in range(blocks)]))
        self.head = nn.Conv2d(widths[0], 4 * out_channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor, scalars: torch.Tensor) -> torch.Tensor:
        # Products of a few rows that are no multiple of four come out differently with the number of threads.
        embedding = F.silu(self.embedding(F.pad(scalars, (0, 0, 0, -len(scalars) % 4))))
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        skips = []
        for level, blocks in enumerate(self.down):
            shift, scale = self.modulate[level](embedding)[: len(x), :, None, None].chunk(2, 1)
            x = x * (1 + scale) + shift
            for block in blocks:
                x = block(x)
            if level < len(self.downsample):
                skips.append(x)
                x = self.downsample[level](x)
        for level in reversed(range(len(self.up))):
            x = self.merge[level](torch.cat([self.upsample[level](x), skips[level]], 1))
            for block in self.up[level]:
                x = block(x)
        return F.pixel_shuffle(self.head(F.silu(x)), 2)


COMPOSE_CHANNELS = 7
"""Channels of ``compose``'s prediction: gates of RGB and depth towards the proposal, a gate towards the other fill, detail."""


REGIONS = ("hole", "moving", "unsure", "sure")
"""Kinds of pixels by the splat's masks: none reached, an agent's, not confirmed by a fine enough source, the others."""


def regions(masks: torch.Tensor) -> torch.Tensor:
    """Of masks (..., MASK_CHANNELS, H, W) which pixel is of which kind, (..., 4, H, W) bool, REGIONS."""
    named = {name: masks[..., channel, :, :] >= 0.5 for channel, name in enumerate(MASK_CHANNELS)}
    valid, moving, confirmed = (named[name] for name in ("valid", "moving", "confidence"))
    still = valid & ~moving
    return torch.stack([~valid, valid & moving, still & ~confirmed, still & confirmed], -3)


Gains = Sequence[float] | None
"""What of a network's change of the splat's colours is kept, by REGIONS, each in [0, 1]; None keeps all."""


def check_gains(gains: Gains) -> None:
    """Raise ``ConfigError`` where factors by REGIONS are none."""
    numbers = gains is None or (isinstance(gains, list | tuple) and len(gains) == len(REGIONS))
    if not numbers or not all(is_number(gain, 0, 1) for gain in gains or ()):
        raise ConfigError(f"gains must be null or a number from 0 to 1 for each of {', '.join(REGIONS)}, not {gains!r}")


def gain_image(masks: torch.Tensor, gains: Gains) -> torch.Tensor | None:
    """The factor of each pixel (N, 1, H, W) by masks (N, MASK_CHANNELS, H, W); None for None."""
    if gains is None:
        return None
    return torch.einsum("g,nghw->nhw", masks.new_tensor(gains), regions(masks).to(masks.dtype))[:, None]


def compose(
    base: torch.Tensor,
    proposal: torch.Tensor,
    other: torch.Tensor,
    prediction: torch.Tensor,
    most_detail: float | None = None,
    gain: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend a base RGB-D image with a proposal and with another fill, and add detail.

    base, proposal: (N, 4, H, W) RGB and depth code; other: (N, 3, H, W) RGB; prediction: (N, 7, H, W); most_detail: bound of
    the detail in RGB, whose range is 2; gain: (N, 1, H, W), what of the change of the base's colours is kept (None: all). Where
    the prediction is zero the result is the base exactly. Returns the composed image (N, 4, H, W) and the generated share
    (N, 1, H, W) in [0, 1]: the gate towards the proposal, or more where the detail is strong (a fifth of the colour range counts
    as all new).
    """
    gates, detail = torch.tanh(prediction[:, :3]), prediction[:, 3:]
    rgb, depth = base[:, :3], base[:, 3:]
    fine = detail[:, :3] if most_detail is None else detail[:, :3].clamp(-most_detail, most_detail)
    rgb = rgb + gates[:, :1] * (proposal[:, :3] - rgb) + gates[:, 2:] * (other - rgb) + fine
    depth = depth + gates[:, 1:2] * (proposal[:, 3:] - depth) + detail[:, 3:]
    strength = fine.abs().mean(1, keepdim=True) / 0.4
    share = torch.maximum(gates[:, :1].abs(), strength).clamp(0, 1)
    if gain is not None:
        rgb, share = base[:, :3] + gain * (rgb - base[:, :3]), gain * share
    return torch.cat([rgb, depth], 1), share
