"""The bullet-time splat against an analytic scene whose truth is known from everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.geometry.depth import ALIKE, AROUND, GAP, SplatConfig
from dist4d_env.geometry.depth_kernels import close_gaps
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.splat import Splat, splat
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from tests.geometry.analytic import make_boxes, make_rig, render


def at(x: float, y: float, yaw: float, time: float) -> tuple:
    """An ego pose and the traffic at a time: one car ahead moving at 6 m/s, one behind at 2 m/s, one parked."""
    boxes = make_boxes((7, 12 + 6 * time, -3, 0.0), (9, 15, 3, 0.2), (4, -10 + 2 * time, -3, 0.0))
    return pose_from_xy_yaw(x, y, yaw), boxes, time


def source(rig, x, y, yaw, time) -> SplatSource:
    pose, boxes, time = at(x, y, yaw, time)
    return SplatSource.from_frame(render(rig, pose, boxes, time), boxes)


def view(rig, sources, x, y, yaw, time) -> tuple[Splat, RGBDFrame]:
    pose, boxes, time = at(x, y, yaw, time)
    truth = render(rig, pose, boxes, time)
    return splat(sources, rig.intrinsics, truth.global_from_camera, (rig.height, rig.width), boxes, time), truth


def psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((a[mask].astype(float) - b[mask].astype(float)) ** 2))


@pytest.fixture(scope="module")
def rig():
    return make_rig()


@pytest.fixture(scope="module")
def sources(rig):
    return [source(rig, -4, 0, 0, -0.5), source(rig, 0, 0, 0, 0.0), source(rig, -8, 0, 0, -1.0)]


def test_same_pose_returns_the_frame_itself(rig, sources):
    got, truth = view(rig, sources[1:2], 0, 0, 0, 0.0)
    assert got.valid.mean() > 0.999
    assert np.mean(np.abs(got.depth - truth.depth)[got.valid] > 0.02 * truth.depth[got.valid]) < 0.03
    assert psnr(got.rgb, truth.rgb, got.valid) > 35


@pytest.mark.parametrize("size", [(64, 112), (128, 224)])
def test_shifted_pose_agrees_with_the_truth_where_visible(size):
    rig = make_rig(*size)
    sources = [source(rig, -4, 0, 0, -0.5), source(rig, 0, 0, 0, 0.0)]
    got, truth = view(rig, sources, 3, 0.5, 0.05, 0.5)
    sure = got.valid & (got.confidence > 0.3)
    error = np.abs(got.depth - truth.depth) / truth.depth
    assert got.valid.mean() > 0.93 and sure.mean() > 0.85
    assert np.median(error[got.valid]) < 0.003
    assert np.mean(error[sure] > 0.05) < 0.02
    assert psnr(got.rgb, truth.rgb, sure) > 30


def test_points_move_with_their_boxes(rig, sources):
    got, truth = view(rig, sources, 0, 0, 0, 1.5)  # the car ahead has gone 9 m
    _, boxes, _ = at(0, 0, 0, 1.5)
    shown = SplatSource.from_frame(truth, boxes)
    moving = np.isin(shown.owner_token, (7, 4)) & ~shown.edge
    assert moving.sum() > 40
    assert got.moving[moving].mean() > 0.9
    error = np.abs(got.depth - truth.depth)[moving & got.moving]
    assert np.median(error) < 0.15
    assert psnr(got.rgb, truth.rgb, moving & got.moving) > 22
    frozen = SplatSource.from_frame(sources[1].frame, make_boxes())
    left_behind = splat([frozen], rig.intrinsics, truth.global_from_camera, (rig.height, rig.width), boxes, 1.5)
    assert not left_behind.moving.any()
    assert psnr(left_behind.rgb, truth.rgb, moving) < psnr(got.rgb, truth.rgb, moving) - 6


def test_points_of_vanished_boxes_are_left_out(rig, sources):
    pose, _, _ = at(0, 0, 0, 0)
    empty = make_boxes()
    truth = render(rig, pose, empty)
    got = splat(sources, rig.intrinsics, truth.global_from_camera, (rig.height, rig.width), empty, 0.0)
    assert not got.moving.any()
    assert psnr(got.rgb, truth.rgb, got.valid) > 30


def test_sky_follows_rotation_only(rig, sources):
    got, truth = view(rig, sources, 6, -1.0, 0.0, 0.5)
    sky = (truth.depth >= FAR) & (got.depth >= FAR)
    assert sky.sum() > 0.9 * (truth.depth >= FAR).sum() - 1
    error = np.abs(got.rgb.astype(int) - truth.rgb).max(-1)[sky]
    assert np.mean(error <= 3) > 0.98


def test_no_source_gives_only_holes_and_a_grey_fill(rig):
    got, _ = view(rig, [], 0, 0, 0, 0.0)
    assert not got.valid.any() and not got.rgb.any() and not got.depth.any()
    rgb, depth = got.filled()
    assert (rgb == 127).all() and (depth == FAR).all()


def test_fills_leave_seen_pixels_alone(rig, sources):
    got, _ = view(rig, sources[:1], 3, 1.0, 0.1, 0.5)
    assert not got.valid.all()
    for rgb, depth in (got.background(), got.filled()):
        np.testing.assert_array_equal(rgb[got.valid], got.rgb[got.valid])
        np.testing.assert_array_equal(depth[got.valid], got.depth[got.valid])
        assert (depth > 0).all()


def test_pixels_without_depth_are_holes(rig):
    frame = source(rig, 0, 0, 0, 0.0).frame
    depth = frame.depth.copy()
    depth[1, 40:50, 30:60] = 0
    depth[2, 10:20, 50:60] = np.nan
    holed = RGBDFrame(frame.rgb, depth, frame.intrinsics, frame.global_from_camera, frame.time)
    got, _ = view(rig, [SplatSource.from_frame(holed, make_boxes())], 0, 0, 0, 0.0)
    assert not got.valid[1, 42:48, 33:57].any() and not got.valid[2, 12:18, 52:58].any()
    assert np.isfinite(got.depth).all()


def test_bits_do_not_depend_on_threads():
    script = (
        "import hashlib, numpy as np\n"
        "from tests.geometry.test_splat import *\n"
        "rig = make_rig()\n"
        "s, _ = view(rig, [source(rig, -4, 0, 0, -0.5), source(rig, 0, 0, 0, 0.0)], 3, 0.5, 0.05, 0.5)\n"
        "parts = [s.rgb, s.depth, s.valid, s.moving, s.confidence, s.age, *s.filled(), *s.background()]\n"
        "print(hashlib.sha256(b''.join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest())\n"
    )
    digests = set()
    for threads in ("1", "2"):
        env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", script], env=env, check=True, capture_output=True, text=True)
        digests.add(done.stdout.strip())
    assert len(digests) == 1


def test_gaps_of_a_near_surface_close_and_its_outline_stays():
    depth, label = np.full((1, 12, 20), 30.0, np.float32), np.zeros((1, 12, 20), np.int32)
    depth[0, 2:10, 2:12], label[0, 2:10, 2:12] = 5.0, 3
    depth[0, 4, 9] = 0  # a hole stays
    whole, whole_label = depth.copy(), label.copy()
    for row, column, seen in ((4, 4, 30.0), (4, 5, 30.0), (7, 8, 20.0), (6, 3, 100.0)):
        depth[0, row, column], label[0, row, column] = seen, 0
    for _ in range(2):
        close_gaps(depth, label, np.float32(GAP), np.float32(ALIKE), AROUND)
    np.testing.assert_allclose(depth, whole, rtol=1e-6)
    np.testing.assert_array_equal(label, whole_label)


def test_a_flank_seen_at_a_glancing_angle_is_closed_as_well_in_large_pictures():
    """Its columns spread out by as many pixels more as pictures have."""

    def shown(height: int, width: int) -> float:
        rig, car = make_rig(height, width), make_boxes((7, 14, 3, 0))
        ahead = SplatSource.from_frame(render(rig, pose_from_xy_yaw(0, 0, 0), car), car)
        truth = render(rig, pose_from_xy_yaw(14, -1, np.pi / 2), car)
        flank = (truth.depth > 2) & (truth.depth < 4)
        return float(splat([ahead], rig.intrinsics, truth.global_from_camera, (height, width), car, 0.0).moving[flank].mean())

    assert shown(224, 400) > shown(64, 112) > 0.5


def test_a_post_of_one_pixel_stays_thin_from_beside(rig):
    """Neither neighbour lies on its surface, so their slopes do not say how it spreads out."""
    boxes = make_boxes()
    frame = render(rig, pose_from_xy_yaw(0, 0, 0), boxes)
    depth = frame.depth.copy()
    depth[1, :32, 56] = 8.0
    post = SplatSource.from_frame(replace(frame, depth=depth), boxes)
    poses = render(rig, pose_from_xy_yaw(0, -2, 0), boxes).global_from_camera
    seen = splat([post], rig.intrinsics, poses, (rig.height, rig.width), boxes, 0.0)
    width = (np.abs(seen.depth[1, 5:25] - 8.0) < 0.5).sum(1)
    assert (width > 0).all() and width.mean() < 2


def test_a_car_that_fills_the_picture_has_no_gaps(rig):
    car = make_boxes((7, 20, 0, 0.0))
    seen = SplatSource.from_frame(render(rig, pose_from_xy_yaw(0, 0, 0), car), car)
    truth = render(rig, pose_from_xy_yaw(14.5, 0, 0), car)
    back = truth.depth[1] < 2.5  # a little below two metres away, seen from sixteen
    back[56:] = False  # without the road before it

    def right(facing: float) -> float:
        config = SplatConfig(facing=facing)
        depth = splat([seen], rig.intrinsics, truth.global_from_camera, (64, 112), car, 0.0, config).depth[1]
        return float((np.abs(depth - truth.depth[1]) < 0.05 * truth.depth[1])[back].mean())

    assert right(0.0) < 0.6
    assert right(SplatConfig().facing) > 0.9
