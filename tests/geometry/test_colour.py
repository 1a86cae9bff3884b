"""The colour look-up picks the source that saw a point best, and says how sure it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.geometry.box_motion import STATIC, move_sources
from dist4d_env.geometry.colour import look_up_colours
from dist4d_env.geometry.colour_kernels import DEPTH_TOLERANCE, octaves
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from tests.geometry.analytic import make_boxes, make_rig, render

RIG = make_rig(32, 56)
NOBODY = make_boxes()


def seen_from(x: float, time: float = 0.0) -> RGBDFrame:
    return render(RIG, pose_from_xy_yaw(x, 0, 0), NOBODY, time)


def painted(frame: RGBDFrame, level: int) -> RGBDFrame:
    return replace(frame, rgb=np.full_like(frame.rgb, level))


def look_up(sources, truth, depth=None, time=0.0):
    moved = move_sources(sources, NOBODY, 0.02)
    depth = truth.depth if depth is None else depth
    label = np.full(depth.size, STATIC, np.int32)
    return look_up_colours(moved, depth, label, truth.intrinsics, truth.global_from_camera, time)


@pytest.fixture(scope="module")
def truth() -> RGBDFrame:
    return seen_from(0.0)


def test_from_its_own_pose_a_frame_gives_its_own_colours(truth):
    found = look_up([SplatSource.from_frame(truth, NOBODY)], truth)
    near = truth.depth.ravel() < 99  # the sky's points lie elsewhere than at FAR
    assert found.found[near].mean() > 0.99
    error = np.abs(found.rgb.astype(int) - truth.rgb.reshape(-1, 3)).max(1)[near & found.found]
    assert np.median(error) < 0.1 and np.mean(error > 3) < 0.02
    assert np.median(found.confidence[near]) > 0.95 and not found.age.any() and not found.generated.any()


def test_the_nearer_frame_wins_and_the_newer_of_equals(truth):
    behind, here = (
        SplatSource.from_frame(painted(seen_from(-8.0), 10), NOBODY),
        SplatSource.from_frame(painted(truth, 200), NOBODY),
    )
    front = RIG.names.index("CAM_FRONT")
    ahead = (truth.depth[front] < 40).ravel()
    colours = look_up([behind, here], truth).rgb.reshape(6, -1, 3)[front][ahead]
    assert np.mean(colours > 150) > 0.95  # 8 m behind, the road ahead is coarser
    old = SplatSource.from_frame(replace(painted(truth, 10), time=np.full(6, -3.0)), NOBODY)
    for order in ([old, here], [here, old]):
        both = look_up(order, truth)
        assert np.mean(both.rgb[both.found] > 150) > 0.99


def test_a_surface_that_no_source_confirms_has_no_confidence(truth):
    depth = np.where(truth.depth < 99, truth.depth * (1 + 3 * DEPTH_TOLERANCE), 0).astype(np.float32)
    found = look_up([SplatSource.from_frame(truth, NOBODY)], truth, depth)
    here = depth.ravel() > 0
    assert found.found[here].mean() > 0.9 and not found.found[~here].any()
    assert np.mean(found.confidence[here] == 0) > 0.8
    assert not found.confidence[~here].any() and not found.rgb[~here].any()


def test_generated_frames_are_asked_last(truth):
    real = SplatSource.from_frame(painted(seen_from(-1.0, -0.5), 10), NOBODY)
    made = replace(SplatSource.from_frame(painted(truth, 200), NOBODY), generated=True)
    both = look_up([real, made], truth)
    confirmed = look_up([real], truth).confidence > 0.6
    assert confirmed.mean() > 0.3 and np.mean(both.generated[confirmed]) < 0.05
    assert both.generated.any()
    assert (both.rgb[both.generated] > 190).all()
    np.testing.assert_allclose(both.age[both.found & ~both.generated], 0.5)


@settings(max_examples=50, deadline=None)
@given(st.floats(2**-20, 2**20, width=32))
def test_octaves_are_logarithms(ratio):
    assert abs(float(octaves(np.float32(ratio))) - np.log2(ratio)) < 3e-4


def test_without_sources_nothing_is_found(truth):
    found = look_up([], truth)
    assert not found.found.any() and not found.rgb.any() and not found.confidence.any()
