"""Blur lowers gradient energy, noise raises it, mirroring leaves it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dist4d_env.metrics.images.sharpness import gradient_energy


@pytest.fixture
def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(40, 200, (3, 8, 14, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)


def test_gradients_by_hand():
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:] = 100  # one step of 100 in five differences across, none down
    assert gradient_energy(image) == pytest.approx(100**2 / 5)
    assert gradient_energy(np.stack([image, 0 * image])).shape == (2,)


def test_blur_and_noise_move_it_to_either_side(pictures):
    true = gradient_energy(pictures).mean()
    soft = [np.stack([cv2.GaussianBlur(p, (0, 0), sigma) for p in pictures]) for sigma in (0.7, 1.5, 3.0)]
    ratios = [1.0, *(np.sqrt(gradient_energy(s).mean() / true) for s in soft)]
    assert ratios == sorted(ratios, reverse=True) and ratios[1] < 0.85 and ratios[3] < 0.45
    grain = np.random.default_rng(1).normal(0, 20, pictures.shape)
    assert gradient_energy(np.clip(pictures + grain, 0, 255).astype(np.uint8)).mean() > 1.4 * true
    assert gradient_energy(pictures[:, ::-1, ::-1]).mean() == pytest.approx(true)


def test_wrong_pictures_are_refused(pictures):
    with pytest.raises(ValueError, match="uint8"):
        gradient_energy(pictures / 255)
