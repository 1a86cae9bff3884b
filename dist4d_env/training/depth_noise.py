"""Depth errors of the kind that curated depth has, so that models do not learn to trust perfect geometry."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from dist4d_env.geometry.rgbd import FAR, RGBDFrame


def with_depth_noise(frame: RGBDFrame, strength: float, generator: np.random.Generator) -> RGBDFrame:
    """The frame with depth off by a relative standard deviation of ``strength``: smooth bumps and a third of it per pixel.

    Sky (depth 100 m) stays sky.
    """
    views, height, width = frame.depth.shape
    coarse = generator.standard_normal((views, height // 16 + 2, width // 16 + 2)).astype(np.float32)
    smooth = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse])
    fine = generator.standard_normal(frame.depth.shape).astype(np.float32)
    factor = np.exp(strength * (0.94 * smooth + 0.34 * fine))
    noisy = np.where(frame.depth >= FAR, FAR, np.clip(frame.depth * factor, 0.3, FAR - 0.1))
    return replace(frame, depth=noisy.astype(np.float32))
