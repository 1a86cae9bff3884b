"""What one RGB-D frame gives to a splat: its pixels as points, how far each reaches, and which moving box carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dist4d_env.geometry.backend import compiled
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.frustum import frustum_corners, ray_parts, to_rows
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.transforms import invert

SKY_DEPTH = 1000.0
"""Where points of depth FAR are put, in metres: so far away that only a camera's rotation moves them."""
BOX_MARGIN = 0.15
"""A box owns points up to this many metres outside of its sides and top."""
GROUND_MARGIN = 0.15
"""Points closer than this above a box's bottom may be ground: they are not carried, and not kept once the box has moved."""
MIXED_EDGE = 0.06
"""Relative error up to which two neighbours in line explain a pixel's inverse depth."""


@dataclass(frozen=True)
class SplatSource:
    """An RGB-D frame prepared for splatting; M = V H W pixels in raster order.

    frame: images, depth and poses; keep: (V, H, W) bool, pixels that may be splatted; owner: (V, H, W) int32 into the box
    arrays, -1 for the static world; under: (V, H, W) int32, the box that stood over a ground point, else -1; box_view: (B,) the
    camera an entry is for, box_token: (B,) int64, box_pose: (B, 4, 4) global-from-box when that camera exposed; origin: (3,)
    global; points: (3, M) float32 from the origin in global axes; tangents: (6, M) float32, the step of a point per column, then
    per row; inverse_depth: (M, 3) float32 1/z and its slope per column and row; edge: (V, H, W) bool, within a pixel of a depth
    discontinuity; generated: a model made the frame, real ones are preferred.
    """

    frame: RGBDFrame
    keep: np.ndarray
    owner: np.ndarray
    under: np.ndarray
    box_view: np.ndarray
    box_token: np.ndarray
    box_pose: np.ndarray
    origin: np.ndarray
    points: np.ndarray
    tangents: np.ndarray
    inverse_depth: np.ndarray
    edge: np.ndarray
    generated: bool = False

    @classmethod
    def from_frame(
        cls, frame: RGBDFrame, boxes: Boxes | Sequence[Boxes], keep: np.ndarray | None = None, drop_mixed: bool = True
    ) -> SplatSource:
        """Prepare a frame. boxes: at the frame's time, or one ``Boxes`` per camera at its own exposure time (global frame).

        keep: (V, H, W) bool pixels allowed in, default all; pixels without depth (<= 0 or not finite) never are, and with
        ``drop_mixed`` neither are pixels whose depth lies between two surfaces.
        """
        views = len(frame.depth)
        per_view = [boxes] * views if isinstance(boxes, Boxes) else list(boxes)
        if len(per_view) != views:
            raise ValueError(f"expected boxes for {views} cameras, got {len(per_view)}")
        origin = frame.global_from_camera[:, :3, 3].mean(0)
        if compiled():
            from dist4d_env.geometry.compiled.prepare import prepare_pixels

            prepare = prepare_pixels
        else:
            prepare = _prepare
        geometry, owner, under = prepare(frame, origin, _box_rows(per_view, origin), drop_mixed)
        allowed = geometry.known if keep is None else geometry.known & keep
        return cls(
            frame, allowed, owner, under,
            box_view=np.repeat(np.arange(views), [len(boxes) for boxes in per_view]),
            box_token=np.concatenate([boxes.token for boxes in per_view]).astype(np.int64),
            box_pose=np.concatenate([boxes.poses for boxes in per_view]).reshape(-1, 4, 4),
            origin=origin, points=geometry.points, tangents=geometry.tangents, inverse_depth=geometry.inverse_depth,
            edge=geometry.edge,
        )  # fmt: skip

    @cached_property
    def corners(self) -> np.ndarray:
        """(V, 8, 3) hull of each camera's points, from ``origin`` in global axes."""
        frame, views = self.frame, len(self.frame.depth)
        inverse = self.inverse_depth[:, 0].reshape(views, -1)
        size = frame.depth.shape[1], frame.depth.shape[2]
        return frustum_corners(
            frame.intrinsics, frame.global_from_camera, size, 1 / inverse.max(1), 1 / inverse.min(1), self.origin
        )

    @property
    def owner_token(self) -> np.ndarray:
        """(V, H, W) int64 token of the box that carries each pixel, -1 for the static world."""
        return np.append(self.box_token, -1)[self.owner]

    @property
    def nbytes(self) -> int:
        """Bytes held by the arrays, for cache budgets."""
        arrays = (
            self.keep,
            self.owner,
            self.points,
            self.tangents,
            self.inverse_depth,
            self.edge,
            self.frame.rgb,
            self.frame.depth,
        )
        return sum(a.nbytes for a in arrays)


