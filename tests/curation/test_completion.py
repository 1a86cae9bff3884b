"""Sparse to dense along an image: values flow over surfaces and stop at edges."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.curation.completion import ImageGraph
from dist4d_env.curation.edges import sharpen_edges


def two_surfaces(height: int, width: int) -> np.ndarray:
    """Dark on the left, bright on the right."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, width // 2 :] = 210
    return image


@pytest.mark.parametrize("size", [(40, 60), (200, 301)])  # solved at once, and from the half-size solution
def test_each_surface_takes_the_value_seen_on_it(size):
    height, width = size
    value, confidence = np.zeros((*size, 1)), np.zeros(size)
    for column, known in ((width // 4, 1.0), (3 * width // 4, 5.0)):
        value[::7, column], confidence[::7, column] = known, 20.0
    dense = ImageGraph(two_surfaces(height, width)).solve(value, confidence, tolerance=1e-7)[..., 0]
    assert np.abs(dense[:, : width // 2 - 3] - 1.0).max() < 0.8
    assert np.abs(dense[:, width // 2 + 3 :] - 5.0).max() < 0.8


def test_a_cut_lets_nothing_through():
    height, width = 30, 40
    image = np.full((height, width, 3), 90, np.uint8)
    value, confidence = np.zeros((height, width, 1)), np.zeros((height, width))
    value[:, 0], value[:, -1] = 1.0, 9.0
    confidence[:, [0, -1]] = 20.0
    across = np.ones((height, width - 1))
    across[:, 19] = 0.0
    dense = ImageGraph(image).cut(across, np.ones((height - 1, width))).solve(value, confidence)[..., 0]
    assert np.allclose(dense[:, :20], 1.0, atol=1e-3) and np.allclose(dense[:, 20:], 9.0, atol=1e-3)


def test_slopes_are_taken_over():
    """One return on the road is enough where the plane's slope is known."""
    height, width = 30, 40
    slope = np.repeat(np.linspace(3.0, 1.0, height)[:, None], width, 1)
    value, confidence = np.zeros((height, width, 1)), np.zeros((height, width))
    value[10, 20], confidence[10, 20] = slope[10, 20] + 0.2, 20.0
    everywhere = np.ones((height, width), bool)
    dense = ImageGraph(np.full((height, width, 3), 90, np.uint8)).solve(value, confidence, slope, everywhere)[..., 0]
    assert np.allclose(dense, slope + 0.2, atol=1e-3)


def test_smeared_steps_become_steps():
    image = two_surfaces(40, 60)
    depth = np.full((40, 60), 5.0, np.float32)
    depth[:, 30:] = 20.0
    smeared = depth.copy()
    smeared[:, 27:33] = np.geomspace(5.0, 20.0, 6)
    sharp = sharpen_edges(smeared, image, np.zeros((40, 60), bool), radius=4)
    assert np.abs(sharp - depth).max() < 1.0
    left_alone = sharpen_edges(smeared, image, np.ones((40, 60), bool), radius=4)  # all of it a slope
    assert np.allclose(left_alone, smeared, rtol=1e-5)
