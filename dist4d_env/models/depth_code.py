"""Metric depth as images in [-1, 1]: the published linear code and a logarithmic one that keeps near range."""

from __future__ import annotations

import math

import torch

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.rgbd import FAR

NEAR_SCALE = 2.5
"""Metres at which the logarithmic code turns from linear to logarithmic."""

DEPTH_CODES = ("log", "linear")


def encode_depth(depth: torch.Tensor, code: str = "log") -> torch.Tensor:
    """Metres (any shape), clipped to [0, 100], to [-1, 1].

    "linear" is 2 d / 100 - 1 (DiST-4D); "log" is 2 log(1 + d / 2.5) / log(1 + 100 / 2.5) - 1.
    """
    depth = depth.clamp(0.0, FAR)
    if code == "linear":
        return depth * (2 / FAR) - 1
    if code == "log":
        return torch.log1p(depth / NEAR_SCALE) * (2 / math.log1p(FAR / NEAR_SCALE)) - 1
    raise ConfigError(f"depth code {code!r} is unknown: use 'log' or 'linear'")


def decode_depth(value: torch.Tensor, code: str = "log") -> torch.Tensor:
    """The inverse of ``encode_depth``: values, clipped to [-1, 1], to metres."""
    value = (value.clamp(-1.0, 1.0) + 1) / 2
    if code == "linear":
        return value * FAR
    if code == "log":
        return torch.expm1(value * math.log1p(FAR / NEAR_SCALE)) * NEAR_SCALE
    raise ConfigError(f"depth code {code!r} is unknown: use 'log' or 'linear'")
