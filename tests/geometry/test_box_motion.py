"""Boxes that have moved since a frame was taken, and their points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.geometry.box_motion import STATIC, UNUSED, box_motion, move_sources
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import apply, invert, pose_from_xy_yaw
from tests.geometry.analytic import make_boxes, make_rig, render

THEN = make_boxes((7, 9, -2, 0.1), (9, 12, 3, 0.2), (4, -9, 1, 3.0))


@pytest.fixture(scope="module")
def source() -> SplatSource:
    return SplatSource.from_frame(render(make_rig(32, 56), pose_from_xy_yaw(0, 0, 0), THEN), THEN)


def moved(token: int, x: float, y: float, turn: float) -> Boxes:
    """THEN with one box moved in its own frame."""
    row = int(np.flatnonzero(THEN.token == token)[0])
    pose = THEN.poses[row] @ pose_from_xy_yaw(x, y, turn)
    position, yaw = THEN.position.copy(), THEN.yaw.copy()
    position[row], yaw[row] = pose[:3, 3], yaw[row] + turn
    return replace(THEN, position=position, yaw=yaw)


def test_points_of_a_stretched_and_mirrored_box_fill_the_new_one(source):
    """Its axes say so: points keep their place in shares of the box, and ``back`` leads to where they were."""
    scale = np.array([0.5, -0.8, 1.25])
    pose = source.box_pose.copy()
    pose[source.box_token == 7, :3, :3] /= scale
    now = moved(7, 3.0, 1.0, 0.4)
    motion = box_motion(replace(source, box_pose=pose), now, 0.02)
    entry = max(np.flatnonzero(source.box_token == 7), key=lambda entry: np.count_nonzero(source.owner == entry))
    there = source.points.T[(source.owner == entry).reshape(-1)] + source.origin
    before = apply(invert(source.box_pose[entry]), there)
    row = np.flatnonzero(now.token == 7)[0]
    assert len(there) > 10 and motion.moved[entry]
    np.testing.assert_allclose(apply(invert(now.poses[row]), apply(motion.motion[entry], there)), before * scale, atol=1e-9)
    np.testing.assert_allclose(motion.back[entry] @ motion.motion[entry], np.eye(4), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.floats(-20, 20), st.floats(-5, 5), st.floats(-2, 2))
def test_points_keep_their_place_in_their_box(source, x, y, turn):
    now = moved(7, x, y, turn)
    motion = box_motion(source, now, 0.0)
    entries = np.flatnonzero(source.box_token == 7)
    row = int(np.flatnonzero(now.token == 7)[0])
    inside = np.isin(source.owner.reshape(-1), entries)
    assert inside.sum() > 20
    points = source.points[:, inside].T.astype(float) + source.origin
    for entry in entries:
        then, after = invert(source.box_pose[entry]), invert(now.poses[row])
        np.testing.assert_allclose(apply(after, apply(motion.motion[entry], points)), apply(then, points), atol=1e-6)


def test_who_moved_and_who_is_gone(source):
    now = moved(7, 3, 0, 0)
    now = now.select(now.token != 4)
    motion = box_motion(source, now, 0.02)
    for token, exists, has_moved in ((7, True, True), (9, True, False), (4, False, False)):
        mine = source.box_token == token
        assert mine.any() and (motion.exists[mine] == exists).all() and (motion.moved[mine] == has_moved).all()
    np.testing.assert_array_equal(motion.motion[~motion.moved], np.broadcast_to(np.eye(4), (int((~motion.moved).sum()), 4, 4)))
    nobody = box_motion(source, make_boxes(), 0.02)
    assert not nobody.exists.any() and not nobody.moved.any()


def test_a_nudge_below_the_threshold_is_rest(source):
    assert not box_motion(source, moved(7, 0.01, 0, 0), 0.02).moved.any()
    assert box_motion(source, moved(7, 0, 0, 0.05), 0.02).moved.any()


def test_ground_under_a_box_that_left_and_points_of_lost_boxes_are_not_used(source):
    owner, under = source.owner_token.reshape(-1), np.append(source.box_token, -1)[source.under.reshape(-1)]
    now = moved(7, 3, 0, 0)
    now = now.select(now.token != 4)
    usable = move_sources([source], now, 0.02)[0].label != UNUSED
    assert (owner == 4).any() and not usable[owner == 4].any()
    assert (under == 7).any() and not usable[under == 7].any()
    assert (under == 9).any() and usable[(under == 9) & source.keep.reshape(-1)].all()


def test_objects_are_numbered_alike_in_every_source(source):
    other = SplatSource.from_frame(source.frame, THEN.select(THEN.token != 9))
    first, second = move_sources([source, other], THEN, 0.02)
    for token in (7, 4):
        a, b = (np.unique(c.label[c.source.owner_token.reshape(-1) == token]) for c in (first, second))
        assert len(a[a > 0]) == 1 and a[a > 0].tolist() == b[b > 0].tolist()
    assert set(np.unique(second.label)) <= {UNUSED, STATIC, *first.box_label.tolist()}
    assert move_sources([], THEN, 0.02) == []
