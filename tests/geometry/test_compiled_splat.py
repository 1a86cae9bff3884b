"""The compiled splat gives the same bits as the numpy reference."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.geometry import splat as splat_module
from dist4d_env.geometry.box_motion import move_sources
from dist4d_env.geometry.depth import SplatConfig
from dist4d_env.geometry.fill import fill_background
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat import splat
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from tests.geometry.analytic import make_boxes, make_rig, render
from tests.geometry.reference import colour as reference_colour
from tests.geometry.reference import depth as reference_depth
from tests.geometry.reference import pixels as reference_pixels
from tests.geometry.reference.source import labels, prepare

RIG = make_rig(24, 40)
WIDE = SplatConfig(maximum=4 / 24)
"""Footprints of several pixels although pictures are small."""


def traffic(time: float):
    return make_boxes((7, 9 + 6 * time, -2, 0.1), (9, 12, 3, 0.2), (4, -9 + 2 * time, 1, 3.0 + time))


def broken(frame: RGBDFrame, seed: int) -> RGBDFrame:
    """A frame with noisy depth, some of it missing."""
    rng = np.random.default_rng(seed)
    depth = frame.depth * rng.uniform(0.93, 1.07, frame.depth.shape).astype(np.float32)
    depth[rng.random(depth.shape) < 0.02] = 0
    depth[rng.random(depth.shape) < 0.01] = np.nan
    return replace(frame, depth=depth)


@contextmanager
def in_numpy():
    """Splats are made by the reference."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splat_module, "splat_depth", reference_depth.splat_depth)
        patch.setattr(splat_module, "look_up_colours", reference_colour.look_up_colours)
        yield


def assert_same_arrays(a, b):
    for field in fields(a):
        mine, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == other.dtype, field.name
            np.testing.assert_array_equal(mine, other, err_msg=field.name)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000), x=st.floats(-4, 6), y=st.floats(-3, 3), yaw=st.floats(-0.6, 0.6), time=st.floats(0, 2),
    noisy=st.booleans(),
)  # fmt: skip
def test_every_bit_is_that_of_numpy(seed, x, y, yaw, time, noisy):
    sources = []
    for k, (then, rig) in enumerate(((0.0, RIG), (-0.5, make_rig(14, 60)), (0.5, make_rig(40, 30)))):
        frame = render(rig, pose_from_xy_yaw(8 * then, 0.2 * k, 0.05 * k), traffic(then), then)
        frame = broken(frame, seed + k) if noisy else frame
        known = traffic(then).select(traffic(then).token != 9) if k == 1 and seed % 2 else traffic(then)
        source = SplatSource.from_frame(frame, known)
        assert_same_arrays(source, prepare(frame, known))
        sources.append(replace(source, generated=k == 2))
    now = traffic(time)
    now = now.select(now.token != 4) if seed % 3 == 0 else now
    for moved in move_sources(sources, now, 0.02):
        np.testing.assert_array_equal(moved.label, labels(moved.source, moved.motion, moved.box_label))
    cameras = render(RIG, pose_from_xy_yaw(x, y, yaw), now).global_from_camera
    seen = splat(sources, RIG.intrinsics, cameras, (24, 40), now, time, WIDE)
    with in_numpy():
        expected = splat(sources, RIG.intrinsics, cameras, (24, 40), now, time, WIDE)
    assert seen.valid.any()
    assert_same_arrays(seen, expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]))
def test_fills_are_those_of_numpy(seed, share):
    rng = np.random.default_rng(seed)
    valid = rng.random((2, 6, 9)) < share
    valid[:, rng.random(6) < 0.4] = False
    depth = np.where(valid, rng.integers(1, 5, valid.shape), 0).astype(np.float32)
    rgb = rng.integers(0, 256, (*valid.shape, 3), dtype=np.uint8)
    filled, expected = (fill(rgb, depth, valid) for fill in (fill_background, reference_pixels.fill_background))
    np.testing.assert_array_equal(filled[0], expected[0])
    np.testing.assert_array_equal(filled[1], expected[1])


def test_read_only_and_strided_images_are_taken():
    frame = render(RIG, pose_from_xy_yaw(0, 0, 0), traffic(0.0))
    rgb, depth = np.asfortranarray(frame.rgb), np.asfortranarray(frame.depth)
    rgb.flags.writeable = depth.flags.writeable = False
    sources = [SplatSource.from_frame(one, traffic(0.0)) for one in (frame, replace(frame, rgb=rgb, depth=depth))]
    seen, other = (splat([s], RIG.intrinsics, frame.global_from_camera, (24, 40), traffic(0.0), 0.0) for s in sources)
    assert_same_arrays(seen, other)


def test_importing_the_package_does_not_import_numba():
    script = "import sys, dist4d_env; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
