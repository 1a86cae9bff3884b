"""Image sharpness by gradient energy."""

from __future__ import annotations

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114])


def gradient_energy(images: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """(...,) mean squared difference of luma between neighbouring pixels of images (..., H, W, 3) uint8, across and down.

    In 8-bit steps squared; mask: (..., H, W) bool, between neighbours that are both in it. Squares make strong edges count: a
    blur spreads an edge over pixels, which leaves the mean of its slopes as it is and lowers the mean of their squares.
    """
    if images.dtype != np.uint8 or images.shape[-1] != 3:
        raise ValueError(f"images must be (..., H, W, 3) uint8, not {images.shape} {images.dtype}")
    luma = images @ _LUMA
    across, down = np.diff(luma, axis=-1), np.diff(luma, axis=-2)
    beside, below = (True, True) if mask is None else (mask[..., 1:] & mask[..., :-1], mask[..., 1:, :] & mask[..., :-1, :])
    return np.square(across).mean((-2, -1), where=beside) + np.square(down).mean((-2, -1), where=below)
