"""Depth of a splat: the nearest surface of each pixel, and what lies on it averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import depth_kernels as kernels
from dist4d_env.geometry.box_motion import MovedSource, motion_about
from dist4d_env.geometry.frustum import may_see, pinhole_rows
from dist4d_env.geometry.transforms import invert


@dataclass(frozen=True)
class SplatConfig:
    """How points become surfaces.

    footprint: half width of a point's footprint in units of its pixel's projected half width; core: part of the footprint, in
    [0, 1], in which a point is preferred over any that reaches the pixel with its rim only; minimum and maximum: bounds of the
    half width in target pixels; tolerance: relative depth within which points share a surface; near: metres before the camera
    where points are cut off; motion_threshold: metres (or radians) within which a box, and its points, count as at rest; rounds:
    how often gaps of single pixels are closed through which one would see what is behind a surface; overlap: whether what an
    earlier source shows is left out of later ones (``geometry.overlap``).
    """

    footprint: float = 1.3
    core: float = 0.7
    minimum: float = 0.7
    maximum: float = 4.0
    tolerance: float = 0.03
    near: float = 0.2
    motion_threshold: float = 0.02
    rounds: int = 2
    overlap: bool = True


BEST = SplatConfig()
"""The settings of the best splat."""
GAP, ALIKE, AROUND = 1 / 1.1, 1.25, 6
"""A gap's neighbours are less than GAP times as far away as what shows through it, within ALIKE times the nearest one's depth,
and at least AROUND of eight: along a straight outline there are three, on both sides of a slit one pixel wide six."""


def splat_depth(
    sources: Sequence[MovedSource],
    intrinsics: np.ndarray,
    global_from_camera: np.ndarray,
    size: tuple[int, int],
    config: SplatConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Depth (V H W,) float32, 0 in holes, and the label (V H W,) int32 of the box that each pixel shows, STATIC elsewhere, in
    cameras with intrinsics (V, 3, 3), poses (V, 4, 4) and images of (height, width).

    The nearest fragment of a pixel wins, one whose core covers the pixel's centre before any that only reaches it with its rim;
    the inverse depths of its surface's fragments are averaged with tent weights. Where a surface comes much closer than it was,
    its points spread out and the noise of their depth leaves gaps between them, which are closed.
    """
    targets, pixels = len(intrinsics), len(intrinsics) * size[0] * size[1]
    pinholes, room = [], 0
    for one in sources:
        source, moved = one.source, one.motion.moved
        linear, offset = pinhole_rows(intrinsics, invert(global_from_camera), source.origin)
        visible = may_see(linear, offset, size, source.corners)
        pinholes.append((linear, offset, visible))
        room += int(visible.sum()) * source.frame.depth[0].size
        if moved.any():
            room += targets * int(np.append(moved, False)[source.owner].sum())
    fragments = np.full(pixels, kernels.NOTHING), np.empty((room, 6), np.float32), np.empty((room, 4), np.int32)
    half, rest = 0.5 * config.footprint, (config.minimum, config.maximum, config.tolerance, config.footprint, config.core)
    settings = tuple(np.float32(number) for number in (config.near, half, *rest))
    count = 0
    for one, pinhole in zip(sources, pinholes, strict=True):
        source = one.source
        rotation, shift = motion_about(one.motion.motion, source.origin)
        count = kernels.project(
            source.points, source.tangents, one.distinct, source.owner.reshape(-1), one.motion.moved, rotation, shift,
            *pinhole, *size, settings, fragments, count,
        )  # fmt: skip
    depth, label = kernels.average(fragments, size[1], count)
    images = depth.reshape(targets, *size), label.reshape(targets, *size)
    for _ in range(config.rounds):
        kernels.close_gaps(*images, np.float32(GAP), np.float32(ALIKE), AROUND)
    return depth, label
