"""Errors of the kind that recorded frames have, so that models do not learn to trust perfect geometry: depth as curated from
LiDAR, poses, exposure times, and boxes that are off or missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.cameras import unproject
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import invert
from dist4d_env.scenes.scene import Scene

NEAR = 0.3
"""Metres; no depth is nearer."""
UPRIGHT = 0.3
"""Metres over the road from which a pixel counts as upright: there curated depth is interpolated, the ground's is good."""


@dataclass(frozen=True)
class SourceErrors:
    """How wrong the frames are that a splat is made of; standard deviations, all scaled by one ``strength``.

    metres, radians: of each camera's pose; seconds: of each camera's exposure time, at most 0.1; box_metres, box_radians: of
    each box; missing: share of samples in which ``MISSED`` of the boxes are not annotated. Depth: see ``with_depth_errors``.
    """

    strength: float
    metres: float = 0.04
    radians: float = 0.003
    seconds: float = 0.03
    box_metres: float = 0.1
    box_radians: float = 0.03
    missing: float = 0.3

    @classmethod
    def draw(cls, generator: np.random.Generator) -> SourceErrors:
        """Of any strength up to half as much again as measured."""
        return cls(1.5 * float(generator.random()))


MISSED = 0.4
"""Share of boxes that are missing where some are."""


def flawed_sources(
    scene: Scene,
    frames: Sequence[RGBDFrame],
    annotated: np.ndarray,
    errors: SourceErrors,
    generator: np.random.Generator,
) -> list[SplatSource]:
    """Frames with errors, prepared for splatting; ``annotated``: the tokens of boxes that are known."""
    return [_flawed(scene, frame, annotated, errors, generator) for frame in frames]


def _flawed(
    scene: Scene, frame: RGBDFrame, annotated: np.ndarray, errors: SourceErrors, generator: np.random.Generator
) -> SplatSource:
    frame = with_depth_errors(frame, errors.strength, generator)
    poses, boxes = [], []
    for time, pose in zip(frame.time, frame.global_from_camera, strict=True):
        offset = np.clip(errors.strength * errors.seconds * generator.standard_normal(), -0.1, 0.1)
        true, believed = (float(np.clip(t, 0.0, scene.duration)) for t in (time, time + offset))
        moved = scene.ego_pose(believed) @ invert(scene.ego_pose(true)) @ pose
        poses.append(with_pose_noise(moved, errors.strength * errors.metres, errors.strength * errors.radians, generator))
        boxes.append(with_box_noise(scene.boxes(believed), annotated, errors, generator))
    return SplatSource.from_frame(replace(frame, global_from_camera=np.stack(poses)), boxes)


def annotated_tokens(scene: Scene, errors: SourceErrors, generator: np.random.Generator) -> np.ndarray:
    """The tokens of those objects of a scene that are known in a sample: all of them, or without the missed ones."""
    tokens = np.arange(len(scene.tracks))
    missed = generator.random() < errors.missing
    return tokens[generator.random(len(tokens)) >= (MISSED if missed else 0.0)]


def with_box_noise(boxes: Boxes, annotated: np.ndarray, errors: SourceErrors, generator: np.random.Generator) -> Boxes:
    """The annotated boxes, off in position and heading."""
    known = boxes.select(np.isin(boxes.token, annotated))
    position = errors.strength * errors.box_metres * generator.standard_normal((len(known), 2))
    yaw = errors.strength * errors.box_radians * generator.standard_normal(len(known))
    return replace(known, position=known.position + np.pad(position, ((0, 0), (0, 1))), yaw=known.yaw + yaw)


def with_pose_noise(pose: np.ndarray, metres: float, radians: float, generator: np.random.Generator) -> np.ndarray:
    """A pose (4, 4) off by these standard deviations along and about each of its own axes."""
    error = np.eye(4)
    error[:3, :3] = cv2.Rodrigues(radians * generator.standard_normal(3))[0]
    error[:3, 3] = metres * generator.standard_normal(3)
    return pose @ error


def with_depth_errors(frame: RGBDFrame, strength: float, generator: np.random.Generator) -> RGBDFrame:
    """The frame with errors as depth from LiDAR has them, as many of each as measured on ``prepare``'s own output at strength 1.

    In patches, on what stands upright: outlines grow, by up to 3 pixels of an image 112 wide, also over the sky, or shrink by
    one; surfaces between two depths; surfaces that no return anchors, off by a smooth factor; false sky. Everywhere smooth bias.
    """
    shape = frame.depth.shape
    unit = shape[2] / 112
    upright = (height_over_road(frame) > UPRIGHT) & (frame.depth < FAR)
    depth = frame.depth.astype(np.float32)

    def patches(length: float, share: float) -> np.ndarray:
        return _patches(shape, length * unit, share * strength, generator)

    for radius, share in ((1, 0.22), (3, 0.16)):
        grown = _ranked(np.where(upright, depth, FAR), radius * unit, cv2.erode)
        depth = np.where(patches(8, share), np.minimum(depth, grown), depth)
    depth = np.where(patches(8, 0.04) & upright, _ranked(depth, unit, cv2.dilate), depth)
    between = np.exp(np.stack([cv2.GaussianBlur(one, (0, 0), 1.2 * unit) for one in np.log(np.maximum(depth, NEAR))]))
    depth = np.where(patches(8, 0.05) & upright, between, depth)
    off = np.exp(0.3 * _smooth(shape, 10 * unit, generator))
    depth = np.where(patches(12, 0.07) & upright & (depth < FAR), depth * off, depth)
    depth = np.where(patches(5, 0.004) & upright & (frame.depth > 10), FAR, depth)
    bias = np.exp(np.where(upright, 0.02, 0.005) * strength * _smooth(shape, 16, generator))
    return replace(frame, depth=np.where(depth < FAR, np.clip(depth * bias, NEAR, FAR - 0.1), FAR).astype(np.float32))


def height_over_road(frame: RGBDFrame) -> np.ndarray:
    """Metres (V, H, W) of each pixel's point over the lowest of the points below its camera that are near: about the road."""
    heights = []
    for depth, intrinsics, pose in zip(frame.depth, frame.intrinsics, frame.global_from_camera, strict=True):
        z = unproject(depth, intrinsics) @ pose[2, :3]
        near = z[depth < 20]
        heights.append(z - (np.percentile(near, 5) if len(near) else z.min()))
    return np.stack(heights)


def _ranked(depth: np.ndarray, radius: float, rank: Callable[..., np.ndarray]) -> np.ndarray:
    """The least (``cv2.erode``) or greatest (``cv2.dilate``) depth within a radius in pixels."""
    side = 2 * max(1, round(radius)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.stack([rank(one, kernel) for one in depth])


def _smooth(shape: tuple[int, ...], length: float, generator: np.random.Generator) -> np.ndarray:
    """Standard normal noise (V, H, W) float32 that is smooth over ``length`` pixels."""
    views, height, width = shape
    coarse = generator.standard_normal((views, int(height / length) + 2, int(width / length) + 2)).astype(np.float32)
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse])


def _patches(shape: tuple[int, ...], length: float, share: float, generator: np.random.Generator) -> np.ndarray:
    """Patches (V, H, W) bool about ``length`` pixels wide that cover about this share."""
    field = _smooth(shape, length, generator)
    return field > np.quantile(field, 1 - min(share, 1.0))
