"""Depth that needs no network."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.geometry.known_depth import known_depth
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.splat import Splat
from dist4d_env.geometry.transforms import pose_from_xy_yaw

HEIGHT, WIDTH, ABOVE = 16, 24, 1.5
FLAT = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # camera axes, forward along the ego's x
HOLE = np.s_[0, 10:14, 8:14]  # below the horizon


def street(pose: np.ndarray) -> RGBDFrame:
    """One camera 1.5 m over a plane, sky above the horizon, seen from an ego pose (4, 4)."""
    camera = np.eye(4)
    camera[:3, :3], camera[:3, 3] = FLAT, (1.0, 0.0, ABOVE)
    intrinsics = np.array([[[20.0, 0, WIDTH / 2], [0, 20, HEIGHT / 2], [0, 0, 1]]])
    below = np.arange(HEIGHT) + 0.5 - HEIGHT / 2
    depth = np.where(below > 0, 20 * ABOVE / np.maximum(below, 1e-9), FAR)[None, :, None].repeat(WIDTH, 2).astype(np.float32)
    return RGBDFrame(np.full((1, HEIGHT, WIDTH, 3), 90, np.uint8), depth, intrinsics, (pose @ camera)[None], np.zeros(1))


def splat_of(frame: RGBDFrame, valid: np.ndarray) -> Splat:
    none = np.zeros(valid.shape, bool)
    rgb, depth = np.where(valid[..., None], frame.rgb, 0).astype(np.uint8), np.where(valid, frame.depth, 0).astype(np.float32)
    return Splat(rgb, depth, valid, none, valid.astype(np.float32), np.zeros(valid.shape, np.float32), none)


@pytest.mark.parametrize("pose", [np.eye(4), pose_from_xy_yaw(40.0, -7.0, 2.0, z=3.0)])
def test_what_floats_over_the_road_in_a_hole_is_put_on_it(pose):
    true = street(pose)
    valid = np.ones(true.depth.shape, bool)
    valid[HOLE] = False
    drawn = street(pose)
    drawn.depth[HOLE] = 3.0
    mended = known_depth(drawn, splat_of(true, valid), pose)
    np.testing.assert_allclose(mended.depth, true.depth, rtol=1e-5)
    assert (drawn.depth[HOLE] == 3.0).all()  # the frame that was given is not changed


def test_what_hides_no_road_stays_as_the_network_drew_it():
    true = street(np.eye(4))
    true.depth[0, :, :] = np.minimum(true.depth, 15.0)  # a wall
    valid = np.ones(true.depth.shape, bool)
    valid[0, 2:8, 8:14] = False
    drawn = street(np.eye(4))
    drawn.depth[:] = true.depth
    drawn.depth[0, 2:8, 8:14] = 6.0
    mended = known_depth(drawn, splat_of(true, valid), np.eye(4))
    np.testing.assert_array_equal(mended.depth, drawn.depth)


def test_rows_that_show_nothing_are_not_taken_for_road_of_another_depth():
    true = street(np.eye(4))
    valid = np.ones(true.depth.shape, bool)
    valid[0, 12:] = False  # the fill continues row 11 there, whose depth lies below the road
    drawn = street(np.eye(4))
    drawn.depth[0, 13:] *= 0.9
    mended = known_depth(drawn, splat_of(true, valid), np.eye(4))
    np.testing.assert_array_equal(mended.depth[0, 13:], drawn.depth[0, 13:])


def test_what_is_drawn_in_front_of_what_the_splat_shows_goes_back():
    true, drawn = street(np.eye(4)), street(np.eye(4))
    drawn.depth[0, 2:14, 3:9] *= 0.4
    mended = known_depth(drawn, splat_of(true, np.ones(true.depth.shape, bool)), np.eye(4))
    np.testing.assert_array_equal(mended.depth, true.depth)
