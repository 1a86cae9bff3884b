"""Traffic lights as values: where paths cross their stop lines, their states by row, and who has to stop."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.scenes.lights import AMBER, GREEN, NO_LIGHTS, RED, UNKNOWN, TrafficLights, must_stop

# Two lines across x = 10 and x = 20 for those who come along x, the second one's lane half as wide.
LINES = np.array([[[10.0, 2.0], [10.0, -2.0]], [[20.0, 1.0], [20.0, -1.0]]])
LIGHTS = TrafficLights(
    ("a", "b"),
    (("a1", "a2"), ("b1",)),
    LINES,
    np.array([[1, 1, 2, 3], [3, 3, 3, 1]], np.int8),
    np.zeros((0, 4)),
    np.zeros(0, int),
)


@pytest.mark.parametrize(
    ("path", "metres", "which"),
    [
        ([(0, 0), (30, 0)], [10, 20], [0, 1]),
        ([(0, 1.5), (8, 1.5), (12, 1.5), (30, 1.5)], [10], [0]),  # beside the second
        ([(30, 0), (0, 0)], [], []),  # the other way
        ([(0, 0), (10, 0), (15, 0)], [10], [0]),  # a corner on the line counts once
        ([(0, 3), (30, 3)], [], []),
    ],
)  # fmt: skip
def test_a_path_crosses_lines_the_way_they_are_meant(path: list, metres: list[float], which: list[int]) -> None:
    at, light = LIGHTS.met(np.array(path, float))
    np.testing.assert_allclose(at, metres)
    assert light.tolist() == which


def test_states_hold_beyond_the_log() -> None:
    assert LIGHTS.rows(np.array([-5, 1, 2, 9])).tolist() == [[1, 1, 2, 3], [3, 3, 3, 1]]
    assert LIGHTS.seen_at(np.array([2, 3])).state.tolist() == [[2, 3], [3, 1]]
    assert NO_LIGHTS.rows(np.arange(4)).shape == (0, 4) and NO_LIGHTS.met(np.array([(0, 0), (30.0, 0)]))[0].size == 0


@pytest.mark.parametrize(
    ("state", "distance", "speed", "stops"),
    [
        (GREEN, 20, 10, False), (UNKNOWN, 20, 10, False),
        (RED, 20, 10, True), (RED, 9, 10, True), (RED, 7, 10, False), (RED, -0.1, 1, False), (RED, 0, 0, True),
        (AMBER, 30, 10, True), (AMBER, 20, 10, False), (AMBER, 20, 5, True),
    ],
)  # fmt: skip
def test_red_stops_whom_it_can_and_amber_whom_it_does_not_hurry(state: int, distance: float, speed: float, stops: bool) -> None:
    assert bool(must_stop(np.array(state), np.array(distance), np.array(speed), 2.0, 6.0)) is stops
