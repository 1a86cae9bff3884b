"""Routes asked together answer as each alone, bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.scenes.route import Route
from dist4d_env.simulation.routes import Routes


def wandering(random: np.random.Generator, count: int) -> Route:
    """A route that turns and may cross itself."""
    heading = np.cumsum(random.normal(0, 0.25, count))
    step = random.uniform(0.4, 3.0, count)
    return Route.through(random.normal(0, 200, 2) + np.cumsum(np.stack([step * np.cos(heading), step * np.sin(heading)], -1), 0))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_questions_are_answered_as_alone(seed):
    """On the route, beside it, on its corners, before its start and past its end; searched near a place or everywhere."""
    random = np.random.default_rng(seed)
    routes = [wandering(random, int(count)) for count in (2, 3, 30, 120)]
    together = Routes(routes)
    which = random.integers(0, len(routes), 24)
    near = np.where(random.random(24) < 0.3, np.nan, [random.uniform(-5, routes[r].length + 5) for r in which])
    place = np.array([routes[r].at(random.uniform(-2, routes[r].length + 2))[:2] for r in which])
    place[::5] = [routes[r].points[random.integers(len(routes[r].points))] for r in which[::5]]
    place[1::4] += random.normal(0, 20, place[1::4].shape)
    yaw = random.uniform(-np.pi, np.pi, 24)
    s, offset, heading = together.project(which, *place.T, near)
    headings, ahead = together.heading(which, s), together.ahead(which, *place.T, yaw, near)
    for i, r in enumerate(which):
        close = None if np.isnan(near[i]) else float(near[i])
        assert (s[i], offset[i], heading[i]) == routes[r].project(*place[i].tolist(), close)
        assert headings[i] == routes[r].at(float(s[i]))[2]
        pose = pose_from_xy_yaw(*place[i].tolist(), float(yaw[i]))
        assert np.array_equal(ahead[i], routes[r].ahead(pose, near=close))
