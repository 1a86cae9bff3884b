"""Depth of a splat in numpy, as ``geometry.depth``: fragments of all sources, then the nearest surface of each pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.box_motion import STATIC, UNUSED, MovedSource, motion_about
from dist4d_env.geometry.depth import ALIKE, AROUND, GAP, SplatConfig
from dist4d_env.geometry.depth_kernels import FRINGE, LEAST_BITS, NOTHING, UNITS
from dist4d_env.geometry.frustum import may_see, pinhole_rows
from dist4d_env.geometry.transforms import invert
from tests.geometry.reference import carving, to_rows


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
    one: MovedSource, intrinsics: np.ndarray, global_from_camera: np.ndarray, size: tuple[int, int], config: SplatConfig
) -> Iterator[Fragments]:
    """A source's points in target cameras with intrinsics (V, 3, 3), poses (V, 4, 4) and images of (height, width)."""
    source, label = one.source, one.distinct
    views, pixels = len(source.frame.depth), source.frame.depth[0].size
    linear, offset = pinhole_rows(intrinsics, invert(global_from_camera), source.origin)
    visible = may_see(linear, offset, size, source.corners)
    moving = np.append(one.motion.moved, False)[source.owner.reshape(-1)] & (label != UNUSED)
    standing = (label != UNUSED) & ~moving
    for view in range(views):
        part = slice(view * pixels, (view + 1) * pixels)
        for camera in np.flatnonzero(visible[:, view]):
            place = linear[camera], offset[camera], size
            yield from _land(
                camera, source.points[:, part], source.tangents[:, part], label[part], standing[part], *place, config
            )
    index = np.flatnonzero(moving)
    if len(index):
        points, tangents = _moved_points(one, index)
        everyone = np.ones(len(index), bool)
        for camera in range(len(linear)):
            place = linear[camera], offset[camera], size
            yield from _land(camera, points, tangents, label[index], everyone, *place, config)


