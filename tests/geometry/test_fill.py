"""Holes filled without parameters."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.geometry.fill import fill_background, fill_telea
from dist4d_env.geometry.rgbd import FAR


def striped(width: int = 8, height: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Near red on the left, far blue on the right, a hole of two columns between."""
    rgb = np.zeros((1, height, width, 3), np.uint8)
    rgb[..., :3, 0], rgb[..., 5:, 2] = 200, 200
    depth = np.zeros((1, height, width), np.float32)
    depth[..., :3], depth[..., 5:] = 5, 40
    return rgb, depth, depth > 0


def test_background_comes_from_the_farther_side():
    rgb, depth, valid = striped()
    filled_rgb, filled_depth = fill_background(rgb, depth, valid)
    assert (filled_depth[..., 3:5] == 40).all() and (filled_rgb[..., 3:5, :] == [0, 0, 200]).all()


def test_a_hole_at_the_border_takes_its_only_side():
    rgb, depth, valid = striped()
    valid[..., 5:], depth[..., 5:] = False, 0
    filled_rgb, filled_depth = fill_background(rgb, depth, valid)
    assert (filled_depth == 5).all() and (filled_rgb == [200, 0, 0]).all()


def test_empty_rows_take_the_nearest_row_and_empty_images_turn_grey():
    rgb, depth, valid = striped()
    valid[0, 2:] = False
    depth = np.where(valid, depth, np.float32(0))
    _, filled = fill_background(rgb, depth, valid)
    np.testing.assert_array_equal(filled[0, 2], filled[0, 1])
    np.testing.assert_array_equal(filled[0, 3], filled[0, 1])
    for fill in (fill_background, fill_telea):
        grey, far = fill(rgb, depth, np.zeros_like(valid))
        assert (grey == 127).all() and (far == FAR).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 0.98))
def test_whatever_is_missing_what_was_seen_stays_and_nothing_is_invented(seed, share):
    rng = np.random.default_rng(seed)
    valid = rng.random((2, 6, 9)) < share
    depth = np.where(valid, rng.uniform(1, 90, valid.shape), 0).astype(np.float32)
    rgb = rng.integers(0, 256, (*valid.shape, 3), dtype=np.uint8)
    for fill in (fill_background, fill_telea):
        before = rgb.copy(), depth.copy()
        filled_rgb, filled_depth = fill(rgb, depth, valid)
        np.testing.assert_array_equal(rgb, before[0])
        np.testing.assert_array_equal(filled_rgb[valid], rgb[valid])
        np.testing.assert_array_equal(filled_depth[valid], depth[valid])
        for view in range(2):
            known = set(depth[view][valid[view]].tolist()) or {FAR}
            assert set(filled_depth[view].ravel().tolist()) <= known
