"""Frechet distance between two sets of images, by the Gaussians that fit their features.

Values of different feature extractors cannot be compared, nor those of sets of different sizes: few images bias it upwards.
"""

from __future__ import annotations

import numpy as np


def frechet_distance(features: np.ndarray, truth: np.ndarray) -> float:
    """Frechet distance between the Gaussians of two sets of features (N, D) and (M, D), at least two of each.

    |mean - mean'|^2 + tr(S + S' - 2 (S S')^(1/2)), Dowson and Landau 1982, without a root: in the features' units squared.
    """
    for name, array in (("features", features), ("truth", truth)):
        if array.ndim != 2 or len(array) < 2 or not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite and of shape (N, D) with N >= 2, not {array.shape}")
    if features.shape[1] != truth.shape[1]:
        raise ValueError(f"both sets need features of one width, not {features.shape[1]} and {truth.shape[1]}")
    a, b = features.astype(np.float64), truth.astype(np.float64)
    return gaussian_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))


def gaussian_distance(mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray) -> float:
    """The same for given means (D,) and covariances (D, D).

    tr (S S')^(1/2) is the sum of the singular values of S^(1/2) S'^(1/2): roots of symmetric matrices only, which exist also
    where a covariance has no inverse because there are fewer pictures than features.
    """
    covariance, other_covariance = np.atleast_2d(covariance), np.atleast_2d(other_covariance)
    common = np.linalg.svd(_root(covariance) @ _root(other_covariance), compute_uv=False).sum()
    apart = float(np.square(mean - other_mean).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * common)
    return max(apart, 0.0)  # rounding


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric root of a symmetric positive semi-definite matrix (D, D)."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
