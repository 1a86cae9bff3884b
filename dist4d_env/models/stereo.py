"""Multi-view stereo by a cascade of plane sweeps, in the spirit of TransMVSNet: features of several posed images to depth."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from dist4d_env.errors import ConfigError
from dist4d_env.models.arguments import check_channels, check_whole
from dist4d_env.models.codec import Pointwise, ResidualConv
from dist4d_env.models.pretrained import SHIPPED, load_model

NEAREST, FURTHEST = 2.0, 130.0
"""Metres of z-depth that the first sweep spans; what is farther, as the sky, is taken for FURTHEST."""
BEND = 1.5
"""Depth d is coded as d ** (-1 / BEND): nearly as even in pixels of disparity as 1 / d, with more planes far away."""
FINER = (1, 3, 6)
"""Spacings of the sweeps after the first: so many times finer than its."""
MULTIPLE = 8
"""Heights and widths of images are multiples of it."""


class Pyramid(NamedTuple):
    """Features (N, C + 1, h, w) of images at a quarter, at half and at full size; the last channel is 1 where pixels may be
    matched."""

    quarter: torch.Tensor
    half: torch.Tensor
    full: torch.Tensor


class Sweep(NamedTuple):
    """codes: (N, D, h, w) of the planes tried; logits: (N, D, h, w), how well each fits."""

    codes: torch.Tensor
    logits: torch.Tensor

    def best(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The code (N, 1, h, w): the mean of the likeliest plane and its neighbours; and their probability (N, 1, h, w)."""
        share = self.logits.softmax(1)
        peak = share.argmax(1, keepdim=True)
        around = peak + torch.arange(-1, 2, device=peak.device)[:, None, None]
        inside = around.clamp(0, share.shape[1] - 1)
        weight = share.gather(1, inside) * (around == inside)
        total = weight.sum(1, keepdim=True)
        return (weight * self.codes.gather(1, inside)).sum(1, keepdim=True) / total, total


def depth_code(depth: torch.Tensor) -> torch.Tensor:
    """Metres to codes."""
    return depth ** (-1 / BEND)


def code_depth(code: torch.Tensor) -> torch.Tensor:
    """Codes to metres."""
    return code.clamp(min=1e-4) ** -BEND


class PlaneConv(nn.Conv2d):
    """A 3 x 3 x 3 convolution of volumes (N, D, C, h, w) as one over images: on CPUs torch has no fast one over volumes."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__(3 * channels, out, 3, padding=1, stride=stride)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        planes, stride = volume.shape[1], self.stride[0]
        padded = F.pad(volume, (0, 0, 0, 0, 0, 0, 1, 1))
        near = torch.cat([padded[:, i : planes + i : stride] for i in range(3)], 2)
        made = super().forward(near.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        return made.unflatten(0, near.shape[:2])


class Regulariser(nn.Module):
    """A volume of likeness (N, D, C, h, w) to logits (N, D, h, w), by 3D convolutions at its size and at half of it. D, h and w
    are even."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.enter = PlaneConv(channels, width)
        self.shrink = PlaneConv(width, 2 * width, 2)
        self.deep = PlaneConv(2 * width, 2 * width)
        self.grow = Pointwise(2 * width, 8 * width)
        self.leave = PlaneConv(width, 1)
        self.gain = nn.Parameter(torch.tensor(10.0))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        fine = self.enter(volume)
        coarse = F.silu(self.shrink(F.silu(fine)))
        coarse = coarse + F.silu(self.deep(coarse))
        grown = F.pixel_shuffle(self.grow(coarse.flatten(0, 1)), 2)  # two planes' channels
        refined = self.leave(F.silu(fine + grown.reshape(fine.shape)))
        return refined[:, :, 0] + self.gain * volume[:, :, :-1].mean(2)


