"""Points of source frames where they land in target images, and how far each reaches there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.box_motion import UNUSED, CarriedSource, motion_about
from dist4d_env.geometry.frustum import may_see, pinhole_rows, to_rows
from dist4d_env.geometry.transforms import invert


@dataclass(frozen=True)
class SplatConfig:
    """How points become surfaces.

    footprint: half width of a point's footprint in units of its pixel's projected half width; core: part of the footprint, in
    [0, 1], in which a point is preferred over any that reaches the pixel with its rim only; minimum and maximum: bounds of the
    half width in target pixels; tolerance: relative depth within which points share a surface; near: metres before the camera
    where points are cut off; carry: a box must move this many metres (or radians) to carry its points; plain: no footprint and
    no look-up, each point colours the one pixel it falls in.
    """

    footprint: float = 1.3
    core: float = 0.7
    minimum: float = 0.7
    maximum: float = 4.0
    tolerance: float = 0.03
    near: float = 0.2
    carry: float = 0.02
    plain: bool = False


BEST = SplatConfig()
"""The settings of the best splat."""
PLAIN = SplatConfig(plain=True)
"""The cheapest splat: one pixel per point."""


@dataclass(frozen=True)
class Fragments:
    """Points that land in target images: camera (n,) int32, label (n,) int32 of the owning box or STATIC, u, v, z (n,), half
    widths (n,) of the footprint and slack (n,), the depth by which points of one surface may differ inside it."""

    camera: np.ndarray
    label: np.ndarray
    u: np.ndarray
    v: np.ndarray
    z: np.ndarray
    half_u: np.ndarray
    half_v: np.ndarray
    slack: np.ndarray

    @classmethod
    def join(cls, parts: list[Fragments]) -> Fragments:
        """One after the other; there must be at least one."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def project_source(
    carried: CarriedSource, intrinsics: np.ndarray, global_from_camera: np.ndarray, size: tuple[int, int], config: SplatConfig
) -> Iterator[Fragments]:
    """A source's points in target cameras with intrinsics (V, 3, 3), poses (V, 4, 4) and images of (height, width)."""
    source, label = carried.source, carried.label
    views, pixels = len(source.frame.depth), source.frame.depth[0].size
    linear, offset = pinhole_rows(intrinsics, invert(global_from_camera), source.origin)
    visible = may_see(linear, offset, size, source.corners)
    moving = np.append(carried.carry.moved, False)[source.owner.reshape(-1)] & (label != UNUSED)
    standing = (label != UNUSED) & ~moving
    for view in range(views):
        part = slice(view * pixels, (view + 1) * pixels)
        for camera in np.flatnonzero(visible[:, view]):
            place = linear[camera], offset[camera], size
            yield from _land(
                camera, source.points[:, part], source.tangents[:, part], label[part], standing[part], *place, config
            )
    carried_index = np.flatnonzero(moving)
    if len(carried_index):
        points, tangents = _carried_points(carried, carried_index)
        everyone = np.ones(len(carried_index), bool)
        for camera in range(len(linear)):
            place = linear[camera], offset[camera], size
            yield from _land(camera, points, tangents, label[carried_index], everyone, *place, config)


def _carried_points(carried: CarriedSource, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (3, n) and tangents (6, n) of the pixels ``index``, where their boxes have taken them."""
    source = carried.source
    owner = source.owner.reshape(-1)[index]
    motion = carried.carry.motion
    rotation, shift = motion_about(motion, source.origin)
    turn, step = rotation.take(owner, 0).transpose(1, 2, 0), shift.take(owner, 0).T  # (3, 3, n), (3, n)
    points = np.stack(to_rows(turn, step, source.points.take(index, 1)))
    still = np.zeros_like(step)
    tangents = [np.stack(to_rows(turn, still, source.tangents[k : k + 3].take(index, 1))) for k in (0, 3)]
    return points, np.concatenate(tangents)


def _land(
    camera: int,
    points: np.ndarray,
    tangents: np.ndarray,
    label: np.ndarray,
    usable: np.ndarray,
    linear: np.ndarray,
    offset: np.ndarray,
    size: tuple[int, int],
    config: SplatConfig,
) -> Iterator[Fragments]:
    """Points (3, n) with tangents (6, n) in one camera, as fragments where any is in view."""
    height, width = size
    x, y, z = to_rows(linear, offset, points)
    inside = usable & (z > config.near) & (x > -z) & (y > -z) & (x < (width + 1) * z) & (y < (height + 1) * z)
    index = np.flatnonzero(inside)
    if not len(index):
        return
    z = z[index]
    u, v = x[index] / z, y[index] / z
    extent_u, extent_v, extent_z = 0.0, 0.0, 0.0
    for k in (0, 3):
        step = to_rows(linear, np.zeros(3, np.float32), tangents[k : k + 3].take(index, 1))
        extent_u = extent_u + np.abs(step[0] - u * step[2])
        extent_v = extent_v + np.abs(step[1] - v * step[2])
        extent_z = extent_z + np.abs(step[2])
    half_u, half_v = (
        np.minimum(np.maximum(0.5 * config.footprint * extent / z, config.minimum), config.maximum)
        for extent in (extent_u, extent_v)
    )
    slack = np.minimum(config.tolerance * z + config.footprint * extent_z, 0.5 * z)
    yield Fragments(np.full(len(index), camera, np.int32), label[index], u, v, z, half_u, half_v, slack)
