"""Colours of a splat in numpy, as ``geometry.colour``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dist4d_env.geometry.box_motion import STATIC, MovedSource, motion_about
from dist4d_env.geometry.colour import AGE, GENERATED, Lookup
from dist4d_env.geometry.colour_kernels import (
    COARSER,
    DEPTH_TOLERANCE,
    DISAGREEMENT,
    EDGE,
    EDGE_TOLERANCE,
    FINER,
    NEAR,
    OCTAVE,
    UNCONFIRMED,
)
from dist4d_env.geometry.frustum import frustum_corners, may_see, pinhole_rows, ray_parts
from dist4d_env.geometry.source_kernels import SKY_DEPTH
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import invert
from tests.geometry.reference import to_rows


@dataclass(frozen=True)
class Targets:
    """Points to find a colour for, in raster order. points: (3, n) float32 from ``origin`` in global axes; label: (n,) of their
    boxes; boxed: (k,) those in a box, boxed_label: (k,); detail: (n,) target pixels per metre; first: (V + 1,) where each target
    camera's begin; corners: (V, 8, 3) hulls of each camera's points."""

    points: np.ndarray
    origin: np.ndarray
    label: np.ndarray
    boxed: np.ndarray
    boxed_label: np.ndarray
    detail: np.ndarray
    first: np.ndarray
    corners: np.ndarray


def look_up_colours(
    sources: Sequence[MovedSource],
    depth: np.ndarray,
    label: np.ndarray,
    intrinsics: np.ndarray,
    global_from_camera: np.ndarray,
    time: float,
) -> Lookup:
    """As ``colour.look_up_colours``."""
    cameras = intrinsics, global_from_camera, time
    best, rgb, age, chosen = _look_up([replace(one, label=one.distinct) for one in sources], depth, label, cameras)
    confidence = np.where(best < UNCONFIRMED, np.exp2(-np.minimum(best, np.float32(UNCONFIRMED))), 0)
    generated = np.append([one.source.generated for one in sources], False)[chosen]
    later = np.append([one.source.frame.time.mean() > time for one in sources], False)
    second, its_age = rgb.copy(), age.copy()
    for side in (False, True):
        others = [one for one, its in zip(sources, later, strict=False) if its == side and not one.source.generated]
        if not others:
            continue
        cost, colour, delay, _ = _look_up(others, depth, label, cameras)
        better = (chosen >= 0) & (later[chosen] != side) & (cost < UNCONFIRMED)
        second[better], its_age[better] = colour[better], delay[better]
    share = (age / np.maximum(age + its_age, np.float32(1e-6)))[:, None]
    return Lookup(chosen >= 0, np.rint(rgb + share * (second - rgb)).astype(np.uint8), confidence, age, generated)


def _look_up(
    sources: Sequence[MovedSource], depth: np.ndarray, label: np.ndarray, cameras: tuple[np.ndarray, np.ndarray, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cost (P,), colour (P, 3), age (P,) and source (P,), -1 where there is none, of each target pixel's best sample.
    cameras: intrinsics, poses and time of the targets."""
    intrinsics, global_from_camera, time = cameras
    pixels = np.flatnonzero(depth > 0)
    targets = _targets(depth, pixels, label[pixels], intrinsics, global_from_camera)
    best = np.full(len(pixels), np.inf, np.float32)
    best_u, best_v, age = np.zeros((3, len(pixels)), np.float32)
    chosen, chosen_view = np.full((2, len(pixels)), -1, np.int16)
    for number, source_now in enumerate(sources):
        source = source_now.source
        for view, landed in enumerate(_land(source_now, targets)):
            index, u, v, z, disagreement, edge = _candidates(source_now, view, targets, *landed)
            finer = octaves(source.frame.intrinsics[view, 0, 0].astype(np.float32) / z / targets.detail[index])
            delay = abs(time - float(source.frame.time[view]))
            cost = np.where(finer < 0, -COARSER * finer, FINER * finer) + np.float32(EDGE) * edge
            cost += np.float32(AGE * delay + GENERATED * source.generated)
            cost += np.where(disagreement > DEPTH_TOLERANCE, 100 * disagreement + UNCONFIRMED, DISAGREEMENT * disagreement)
            better = np.flatnonzero(cost < best[index])
            index = index[better]
            best[index], best_u[index], best_v[index] = cost[better], u[better], v[better]
            chosen[index], chosen_view[index], age[index] = number, view, delay
    rgb = np.zeros((len(pixels), 3), np.float32)
    for number, source_now in enumerate(sources):
        index = np.flatnonzero(chosen == number)
        rgb[index] = _bilinear(source_now.source, chosen_view[index].astype(np.int64), best_u[index], best_v[index])

    def everywhere(values: np.ndarray, otherwise: float) -> np.ndarray:
        out = np.full((depth.size, *values.shape[1:]), otherwise, values.dtype)
        out[pixels] = values
        return out

    return everywhere(best, np.inf), everywhere(rgb, 0), everywhere(age, 0), everywhere(chosen, -1)


