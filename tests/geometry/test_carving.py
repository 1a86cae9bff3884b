"""Outlines are where most sources see them: neither as wide as all footprints together nor eaten away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.geometry.box_motion import STATIC, move_sources
from dist4d_env.geometry.carving import Carver
from dist4d_env.geometry.carving_kernels import BEHIND, outlines
from dist4d_env.geometry.depth import SplatConfig, splat_depth
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from tests.geometry.analytic import make_boxes, make_rig, render

RIG = make_rig(48, 84)
SIZE = 48, 84


def cars(time: float):
    """Far enough away to be a few pixels wide; one drives, the others stand."""
    return make_boxes((7, 22 + 4 * time, -4, 0.3), (9, 26, 1, 1.2), (4, 18, 6, 0.0), (5, -20, -3, 0.1))


def seen_from(*places: tuple[float, float, float]) -> list[SplatSource]:
    """Frames from (x, y, time)."""
    frames = [(render(RIG, pose_from_xy_yaw(x, y, 0), cars(time), time), cars(time)) for x, y, time in places]
    return [SplatSource.from_frame(frame, boxes) for frame, boxes in frames]


def shown(sources: list[SplatSource], config: SplatConfig, time: float = 0.0):
    """Depth (V, H, W) and the truth."""
    truth = render(RIG, pose_from_xy_yaw(0.3, 0.1, 0.01), cars(time), time)
    moved = move_sources(sources, cars(time), config.motion_threshold)
    depth, _ = splat_depth(moved, RIG.intrinsics, truth.global_from_camera, SIZE, config)
    return depth.reshape(-1, *SIZE), truth.depth


@pytest.fixture(scope="module")
def sources():
    return seen_from((0, 0, 0.0), (-0.7, 0.2, -0.5), (1.1, -0.1, 0.5), (-1.6, 0.3, -1.0), (2.3, 0, 1.0))


def test_outlines_do_not_grow_with_every_source(sources):
    wrong = {}
    for carvings in (0, 2):
        depth, truth = shown(sources, SplatConfig(carvings=carvings), 0.2)
        known = (depth > 0) & (np.minimum(depth, truth) < 60)
        wrong[carvings] = [np.sum(off & known) for off in (depth < 0.85 * truth, depth > truth / 0.85)]
    (near, far), (near_carved, far_carved) = wrong[0], wrong[2]
    assert near > 40 and far < 5
    assert near_carved < near / 3 and far_carved <= near_carved


def test_a_source_alone_is_not_contradicted():
    alone = seen_from((0, 0, 0.0))
    truth = alone[0].frame
    moved = move_sources(alone, cars(0.0), 0.02)
    (depth, label), (other, other_label) = (
        splat_depth(moved, RIG.intrinsics, truth.global_from_camera, SIZE, SplatConfig(carvings=carvings)) for carvings in (0, 2)
    )
    changed = (depth != other) | (label != other_label)
    assert changed.mean() < 0.005


def floor_of(sources: list[SplatSource], post: float) -> np.ndarray:
    """What is wrong in the front camera's image where a post stands ``post`` metres away that nobody has seen."""
    truth = render(RIG, pose_from_xy_yaw(0, 0, 0), cars(0.0))
    depth, label = truth.depth[1].copy(), np.full(SIZE, STATIC, np.int32)
    depth[10:30, 40] = post
    moved = move_sources(sources, cars(0.0), 0.02)
    return Carver.of(moved, RIG.intrinsics, truth.global_from_camera, SIZE).floor(1, depth, label, np.ones(SIZE, bool))[10:30, 40]


def test_what_is_seen_through_goes_and_what_is_hidden_stays():
    sources = seen_from((0, 0, 0.0), (-0.5, 0, -0.5))
    np.testing.assert_allclose(floor_of(sources, 3.0), BEHIND * 3.0, rtol=1e-6)
    wall = np.float32([1, 0, 0])  # 1 m away
    hidden = [replace(one, inverse_depth=np.broadcast_to(wall, one.inverse_depth.shape).copy()) for one in sources]
    assert not floor_of(hidden, 3.0).any()


def test_who_does_not_know_an_agent_says_nothing_about_its_place():
    """As of an agent that a scenario has inserted, or that two keyframes of three do not show."""
    car = make_boxes((7, 12, -1, 0.3))
    truth = render(RIG, pose_from_xy_yaw(0.3, 0.1, 0.01), car)
    knowing = SplatSource.from_frame(render(RIG, pose_from_xy_yaw(0, 0, 0), car), car)
    empty = [SplatSource.from_frame(render(RIG, pose_from_xy_yaw(x, 0, 0), make_boxes()), make_boxes()) for x in (-1, -2)]
    moved = move_sources([knowing, *empty], car, 0.02)
    shown = {}
    for carvings in (0, 2):
        _, label = splat_depth(moved, RIG.intrinsics, truth.global_from_camera, SIZE, SplatConfig(carvings=carvings))
        shown[carvings] = int((label == moved[0].box_label[0]).sum())
    assert shown[2] > 0.97 * shown[0] > 100


def test_generated_frames_contradict_nobody():
    sources = [replace(one, generated=True) for one in seen_from((0, 0, 0.0), (-0.5, 0, -0.5))]
    assert not floor_of(sources, 3.0).any()


def test_coarse_sources_say_less_than_fine_ones():
    """Two frames from behind do not outvote one from here that shows what they look past."""
    near, far = seen_from((0, 0, 0.0)), seen_from((-30, 0, 0.0), (-31, 0, 0.0))
    sky = np.float32([1e-3, 0, 0])
    blind = [replace(one, inverse_depth=np.broadcast_to(sky, one.inverse_depth.shape).copy()) for one in far]
    truth = near[0].frame
    label = move_sources(near, cars(0.0), 0.02)[0].label.reshape(-1, *SIZE)[1]
    moved = move_sources([*near, *blind], cars(0.0), 0.02)
    carver = Carver.of(moved, RIG.intrinsics, truth.global_from_camera, SIZE)
    standing = outlines(truth.depth[1], label) & (label == STATIC) & (truth.depth[1] < 15)
    assert standing.sum() > 20
    assert np.mean(carver.floor(1, truth.depth[1], label, np.ones(SIZE, bool))[standing] > 0) < 0.05


def test_outlines_are_beside_what_is_farther():
    depth, label = np.full((6, 8), 20.0, np.float32), np.zeros((6, 8), np.int32)
    depth[2:4, 3] = 10
    expected = np.zeros((6, 8), bool)
    expected[2:4, 3] = True
    np.testing.assert_array_equal(outlines(depth, label), expected)
    depth[5, 7] = 0
    expected[4:6, 6:8] = True
    expected[5, 7] = False
    np.testing.assert_array_equal(outlines(depth, label), expected)
    depth[:], label[:, :2] = np.linspace(20, 20.7, 8), 3  # another object, farther away by little
    expected[:] = False
    expected[:, 1] = True
    np.testing.assert_array_equal(outlines(depth, label), expected)
