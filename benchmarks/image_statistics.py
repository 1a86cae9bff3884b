"""Statistics of natural images: distances of colour histograms and of gradient spectra between pictures."""

from __future__ import annotations

import cv2
import numpy as np

CHROMA_STEP = 8
"""Steps of CIELAB's a and b (8 bits each) to a bin of the histogram; grey is the middle of one."""
SCALES = (0.0, 1.0, 2.0, 4.0)
"""Standard deviations in pixels of the Gaussians after which gradients are measured."""


def chroma_histogram(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Shares of the colours (33 * 33,) of an image (H, W, 3) uint8 where mask (H, W) holds, brightness aside."""
    chroma = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[mask][:, 1:].astype(int)
    first, second = ((chroma + CHROMA_STEP // 2) // CHROMA_STEP).T
    bins = 256 // CHROMA_STEP + 1
    return np.bincount(first * bins + second, minlength=bins * bins) / len(chroma)


def chroma_distance(rgb: np.ndarray, other: np.ndarray, mask: np.ndarray) -> float:
    """Total variation, 0 to 1, between the colours of two images (H, W, 3) uint8 under one mask (H, W)."""
    return float(np.abs(chroma_histogram(rgb, mask) - chroma_histogram(other, mask)).sum() / 2)


def gradient_spectrum(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """log2 of the mean squared gradient of luma at each of SCALES, of an image (H, W, 3) uint8 where mask (H, W) holds."""
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    energy = []
    for scale in SCALES:
        smooth = cv2.GaussianBlur(luma, (0, 0), scale) if scale else luma
        across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(smooth, cv2.CV_32F, 0, 1) / 8
        energy.append((across**2 + down**2)[mask].mean())
    return np.log2(np.array(energy) + 1e-3)


def spectrum_distance(rgb: np.ndarray, other: np.ndarray, mask: np.ndarray) -> float:
    """Root mean square over SCALES of the octaves between the gradient energies of two images (H, W, 3) uint8 under one mask."""
    return float(np.sqrt(np.square(gradient_spectrum(rgb, mask) - gradient_spectrum(other, mask)).mean()))
