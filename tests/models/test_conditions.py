"""Conditions: what is drawn into the views is where geometry puts it."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dist4d_env.geometry.cameras import project
from dist4d_env.geometry.transforms import apply, invert
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.models.depth_code import decode_depth, encode_depth
from dist4d_env.models.inputs import collate_targets
from dist4d_env.models.layout import LAYOUT_CHANNELS, box_layout, map_layout

from .made import HEIGHT, VIEWS, WIDTH, made_boxes, made_sample, ring, small_preset


@given(st.floats(0, 100), st.sampled_from(["log", "linear"]))
def test_depth_codes_round_trip(depth: float, code: str) -> None:
    value = encode_depth(torch.tensor([depth], dtype=torch.float64), code)
    assert -1 <= value.item() <= 1
    np.testing.assert_allclose(decode_depth(value, code).item(), depth, rtol=1e-6, atol=1e-6)


def test_log_code_is_finer_near() -> None:
    step = torch.tensor([2.0, 2.1])
    assert torch.diff(encode_depth(step, "log")) > 5 * torch.diff(encode_depth(step, "linear"))


def test_boxes_cover_their_projected_corners() -> None:
    rig, boxes = ring(), made_boxes(1)
    image = box_layout(boxes, rig.intrinsics, rig.ego_from_camera, HEIGHT, WIDTH)
    vehicle, nearness = LAYOUT_CHANNELS.index("vehicle") - 4, LAYOUT_CHANNELS.index("nearness") - 4
    assert image[..., vehicle].any() and not image[3:, ..., vehicle].any(), "a car ahead is in no rear camera"
    for view in range(VIEWS):
        corners = apply(invert(rig.ego_from_camera[view]), boxes.corners()[0])
        pixels, depth = project(corners, rig.intrinsics[view])
        if (depth > 0.3).all() and (pixels >= 0).all() and (pixels[:, 0] < WIDTH).all() and (pixels[:, 1] < HEIGHT).all():
            rows, columns = np.nonzero(image[view, ..., vehicle])
            np.testing.assert_allclose([columns.min(), rows.min()], pixels.min(0), atol=1.5)
            np.testing.assert_allclose([columns.max() + 1, rows.max() + 1], pixels.max(0), atol=1.5)
            assert image[view, ..., nearness].max() == int(255 / (1 + depth.min() / 10))
            return
    raise AssertionError("the car is wholly in no camera")


def test_a_box_around_the_camera_plane_is_cut_not_dropped() -> None:
    rig, boxes = ring(), made_boxes(1)
    pose = np.eye(4)
    pose[:2, 3] = [10.0, 2.5]  # beside the car: it straddles the planes of the side cameras
    image = box_layout(boxes, rig.intrinsics, pose @ rig.ego_from_camera, HEIGHT, WIDTH)
    assert sum(image[v].any() for v in range(VIEWS)) >= 2


def test_the_map_lands_where_the_ground_is() -> None:
    rig = ring()
    bev = np.zeros((8, 200, 200), np.uint8)
    bev[0, 78:82, 90:110] = 1  # drivable from 9 to 11 m ahead, 5 m to both sides
    layer = map_layout(bev, np.eye(4), rig.intrinsics, rig.ego_from_camera, HEIGHT, WIDTH)[..., 0]
    forward = int(np.argmax(rig.ego_from_camera[:, 0, 2]))
    pixels, _ = project(apply(invert(rig.ego_from_camera[forward]), np.array([[10.0, 1.0, 0.0]])), rig.intrinsics[forward])
    column, row = np.floor(pixels[0]).astype(int)
    assert layer[forward, row, column] == 255
    assert not layer[:, : HEIGHT // 2].any(), "nothing above the horizon"


def test_collated_shapes_follow_the_convention() -> None:
    samples = [made_sample(seed, frames=3) for seed in (0, 1)]
    batch = collate_targets([r for r, _ in samples], [t for _, t in samples])
    assert batch.views.base.shape == (2, VIEWS, 3, 4, HEIGHT, WIDTH)
    assert batch.layout.shape == (2, VIEWS, 3, 8, HEIGHT, WIDTH)
    assert batch.trajectory.shape == (2, 3, 4, 4) and batch.trajectory[0, :, 0, 3].tolist() == [2.0, 4.0, 6.0]
    assert batch.interval[1].tolist() == [0.5, 1.0, 1.5]
    # The nearest car is 10 m ahead of the origin, so 8, 6 and 4 m ahead of the moving ego.
    nearest = batch.box_corners[0, :, 0, :, 0].mean(-1)
    torch.testing.assert_close(nearest, torch.tensor([8.0, 6.0, 4.0]))
    assert (batch.box_class[0, 0] >= 0).sum() == 3


def test_codec_shapes_and_scale() -> None:
    codec = RGBDCodec(**small_preset().codec)
    rgbd = torch.rand(2, VIEWS, 4, HEIGHT, WIDTH)
    latents = codec.encode_rgbd(rgbd)
    assert latents.shape == (2, VIEWS, 8, HEIGHT // 8, WIDTH // 8)
    assert codec.decode_rgbd(latents).shape == rgbd.shape
    codec.latent_mean.fill_(0.5)
    codec.latent_std.fill_(2.0)
    torch.testing.assert_close(codec.encode_rgbd(rgbd), (latents - 0.5) / 2)
    torch.testing.assert_close(codec.decode_rgbd((latents - 0.5) / 2), codec.decode_rgbd(codec.encode_rgbd(rgbd)))