def _moved_points(one: MovedSource, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (3, n) and tangents (6, n) of the pixels ``index``, where their boxes have taken them."""
    source = one.source
    owner = source.owner.reshape(-1)[index]
    motion = one.motion.motion
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
    widest = np.float32(max(config.maximum * height, config.minimum))
    largest = np.where(label[index] != STATIC, np.float32(max(config.facing * height, widest)), widest)
    spread_u, spread_v = (np.maximum(0.5 * config.footprint * extent / z, config.minimum) for extent in (extent_u, extent_v))
    half_u, half_v = (
        np.minimum(one, np.maximum(widest, np.minimum(other, largest)))
        for one, other in ((spread_u, spread_v), (spread_v, spread_u))
    )
    slack = np.minimum(config.tolerance * z + config.footprint * extent_z, 0.5 * z)
    yield Fragments(np.full(len(index), camera, np.int32), label[index], u, v, z, half_u, half_v, slack)


def splat_depth(
    sources: Sequence[MovedSource],
    intrinsics: np.ndarray,
    global_from_camera: np.ndarray,
    size: tuple[int, int],
    config: SplatConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """As ``depth.splat_depth``."""
    pixels = len(intrinsics) * size[0] * size[1]
    parts = [part for one in sources for part in project_source(one, intrinsics, global_from_camera, size, config)]
    if not parts:
        return np.zeros(pixels, np.float32), np.full(pixels, STATIC, np.int32)
    fragments = Fragments.join(parts)
    depth, label = rasterise(fragments, pixels, size, config.core)
    for _ in range(config.rounds):
        closed = [close_gaps(*one) for one in zip(depth.reshape(-1, *size), label.reshape(-1, *size), strict=True)]
        depth, label = (np.stack(part).ravel() for part in zip(*closed, strict=True))
    for _ in range(config.carvings):
        shown = depth.reshape(-1, *size), label.reshape(-1, *size)
        floor = carving.floor(sources, *shown, intrinsics, global_from_camera).ravel()
        farther = rasterise(fragments, pixels, size, config.core, floor)
        depth, label = (np.where(floor > 0, new, old) for new, old in zip(farther, (depth, label), strict=True))
    return depth, label


def close_gaps(depth: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As ``depth_kernels.close_gaps``, of one image (H, W)."""
    height, width = depth.shape
    steps = [(row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)]
    inner = [np.s_[row : row + height - 2, column : column + width - 2] for row, column in steps]
    z, of = np.stack([depth[part] for part in inner]), np.stack([label[part] for part in inner])
    here, here_label = depth[1:-1, 1:-1], label[1:-1, 1:-1]
    nearer = (z > 0) & (z < here * np.float32(GAP))
    first = np.argmin(np.where(nearer, z, np.inf), 0)[None]
    nearest, owner = np.take_along_axis(np.where(nearer, z, np.float32(np.inf)), first, 0), np.take_along_axis(of, first, 0)
    same = nearer & (z < nearest * np.float32(ALIKE)) & (of == owner)
    count, inverse = same.sum(0), np.zeros(here.shape, np.float32)
    for k, one in enumerate(z):
        inverse += np.where(same[k], np.float32(1) / np.where(same[k], one, np.float32(1)), np.float32(0))
    closed = count >= AROUND
    depth, label = depth.copy(), label.copy()
    mean = count.astype(np.float32) / np.where(closed, inverse, np.float32(1))
    depth[1:-1, 1:-1], label[1:-1, 1:-1] = np.where(closed, mean, here), np.where(closed, owner[0], here_label)
    return depth, label


def rasterise(
    fragments: Fragments, pixels: int, size: tuple[int, int], core: float, floor: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Depth (pixels,) float32, 0 in holes, and the label (pixels,) int32 of the box that each pixel shows, STATIC elsewhere.

    pixels: V H W. The nearest fragment of a pixel wins, one whose core covers the pixel's centre before any that only reaches it
    with its rim; the inverse depths of its surface's fragments are averaged with tent weights. floor: (pixels,) metres beyond
    which fragments count.
    """
    floor = np.broadcast_to(np.asarray(floor, np.float32), pixels)
    z, label = fragments.z, fragments.label
    # Positive floats order like their bits; the fragment's number below them makes every key unique, whatever the order.
    key = (z.view(np.int32).astype(np.int64) - LEAST_BITS) << 32 | np.arange(len(z))
    nearest = np.full(pixels, NOTHING)
    covers = []
    for index, pixel, weight, fringe in _cover(fragments, core, size):
        np.minimum.at(nearest, pixel.ravel(), np.where(z[index] > floor[pixel], fringe + key[index], NOTHING).ravel())
        covers.append((index, pixel, weight))
    hit = nearest != NOTHING
    if not hit.any():
        return np.zeros(pixels, np.float32), np.full(pixels, STATIC, np.int32)

    winner = np.where(hit, nearest & 0xFFFFFFFF, 0)
    behind = z + fragments.slack
    behind, before, front = behind[winner], (z - (behind - z))[winner], label[winner]
    inverse_z = 1 / z
    landed, weights, inverses = [], [], []
    for index, pixel, weight in covers:
        within = (z[index] <= behind.take(pixel)) & (z[index] >= before.take(pixel)) & (z[index] > floor[pixel])
        same = np.flatnonzero(within & (label[index] == front.take(pixel)))
        landed.append(pixel.take(same))
        weights.append(_whole(weight.take(same)))
        inverses.append(_whole((weight * inverse_z[index]).take(same)))
    where = np.concatenate(landed)
    total = np.bincount(where, np.concatenate(weights), pixels)
    inverse = np.bincount(where, np.concatenate(inverses), pixels)
    depth = np.divide(total, inverse, out=np.zeros(pixels), where=hit).astype(np.float32)
    return depth, np.where(hit, front, np.int32(STATIC))


def _whole(weights: np.ndarray) -> np.ndarray:
    """Float64 whole numbers of UNITS, whose sums are exact."""
    return np.floor(weights.astype(np.float64) * UNITS)


def _cover(
    fragments: Fragments, core: float, size: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """The pixels that footprints cover, fragments of equally many rows and columns together.

    Yields fragment (n,), pixel in the flattened (V, H, W) (rows, columns, n), tent weight (rows, columns, n) float32 and fringe
    (rows, columns, n), FRINGE where the pixel's centre lies outside of the footprint's core, else 0.
    """
    height, width = size
    u, v, half_u, half_v = fragments.u, fragments.v, fragments.half_u, fragments.half_v
    left, columns = _span(u, half_u, width)
    top, rows = _span(v, half_v, height)
    first = ((fragments.camera * height + top) * width + left).astype(np.int64)
    start_u, start_v = left.astype(np.float32) + np.float32(0.5) - u, top.astype(np.float32) + np.float32(0.5) - v
    sharp_u, sharp_v = 1 / half_u, 1 / half_v
    widest = int(columns.max(initial=0)) + 1
    shape = np.where((columns > 0) & (rows > 0), rows * widest + columns, 0).astype(np.uint16)
    order = np.argsort(shape, kind="stable")
    ends = np.cumsum(np.bincount(shape))
    for code in np.flatnonzero(np.diff(ends, prepend=0)):
        if not code:
            continue  # out of the image
        index = order[ends[code - 1] : ends[code]]
        down, across = np.divmod(code, widest)
        pixel = first[index] + (width * np.arange(down)[:, None, None] + np.arange(across)[:, None])
        sharp_column, sharp_row = sharp_u[index], sharp_v[index]
        off_u = np.abs(start_u[index] + np.arange(across, dtype=np.float32)[:, None]) * sharp_column
        off_v = np.abs(start_v[index] + np.arange(down, dtype=np.float32)[:, None]) * sharp_row
        density = sharp_column * sharp_row  # finer fragments count for more
        tent_v = density * (np.float32(1.02) - off_v)
        weight = tent_v[:, None] * (np.float32(1.02) - off_u)
        fringe = ((off_u > core) | (off_v > core)[:, None]) * FRINGE
        yield index, pixel, weight, fringe


def _span(centre: np.ndarray, half: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel and number of pixels (n,) int32 whose centres lie within ``half`` of ``centre``, inside [0, limit)."""
    first = np.maximum(np.ceil(centre - half - np.float32(0.5)), 0).astype(np.int32)
    last = np.minimum(np.floor(centre + half - np.float32(0.5)), limit - 1).astype(np.int32)
    return first, np.maximum(last - first + 1, 0)
