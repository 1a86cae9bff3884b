"""Upright boxes: corners, order and selection."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.geometry.boxes import Boxes, rectangle_corners
from dist4d_env.geometry.transforms import apply, invert


def one_box(x: float, y: float, z: float, yaw: float, size: tuple[float, float, float]) -> Boxes:
    return Boxes(np.array([5]), np.zeros(1, np.int8), np.array([[x, y, z]]), np.array([size]), np.array([yaw]), np.zeros((1, 2)))


metres = st.floats(-500, 500)
sizes = st.tuples(st.floats(0.3, 15), st.floats(0.3, 3), st.floats(0.3, 4))


@settings(max_examples=60, deadline=None)
@given(metres, metres, st.floats(-3, 3), st.floats(-7, 7), sizes)
def test_corners_are_half_a_size_from_the_centre_in_their_order(x, y, z, yaw, size):
    boxes = one_box(x, y, z, yaw, size)
    local = apply(invert(boxes.poses), boxes.corners())[0] / (np.array(size) / 2)
    left_bottom, right_bottom, right_top, left_top = [1, -1], [-1, -1], [-1, 1], [1, 1]  # y, z in signs
    face = np.array([left_bottom, right_bottom, right_top, left_top], float)
    expected = np.concatenate([np.insert(face, 0, 1, 1), np.insert(face, 0, -1, 1)])
    np.testing.assert_allclose(local, expected, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(metres, metres, st.floats(-7, 7), sizes)
def test_rectangles_are_the_boxes_seen_from_above(x, y, yaw, size):
    footprint = rectangle_corners(np.array(x), np.array(y), np.array(yaw), np.array(size[0]), np.array(size[1]))
    corners = one_box(x, y, 0.0, yaw, size).corners()[0]
    front_left, front_right, back_left, back_right = (corners[i, :2] for i in (0, 1, 4, 5))
    np.testing.assert_allclose(footprint, [front_left, back_left, back_right, front_right], atol=1e-9)
    ahead, across = footprint[0] - footprint[1], footprint[0] - footprint[3]
    assert ahead[0] * across[1] - ahead[1] * across[0] > 0  # counter-clockwise: left is left of ahead


def test_selection_keeps_rows_together():
    category, position = np.array([0, 7, 1], np.int8), np.arange(9.0).reshape(3, 3)
    boxes = Boxes(np.array([3, 1, 2]), category, position, np.ones((3, 3)), np.arange(3.0), np.ones((3, 2)))
    chosen = boxes.select(boxes.token != 1)
    assert len(chosen) == 2 and chosen.token.tolist() == [3, 2] and chosen.category.tolist() == [0, 1]
    np.testing.assert_array_equal(chosen.position, boxes.position[[0, 2]])
    assert len(boxes.select(np.zeros(3, bool))) == 0 and boxes.select(np.zeros(3, bool)).corners().shape == (0, 8, 3)
