"""Preparing a frame in numpy, as ``geometry.splat_source``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dist4d_env.geometry.box_motion import STATIC, UNUSED, BoxMotion
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.frustum import ray_parts
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.source_kernels import BOX_MARGIN, GROUND_MARGIN, MIXED_EDGE, SKY_DEPTH
from dist4d_env.geometry.splat_source import SplatSource, box_rows
from tests.geometry.reference import to_rows


def prepare(frame: RGBDFrame, boxes: Boxes | Sequence[Boxes], keep: np.ndarray | None = None) -> SplatSource:
    """As ``SplatSource.from_frame``, which gives what is not computed per pixel."""
    source = SplatSource.from_frame(frame, boxes, keep)
    known = np.isfinite(frame.depth) & (frame.depth > 0.05)
    depth = np.where(known, frame.depth, np.float32(FAR))
    depth = np.where(depth >= FAR * 0.999, np.float32(SKY_DEPTH), depth)
    slope, edge, mixed = _slopes(1 / depth)
    points, tangents = _points(frame, depth, slope, source.origin)
    known &= ~mixed
    per_view = [boxes] * len(depth) if isinstance(boxes, Boxes) else boxes
    owner, under = _owners(points, depth < SKY_DEPTH, *box_rows(per_view, source.origin))
    return replace(
        source,
        keep=known if keep is None else known & keep,
        owner=owner,
        under=under,
        points=points.reshape(3, -1),
        tangents=tangents.reshape(6, -1),
        inverse_depth=np.stack([1 / depth, *slope], -1).reshape(-1, 3),
        edge=edge,
    )


def labels(source: SplatSource, motion: BoxMotion, box_label: np.ndarray) -> np.ndarray:
    """(M,) int32 as in ``MovedSource``."""
    label = np.append(box_label, np.int32(STATIC))[source.owner.reshape(-1)]
    label[~usable_pixels(source, motion)] = UNUSED
    return label


def usable_pixels(source: SplatSource, motion: BoxMotion) -> np.ndarray:
    """(M,) bool: kept pixels whose box still exists, and no ground from under a box that has left."""
    stands = np.append(motion.exists & ~motion.moved, True)
    there = np.append(motion.exists, True)[source.owner.reshape(-1)]
    return source.keep.reshape(-1) & there & stands[source.under.reshape(-1)]


def _slopes(inverse: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """Slopes of inverse depth (V, H, W) along columns and rows, edge mask and mixed-pixel mask.

    A plane's inverse depth is linear in the image, so a bend is an edge however steep the plane. The gentler of the two
    one-sided differences is the slope of the surface that the pixel belongs to; a pixel far nearer, or farther, than both its
    neighbours, as of a pole, belongs to that of neither, and faces the camera. A pixel mixes two surfaces where it lies between
    its neighbours and no two pixels in line, on any side, continue into it.
    """
    slopes, edge, between, explained = (
        [],
        np.zeros(inverse.shape, bool),
        np.zeros(inverse.shape, bool),
        np.zeros(inverse.shape, bool),
    )
    for axis in (2, 1):
        step = np.diff(inverse, axis=axis)
        back = np.concatenate([np.take(step, [0], axis), step], axis)
        ahead = np.concatenate([step, np.take(step, [-1], axis)], axis)
        slope = np.clip(np.where(np.abs(back) < np.abs(ahead), back, ahead), -0.5 * inverse, 0.5 * inverse)
        edge |= np.abs(ahead - back) > 0.1 * inverse
        steep = np.minimum(np.abs(back), np.abs(ahead)) > MIXED_EDGE * inverse
        onwards = (back > 0) == (ahead > 0)
        slopes.append(np.where(steep & ~onwards, np.float32(0), slope))
        between |= steep & onwards
        for first, second in ((back, np.roll(back, 1, axis)), (ahead, np.roll(ahead, -1, axis))):
            explained |= np.abs(first - second) < MIXED_EDGE * inverse
    return (slopes[0], slopes[1]), edge, between & ~explained


def _points(
    frame: RGBDFrame, depth: np.ndarray, slope: tuple[np.ndarray, np.ndarray], origin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points (3, V, H, W) from the origin in global axes, and tangents (6, V, H, W) per column and row."""
    views, height, width = depth.shape
    points = np.empty((3, views, height, width), np.float32)
    tangents = np.empty((6, views, height, width), np.float32)
    along_row, along_column, steps = ray_parts(frame.intrinsics, frame.global_from_camera, (height, width))
    for view in range(views):
        pose = frame.global_from_camera[view]
        rays = (along_column[view, :, :, None] + along_row[view, :, None]).astype(np.float32)  # (3, H, W)
        z = depth[view]
        offset = (pose[:3, 3] - origin).astype(np.float32)
        points[:, view] = rays * z + offset[:, None, None]
        for k in range(2):  # d(z ray) = z' ray + z ray', with z' = -z^2 (1/z)'
            step = steps[view, :, k, None, None].astype(np.float32)
            tangents[3 * k : 3 * k + 3, view] = rays * (-z * z * slope[k][view]) + step * z
    return points, tangents


def _owners(
    points: np.ndarray,
    solid: np.ndarray,
    first: np.ndarray,
    centres: np.ndarray,
    rotation: np.ndarray,
    halves: np.ndarray,
    reaches: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Which box each point (3, V, H, W) lies in, and which it lies under: (V, H, W) int32 each, -1 where none."""
    owner, under = np.full(solid.shape, -1, np.int32), np.full(solid.shape, -1, np.int32)
    nothing, margin, ground = np.zeros(3, np.float32), np.float32(BOX_MARGIN), np.float32(GROUND_MARGIN)
    for view in range(len(solid)):
        flat = points[:, view].reshape(3, -1)
        mine, below = owner[view].reshape(-1), under[view].reshape(-1)
        here = solid[view].reshape(-1)
        low, high = np.where(here, flat[:2], np.inf).min(1), np.where(here, flat[:2], -np.inf).max(1)
        for i in range(first[view], first[view + 1]):
            centre, reach, half = centres[i], reaches[i], halves[i]
            if (centre[:2] + reach < low).any() or (centre[:2] - reach > high).any():
                continue
            near = np.flatnonzero((np.abs(flat[0] - centre[0]) < reach) & (np.abs(flat[1] - centre[1]) < reach))
            if not len(near):
                continue
            x, y, z = to_rows(rotation[i], nothing, flat[:, near] - centre[:, None])
            inside = (np.abs(x) < half[0] + margin) & (np.abs(y) < half[1] + margin)
            inside &= (z < half[2] + margin) & (z > -half[2] - (ground + ground))
            low_down = z < ground - half[2]
            mine[near[inside & ~low_down]] = i
            below[near[inside & low_down]] = i
    return owner, under
