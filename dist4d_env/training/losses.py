"""Losses on RGB-D images in [-1, 1] and validation scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from dist4d_env.models.depth_code import decode_depth

SOFTNESS = 0.08
"""Logarithm of a factor over which ``beyond`` goes from within to beyond."""


def image_loss(predicted: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """L1 plus five times squared error of RGB, plus L1 of the depth code; images (N, 4, H, W), weight (N, 1 or 4, H, W).

    The squared part is what PSNR measures; the absolute part keeps edges from being averaged away.
    """
    error = predicted - truth
    rgb = error[:, :3].abs() + 5 * error[:, :3].square()
    depth = 2 * error[:, 3:].abs()
    if weight is not None:
        weight = weight.expand_as(error)
        rgb, depth = rgb * weight[:, :3], depth * weight[:, 3:]
    return rgb.mean() + depth.mean()


def decibels(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean over images (N, 4, H, W) of the logarithm (base 10) of their squared error of RGB: PSNR times -0.1, plus a constant.

    Every image counts the same, however large its errors are; below the error of 8 bits, at 50 dB, nothing is gained.
    """
    error = (predicted - truth)[:, :3].square().mean((1, 2, 3))
    return torch.log10(error + 4e-5).mean()


def beyond(predicted: torch.Tensor, truth: torch.Tensor, code: str, weight: torch.Tensor) -> torch.Tensor:
    """Share of depth not within a factor of 1.25, one minus delta1, as a differentiable number.

    predicted, truth: (N, 4, H, W); weight: (N, 1, H, W), which pixels count; sky counts in none. An error of just that
    factor counts half, one of 1.05 or 1.49 a tenth or nine tenths.
    """
    found, true, solid = _depths(predicted, truth, code)
    weight = weight[:, 0] * solid
    missed = torch.sigmoid(((found / true).log().abs() - math.log(1.25)) / SOFTNESS)
    return (missed * weight).sum() / weight.sum().clamp(min=1)


def hole_weight(valid: torch.Tensor, extra: float = 1.0) -> torch.Tensor:
    """1 where the splat is valid (N, 1, H, W) in [0, 1], 1 + extra in holes."""
    return 1 + extra * (1 - valid)


def psnr(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """PSNR in dB of each image (N, C, H, W) in [-1, 1], first three channels, on 8-bit values; (N,)."""
    a, b = (((x[:, :3].clamp(-1, 1) + 1) * 127.5).round() for x in (predicted, truth))
    return 10 * torch.log10(255.0**2 / (a - b).square().mean((1, 2, 3)).clamp(min=1e-3))


def depth_errors(predicted: torch.Tensor, truth: torch.Tensor, code: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean relative error and share within a factor of 1.25 of each image's depth (N, 4, H, W), sky left out; (N,), (N,)."""
    found, true, counted = _depths(predicted, truth, code)
    total = counted.sum((1, 2)).clamp(min=1)
    relative = ((found - true).abs() / true * counted).sum((1, 2)) / total
    within = ((torch.maximum(found / true, true / found) < 1.25) * counted).sum((1, 2)) / total
    return relative, within


def scores(name: str, predicted: torch.Tensor, base: torch.Tensor, truth: torch.Tensor, code: str) -> dict[str, float]:
    """Means over images (N, 4, H, W): PSNR of the filled splat ``base`` ("splat") and of the prediction (``name``), and errors of
    depth of both."""
    relative, within = depth_errors(predicted, truth, code)
    return {
        "splat": psnr(base, truth).mean().item(),
        name: psnr(predicted, truth).mean().item(),
        "splat_abs_rel": depth_errors(base, truth, code)[0].mean().item(),
        "abs_rel": relative.mean().item(),
        "delta1": within.mean().item(),
    }


def mean_scores(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every score over at least one row, all with the same names."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _depths(predicted: torch.Tensor, truth: torch.Tensor, code: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Metres of both images (N, 4, H, W), at least 0.1, and 1 where the truth is no sky, else 0; (N, H, W) each."""
    found, true = (decode_depth(image[:, 3], code).clamp(min=0.1) for image in (predicted, truth))
    return found, true, (true < 99.0).float()