def octaves(ratio: np.ndarray) -> np.ndarray:
    """log2 of positive float32 to 0.0002: libraries' own logarithms differ in their last bits."""
    bits = ratio.view(np.int32)
    whole = ((bits >> 23) - 127).astype(np.float32)
    t = ((bits & 0x7FFFFF) | 0x3F800000).view(np.float32) - np.float32(1)
    a, b, c = OCTAVE
    return whole + t + t * (np.float32(1) - t) * (a + t * (b + t * c))


def _targets(
    depth: np.ndarray, pixels: np.ndarray, label: np.ndarray, intrinsics: np.ndarray, global_from_camera: np.ndarray
) -> Targets:
    """The pixels (n,) of target depth (V, H, W) as points."""
    views, height, width = depth.shape
    origin = global_from_camera[:, :3, 3].mean(0)
    along_row, along_column, _ = ray_parts(intrinsics, global_from_camera, (height, width))
    rays = (along_column[..., None] + along_row[:, :, None]).astype(np.float32)  # (V, 3, H, W)
    points = rays * depth[:, None] + (global_from_camera[:, :3, 3] - origin).astype(np.float32)[..., None, None]
    first = np.searchsorted(pixels, np.arange(views + 1) * (height * width))
    focal = np.repeat(intrinsics[:, 0, 0].astype(np.float32), np.diff(first))
    known = depth.reshape(views, -1)
    near = np.where(known > 0, known, np.inf).min(1, initial=SKY_DEPTH)
    corners = frustum_corners(intrinsics, global_from_camera, (height, width), near, known.max(1), origin)
    points = points.transpose(1, 0, 2, 3).reshape(3, -1).take(pixels, 1)
    boxed = np.flatnonzero(label != STATIC)
    return Targets(points, origin, label, boxed, label[boxed], focal / depth.take(pixels), first, corners)


Landed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _land(source_now: MovedSource, targets: Targets) -> list[Landed]:
    """For each camera of a source the target points in its image: index (n,), u, v, z (n,)."""
    frame, motion = source_now.source.frame, source_now.motion
    views, height, width = frame.depth.shape
    camera_from_global = invert(frame.global_from_camera)
    linear, offset = pinhole_rows(frame.intrinsics, camera_from_global, targets.origin)
    visible = may_see(linear, offset, (height, width), targets.corners)
    turn, step = motion_about(motion.back, targets.origin)
    highest = max(int(targets.label.max(initial=0)), int(source_now.box_label.max(initial=0)))
    landed = []
    for view in range(views):
        moved = np.flatnonzero((source_now.source.box_view == view) & motion.moved)
        entry_of = np.full(highest + 1, -1)
        entry_of[source_now.box_label[moved]] = moved
        entry = entry_of[targets.boxed_label]
        with_box = np.flatnonzero(entry >= 0)
        index, entry = targets.boxed[with_box], entry[with_box]
        stands = np.ones(len(targets.label), bool)
        stands[index] = False
        parts = []
        for camera in np.flatnonzero(visible[view]):
            part = slice(targets.first[camera], targets.first[camera + 1])
            x, y, z = to_rows(linear[view], offset[view], targets.points[:, part])
            parts.append((np.arange(part.start, part.stop), x, y, z, stands[part]))
        if len(index):
            there = to_rows(turn.take(entry, 0).transpose(1, 2, 0), step.take(entry, 0).T, targets.points.take(index, 1))
            x, y, z = to_rows(linear[view], offset[view], np.stack(there))
            parts.append((index, x, y, z, np.ones(len(index), bool)))
        landed.append(_inside(parts, height, width))
    return landed


