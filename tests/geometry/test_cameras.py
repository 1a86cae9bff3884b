"""Pinhole cameras: projecting and unprojecting are inverse, and one crop serves images, depth and intrinsics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.geometry.cameras import ImageTransform, invert_intrinsics, project, unproject
from tests.geometry.analytic import make_rig

sides = st.integers(16, 900)
in_view = st.tuples(st.floats(-40, 40), st.floats(-40, 40), st.floats(0.5, 99))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(50, 1500),
    st.floats(0, 1600),
    st.floats(0, 900),
    st.tuples(st.floats(-40, 40), st.floats(-40, 40), st.floats(0.5, 99)),
)
def test_projection_follows_the_pinhole(focal, cx, cy, point):
    intrinsics = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1.0]])
    pixel, depth = project(np.array(point), intrinsics)
    x, y, z = point
    np.testing.assert_allclose(pixel, [focal * x / z + cx, focal * y / z + cy], rtol=1e-9, atol=1e-9)
    assert depth == z


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 1000))
def test_unproject_then_project_returns_pixel_centres(height, width, seed):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 100, (2, height, width))
    intrinsics = np.array([[[50.0, 0, width / 2], [0, 60, height / 2], [0, 0, 1]], [[80.0, 0, 1], [0, 70, 2], [0, 0, 1]]])
    pixels, z = project(unproject(depth, intrinsics), intrinsics[:, None])
    np.testing.assert_allclose(z, depth)
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    np.testing.assert_allclose(pixels, np.broadcast_to(np.stack([columns, rows], -1), pixels.shape), atol=1e-9)


def test_points_at_or_behind_the_camera_stay_finite():
    pixels, depth = project(np.array([[1.0, 2, 0], [1, 2, -3]]), np.diag([100.0, 100, 1]))
    assert np.isfinite(pixels).all() and (depth <= 0).all()


@settings(max_examples=80, deadline=None)
@given(sides, sides, sides, sides)
def test_cover_fills_the_target_and_crops_sides_and_top(source_h, source_w, height, width):
    transform = ImageTransform.cover((source_h, source_w), (height, width))
    assert transform.scale == pytest.approx(max(height / source_h, width / source_w))
    left, top = transform.offset
    overhang = np.array([transform.scale * source_w - width, transform.scale * source_h - height])
    assert (overhang > -1e-6).all() and overhang.min() == pytest.approx(0, abs=1e-6)  # covers, and no larger than it must be
    assert left == pytest.approx(overhang[0] / 2, abs=1e-6)  # sides alike
    assert top == pytest.approx(overhang[1], abs=1e-6)  # the bottom, where the road is, stays


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(1, 50)))
def test_intrinsics_move_with_the_image(height, width, point):
    """Projecting with the target's intrinsics is projecting with the source's, then scaling and cropping."""
    transform = ImageTransform.cover((900, 1600), (height, width))
    source = np.array([[1266.0, 0, 816], [0, 1266, 491], [0, 0, 1.0]])
    before, _ = project(np.array(point), source)
    after, _ = project(np.array(point), transform.intrinsics(source))
    np.testing.assert_allclose(after, transform.scale * before - transform.offset, atol=1e-8)


def test_rigs_at_another_size_see_the_same():
    rig = make_rig(90, 160)
    small = rig.at_size(45, 80)
    assert (small.height, small.width) == (45, 80) and small.names == rig.names
    np.testing.assert_array_equal(small.ego_from_camera, rig.ego_from_camera)
    point = np.array([0.3, 0.2, 5.0])
    np.testing.assert_allclose(project(point, small.intrinsics)[0] * 2, project(point, rig.intrinsics)[0])


@given(st.floats(10, 2000), st.floats(10, 2000), st.floats(-5, 5), st.floats(-100, 2000), st.floats(-100, 2000))
def test_intrinsics_times_their_inverse_are_one(fx, fy, skew, cx, cy):
    several = np.tile([[fx, skew, cx], [0, fy, cy], [0, 0, 1.0]], (2, 1, 1))
    np.testing.assert_allclose(several @ invert_intrinsics(several), np.tile(np.eye(3), (2, 1, 1)), atol=1e-9)
