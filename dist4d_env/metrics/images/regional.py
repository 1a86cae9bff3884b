"""Scores of RGB-D frames over regions of their pixels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.metrics.images.accuracy import depth_abs_rel, depth_delta1, psnr, ssim_map

SPECK_PIXELS, SPECK_ERROR, AROUND_ERROR = 4, 48, 24
"""A speck has at most so many pixels (8-connected), each further from the truth than SPECK_ERROR (of 255) in its worst channel,
while the median error of the pixels that touch it stays below AROUND_ERROR and the truth is smooth there: it varies by less than
SPECK_ERROR. Without that, texture that is a fraction of a pixel off would count."""


def specks(image: np.ndarray, truth: np.ndarray) -> int:
    """How many specks images (V, H, W, 3) uint8 hold that the true ones don't; see SPECK_PIXELS."""
    import cv2

    many = 0
    for one, true in zip(image, truth, strict=True):
        error = np.abs(one.astype(np.int16) - true).max(-1)
        count, labels, stats, _ = cv2.connectedComponentsWithStats((error > SPECK_ERROR).astype(np.uint8), connectivity=8)
        for label in range(1, count):
            if stats[label, cv2.CC_STAT_AREA] > SPECK_PIXELS:
                continue
            left, top, width, height = stats[label, :4]
            window = np.s_[max(top - 1, 0) : top + height + 1, max(left - 1, 0) : left + width + 1]
            smooth = np.ptp(true[window], axis=(0, 1)).max() < SPECK_ERROR
            many += bool(smooth and np.median(error[window][labels[window] != label]) < AROUND_ERROR)
    return many


def score(frame: RGBDFrame, truth: RGBDFrame, masks: Mapping[str, np.ndarray], minimum: int = 30) -> dict[str, dict[str, float]]:
    """PSNR, SSIM, depth AbsRel and delta1 per region, and of all pixels the specks; a region of fewer than ``minimum`` pixels is
    left out.

    Depth is scored where the truth is nearer than the sky.
    """
    similarity = ssim_map(frame.rgb, truth.rgb)
    result = {}
    for name, mask in masks.items():
        if mask.sum() < minimum:
            continue
        solid = mask & (truth.depth < FAR - 1e-3)
        result[name] = {
            "psnr": psnr(frame.rgb, truth.rgb, mask),
            "ssim": float(similarity[mask].mean()),
            "abs_rel": depth_abs_rel(frame.depth, truth.depth, solid) if solid.any() else float("nan"),
            "delta1": depth_delta1(frame.depth, truth.depth, solid) if solid.any() else float("nan"),
            "share": float(mask.mean()),
        }
        if name == "all":
            result[name]["specks"] = float(specks(frame.rgb, truth.rgb))
    return result