def _inside(parts: Sequence[tuple[np.ndarray, ...]], height: int, width: int) -> Landed:
    """Of points (index, x, y, z, usable) those that lie within an image, joined: index, u, v, z."""
    kept = []
    for index, x, y, z, usable in parts:
        here = np.flatnonzero(usable & (z > NEAR) & (x > 0) & (y > 0) & (x < width * z) & (y < height * z))
        kept.append((index[here], x[here] / z[here], y[here] / z[here], z[here]))
    if not kept:
        return np.zeros(0, np.int64), *np.zeros((3, 0), np.float32)
    index, u, v, z = (np.concatenate(column) for column in zip(*kept, strict=True))
    return index, u, v, z


def _candidates(
    source_now: MovedSource, view: int, targets: Targets, index: np.ndarray, u: np.ndarray, v: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Of the points that land in a source camera's image those whose object it shows there: index, u, v, z, relative depth
    disagreement, edge."""
    source = source_now.source
    _, height, width = source.frame.depth.shape
    column, row = np.minimum(u.astype(np.int32), width - 1), np.minimum(v.astype(np.int32), height - 1)
    pixel = (view * height + row) * width + column
    seen = np.flatnonzero(source_now.label[pixel] == targets.label[index])
    index, u, v, z, column, row, pixel = (a[seen] for a in (index, u, v, z, column, row, pixel))
    inverse, per_column, per_row = source.inverse_depth.take(pixel, 0).T
    right, down = u - column.astype(np.float32) - np.float32(0.5), v - row.astype(np.float32) - np.float32(0.5)
    predicted = inverse + per_column * right + per_row * down
    return index, u, v, z, np.abs(predicted * z - 1), source.edge.reshape(-1)[pixel]


def _bilinear(source: SplatSource, view: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Samples (n, 3) float32 of a source's images at camera (n,) and pixel coordinates u, v (n,) (pixel centres at + 0.5),
    clamped at the border.

    At a depth edge only the neighbours on the nearest pixel's surface take part.
    """
    _, height, width, _ = source.frame.rgb.shape
    image = view * (height * width)
    row, column = np.minimum(v.astype(np.int64), height - 1), np.minimum(u.astype(np.int64), width - 1)
    u, v = np.clip(u - 0.5, 0, width - 1), np.clip(v - 0.5, 0, height - 1)
    left, top = np.minimum(u.astype(np.int64), width - 2), np.minimum(v.astype(np.int64), height - 2)
    a: np.ndarray = u - left.astype(np.float32)
    b: np.ndarray = v - top.astype(np.float32)
    first = image + top * width + left
    corners = np.stack([first, first + 1, first + width, first + width + 1])
    weight = np.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b])
    nearest = image + row * width + column
    edge = np.flatnonzero(source.edge.take(nearest))
    if len(edge):
        here, per_column, per_row = source.inverse_depth.take(nearest[edge], 0).T
        corner = corners.take(edge, 1)
        right, down = np.array([[0], [1], [0], [1]]), np.array([[0], [0], [1], [1]])
        right, down = ((at[:, edge]).astype(np.float32) for at in (left + right - column, top + down - row))
        predicted = here + per_column * right + per_row * down
        apart = np.abs(source.inverse_depth[:, 0].take(corner) - predicted) > EDGE_TOLERANCE * here
        kept = np.where(apart, np.float32(0), weight.take(edge, 1)) + np.float32(1e-6) * (corner == nearest[edge])
        weight[:, edge] = kept / (kept[0] + kept[1] + kept[2] + kept[3])
    pixels = source.frame.rgb.reshape(-1, 3)
    colour = weight[0][:, None] * pixels.take(corners[0], 0)
    for k in range(1, 4):
        colour += weight[k][:, None] * pixels.take(corners[k], 0)
    return colour
