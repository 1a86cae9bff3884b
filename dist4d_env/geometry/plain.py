"""The plain splat: each source pixel colours the one target pixel that it falls in, and the nearest wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.box_motion import STATIC, MovedSource, motion_about
from dist4d_env.geometry.depth_kernels import LEAST_BITS, NOTHING, land_points
from dist4d_env.geometry.frustum import may_see, pinhole_rows
from dist4d_env.geometry.transforms import invert


@dataclass(frozen=True)
class Points:
    """Per target pixel (P,): depth float32, 0 in holes; label int32 of the box shown, STATIC elsewhere; rgb (P, 3) uint8; age
    float32, seconds; generated bool, the source is a generated frame."""

    depth: np.ndarray
    label: np.ndarray
    rgb: np.ndarray
    age: np.ndarray
    generated: np.ndarray


def splat_points(
    sources: Sequence[MovedSource],
    intrinsics: np.ndarray,
    global_from_camera: np.ndarray,
    size: tuple[int, int],
    time: float,
    near: float,
) -> Points:
    """Sources in cameras with intrinsics (V, 3, 3), poses (V, 4, 4) and images of (height, width); of points equally near the
    earlier one wins, sources and pixels in order. near: metres before a camera where points are cut off."""
    pixels = len(intrinsics) * size[0] * size[1]
    nearest, first = np.full(pixels, NOTHING), 0
    for one in sources:
        source = one.source
        linear, offset = pinhole_rows(intrinsics, invert(global_from_camera), source.origin)
        visible = may_see(linear, offset, size, source.corners)
        rotation, shift = motion_about(one.motion.motion, source.origin)
        owner = source.owner.reshape(-1)
        land_points(
            source.points, one.label, owner, one.motion.moved, rotation, shift, linear, offset, visible, size[0], size[1],
            np.float32(near), first, nearest,
        )  # fmt: skip
        first += len(owner)
    return _winners(sources, nearest, time)


def _winners(sources: Sequence[MovedSource], nearest: np.ndarray, time: float) -> Points:
    """Of each pixel the point whose key ``nearest`` (V H W,) holds."""
    hit = nearest != NOTHING
    number = np.where(hit, nearest & 0xFFFFFFFF, 0)
    bits = np.where(hit, (nearest >> 32) + LEAST_BITS, 0).astype(np.int32)
    out = Points(
        bits.view(np.float32),
        np.full(len(nearest), STATIC, np.int32),
        np.zeros((len(nearest), 3), np.uint8),
        np.zeros(len(nearest), np.float32),
        np.zeros(len(nearest), bool),
    )
    first = 0
    for one in sources:
        frame, pixels = one.source.frame, one.label.size
        mine = np.flatnonzero(hit & (number >= first) & (number < first + pixels)) if len(sources) > 1 else np.flatnonzero(hit)
        pixel = number[mine] - first
        delay = np.abs(time - np.asarray(frame.time, np.float64)).astype(np.float32)
        out.label[mine], out.rgb[mine] = one.label[pixel], frame.rgb.reshape(-1, 3)[pixel]
        out.age[mine], out.generated[mine] = delay[pixel // frame.depth[0].size], one.source.generated
        first += pixels
    return out
