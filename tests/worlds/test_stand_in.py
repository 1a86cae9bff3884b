"""Plain bodies of inserted agents: they fill their boxes, take a donor's colours, and are cut to what a donor's frames see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.splat import Splat, splat
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.worlds.stand_in import SHAPES, stand_in
from tests.geometry.analytic import BASE, make_boxes, make_rig, render

SIZE = np.array([4.5, 1.9, 1.6])
RIG = make_rig(64, 112)
EGO = pose_from_xy_yaw(0, 0, 0)
CAR = make_boxes((3, 9, -2, 0.4))


def points_in_box(source: SplatSource) -> np.ndarray:
    """Points (N, 3) of a stand-in that may be splatted: its box stands at the origin."""
    return source.points.T[source.keep.reshape(-1)] + source.origin


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_stand_in_reaches_the_sides_of_its_box_and_no_farther(category: str) -> None:
    body = stand_in(3, CATEGORIES.index(category), SIZE, 0.0, render(RIG, EGO, CAR))
    points = points_in_box(body) / SIZE
    assert body.generated and np.abs(points).max() < 0.51
    low, high = np.array(SHAPES.get(category, (((-0.5, -0.5, -0.44), (0.5, 0.5, 0.5)),))).transpose(1, 0, 2)
    assert points.max(0) == pytest.approx(high.max(0), abs=0.04)
    assert points.min(0)[:2] == pytest.approx(low.min(0)[:2], abs=0.04), "its underside is hardly seen"


@pytest.mark.parametrize("category", ["motorcycle", "bicycle"])
def test_nobody_rides_what_never_moves(category: str) -> None:
    street = render(RIG, EGO, CAR)
    ridden, parked = (stand_in(3, CATEGORIES.index(category), SIZE, 0.0, street, moves=moves) for moves in (True, False))
    assert (points_in_box(parked)[:, 2] / SIZE[2]).max() == pytest.approx(0.1, abs=0.04)
    assert (points_in_box(ridden)[:, 2] / SIZE[2]).max() == pytest.approx(0.5, abs=0.04)


def test_in_a_dark_street_it_is_dark() -> None:
    street = render(RIG, EGO, CAR)
    bright = stand_in(3, 0, SIZE, 0.0, street)
    dark = stand_in(3, 0, SIZE, 0.0, replace(street, rgb=street.rgb // 8))
    assert dark.frame.rgb[dark.keep].mean() < bright.frame.rgb[bright.keep].mean() / 6


def test_a_sighting_cuts_away_what_it_looks_through_and_lends_its_colours() -> None:
    """A frame that looks past a lower car, as one that stands for it, leaves nothing above that car."""
    low = replace(CAR, size=CAR.size * (1, 1, 0.5), position=CAR.position - (0, 0, 0.25 * CAR.size[0, 2]))
    frame = render(RIG, EGO, low)
    frame = replace(frame, rgb=np.where((frame.depth < 20)[..., None], np.uint8((200, 30, 60)), frame.rgb))
    sighting = SplatSource.from_frame(frame, CAR)
    whole = stand_in(3, CATEGORIES.index("truck"), CAR.size[0], 0.0, frame)
    carved = stand_in(3, CATEGORIES.index("truck"), CAR.size[0], 0.0, frame, [lambda: sighting])
    above = [(points_in_box(body)[:, 2] > 0.15 * CAR.size[0, 2]).sum() for body in (whole, carved)]
    below = [(points_in_box(body)[:, 2] < 0).sum() for body in (whole, carved)]
    assert above[1] < 0.35 * above[0] and below[1] > 0.8 * below[0]
    assert carved.frame.rgb[carved.keep].reshape(-1, 3).mean(0) == pytest.approx((200, 30, 60), abs=25)


def test_what_is_really_seen_stands_before_the_stand_in() -> None:
    """From where a frame was taken, its own pixels are shown; from the other side, where it has none, the stand-in."""
    frame = render(RIG, EGO, CAR)
    source = SplatSource.from_frame(frame, CAR)
    body = stand_in(3, 0, CAR.size[0], 0.0, frame, [lambda: source])

    def seen(ego: np.ndarray, *sources: SplatSource) -> Splat:
        cameras = ego @ RIG.ego_from_camera
        cameras[:, :3, 3] += BASE
        return splat(sources, RIG.intrinsics, cameras, (64, 112), CAR, 0.0)

    alone, both = seen(EGO, source), seen(EGO, source, body)
    real = alone.moving & ~both.generated
    assert real.sum() > 0.95 * alone.moving.sum()
    np.testing.assert_array_equal(both.rgb[real], alone.rgb[real])
    behind = seen(pose_from_xy_yaw(16, 0, np.pi), source, body)
    assert (behind.moving & behind.generated).sum() > 0.5 * behind.moving.sum()
