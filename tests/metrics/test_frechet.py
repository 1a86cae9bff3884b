"""The Frechet distance against the closed form of Gaussians, an independent matrix root, and too few samples."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from dist4d_env.metrics.images.frechet import frechet_distance, gaussian_distance


def correlated(rng: np.random.Generator, width: int) -> np.ndarray:
    factor = rng.normal(size=(width, width))
    return factor @ factor.T + 0.1 * np.eye(width)


def test_one_dimension_by_hand():
    assert gaussian_distance(np.array([1.0]), np.array([[4.0]]), np.array([3.0]), np.array([[9.0]])) == pytest.approx(4 + 1)


def test_commuting_covariances_have_a_closed_form():
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    a, b = rng.uniform(0.1, 4, (2, 6))
    mean = rng.normal(size=6)
    expected = (mean**2).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    found = gaussian_distance(mean, axes * a @ axes.T, np.zeros(6), axes * b @ axes.T)
    assert found == pytest.approx(expected)


def test_agrees_with_the_root_of_the_product():
    rng = np.random.default_rng(1)
    a, b = correlated(rng, 8), correlated(rng, 8)
    expected = np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert gaussian_distance(np.zeros(8), a, np.zeros(8), b) == pytest.approx(expected)
    assert gaussian_distance(np.zeros(8), b, np.zeros(8), a) == pytest.approx(expected)


def test_samples_of_gaussians_come_near_their_distance():
    rng = np.random.default_rng(2)
    a, b, shift = correlated(rng, 4), correlated(rng, 4), np.array([2.0, 0, -1, 0])
    drawn = rng.multivariate_normal(shift, a, 40_000), rng.multivariate_normal(np.zeros(4), b, 40_000)
    assert frechet_distance(*drawn) == pytest.approx(gaussian_distance(shift, a, np.zeros(4), b), rel=0.02)


def test_fewer_samples_than_features_still_give_a_distance():
    rng = np.random.default_rng(3)
    few, others = rng.normal(size=(5, 30)), rng.normal(size=(7, 30)) + 1
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-9)
    means = np.square(few.mean(0) - others.mean(0)).sum()
    assert means < frechet_distance(few, others) < means + few.var(0, ddof=1).sum() + others.var(0, ddof=1).sum()
    assert frechet_distance(few + 3, few) == pytest.approx(9 * 30)


def test_wrong_sets_are_refused():
    with pytest.raises(ValueError, match="one width"):
        frechet_distance(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="N >= 2"):
        frechet_distance(np.zeros((1, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(np.full((3, 2), np.nan), np.zeros((3, 2)))