@dataclass(frozen=True)
class PixelGeometry:
    """What the depth images alone say. known: (V, H, W) bool, pixels with depth (and of one surface where mixed ones are
    dropped); points, tangents, inverse_depth, edge: as in ``SplatSource``."""

    known: np.ndarray
    points: np.ndarray
    tangents: np.ndarray
    inverse_depth: np.ndarray
    edge: np.ndarray


@dataclass(frozen=True)
class BoxRows:
    """Boxes of all cameras, one after the other, as pixels are tested against them. first: (V + 1,) where each camera's begin;
    centre: (B, 3) from the origin; turn: (B, 3, 3) box from global; half: (B, 3) half sizes; reach: (B,) radius of the
    outline; all float32."""

    first: np.ndarray
    centre: np.ndarray
    turn: np.ndarray
    half: np.ndarray
    reach: np.ndarray


def _box_rows(per_view: Sequence[Boxes], origin: np.ndarray) -> BoxRows:
    first = np.cumsum([0, *(len(boxes) for boxes in per_view)])
    size = np.concatenate([boxes.size for boxes in per_view]).reshape(-1, 3)
    position = np.concatenate([boxes.position for boxes in per_view]).reshape(-1, 3)
    turn = np.concatenate([invert(boxes.poses)[:, :3, :3] for boxes in per_view]).reshape(-1, 3, 3)
    reach = np.linalg.norm(size[:, :2], axis=1) / 2 + BOX_MARGIN
    return BoxRows(first, *(a.astype(np.float32) for a in (position - origin, turn, size / 2, reach)))


def _prepare(
    frame: RGBDFrame, origin: np.ndarray, boxes: BoxRows, drop_mixed: bool
) -> tuple[PixelGeometry, np.ndarray, np.ndarray]:
    """Points of a frame's pixels, and owner and under (V, H, W) int32 as in ``SplatSource``."""
    known = np.isfinite(frame.depth) & (frame.depth > 0.05)
    depth = np.where(known, frame.depth, np.float32(FAR))
    depth = np.where(depth >= FAR * 0.999, np.float32(SKY_DEPTH), depth)
    slope, edge, mixed = _slopes(1 / depth)
    points, tangents = _points(frame, depth, slope, origin)
    geometry = PixelGeometry(
        known & ~mixed if drop_mixed else known,
        points.reshape(3, -1),
        tangents.reshape(6, -1),
        np.stack([1 / depth, *slope], -1).reshape(-1, 3),
        edge,
    )
    return geometry, *_owners(points, depth < SKY_DEPTH, boxes)


def _slopes(inverse: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """Slopes of inverse depth (V, H, W) along columns and rows, edge mask and mixed-pixel mask.

    A plane's inverse depth is linear in the image, so a bend is an edge however steep the plane. The gentler of the two
    one-sided differences is the slope of the surface that the pixel belongs to. A pixel mixes two surfaces where it lies
    between its neighbours and no two pixels in line, on any side, continue into it.
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
        slopes.append(np.clip(np.where(np.abs(back) < np.abs(ahead), back, ahead), -0.5 * inverse, 0.5 * inverse))
        edge |= np.abs(ahead - back) > 0.1 * inverse
        steep = np.minimum(np.abs(back), np.abs(ahead)) > MIXED_EDGE * inverse
        between |= steep & ((back > 0) == (ahead > 0))
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


def _owners(points: np.ndarray, solid: np.ndarray, boxes: BoxRows) -> tuple[np.ndarray, np.ndarray]:
    """Which box each point (3, V, H, W) lies in, and which it lies under: (V, H, W) int32 each, -1 where none."""
    owner, under = np.full(solid.shape, -1, np.int32), np.full(solid.shape, -1, np.int32)
    nothing, margin, ground = np.zeros(3, np.float32), np.float32(BOX_MARGIN), np.float32(GROUND_MARGIN)
    for view in range(len(solid)):
        flat = points[:, view].reshape(3, -1)
        mine, below = owner[view].reshape(-1), under[view].reshape(-1)
        here = solid[view].reshape(-1)
        low, high = np.where(here, flat[:2], np.inf).min(1), np.where(here, flat[:2], -np.inf).max(1)
        for i in range(boxes.first[view], boxes.first[view + 1]):
            centre, reach, half = boxes.centre[i], boxes.reach[i], boxes.half[i]
            if (centre[:2] + reach < low).any() or (centre[:2] - reach > high).any():
                continue
            near = np.flatnonzero((np.abs(flat[0] - centre[0]) < reach) & (np.abs(flat[1] - centre[1]) < reach))
            if not len(near):
                continue
            x, y, z = to_rows(boxes.turn[i], nothing, flat[:, near] - centre[:, None])
            inside = (np.abs(x) < half[0] + margin) & (np.abs(y) < half[1] + margin)
            inside &= (z < half[2] + margin) & (z > -half[2] - (ground + ground))
            low_down = z < ground - half[2]
            mine[near[inside & ~low_down]] = i
            below[near[inside & low_down]] = i
    return owner, under
