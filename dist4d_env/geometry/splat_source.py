"""What one RGB-D frame gives to a splat: its pixels as points, how far each reaches, and which moving box carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.boxes import Boxes
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
        known = np.isfinite(frame.depth) & (frame.depth > 0.05)
        depth = np.where(known, frame.depth, np.float32(FAR))
        depth = np.where(depth >= FAR * 0.999, np.float32(SKY_DEPTH), depth)
        slope, edge, mixed = _slopes(1 / depth)
        allowed = known if keep is None else known & keep
        if drop_mixed:
            allowed = allowed & ~mixed

        origin = frame.global_from_camera[:, :3, 3].mean(0)
        points, tangents = _points(frame, depth, slope, origin)
        owner, under, box_view, tokens, poses = _owners(points, origin, depth < SKY_DEPTH, per_view)
        return cls(
            frame, allowed, owner, under, box_view, tokens, poses, origin,
            np.ascontiguousarray(points.reshape(3, -1)), np.ascontiguousarray(tangents.reshape(6, -1)),
            np.ascontiguousarray(np.stack([1 / depth, *slope], -1).reshape(-1, 3)), edge,
        )  # fmt: skip

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
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([columns, rows, np.ones_like(rows)]).reshape(3, -1)
    for view in range(views):
        pose = frame.global_from_camera[view]
        axes = pose[:3, :3] @ np.linalg.inv(frame.intrinsics[view])  # (3, 3) global ray = axes @ (u, v, 1)
        rays = (axes @ pixels).astype(np.float32).reshape(3, height, width)
        z = depth[view]
        offset = (pose[:3, 3] - origin).astype(np.float32)
        points[:, view] = rays * z + offset[:, None, None]
        for k in range(2):  # d(z ray) = z' ray + z ray', with z' = -z^2 (1/z)'
            tangents[3 * k : 3 * k + 3, view] = rays * (-z * z * slope[k][view]) + axes[:, k, None, None].astype(np.float32) * z
    return points, tangents


def _owners(points: np.ndarray, origin: np.ndarray, solid: np.ndarray, per_view: Sequence[Boxes]) -> tuple[np.ndarray, ...]:
    """Which box each point (3, V, H, W) lies in: owner, under (V, H, W) int32, box_view, box_token (B,), box_pose (B, 4, 4)."""
    owner, under = np.full(solid.shape, -1, np.int32), np.full(solid.shape, -1, np.int32)
    tokens: list[np.ndarray] = []
    poses: list[np.ndarray] = []
    count = 0
    for view, boxes in enumerate(per_view):
        flat = points[:, view].reshape(3, -1)
        reach = np.linalg.norm(boxes.size[:, :2], axis=1) / 2 + BOX_MARGIN
        centre = (boxes.position - origin).astype(np.float32)
        from_box = invert(boxes.poses)
        mine, below = owner[view].reshape(-1), under[view].reshape(-1)
        here = solid[view].reshape(-1)
        low, high = np.where(here, flat[:2], np.inf).min(1), np.where(here, flat[:2], -np.inf).max(1)
        for i in range(len(boxes)):
            if (centre[i, :2] + reach[i] < low).any() or (centre[i, :2] - reach[i] > high).any():
                continue
            near = np.flatnonzero((np.abs(flat[0] - centre[i, 0]) < reach[i]) & (np.abs(flat[1] - centre[i, 1]) < reach[i]))
            if not len(near):
                continue
            local = from_box[i, :3, :3] @ (flat[:, near] - centre[i, :, None])
            half = boxes.size[i] / 2
            inside = (np.abs(local[0]) < half[0] + BOX_MARGIN) & (np.abs(local[1]) < half[1] + BOX_MARGIN)
            inside &= (local[2] < half[2] + BOX_MARGIN) & (local[2] > -half[2] - 2 * GROUND_MARGIN)
            ground = local[2] < GROUND_MARGIN - half[2]
            mine[near[inside & ~ground]] = count + i
            below[near[inside & ground]] = count + i
        tokens.append(boxes.token)
        poses.append(boxes.poses)
        count += len(boxes)
    view_of = np.repeat(np.arange(len(per_view)), [len(boxes) for boxes in per_view])
    return owner, under, view_of, np.concatenate(tokens).astype(np.int64), np.concatenate(poses).reshape(-1, 4, 4)
