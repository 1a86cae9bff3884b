"""Lifting: points where the geometry says they are, whatever the route does and wherever earlier pictures were taken."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.errors import DataError
from dist4d_env.learning.depth_scan import Rays, calibration_of
from dist4d_env.learning.route_frame import RouteFrame
from dist4d_env.learning.route_grid import BACK, CELL, CELLS, CHANNELS, COARSE, SIDE, Lifter, Pictures, cell_centres
from dist4d_env.simulation.ego import EgoState
from tests.learning.end_to_end import FRONT, STRAIGHT, looking

CURVE = np.stack([np.sin(np.arange(1, 21) * 2.5 / 40.0) * 40.0, (1 - np.cos(np.arange(1, 21) * 2.5 / 40.0)) * 40.0], -1)


def at(x: float = 0.0, y: float = 0.0, yaw: float = 0.0) -> EgoState:
    return EgoState(x, y, yaw, 8.0, 0.0, 0.0, 0.0)


def cell(along: float, left: float) -> tuple[int, int]:
    return int((along + BACK) / CELL), int((left + SIDE) / CELL)


def test_points_lie_where_their_depth_says():
    """A wall 20 m ahead: counted in its row, at its height, and in the coarse cells of its pixels."""
    pictures = looking([((20.0, 0.0), (1.0, 3.0, 1.8))], at())
    lifted = Lifter(calibration_of(FRONT), (64, 112)).lift([pictures, None, None], STRAIGHT)
    assert lifted.counts.shape == (CHANNELS, *CELLS) and lifted.counts.dtype == np.uint8
    row, column = cell(19.6, 0.1)
    assert lifted.counts[2, row - 1 : row + 2, column].sum() > 3 and not lifted.counts[2, : row - 2].any()
    assert not lifted.counts[4:].any() and not lifted.seen.any(), "there was nothing before"
    road = lifted.counts[0].nonzero()[0]
    assert road.min() > cell(2.0, 0)[0] and road.max() > row
    cells = lifted.cells[lifted.cells >= 0]
    assert lifted.cells.shape == (1, 32, 56) and cells.max() < COARSE[0] * COARSE[1]
    assert (cells // COARSE[1] == row // 2).sum() > 20


@pytest.mark.parametrize("route", [STRAIGHT, CURVE], ids=["straight", "curve"])
def test_projection_is_that_of_the_route_frame(route):
    lifter = Lifter(calibration_of(FRONT), (64, 112))
    depth = np.random.default_rng(0).uniform(1.0, 60.0, (1, 64, 112)).astype(np.float32)
    frame = RouteFrame.of({"route": route[None]})
    along, left, height = lifter._points(depth, frame, at(), at())
    points = Rays.of(calibration_of(FRONT), (64, 112)).points(depth.reshape(-1).astype(float))
    ours, lefts, _ = frame.project(points[None, :, :2])
    near = np.abs(lefts[0]) < 3.0  # outside a bend along goes on beyond the end of its piece, the more the farther away
    np.testing.assert_allclose(along[near], ours[0, near], atol=0.3)
    np.testing.assert_allclose(left[near], lefts[0, near], atol=1e-2)
    np.testing.assert_allclose(height, points[:, 2], atol=1e-4)
    assert near.sum() > 1000 and np.median(np.abs(along - ours[0])) < 1e-5


def test_pictures_of_other_cameras_are_refused():
    """Also where only an earlier one is."""
    lifter, fits = Lifter(calibration_of(FRONT), (64, 112)), looking([], at())
    two = Pictures(0.0, np.repeat(fits.rgb, 2, 0), np.repeat(fits.depth, 2, 0), at())
    small = Pictures(0.0, fits.rgb[:, ::2], fits.depth[:, ::2], at())
    for views in ([two, None, None], [fits, None, small]):
        with pytest.raises(DataError, match=r"of depth \(.*\) do not fit the calibration, which is of \(1, 64, 112\)"):
            lifter.lift(views, STRAIGHT)


def test_earlier_pictures_are_seen_from_here():
    """What stands is in the same cell although the ego has moved and turned; what moved is in another."""
    here, before = at(104.0, 50.0, 0.5), at(100.2, 47.9, 0.45)
    wall = (here.x + 20 * np.cos(0.5), here.y + 20 * np.sin(0.5)), (1.0, 3.0, 1.8)
    views = [looking([wall], here, 1.0), looking([wall], before, 0.5), None]
    lifted = Lifter(calibration_of(FRONT), (64, 112)).lift(views, STRAIGHT)
    assert lifted.seen.tolist() == [True, False] and not lifted.counts[6:].any()
    now, then = (np.argwhere(lifted.counts[band] > 0).min(0) for band in (2, 5))
    assert np.abs(now - then).max() <= 2


def test_without_depth_everything_lies_on_the_road():
    lifter = Lifter(calibration_of(FRONT), (64, 112), depth=False)
    lifted = lifter.lift([looking([], at()), None, None], STRAIGHT)
    assert not lifted.counts.any() and (lifted.cells[0, :16] == -1).all() and (lifted.cells[0, -8:] >= 0).all()


def test_centres_of_cells():
    centres = cell_centres()
    assert centres.shape == (30, 12, 2)
    np.testing.assert_allclose([centres[0, 0], centres[-1, -1]], [[-3.0, -11.0], [55.0, 11.0]])
