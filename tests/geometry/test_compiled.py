"""The compiled splat gives the same bits as numpy's."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import backend as choice
from dist4d_env.geometry.backward import octaves
from dist4d_env.geometry.fill import fill_background
from dist4d_env.geometry.fragments import BEST, PLAIN
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat import splat
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from tests.geometry.analytic import make_boxes, make_rig, render

needs_numba = pytest.mark.skipif(not choice.has_numba(), reason="numba (the extra 'fast') is not installed")
RIG = make_rig(24, 40)


def traffic(time: float):
    return make_boxes((7, 9 + 6 * time, -2, 0.1), (9, 12, 3, 0.2), (4, -9 + 2 * time, 1, 3.0 + time))


def broken(frame: RGBDFrame, seed: int) -> RGBDFrame:
    """A frame with noisy depth, some of it missing."""
    rng = np.random.default_rng(seed)
    depth = frame.depth * rng.uniform(0.93, 1.07, frame.depth.shape).astype(np.float32)
    depth[rng.random(depth.shape) < 0.02] = 0
    depth[rng.random(depth.shape) < 0.01] = np.nan
    return replace(frame, depth=depth)


def in_both(monkeypatch, make):
    results = []
    for name in ("numpy", "numba"):
        monkeypatch.setenv("DIST4D_SPLAT", name)
        results.append(make())
    return results


def assert_same_arrays(a, b):
    for field in fields(a):
        mine, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == other.dtype, field.name
            np.testing.assert_array_equal(mine, other, err_msg=field.name)


@needs_numba
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000), x=st.floats(-4, 6), y=st.floats(-3, 3), yaw=st.floats(-0.6, 0.6), time=st.floats(0, 2),
    noisy=st.booleans(),
)  # fmt: skip
def test_every_number_is_the_same(seed, x, y, yaw, time, noisy):
    def make(config):
        sources = []
        for k, then in enumerate((0.0, -0.5, 0.5)):
            frame = render(RIG, pose_from_xy_yaw(8 * then, 0.2 * k, 0.05 * k), traffic(then), then)
            source = SplatSource.from_frame(broken(frame, seed + k) if noisy else frame, traffic(then))
            sources.append(replace(source, generated=k == 2))
        now = traffic(time)
        now = now.select(now.token != 4) if seed % 3 == 0 else now
        cameras = render(RIG, pose_from_xy_yaw(x, y, yaw), now).global_from_camera
        return sources, splat(sources, RIG.intrinsics, cameras, (24, 40), now, time, config)

    for config in (BEST, PLAIN):
        with pytest.MonkeyPatch.context() as patch:
            (sources, seen), (other_sources, other) = in_both(patch, lambda config=config: make(config))
            assert seen.valid.any()
            assert_same_arrays(seen, other)
            for one, two in zip(sources, other_sources, strict=True):
                assert_same_arrays(one, two)


@needs_numba
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]))
def test_fills_are_the_same(seed, share):
    rng = np.random.default_rng(seed)
    valid = rng.random((2, 6, 9)) < share
    valid[:, rng.random(6) < 0.4] = False
    depth = np.where(valid, rng.integers(1, 5, valid.shape), 0).astype(np.float32)
    rgb = rng.integers(0, 256, (*valid.shape, 3), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        (a, b), (c, d) = in_both(patch, lambda: fill_background(rgb, depth, valid))
    np.testing.assert_array_equal(a, c)
    np.testing.assert_array_equal(b, d)


@needs_numba
def test_read_only_and_strided_images_are_taken(monkeypatch):
    frame = render(RIG, pose_from_xy_yaw(0, 0, 0), traffic(0.0))
    rgb, depth = np.asfortranarray(frame.rgb), np.asfortranarray(frame.depth)
    rgb.flags.writeable = depth.flags.writeable = False

    def make():
        source = SplatSource.from_frame(replace(frame, rgb=rgb, depth=depth), traffic(0.0))
        return splat([source], RIG.intrinsics, frame.global_from_camera, (24, 40), traffic(0.0), 0.0)

    assert_same_arrays(*in_both(monkeypatch, make))


@settings(max_examples=50, deadline=None)
@given(st.floats(2**-20, 2**20, width=32))
def test_octaves_are_logarithms(ratio):
    assert abs(float(octaves(np.array([ratio], np.float32))[0]) - np.log2(ratio)) < 3e-4


def test_an_unknown_backend_is_named(monkeypatch):
    monkeypatch.setenv("DIST4D_SPLAT", "fortran")
    with pytest.raises(ConfigError, match="auto, numpy, numba, not 'fortran'"):
        choice.backend()


def test_without_numba_numpy_is_taken_and_asking_for_numba_says_what_to_install(monkeypatch):
    monkeypatch.setattr(choice, "has_numba", lambda: False)
    monkeypatch.setenv("DIST4D_SPLAT", "auto")
    assert choice.backend() == "numpy"
    monkeypatch.setenv("DIST4D_SPLAT", "numba")
    with pytest.raises(ConfigError, match="fast"):
        choice.backend()


def test_numba_is_not_imported_before_it_is_needed():
    script = "import sys, dist4d_env.geometry.splat, dist4d_env.worlds.memory; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_plain_splat_shows_the_frame_itself_and_the_nearest_point(backend):
    near, far = (render(RIG, pose_from_xy_yaw(0, 0, 0), make_boxes()) for _ in range(2))
    far = replace(far, rgb=np.full_like(far.rgb, 9), depth=np.minimum(far.depth * 1.5, 90).astype(np.float32))
    sources = [SplatSource.from_frame(frame, make_boxes()) for frame in (far, near)]
    got = splat(sources, RIG.intrinsics, near.global_from_camera, (24, 40), make_boxes(), 0.5, PLAIN)
    solid = (near.depth < 60) & sources[1].keep
    assert got.valid[solid].all() and not got.moving.any() and (got.age[got.valid] == 0.5).all()
    same = (got.rgb == near.rgb).all(-1)[solid]  # elsewhere a neighbouring camera has seen something nearer
    assert same.mean() > 0.9
    error = np.abs(got.depth - near.depth)[solid][same] / near.depth[solid][same]
    assert np.mean(error > 1e-5) < 0.02
    assert np.mean((got.rgb == 9).all(-1)[solid]) < 0.01
    nothing = splat([], RIG.intrinsics, near.global_from_camera, (24, 40), make_boxes(), 0.5, PLAIN)
    assert not nothing.valid.any() and not nothing.rgb.any() and nothing.depth.shape == (6, 24, 40)
