"""Rigid transforms: inverses, chains and headings hold for any pose."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dist4d_env.geometry.transforms import (
    apply,
    invert,
    pose_from_quaternion,
    pose_from_xy_yaw,
    poses_from_position_yaw,
    wrap_angle,
    yaw_of,
)

metres = st.floats(-3000, 3000)
angles = st.floats(-20, 20)
poses = st.builds(
    lambda t, q: pose_from_quaternion(np.array(t), np.array(q)),
    st.tuples(metres, metres, metres),
    st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1),
)
points = st.lists(st.tuples(metres, metres, metres), min_size=1, max_size=4).map(np.array)


@settings(max_examples=60, deadline=None)
@given(poses, poses, points)
def test_inverse_undoes_and_chains_reverse(a, b, p):
    np.testing.assert_allclose(a @ invert(a), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(apply(invert(a), apply(a, p)), p, atol=1e-8)
    np.testing.assert_allclose(apply(a @ b, p), apply(a, apply(b, p)), atol=1e-8)
    np.testing.assert_allclose(invert(a @ b), invert(b) @ invert(a), atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.tuples(metres, metres, metres), st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_are_scipys(t, q):
    pose = pose_from_quaternion(np.array(t), np.array(q))
    w, x, y, z = q
    np.testing.assert_allclose(pose[:3, :3], Rotation.from_quat([x, y, z, w]).as_matrix(), atol=1e-12)
    np.testing.assert_array_equal(pose[:3, 3], t)


@settings(max_examples=40, deadline=None)
@given(metres, metres, angles)
def test_headings_come_back_wrapped(x, y, yaw):
    pose = pose_from_xy_yaw(x, y, yaw)
    assert abs(wrap_angle(yaw_of(pose) - np.asarray(yaw))) < 1e-9
    assert -np.pi <= wrap_angle(np.asarray(yaw)) < np.pi
    np.testing.assert_allclose(apply(pose, np.array([[1.0, 0, 0]]))[0], [x + np.cos(yaw), y + np.sin(yaw), 0], atol=1e-9)


def test_batches_equal_single_poses():
    rng = np.random.default_rng(0)
    position, yaw = rng.normal(size=(3, 2, 3)), rng.normal(size=(3, 2))
    batch = poses_from_position_yaw(position, yaw)
    cloud = rng.normal(size=(3, 2, 5, 3))
    for i in np.ndindex(3, 2):
        np.testing.assert_allclose(batch[i], pose_from_xy_yaw(*position[i][:2], yaw[i], position[i][2]))
        np.testing.assert_allclose(invert(batch)[i], np.linalg.inv(batch[i]), atol=1e-12)
        np.testing.assert_allclose(apply(batch, cloud)[i], apply(batch[i], cloud[i]))
