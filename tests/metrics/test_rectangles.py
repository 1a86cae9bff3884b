"""Rectangle overlap against shapely, and the exact time of contact against sampling."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from shapely.geometry import Polygon

from dist4d_env.geometry.boxes import rectangle_corners
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.rectangles import contact_interval, ego_centers, overlap

place = st.floats(-6, 6)
side = st.floats(0.3, 8)
angle = st.floats(-4, 4)
rectangle = st.tuples(place, place, angle, side, side)


def parts(r):
    return np.array(r[:2]), r[2], np.array(r[3:])


@given(rectangle, rectangle)
def test_overlap_agrees_with_shapely(a, b):
    shapes = [Polygon(rectangle_corners(*r)) for r in (a, b)]
    touching = shapes[0].buffer(1e-6).intersects(shapes[1])
    assume(touching == shapes[0].buffer(-1e-6).intersects(shapes[1]))
    assert bool(overlap(*parts(a), *parts(b))) == touching
    assert bool(overlap(*parts(b), *parts(a))) == touching


@given(rectangle, rectangle, st.tuples(place, place))
def test_contact_begins_and_ends_when_overlap_does(a, b, velocity):
    first, last = contact_interval(*parts(a), np.zeros(2), *parts(b), np.array(velocity))
    times = np.linspace(-3, 3, 61)
    times = times[np.minimum(np.abs(times - first), np.abs(times - last)) > 1e-3]
    center, yaw, size = parts(b)
    moved = center + times[:, None] * np.array(velocity)
    assert np.array_equal(overlap(*parts(a), moved, yaw, size), (times >= first) & (times <= last))


def test_the_ego_box_lies_ahead_of_its_rear_axle():
    ego = np.array([[10.0, 5.0, 0.0, 8, 0, 0, 0], [10.0, 5.0, np.pi / 2, 8, 0, 0, 0]])
    np.testing.assert_allclose(ego_centers(ego, VehicleParameters()), [[11.4, 5.0], [10.0, 6.4]])
