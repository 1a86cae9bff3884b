"""An RGB-D frame prepared for splatting: its pixels as points, how far each reaches, and the moving boxes they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dist4d_env.geometry import source_kernels as kernels
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.frustum import frustum_corners, ray_parts
from dist4d_env.geometry.rgbd import RGBDFrame, array_bytes
from dist4d_env.geometry.threads import in_threads
from dist4d_env.geometry.transforms import invert


@dataclass(frozen=True, eq=False)
class SplatSource:
    """An RGB-D frame prepared for splatting; M = V H W pixels in raster order.

    frame: images, depth and poses; keep: (V, H, W) bool, pixels that may be splatted; owner: (V, H, W) int32 into the box
    arrays, -1 for the static world; under: (V, H, W) int32, the box that stood over a ground point, else -1; box_view: (B,) the
    camera an entry is for, box_token: (B,) int64, box_pose: (B, 4, 4) global-from-box when that camera exposed, its axes
    stretched or mirrored where the points of one object stand for another's; origin: (3,) global; points: (3, M) float32 from the
    origin in global axes; tangents: (6, M) float32, the step of a point per column, then per row; inverse_depth: (M, 3) float32
    1/z and its slope per column and row; edge: (V, H, W) bool, within a pixel of a depth discontinuity; generated: a model made
    the frame, real ones are preferred.
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
    def from_frame(cls, frame: RGBDFrame, boxes: Boxes | Sequence[Boxes], keep: np.ndarray | None = None) -> SplatSource:
        """Prepare a frame. boxes: at the frame's time, or one ``Boxes`` per camera at its own exposure time (global frame).

        keep: (V, H, W) bool pixels allowed in, default all; never those without depth (<= 0 or not finite), or whose depth lies
        between two surfaces, or that show the car's own body or touch one that does, whose colour is mixed with it.
        """
        views = len(frame.depth)
        per_view = [boxes] * views if isinstance(boxes, Boxes) else list(boxes)
        if len(per_view) != views:
            raise ValueError(f"expected boxes for {views} cameras, got {len(per_view)}")
        origin = frame.global_from_camera[:, :3, 3].mean(0)
        known, edge, points, tangents, inverse_depth = _unproject(frame, origin)
        if frame.body is not None:
            known &= ~widened(frame.body)
        owner, under = np.full((2, *frame.depth.shape), -1, np.int32)
        rows = box_rows(per_view, origin)
        in_threads(lambda view: kernels.find_owners(view, points, inverse_depth, *rows, owner, under), views)
        return cls(
            frame, known if keep is None else known & keep, owner, under,
            box_view=np.repeat(np.arange(views), [len(boxes) for boxes in per_view]),
            box_token=np.concatenate([boxes.token for boxes in per_view]).astype(np.int64),
            box_pose=np.concatenate([boxes.poses for boxes in per_view]).reshape(-1, 4, 4),
            origin=origin, points=points.reshape(3, -1), tangents=tangents.reshape(6, -1),
            inverse_depth=inverse_depth.reshape(-1, 3), edge=edge,
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
        """(V, H, W) int64 token of the box that each pixel belongs to, -1 for the static world."""
        return np.append(self.box_token, -1)[self.owner]

    @property
    def nbytes(self) -> int:
        """Bytes held by the arrays, the frame's included, for cache budgets."""
        return array_bytes(self) + array_bytes(self.frame)


def widened(mask: np.ndarray) -> np.ndarray:
    """A mask (V, H, W) and the pixels beside it, corners included."""
    import cv2

    return np.stack([cv2.dilate(view.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for view in mask])


def box_rows(per_view: Sequence[Boxes], origin: np.ndarray) -> tuple[np.ndarray, ...]:
    """Boxes of all cameras, one after the other, as pixels are tested against them.

    Returns first (V + 1,), where each camera's begin, and float32 centre (B, 3) from the origin, rotation (B, 3, 3) box from
    global, half sizes (B, 3) and reach (B,), the radius of the outline.
    """
    first = np.cumsum([0, *(len(boxes) for boxes in per_view)])
    size = np.concatenate([boxes.size for boxes in per_view]).reshape(-1, 3)
    position = np.concatenate([boxes.position for boxes in per_view]).reshape(-1, 3)
    rotation = np.concatenate([invert(boxes.poses)[:, :3, :3] for boxes in per_view]).reshape(-1, 3, 3)
    reach = np.linalg.norm(size[:, :2], axis=1) / 2 + kernels.BOX_MARGIN
    return first, *(a.astype(np.float32) for a in (position - origin, rotation, size / 2, reach))


def _unproject(frame: RGBDFrame, origin: np.ndarray) -> tuple[np.ndarray, ...]:
    """Known and edge (V, H, W) bool, points (3, V, H, W), tangents (6, V, H, W) and inverse depth (V, H, W, 3) float32."""
    views, height, width = frame.depth.shape
    along_row, along_column, steps = ray_parts(frame.intrinsics, frame.global_from_camera, (height, width))
    offset = (frame.global_from_camera[:, :3, 3] - origin).astype(np.float32)
    known, edge = np.empty((2, views, height, width), bool)
    points, tangents = np.empty((3, views, height, width), np.float32), np.empty((6, views, height, width), np.float32)
    out = known, edge, points, tangents, np.empty((views, height, width, 3), np.float32)
    depth = np.require(frame.depth, np.float32, ["C", "W"])
    rays = along_row, along_column, steps.astype(np.float32), offset
    in_threads(lambda view: kernels.unproject_pixels(view, depth, *rays, *out), views)
    return out
