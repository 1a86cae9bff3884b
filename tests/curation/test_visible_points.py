"""What a camera sees of a point cloud, and the ground it stands on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.curation.visibility import ground_plane, height_above, visible_depth
from dist4d_env.geometry.transforms import pose_from_xy_yaw

INTRINSICS = np.array([[100.0, 0, 50.0], [0, 100.0, 30.0], [0, 0, 1]])
HEIGHT, WIDTH = 60, 100
CAMERA = np.eye(4)  # at the origin, looking along global z


def wall(z: float, low: float, high: float, step: float) -> np.ndarray:
    """Points of an upright surface at depth z."""
    x, y = np.meshgrid(np.arange(low, high, step), np.arange(-2.0, 2.0, step))
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], -1)


def test_a_near_wall_hides_what_is_behind_it():
    near, far = wall(10.0, -2.0, 0.0, 0.1), wall(30.0, -12.0, 12.0, 0.5)
    points = np.concatenate([far, near])
    depth, index = visible_depth(points, np.ones(len(points), bool), CAMERA, INTRINSICS, HEIGHT, WIDTH)
    behind = depth[15:45, 32:48]  # the middle of the near wall
    assert (behind[behind > 0] == 10.0).all() and (behind > 0).any()
    open_side = depth[:, 60:]
    assert (open_side[open_side > 0] == 30.0).all() and (open_side > 0).any()
    assert ((index >= 0) == (depth > 0)).all()
    assert np.allclose(points[index[depth > 0], 2], depth[depth > 0])


def test_the_ground_hides_one_pixel_only():
    """One sees over a road: the same points that hide as a wall leave the view free as ground."""
    near, far = wall(10.0, -2.0, 0.0, 0.4), wall(30.0, -12.0, 12.0, 0.1)
    points = np.concatenate([far, near])
    counts = []
    for upright in (True, False):
        depth, _ = visible_depth(points, np.full(len(points), upright), CAMERA, INTRINSICS, HEIGHT, WIDTH)
        counts.append(int((depth[15:45, 32:48] == 30.0).sum()))
    assert counts[1] > counts[0]


def test_what_is_behind_the_camera_or_beside_the_image_is_not_seen():
    points = np.array([(0.0, 0.0, -5.0), (100.0, 0.0, 10.0), (0.0, 0.0, 0.2), (0.0, 0.0, 500.0)])
    depth, index = visible_depth(points, np.ones(4, bool), CAMERA, INTRINSICS, HEIGHT, WIDTH)
    assert not depth.any() and (index == -1).all()


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.02, 0.02), st.floats(-0.02, 0.02), st.floats(-0.1, 0.1), st.floats(-3.0, 3.0))
def test_the_ground_plane_is_found_below_clutter(a, b, c, yaw):
    random = np.random.default_rng(0)
    xy = random.uniform(-35, 35, (800, 2))
    road = np.column_stack([xy, xy @ (a, b) + c + random.normal(0, 0.01, 800)])
    clutter = np.column_stack([random.uniform(-35, 35, (300, 2)), random.uniform(0.6, 3.0, 300)])
    pose = pose_from_xy_yaw(100.0, -20.0, yaw)
    points = np.concatenate([road, clutter]) @ pose[:3, :3].T + pose[:3, 3]
    plane = ground_plane(points, pose)
    assert plane == pytest.approx((a, b, c), abs=0.01)
    assert np.abs(height_above(points[:800], plane, pose)).max() < 0.4


def test_without_returns_the_ground_is_flat():
    assert ground_plane(np.zeros((10, 3)), np.eye(4)).tolist() == [0.0, 0.0, 0.0]
