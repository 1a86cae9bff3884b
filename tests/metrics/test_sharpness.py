"""Blur lowers edge sharpness, noise raises it, light and content leave it."""

import cv2
import numpy as np
import pytest

from dist4d_env.metrics.images.sharpness import edge_sharpness, gradient_energy


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(40, 200, (3, 8, 14, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)


def test_gradients_by_hand():
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:] = 100  # one step of 100 in five differences across, none down
    assert gradient_energy(image) == pytest.approx(100**2 / 5)
    assert gradient_energy(np.stack([image, 0 * image])).shape == (2,)


def test_blur_and_noise_move_it_to_either_side(pictures):
    soft = [np.stack([cv2.GaussianBlur(p, (0, 0), sigma) for p in pictures]) for sigma in (0.7, 1.5, 3.0)]
    values = [edge_sharpness(pictures, pictures), *(edge_sharpness(s, pictures) for s in soft)]
    assert values[0] == 1 and values == sorted(values, reverse=True) and values[1] < 0.85 and values[3] < 0.45
    grain = np.random.default_rng(1).normal(0, 20, pictures.shape)
    assert edge_sharpness(np.clip(pictures + grain, 0, 255).astype(np.uint8), pictures) > 1.2


def test_other_content_of_the_same_kind_is_as_sharp(pictures):
    assert edge_sharpness(pictures[:, ::-1, ::-1], pictures) == pytest.approx(1)
    assert edge_sharpness(pictures[::-1] // 2, pictures) == pytest.approx(0.5, abs=0.01)


def test_wrong_pictures_are_refused(pictures):
    with pytest.raises(ValueError, match="no edges"):
        edge_sharpness(pictures, np.zeros_like(pictures))
    with pytest.raises(ValueError, match="uint8"):
        edge_sharpness(pictures / 255, pictures)
