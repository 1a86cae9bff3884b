"""Neighbouring cameras follow from where cameras look."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dist4d_env.geometry.neighbours import neighbours, reading_order


def rig(yaws: list[float], lateral: list[float] | None = None) -> np.ndarray:
    """ego_from_camera (V, 4, 4) of cameras that look along yaws (degrees), so far to the left of the ego's axis."""
    poses = np.tile(np.eye(4), (len(yaws), 1, 1))
    for pose, yaw in zip(poses, np.deg2rad(yaws), strict=True):
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        pose[:3, :3] = turn @ np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    poses[:, 1, 3] = lateral or 0.0
    return poses


def test_the_nuscenes_ring_is_its_own_order() -> None:
    ring = neighbours(rig([55, 0, -55, -110, 180, 110]))
    assert ring.tolist() == [[5, 1], [0, 2], [1, 3], [2, 4], [3, 5], [4, 0]]


def test_ends_of_a_fan_and_lone_cameras() -> None:
    assert neighbours(rig([0])).tolist() == [[0, 0]]
    assert neighbours(rig([0, 180])).tolist() == [[0, 0], [1, 1]]
    assert neighbours(rig([-50, 50, 0])).tolist() == [[2, 2], [2, 2], [1, 0]]
    assert neighbours(rig([0, 180, 60])).tolist() == [[2, 2], [2, 2], [1, 0]]


def test_a_stereo_pair_is_ordered_by_place() -> None:
    assert neighbours(rig([0, 0, 90], [-0.3, 0.3, 0.0])).tolist() == [[1, 1], [2, 0], [1, 1]]


@given(st.lists(st.integers(-179, 180), min_size=1, max_size=9, unique=True), st.randoms())
def test_neighbourhood_is_mutual_and_free_of_order(yaws: list[int], draw) -> None:  # type: ignore[no-untyped-def]
    found = neighbours(rig(yaws))
    for camera, pair in enumerate(found):
        for other in pair:
            assert camera in found[other]
    order = list(range(len(yaws)))
    draw.shuffle(order)
    again = neighbours(rig([yaws[k] for k in order]))
    assert np.array_equal(np.array(order)[again], found[order])


def test_images_are_laid_out_as_the_car_is() -> None:
    assert reading_order(rig([55, 0, -55, -110, 180, 110])) == ((0, 1, 2), (5, 4, 3))
    assert reading_order(rig([0])) == ((0,),)
    assert reading_order(rig([180, -90, 90, 0])) == ((2, 3, 1), (0,))
