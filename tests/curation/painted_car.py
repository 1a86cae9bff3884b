"""A bonnet, a boot and flanks painted into pictures of a street: paint that is shaded, mirrors the street and is a bit noisy."""

from __future__ import annotations

import cv2
import numpy as np


def outline(channel: str, height: int, width: int) -> np.ndarray:
    """(H, W) bool: a bonnet across the front, a lower boot at the back, a flank in a lower corner of the cameras at the sides."""
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    if channel == "CAM_FRONT":
        return y > 0.84 + 0.5 * (x - 0.5) ** 2
    if channel == "CAM_BACK":
        return y > 0.90 + 0.3 * (x - 0.5) ** 2
    inward = x if channel in ("CAM_FRONT_RIGHT", "CAM_BACK_LEFT") else 1 - x
    return y > 0.72 + 0.9 * inward


def paint(
    rgb: np.ndarray, channel: str, generator: np.random.Generator, colour: tuple[int, int, int] = (105, 112, 125)
) -> np.ndarray:
    """An image (H, W, 3) uint8 with the car in it."""
    height, width = rgb.shape[:2]
    mask = outline(channel, height, width)
    above = cv2.GaussianBlur(rgb[::-1].astype(np.float32), (0, 0), height / 25)  # what the paint mirrors
    away = cv2.distanceTransform(np.pad(mask, ((0, 1), (1, 1)), mode="edge").astype(np.uint8), cv2.DIST_L2, 5)[:-1, 1:-1] / height
    shade = np.float32(colour) * (0.75 + 1.5 * np.minimum(away, 0.25))[..., None]
    seam = (np.abs(away - 0.05) < 0.006)[..., None]
    car = np.where(seam, 0.4, 0.8) * shade + 0.2 * above + generator.normal(0, 1.5, rgb.shape)
    soft = cv2.blur(mask.astype(np.float32), (2, 2))[..., None] if height > 100 else mask[..., None]
    return np.clip(rgb * (1 - soft) + car * soft, 0, 255).astype(np.uint8)
