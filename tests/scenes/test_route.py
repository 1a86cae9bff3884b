"""Routes: geometry of the polyline, and where a log leads on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, Point, box

from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.scenes.maps import Lane, make_map
from dist4d_env.scenes.route import Route
from dist4d_env.scenes.routing import match_lanes, route_from_log
from dist4d_env.scenes.scene import Scene


def bend() -> Route:
    angle = np.linspace(0, np.pi, 64)
    return Route.through(np.stack([20 * np.sin(angle), 20 - 20 * np.cos(angle)], -1))  # a left half-circle


@settings(deadline=None, max_examples=60)
@given(st.floats(-40, 40), st.floats(-20, 60))
def test_projection_is_the_nearest_point(x: float, y: float) -> None:
    route = bend()
    line = LineString(route.points)
    s, lateral, _ = route.project(x, y)
    assert line.distance(Point(x, y)) == pytest.approx(np.hypot(*(np.array(route.at(s)[:2]) - (x, y))), abs=1e-6)
    if 0 < s < route.length:
        assert abs(lateral) == pytest.approx(line.distance(Point(x, y)), abs=1e-6)
        inside = np.hypot(x, y - 20) < 20  # the centre lies to the left
        assert (lateral > -1e-6) if inside and x > 0 else True


def test_lateral_is_positive_to_the_left_and_clipped_beyond_the_ends() -> None:
    route = Route.through(np.stack([np.arange(11.0), np.zeros(11)], -1))
    assert route.project(3.25, 2.0) == pytest.approx((3.25, 2.0, 0.0))
    assert route.project(3.25, -2.0) == pytest.approx((3.25, -2.0, 0.0))
    assert route.project(-4.0, 1.0) == pytest.approx((0.0, 1.0, 0.0))
    assert route.project(14.0, -1.0) == pytest.approx((10.0, -1.0, 0.0))
    assert route.at(-3)[:2] == (0.0, 0.0) and route.at(99)[:2] == (10.0, 0.0)


def test_near_tells_crossing_stretches_apart() -> None:
    out = np.stack([np.arange(0, 60.0), np.zeros(60)], -1)
    back = np.stack([np.full(50, 59.5), np.arange(1, 51.0)], -1)
    cross = np.stack([np.linspace(58.5, 20, 40), np.linspace(50, -20, 40)], -1)
    route = Route.through(np.concatenate([out, back, cross]))
    hit = cross[np.argmin(np.abs(cross[:, 1]))]
    early, late = route.project(*hit, near=30.0)[0], route.project(*hit, near=route.length - 20)[0]
    assert early == pytest.approx(hit[0], abs=1.5) and late > 120


def test_ahead_is_in_the_ego_frame_and_goes_on_past_the_end() -> None:
    route = Route.through(np.stack([np.arange(31.0), np.zeros(31)], -1))
    points = route.ahead(pose_from_xy_yaw(5, 1, np.pi / 2))
    assert points.shape == (20, 2)
    np.testing.assert_allclose(points[:, 0], -1.0, atol=1e-9)  # the ego looks to the left: the route is 1 m behind it
    np.testing.assert_allclose(points[:, 1], -2.5 * np.arange(1, 21), atol=1e-9)  # and runs off to its right, 50 m of it


def test_headings_do_not_jump() -> None:
    angle = np.linspace(0, 4 * np.pi, 400)
    route = Route.through(np.stack([30 * np.cos(angle), 30 * np.sin(angle)], -1))
    headings = route.sample(np.linspace(0, route.length, 2000))[:, 2]
    assert np.abs(np.diff(headings)).max() < 0.1 and headings[-1] - headings[0] == pytest.approx(4 * np.pi, abs=0.1)


def test_bad_routes_are_refused() -> None:
    for points in (np.zeros((1, 2)), np.zeros((3, 2))):
        with pytest.raises(ValueError, match="two or more points"):
            Route.through(points)


def test_route_of_the_tiny_scene_takes_the_way_that_is_long_enough(tiny_scene: Scene) -> None:
    """Straight on ends after 40 m, so the fork is taken to the left, and the log's 12 m come first."""
    route = tiny_scene.route
    assert route.lanes == ("first", "second", "left", "north")
    assert route.log_length == pytest.approx(12.0, abs=1e-6) and route.length >= 162 - 1e-6
    assert route.graph_length == pytest.approx(route.length, abs=1.5)
    np.testing.assert_allclose(route.points[0], [100, 100], atol=1e-6)
    assert Point(208.5, 103.5).distance(LineString(route.points)) < 0.5
    steps = np.hypot(*np.diff(route.points, axis=0).T)
    assert steps.min() > 0.8 and steps.max() < 1.2


def straight(token: str, x0: float, x1: float, y: float, successors: tuple[str, ...] = ()) -> Lane:
    xs = np.arange(x0, x1 + 1)
    line = np.stack([xs, np.full_like(xs, y), np.zeros_like(xs)], -1)
    return Lane(token, False, line, box(x0, y - 1.75, x1, y + 1.75), (), successors)


def test_route_where_the_graph_ends_and_without_a_map() -> None:
    path = np.stack([np.arange(0, 20, 0.5), np.full(40, 0.8)], -1)
    lanes = make_map("here", {}, [straight("a", -5, 30, 0.0, ("b",)), straight("b", 30, 80, 0.0)])
    route = route_from_log(path, np.zeros(40), lanes)
    assert route.lanes == ("a", "b") and route.graph_length == pytest.approx(79.5, abs=1.0)
    assert route.length >= 19.5 + 150 and abs(route.points[-1, 1]) < 1e-6  # the offset of 0.8 m has faded out
    assert np.abs(np.diff(route.points[:, 1])).max() < 0.08
    bare = route_from_log(path, np.zeros(40), None)
    assert bare.lanes == () and bare.graph_length == bare.log_length == pytest.approx(19.5)
    np.testing.assert_allclose(bare.points[:, 1], 0.8)


def test_route_of_a_car_that_stands() -> None:
    jitter = np.random.default_rng(0).normal((10, 5), 0.02, (200, 2))
    route = route_from_log(jitter, np.full(200, np.pi / 2), None)
    assert route.log_length == 0.0 and route.length >= 150
    np.testing.assert_allclose(route.points[-1] - route.points[0], [0, route.length], atol=1e-6)
    lanes = make_map("here", {}, [straight("a", -5, 300, 5.0)])
    along = route_from_log(jitter, np.full(200, 0.1), lanes)
    assert along.lanes == ("a",) and along.length >= 150 and along.points[-1, 1] == pytest.approx(5.0)


def test_matching_prefers_the_lane_graph_over_the_nearest_line() -> None:
    """A path that drifts towards the neighbouring lane for a moment stays matched to its own."""
    lanes = make_map("here", {}, [straight("a", 0, 40, 0.0, ("b",)), straight("b", 40, 80, 0.0), straight("other", 0, 80, 3.5)])
    x = np.arange(2.0, 78)
    y = 2.0 * np.exp(-(((x - 40) / 2) ** 2))
    assert match_lanes(np.stack([x, y], -1), np.zeros_like(x), lanes) == ("a", "b")
    change = 3.5 / (1 + np.exp(-(x - 40) / 3))
    assert match_lanes(np.stack([x, change], -1), np.zeros_like(x), lanes)[-1] == "other"
