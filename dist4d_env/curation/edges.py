"""Crisp depth edges: a step in depth is a step, never a slope through empty air."""

from __future__ import annotations

import cv2
import numpy as np


def sharpen_edges(depth: np.ndarray, image: np.ndarray, slopes: np.ndarray, radius: int, rounds: int = 3) -> np.ndarray:
    """Lets pixels between a near and a far surface choose one of them by colour.

    depth: (H, W) float32; image: (H, W, 3) uint8; slopes: (H, W) bool, pixels that may lie on a real slope (the ground) and stay;
    radius: pixels over which interpolation may have smeared a step. Where the window around a pixel spans more than 15 % of
    depth, it takes the mean depth of the window's near or far side, whichever has the colour closer to its own.
    """
    log = np.log(depth)
    colour = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    size = (2 * radius + 1, 2 * radius + 1)
    window = np.ones(size, np.uint8)
    for _ in range(rounds):
        low, high = cv2.erode(log, window), cv2.dilate(log, window)
        middle = (low + high) / 2
        mixed = (high - low > np.log(1.15)) & ~slopes
        sides = []
        # Only pixels clearly of one side speak for it; the mixed ones between are what is to be decided.
        quarter = (high - low) / 4
        for member in (log < middle - quarter, log > middle + quarter):
            weight = member.astype(np.float32) + 1e-6
            total = cv2.boxFilter(weight, -1, size)
            mean = cv2.boxFilter(colour * weight[..., None], -1, size) / total[..., None]
            level = cv2.boxFilter(log * weight, -1, size) / total
            sides.append((np.linalg.norm(colour - mean, axis=-1), level, total > 1e-3))
        (to_near, near, has_near), (to_far, far, has_far) = sides
        # Neighbours decide together: single pixels of leaves and windows would sprinkle.
        nearer = cv2.boxFilter(to_far - to_near, -1, (radius | 1, radius | 1)) > 0
        chosen = np.where(nearer, near, far)
        log = np.where(mixed & has_near & has_far, chosen, log)
    return np.exp(log).astype(np.float32)
