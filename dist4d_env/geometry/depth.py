"""Depth of a splat: the nearest surface of each pixel, and what lies on it averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.geometry import depth_kernels as kernels
from dist4d_env.geometry.box_motion import UNUSED, MovedSource, motion_about
from dist4d_env.geometry.carving import Carver
from dist4d_env.geometry.frustum import may_see, pinhole_rows
from dist4d_env.geometry.threads import in_threads
from dist4d_env.geometry.transforms import invert


@dataclass(frozen=True)
class SplatConfig:
    """How points become surfaces.

    footprint: half width of a point's footprint in units of its pixel's projected half width; core: part of the footprint, in
    [0, 1], in which a point is preferred over any that reaches the pixel with its rim only: by default what the source's own
    pixel covers, and at least a target pixel; minimum and maximum: bounds of the half width, in target pixels and as a share of
    the target's height: what was seen at a glancing angle spreads out with it; facing: a wider bound for points of agents that
    spread as far along the other axis, too, as the side of a car does that fills the picture; tolerance: relative depth within
    which points share a surface; near: metres before the camera where points are cut off; motion_threshold: metres (or radians)
    within which a box, and its points, count as at rest; rounds: how often gaps of single pixels are closed through which one
    would see what is behind a surface; overlap: whether what an earlier source shows is left out of later ones
    (``geometry.overlap``); carvings: how often outlines are carved (``geometry.carving``).
    """

    footprint: float = 1.3
    core: float = 1 / 1.3
    minimum: float = 0.65
    maximum: float = 0.0625
    tolerance: float = 0.03
    near: float = 0.2
    motion_threshold: float = 0.02
    rounds: int = 2
    overlap: bool = True
    carvings: int = 2
    facing: float = 0.25


BEST = SplatConfig()
"""The settings of the best splat."""
RUN = 256
"""Points that kernels work on together: enough for vector instructions, few enough for the fastest memory."""
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
    its points spread out and the noise of their depth leaves gaps between them, which are closed. Where the sources look through
    an outline, the next surface behind it wins.
    """
    targets, height, width = len(intrinsics), *size
    parts = [_Part.of(one, intrinsics, global_from_camera, size) for one in sources]
    carver = Carver.of(sources, intrinsics, global_from_camera, size)
    widest = max(config.maximum * height, config.minimum)
    largest = max(config.facing * height, widest)
    half, rest = 0.5 * config.footprint, (config.minimum, widest, config.tolerance, config.footprint, config.core, largest)
    settings: tuple[Any, ...] = tuple(np.float32(number) for number in (config.near, half, *rest))
    depth, label = np.empty((targets, height, width), np.float32), np.empty((targets, height, width), np.int32)
    room = max((sum(part.room(camera) for part in parts) for camera in range(targets)), default=0)
    spare: list[_Scratch] = []  # of cameras that are done: memory that the system has given once is given faster again

    def one_camera(camera: int) -> None:
        try:
            scratch = spare.pop()
        except IndexError:
            scratch = _Scratch.of(height * width + width + 2, room)
        scratch.fragments[0].fill(kernels.NOTHING)
        count = 0
        for part in parts:
            count = part.project(camera, size, settings, scratch.fragments, count)
        images, flat = (depth[camera], label[camera]), (depth[camera].reshape(-1), label[camera].reshape(-1))
        kernels.average(scratch.fragments, scratch.front, scratch.sums, width, count, *flat)
        for _ in range(config.rounds):
            kernels.close_gaps(*(image[None] for image in images), np.float32(GAP), np.float32(ALIKE), AROUND)
        floor = np.ones((height, width), np.float32)
        for _ in range(config.carvings):
            floor = carver.floor(camera, *images, changed=floor > 0)
            kernels.uncover(scratch.fragments, scratch.front, scratch.sums, floor.reshape(-1), width, settings[6], count, *flat)
        spare.append(scratch)

    in_threads(one_camera, targets)
    return depth.reshape(-1), label.reshape(-1)


@dataclass(frozen=True)
class _Scratch:
    """What the kernels work in for one camera: ``depth_kernels.Fragments``, and front and sums of ``depth_kernels.average``."""

    fragments: kernels.Fragments
    front: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(cls, pixels: int, room: int) -> _Scratch:
        fragments = np.empty(pixels, np.int64), np.empty((6, room), np.float32), np.empty((4, room), np.int32)
        return cls(fragments, np.empty((pixels, 3), np.int32), np.empty((pixels, 2), np.int64))


@dataclass(frozen=True)
class _Part:
    """A source for all targets. matrices: of each target, the rows of its pinhole; visible: (targets, views); standing: (M,) bool
    and index: (n,), pixels that stay where they are and those that boxes have taken along, to points (3, n) with tangents (6, n).
    """

    one: MovedSource
    matrices: list[tuple[np.float32, ...]]
    visible: np.ndarray
    standing: np.ndarray
    index: np.ndarray
    points: np.ndarray
    tangents: np.ndarray

    @classmethod
    def of(cls, one: MovedSource, intrinsics: np.ndarray, global_from_camera: np.ndarray, size: tuple[int, int]) -> _Part:
        source, owner = one.source, one.source.owner.reshape(-1)
        linear, offset = pinhole_rows(intrinsics, invert(global_from_camera), source.origin)
        matrices = np.concatenate([linear, offset[..., None]], -1).reshape(-1, 12)
        standing, index = one.distinct != UNUSED, np.zeros(0, np.int64)
        if one.motion.moved.any():
            moving = standing & np.append(one.motion.moved, False)[owner]
            standing, index = standing & ~moving, np.flatnonzero(moving)
        points, tangents = np.empty((3, len(index)), np.float32), np.empty((6, len(index)), np.float32)
        rotation, shift = motion_about(one.motion.motion, source.origin)
        kernels.carry(source.points, source.tangents, owner, index, rotation, shift, points, tangents)
        visible = may_see(linear, offset, size, source.corners)
        return cls(one, [tuple(row) for row in matrices], visible, standing, index, points, tangents)

    def room(self, camera: int) -> int:
        """The most fragments that a target can get."""
        return int(self.visible[camera].sum()) * self.one.source.frame.depth[0].size + len(self.index)

    def project(
        self, camera: int, size: tuple[int, int], settings: kernels.Settings, fragments: kernels.Fragments, count: int
    ) -> int:
        """``depth_kernels.project`` of all points."""
        source, label = self.one.source, self.one.distinct
        where, run = (self.matrices[camera], *size, settings, fragments), RUN
        count = kernels.project(source.points, source.tangents, label, self.standing, self.visible[camera], run, *where, count)
        if len(self.index):
            everyone = np.ones(len(self.index), bool)
            count = kernels.project(self.points, self.tangents, label[self.index], everyone, np.ones(1, bool), run, *where, count)
        return count
