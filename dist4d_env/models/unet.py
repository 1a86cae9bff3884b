"""A UNet on space-to-depth pixels that nothing but its input steers."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from dist4d_env.models.codec import Pointwise, ResidualConv


class PlainUNet(nn.Module):
    """The levels of a network; what it makes of the features is its own.

    In: (N, channels, H, W), H and W divisible by patch * 2 ** (len(widths) - 1); features are
    (N, widths[0], H / patch, W / patch).
    """

    def make_levels(self, channels: int, widths: tuple[int, ...], blocks: int, patch: int = 2) -> None:
        """Makes the layers, whose names are those in files of weights."""
        self.stem = nn.Sequential(nn.PixelUnshuffle(patch), nn.Conv2d(patch**2 * channels, widths[0], 3, padding=1))
        self.down = nn.ModuleList(nn.Sequential(*[ResidualConv(width) for _ in range(blocks)]) for width in widths)
        self.up = nn.ModuleList(nn.Sequential(*[ResidualConv(width) for _ in range(blocks)]) for width in widths[:-1])
        self.shrink, self.grow, self.merge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for width, below in pairwise(widths):
            self.shrink.append(nn.Conv2d(width, below, 2, stride=2))
            self.grow.append(nn.Sequential(Pointwise(below, 4 * width), nn.PixelShuffle(2)))
            self.merge.append(Pointwise(2 * width, width))

    def through_levels(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The features of the first level and the last ones, neither of them activated."""
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        skips = []
        for level, blocks in enumerate(self.down):
            x = blocks(x)
            skips.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        for level in reversed(range(len(self.up))):
            x = self.up[level](self.merge[level](torch.cat([self.grow[level](x), skips[level]], 1)))
        return skips[0], x
