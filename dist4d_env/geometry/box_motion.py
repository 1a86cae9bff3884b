"""How the boxes of a source frame moved until now, and their points with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.jit import compiled
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import invert, invert_stretched

STATIC, UNUSED = 0, -1
"""Labels of points of the standing world, and of points that take no part."""


@dataclass(frozen=True)
class BoxMotion:
    """exists: (B,) bool, the box is still there; moved: (B,) bool; motion: (B, 4, 4) global now from global then; back: its
    inverse."""

    exists: np.ndarray
    moved: np.ndarray
    motion: np.ndarray
    back: np.ndarray


def box_motion(source: SplatSource, boxes: Boxes, threshold: float) -> BoxMotion:
    """How each box of a source moved from its own time to now, at rest within ``threshold`` metres and radians; one that is
    stretched or mirrored to be shown as another always moves."""
    order = np.argsort(boxes.token, kind="stable")
    place = np.searchsorted(boxes.token[order], source.box_token)
    place = np.minimum(place, max(len(order) - 1, 0))
    if len(boxes):
        match = order[place]
        exists = boxes.token[match] == source.box_token
        poses = boxes.poses[match]
        motion, back = poses @ invert_stretched(source.box_pose), source.box_pose @ invert(poses)
    else:
        exists = np.zeros(len(source.box_token), bool)
        motion = back = np.broadcast_to(np.eye(4), (len(source.box_token), 4, 4))
    shift = motion[:, :3, :3] @ source.box_pose[:, :3, 3, None] + motion[:, :3, 3, None] - source.box_pose[:, :3, 3, None]
    turn = deterministic.arctan2(motion[:, 1, 0], motion[:, 0, 0])
    moved = (np.linalg.norm(shift[..., 0], axis=1) > threshold) | (np.abs(turn) > threshold)
    moved |= np.abs(np.linalg.norm(motion[:, :3, :3], axis=1) - 1).max(1, initial=0.0) > 1e-6
    moved |= np.linalg.det(motion[:, :3, :3]) < 0
    moved &= exists
    return BoxMotion(exists, moved, *(np.where(moved[:, None, None], one, np.eye(4)) for one in (motion, back)))


def motion_about(motion: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Motions (B, 4, 4) of points given from ``origin`` (3,): float32 linear parts (B, 3, 3) and shifts (B, 3)."""
    shift = motion[:, :3, :3] @ origin + motion[:, :3, 3] - origin
    return motion[:, :3, :3].astype(np.float32), shift.astype(np.float32)


@dataclass(frozen=True)
class MovedSource:
    """A source at the instant of a target.

    box_label: (B,) int32 > 0, the same number for the same object in every source; label: (M,) int32 of each pixel's point,
    its box's, STATIC or UNUSED: pixels not kept, of boxes that no longer exist, and ground from under a box that has left;
    distinct: (M,) int32, the same but UNUSED also where a more useful source shows a pixel's place.
    """

    source: SplatSource
    motion: BoxMotion
    box_label: np.ndarray
    label: np.ndarray
    distinct: np.ndarray

    def entries(self, highest: int) -> np.ndarray:
        """(V, highest + 1) int32: the row of each label's box for each of the source's cameras, -1 where it has not moved, and
        for STATIC, -2 where the camera knows of no such box."""
        entry = np.full((len(self.source.frame.depth), highest + 1), -2, np.int32)
        entry[:, STATIC] = -1
        entry[self.source.box_view, self.box_label] = np.where(self.motion.moved, np.arange(len(self.box_label)), -1)
        return entry


def highest_label(sources: Sequence[MovedSource]) -> int:
    """The highest label of any box of any source."""
    return max((int(one.box_label.max(initial=STATIC)) for one in sources), default=STATIC)


def move_sources(
    sources: Sequence[SplatSource], boxes: Boxes, threshold: float, repeated: Sequence[np.ndarray] | None = None
) -> list[MovedSource]:
    """Every source at the time of ``boxes``, its objects numbered alike; threshold: as in ``box_motion``; repeated: for each
    source the pixels (V, H, W) whose place a more useful one shows, by default none."""
    tokens = np.unique(np.concatenate([source.box_token for source in sources])) if sources else np.zeros(0, np.int64)
    moved = []
    for source, mask in zip(sources, [None] * len(sources) if repeated is None else repeated, strict=True):
        motion = box_motion(source, boxes, threshold)
        box_label = (np.searchsorted(tokens, source.box_token) + 1).astype(np.int32)
        pixels = source.keep.reshape(-1), source.owner.reshape(-1), source.under.reshape(-1)
        label = _label_pixels(*pixels, motion.exists, motion.exists & ~motion.moved, box_label)
        distinct = label if mask is None else np.where(mask.reshape(-1), np.int32(UNUSED), label)
        moved.append(MovedSource(source, motion, box_label, label, distinct))
    return moved


@compiled
def _label_pixels(
    keep: np.ndarray, owner: np.ndarray, under: np.ndarray, exists: np.ndarray, stands: np.ndarray, box_label: np.ndarray
) -> np.ndarray:
    """Labels (M,) int32 as in ``MovedSource``; exists, stands: (B,) bool, the box is there, and where it was."""
    label = np.empty(len(keep), np.int32)
    for i in range(len(keep)):
        box, over = owner[i], under[i]
        if not keep[i] or (box >= 0 and not exists[box]) or (over >= 0 and not stands[over]):
            label[i] = UNUSED
        else:
            label[i] = box_label[box] if box >= 0 else STATIC
    return label