class StereoNetwork(ModelMixin, ConfigMixin):
    """Features of a small shared encoder are compared, group by group, with those of other images on planes of the reference
    camera; 3D convolutions make the likeness of all images together plausible. The first sweep, at a quarter of the size, spans
    all depth, the next ones at half and full size a band around what the one before found.

    No normalisation layers; features have unit length, so likeness is a cosine and depends little on exposure.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        widths: tuple[int, int, int] = (8, 16, 32),
        groups: int = 4,
        planes: tuple[int, int, int] = (48, 16, 8),
        regular: tuple[int, int, int] = (8, 8, 4),
    ) -> None:
        super().__init__()
        check_channels(groups=groups)
        for name, values in (("widths", widths), ("planes", planes), ("regular", regular)):
            if not isinstance(values, list | tuple) or len(values) != 3:
                raise ConfigError(f"{name} must be a list of three numbers, not {values!r}")
            for value in values:
                check_whole(name, value, 2, 512)
        if any(width % groups for width in widths) or any(count % 2 for count in planes):
            raise ConfigError(f"widths {widths!r} must be multiples of groups {groups!r}, planes {planes!r} must be even")
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 3, padding=1), ResidualConv(widths[0]))
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, below, 4, stride=2, padding=1), ResidualConv(below), *[ResidualConv(below)] * last)
            for last, (width, below) in enumerate(pairwise(widths))
        )
        self.up = nn.ModuleList(Pointwise(below, width) for width, below in pairwise(widths))
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths)
        self.regularisers = nn.ModuleList(Regulariser(groups + 1, width) for width in regular)
        self.trust = nn.Parameter(torch.tensor([6.0, -2.0]))

    def features(self, images: torch.Tensor, seen: torch.Tensor) -> Pyramid:
        """Images (N, 3, H, W) in [-1, 1] and what may be matched in them (N, 1, H, W), 0 or 1, to features."""
        full = self.stem(images.contiguous(memory_format=torch.channels_last))
        half = self.down[0](full)
        levels = [self.down[1](half), half, full]
        for finer, lift in ((1, self.up[1]), (2, self.up[0])):
            grown = F.interpolate(lift(F.silu(levels[finer - 1])), scale_factor=2.0, mode="bilinear", align_corners=False)
            levels[finer] = levels[finer] + grown
        made = []
        for level, smooth, factor in zip(levels, reversed(self.smooth), (4, 2, 1), strict=True):
            mask = -F.max_pool2d(-seen, factor)  # where every pixel may be
            made.append(torch.cat([F.normalize(smooth(F.silu(level)), dim=1), mask], 1))
        return Pyramid(*made)

    def sweep(
        self, stage: int, reference: Pyramid, sources: list[Pyramid], pixel_from_pixel: torch.Tensor, codes: torch.Tensor
    ) -> Sweep:
        """Likeness of the reference with all sources on planes of codes (N, D, h, w), made plausible.

        pixel_from_pixel: (N, S, 3, 4) from (column, row, 1, 1 / z-depth) of the reference to homogeneous pixels of each source,
        both at full size.
        """
        ours, groups = reference[stage][:, :-1], self.config.groups
        grouped = ours.unflatten(1, (groups, -1))
        total = weights = 0.0
        for index, source in enumerate(sources):
            warped = warp(source[stage], tuple(source.full.shape[-2:]), pixel_from_pixel[:, index], codes, (4, 2, 1)[stage])
            there = (warped[:, -1:] > 0.99).to(warped)
            # Mean over a group's channels, times their number in all: groups of unit vectors' products add up to their cosine.
            alike = (grouped[:, :, :, None] * warped[:, :-1].unflatten(1, (groups, -1))).sum(2) * groups * there
            peak = alike.mean(1, keepdim=True).amax(2, keepdim=True)
            weight = there * torch.sigmoid(self.trust[0] * peak + self.trust[1])
            total, weights = total + weight * alike, weights + weight
        volume = torch.cat([total / (weights + 1e-3), weights / len(sources)], 1)
        return Sweep(codes, self.regularisers[stage](volume.transpose(1, 2)))

    def forward(self, reference: Pyramid, sources: list[Pyramid], pixel_from_pixel: torch.Tensor) -> list[Sweep]:
        """The three sweeps, coarse to fine; arguments as of ``sweep``."""
        first, second, third = self.config.planes
        ends = depth_code(torch.tensor([FURTHEST, NEAREST], dtype=torch.float32)).tolist()
        planes = torch.linspace(*ends, first, device=reference.full.device)
        codes = planes[None, :, None, None].expand(len(reference.quarter), -1, *reference.quarter.shape[-2:])
        sweeps = [self.sweep(0, reference, sources, pixel_from_pixel, codes)]
        spacing = (ends[1] - ends[0]) / (first - 1)
        for stage, count in ((1, second), (2, third)):
            size = reference[stage].shape[-2:]
            middle = F.interpolate(sweeps[-1].best()[0].detach(), size=size, mode="bilinear", align_corners=False)
            steps = (torch.arange(count, device=middle.device) - (count - 1) / 2) * (spacing / FINER[stage])
            codes = (middle + steps[:, None, None]).clamp(min=0.5 * ends[0])
            sweeps.append(self.sweep(stage, reference, sources, pixel_from_pixel, codes))
        return sweeps

    @torch.no_grad()
    def depth(
        self, reference: Pyramid, sources: list[Pyramid], pixel_from_pixel: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Depth (N, H, W) in metres and the probability (N, H, W) that it is right, of all sweeps together."""
        sweeps = self(reference, sources, pixel_from_pixel)
        size, found = reference.full.shape[-2:], [sweep.best() for sweep in sweeps]
        each = [F.interpolate(sure, size=size, mode="bilinear", align_corners=False) for _, sure in found]
        return code_depth(found[-1][0])[:, 0], torch.cat(each, 1).prod(1) ** (1 / len(each))


