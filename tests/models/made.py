"""Made inputs: random images of cameras that look in given directions, by default six in a ring."""

from __future__ import annotations

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat import Splat
from dist4d_env.models.conditions import TargetConditions, target_conditions
from dist4d_env.models.presets import Preset

HEIGHT, WIDTH, VIEWS = 32, 48, 6


def small_preset() -> Preset:
    """Every model, small enough for tests."""
    return Preset(
        HEIGHT,
        WIDTH,
        chunk=2,
        steps=1,
        codec={"latent_channels": 4, "width": 16, "deep_width": 16, "blocks": 1},
        dist_t={"latent_channels": 8, "width": 32, "heads": 2, "depth": 2, "control_depth": 1, "mlp_ratio": 2.0, "patch": 2},
        composer={"widths": (16, 16), "blocks": 1},
        dist_s={"widths": (16, 16), "blocks": 1},
    )


YAWS = tuple(60.0 - 60.0 * k for k in range(VIEWS))
"""Viewing directions in degrees, counter-clockwise from ahead."""


def ring(yaws: tuple[float, ...] = YAWS) -> CameraRig:
    """Cameras 1.5 m above the ground."""
    poses = []
    for yaw in np.deg2rad(yaws):
        ego_from_forward = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        forward_from_camera = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
        pose = np.eye(4)
        pose[:3, :3] = ego_from_forward @ forward_from_camera
        pose[2, 3] = 1.5
        poses.append(pose)
    intrinsics = np.tile(np.array([[36.0, 0, WIDTH / 2], [0, 36.0, HEIGHT / 2], [0, 0, 1]]), (len(yaws), 1, 1))
    return CameraRig(tuple(f"CAM_{k}" for k in range(len(yaws))), intrinsics, np.stack(poses), HEIGHT, WIDTH)


def made_boxes(count: int = 3) -> Boxes:
    """Cars in a row ahead of the origin, 10, 20, 30 ... m away."""
    ahead = 10.0 * np.arange(1, count + 1)
    return Boxes(
        np.arange(count),
        np.zeros(count, np.int8),
        np.stack([ahead, np.zeros(count), np.full(count, 0.8)], 1),
        np.tile([4.0, 2.0, 1.6], (count, 1)),
        np.zeros(count),
        np.zeros((count, 2)),
    )


def made_splat(generator: np.random.Generator, views: int = VIEWS) -> Splat:
    """A splat of noise with a fifth of it missing."""
    shape = (views, HEIGHT, WIDTH)
    valid = generator.random(shape) > 0.2
    rgb = generator.integers(0, 256, (*shape, 3), dtype=np.uint8) * valid[..., None]
    depth = np.where(valid, generator.uniform(1, 90, shape), 0).astype(np.float32)
    confidence = (generator.random(shape) * valid).astype(np.float32)
    return Splat(rgb, depth, valid, valid & (generator.random(shape) > 0.8), confidence, confidence, ~valid)


def made_sample(seed: int, frames: int = 2, yaws: tuple[float, ...] = YAWS) -> tuple[RGBDFrame, list[TargetConditions]]:
    """A reference frame and the conditions of ``frames`` later ones, the ego driving 2 m a frame."""
    generator = np.random.default_rng(seed)
    rig = ring(yaws)
    shape = (len(yaws), HEIGHT, WIDTH)
    reference = RGBDFrame(
        generator.integers(0, 256, (*shape, 3), dtype=np.uint8),
        generator.uniform(1, 90, shape).astype(np.float32),
        rig.intrinsics,
        rig.ego_from_camera,
        np.zeros(len(yaws)),
    )
    targets = []
    for k in range(1, frames + 1):
        pose = np.eye(4)
        pose[0, 3] = 2.0 * k
        targets.append(
            target_conditions(
                made_splat(generator, len(yaws)),
                intrinsics=rig.intrinsics,
                global_from_camera=pose @ rig.ego_from_camera,
                global_from_ego=pose,
                reference_global_from_ego=np.eye(4),
                interval=0.5 * k,
                boxes=made_boxes(),
                scene_map=None,
            )
        )
    return reference, targets
