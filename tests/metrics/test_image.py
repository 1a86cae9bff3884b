"""Image and depth scores against independent implementations, and their masks."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from dist4d_env.metrics.images.accuracy import (
    confusion,
    depth_abs_rel,
    depth_delta1,
    intersection_over_union,
    mean_iou,
    psnr,
    ssim_map,
)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 255, (2, 8, 10, 3)), np.ones((1, 6, 6, 1))).astype(np.uint8)
    noisy = np.clip(truth + rng.normal(0, 20, truth.shape), 0, 255).astype(np.uint8)
    return noisy, truth


def test_psnr_agrees_with_torchmetrics(images):
    noisy, truth = images
    reference = peak_signal_noise_ratio(torch.tensor(noisy).float(), torch.tensor(truth).float(), data_range=255.0)
    assert psnr(noisy, truth) == pytest.approx(float(reference), abs=1e-4)


def test_ssim_map_agrees_with_skimage(images):
    noisy, truth = images
    for one, other, mine in zip(noisy, truth, ssim_map(noisy, truth), strict=True):
        _, reference = structural_similarity(
            one, other, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )
        np.testing.assert_allclose(mine, reference.mean(-1), atol=1e-9)


def test_ssim_map_agrees_with_torchmetrics_away_from_the_border(images):
    tensors = [torch.tensor(x).double().permute(0, 3, 1, 2) for x in images]
    _, reference = structural_similarity_index_measure(*tensors, data_range=255.0, return_full_image=True)
    interior = np.s_[:, 5:-5, 5:-5]
    np.testing.assert_allclose(ssim_map(*images)[interior], reference.mean(1).numpy()[interior], atol=1e-9)


def test_masks_choose_the_pixels(images):
    noisy, truth = images
    mask = np.zeros(noisy.shape[:-1], bool)
    mask[:, 10:20, 10:30] = True
    inside, outside = noisy.copy(), noisy.copy()
    inside[mask] = truth[mask]
    outside[~mask] = truth[~mask]
    assert psnr(inside, truth, mask) == math.inf
    assert psnr(outside, truth, ~mask) == math.inf
    assert psnr(outside, truth, mask) == psnr(noisy, truth, mask) < 40
    np.testing.assert_allclose(ssim_map(truth, truth), 1.0)


def test_float_images_range_to_one(images):
    noisy, truth = images
    assert psnr(noisy / 255.0, truth / 255.0) == pytest.approx(psnr(noisy, truth))
    np.testing.assert_allclose(ssim_map(noisy / 255.0, truth / 255.0), ssim_map(noisy, truth), atol=1e-9)


def test_depth_scores_by_hand():
    truth = np.array([[10.0, 20.0, 100.0]], np.float32)
    depth = np.array([[11.0, 30.0, 3.0]], np.float32)
    assert depth_abs_rel(depth, truth) == pytest.approx((0.1 + 0.5) / 2)
    assert depth_delta1(depth, truth) == 0.5
    assert depth_abs_rel(depth, truth, np.array([[True, False, False]])) == pytest.approx(0.1)


def test_wrong_shapes_and_empty_masks_are_refused(images):
    noisy, truth = images
    with pytest.raises(ValueError, match="must match"):
        psnr(noisy, truth[:1])
    with pytest.raises(ValueError, match="mask must have shape"):
        psnr(noisy, truth, np.ones((3, 3), bool))
    with pytest.raises(ValueError, match="no pixel"):
        depth_abs_rel(np.ones((2, 2)), np.ones((2, 2)), np.zeros((2, 2), bool))


def test_class_scores_by_hand():
    truth, found = np.array([[0, 0, 1], [1, 1, 3]], np.uint8), np.array([[0, 1, 1], [1, 3, 3]], np.uint8)
    counts = confusion(found, truth, 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 2, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(intersection_over_union(counts), [1 / 2, 2 / 4, np.nan, 1 / 2])
    assert mean_iou(counts) == pytest.approx(0.5)  # the class that is nowhere does not count
    assert mean_iou(confusion(truth, truth, 4)) == 1
    with pytest.raises(ValueError, match="must match"):
        confusion(found[:1], truth, 4)
