"""Image, depth and segmentation accuracy (PSNR, SSIM, AbsRel, delta1, IoU) over all pixels or those of a mask."""

from __future__ import annotations

import math

import numpy as np

from dist4d_env.geometry.rgbd import FAR

_SIGMA, _RADIUS = 1.5, 5  # the 11 x 11 Gaussian window of Wang et al. 2004
_K1, _K2 = 0.01, 0.03


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of images (..., H, W, C), one mean over all pixels where mask (..., H, W) holds.

    uint8 images range to 255, floating ones to 1; both must be of one kind. Identical images give infinity.
    """
    image, truth = _pair(image, truth)
    error = np.square(image - truth).mean(-1)
    mean = float(error[_pixels(mask, error.shape)].mean())
    return math.inf if mean == 0 else -10 * math.log10(mean)


def ssim_map(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity (..., H, W) around every pixel, mean over channels (Wang et al. 2004, Gaussian window, sigma 1.5).

    At the border the images are mirrored; pixels five or more from it agree with implementations that crop it.
    """
    x, y = _pair(image, truth)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + _K1**2) * (2 * covariance + _K2**2)
    return (numerator / ((mean_x**2 + mean_y**2 + _K1**2) * (variance_x + variance_y + _K2**2))).mean(-1)


def depth_abs_rel(depth: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean of |depth - truth| / truth in metres over metres; without a mask where the truth is nearer than the sky (FAR)."""
    depth, truth, here = _depths(depth, truth, mask)
    return float((np.abs(depth - truth) / truth)[here].mean())


def depth_delta1(depth: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Share of pixels whose depth is within a factor of 1.25 of the truth; without a mask where that is nearer than the sky."""
    depth, truth, here = _depths(depth, truth, mask)
    return float((np.maximum(depth / truth, truth / np.maximum(depth, 1e-6)) < 1.25)[here].mean())


def confusion(found: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) int64 counts of pixels by true class (row) and found class (column); class images of one shape."""
    if found.shape != truth.shape:
        raise ValueError(f"class images must match: {found.shape} against {truth.shape}")
    both = truth.astype(np.int64).ravel() * classes + found.astype(np.int64).ravel()
    return np.bincount(both, minlength=classes * classes).reshape(classes, classes)


def intersection_over_union(confusion: np.ndarray) -> np.ndarray:
    """(C,) of each class from counts (C, C); NaN for a class that is neither true nor found anywhere."""
    common = np.diag(confusion).astype(float)
    union = confusion.sum(0) + confusion.sum(1) - common
    return np.divide(common, union, out=np.full(len(common), np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean intersection over union of the classes that are true or found somewhere."""
    return float(np.nanmean(intersection_over_union(confusion)))


def _pair(image: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if image.shape != truth.shape or image.dtype.kind != truth.dtype.kind:
        raise ValueError(f"images must match: {image.shape} {image.dtype} against {truth.shape} {truth.dtype}")
    scale = 255.0 if image.dtype == np.uint8 else 1.0
    return image.astype(float) / scale, truth.astype(float) / scale


def _depths(depth: np.ndarray, truth: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if depth.shape != truth.shape:
        raise ValueError(f"depths must match: {depth.shape} against {truth.shape}")
    mask = truth < FAR - 1e-3 if mask is None else mask
    return depth.astype(float), np.maximum(truth.astype(float), 1e-6), _pixels(mask, truth.shape)


def _pixels(mask: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    if mask is None:
        return np.ones(shape, bool)
    if mask.shape != shape:
        raise ValueError(f"the mask must have shape {shape}, not {mask.shape}")
    if not mask.any():
        raise ValueError("the mask holds no pixel")
    return mask.astype(bool)


def _blur(image: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    for axis in (-3, -2):
        image = gaussian_filter1d(image, _SIGMA, axis=axis, mode="reflect", radius=_RADIUS)
    return image