def warp(
    features: torch.Tensor, full: tuple[int, int], pixel_from_pixel: torch.Tensor, codes: torch.Tensor, factor: int
) -> torch.Tensor:
    """Features (N, C, h', w') of a source image of size ``full`` as planes of a reference camera see them, (N, C, D, h, w).

    pixel_from_pixel: (N, 3, 4) as of ``StereoNetwork.sweep``; codes: (N, D, h, w) depth codes of the planes; factor: full-size
    pixels of the reference per pixel of ``codes``. Zero outside the source, and behind its camera.
    """
    count, planes, height, width = codes.shape
    rows = (torch.arange(height, device=codes.device, dtype=codes.dtype) + 0.5) * factor
    columns = (torch.arange(width, device=codes.device, dtype=codes.dtype) + 0.5) * factor
    matrix = pixel_from_pixel.to(codes)
    at_infinity = (
        matrix[:, :, 0, None, None] * columns + matrix[:, :, 1, None, None] * rows[:, None] + matrix[:, :, 2, None, None]
    )
    nearness = 1 / code_depth(codes)
    x, y, z = (at_infinity[:, i, None] + matrix[:, i, 3, None, None, None] * nearness for i in range(3))
    ahead = z > 1e-3
    z = torch.where(ahead, z, torch.ones_like(z))
    u, v = (torch.where(ahead, 2 * p / (z * side) - 1, torch.full_like(p, -9.0)) for p, side in ((x, full[1]), (y, full[0])))
    grid = torch.stack([u, v], -1).clamp(-9, 9).view(count, planes * height, width, 2)
    found = F.grid_sample(features, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found.view(count, -1, planes, height, width)


def load_stereo(folder: str | Path | None = None) -> StereoNetwork:
    """The network that ships, or one of a folder written by its training. Raises ``WeightsError``."""
    return load_model(StereoNetwork, SHIPPED / "stereo" if folder is None else Path(folder))
