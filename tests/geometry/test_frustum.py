"""Skipping cameras that cannot meet must never skip a point that is seen."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.geometry.frustum import frustum_corners, may_see, pinhole_rows
from dist4d_env.geometry.transforms import invert, pose_from_xy_yaw
from tests.geometry.analytic import make_rig

RIG = make_rig(32, 56)
SIZE = (32, 56)


@settings(max_examples=40, deadline=None)
@given(st.floats(-30, 30), st.floats(-10, 10), st.floats(-4, 4), st.integers(0, 1000))
def test_no_point_in_view_is_in_a_skipped_hull(x, y, yaw, seed):
    rng = np.random.default_rng(seed)
    here, there = RIG.ego_from_camera, pose_from_xy_yaw(x, y, yaw) @ RIG.ego_from_camera
    near, far = rng.uniform(0.5, 5, 6), rng.uniform(10, 1000, 6)
    corners = frustum_corners(RIG.intrinsics, here, SIZE, near, far, np.zeros(3))
    linear, offset = pinhole_rows(RIG.intrinsics, invert(there), np.zeros(3))
    possible = may_see(linear, offset, SIZE, corners)
    pixels = np.stack([rng.uniform(0, 56, 200), rng.uniform(0, 32, 200), np.ones(200)])
    for source in range(6):
        depth = rng.uniform(near[source], far[source], 200)
        points = here[source, :3, :3] @ np.linalg.inv(RIG.intrinsics[source]) @ pixels * depth + here[source, :3, 3:]
        u, v, z = np.moveaxis(linear @ points + offset[..., None], 1, 0)
        seen = ((z > 0.1) & (u > 0) & (v > 0) & (u < 56 * z) & (v < 32 * z)).any(1)
        assert possible[seen, source].all()


def test_cameras_back_to_back_are_skipped():
    corners = frustum_corners(RIG.intrinsics, RIG.ego_from_camera, SIZE, np.full(6, 1.0), np.full(6, 100.0), np.zeros(3))
    linear, offset = pinhole_rows(RIG.intrinsics, invert(RIG.ego_from_camera), np.zeros(3))
    possible = may_see(linear, offset, SIZE, corners)
    assert possible.diagonal().all()
    front, back = RIG.names.index("CAM_FRONT"), RIG.names.index("CAM_BACK")
    assert not possible[front, back] and not possible[back, front]
    assert possible.mean() < 0.7
