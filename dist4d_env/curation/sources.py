"""Which images of a drive show the same places as another, from where else, and what of them stands still."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.cameras import in_image, project, unproject
from dist4d_env.geometry.transforms import apply, invert
from dist4d_env.models.layout import box_layout

SOURCES = 3
"""Images that one is compared with."""
LEAST, MOST = 1.0, 15.0
"""Metres that the cameras move between the keyframes that are compared."""
MOVING, GROWN = 0.3, 0.3
"""m/s from which an annotated object moves; metres by which its box is grown."""
DEPTHS = (6.0, 15.0, 40.0)
"""Metres at which it is tried whether another camera sees what one sees."""
PARALLAX, WIDE = np.radians(2.0), np.radians(40.0)
"""Between rays of two cameras: from where on more of it helps little, and beyond which a thing looks too different."""


def keyframes_around(positions: np.ndarray, keyframe: int, past: bool = False) -> list[int]:
    """The keyframe before and the one after that lie at least ``LEAST`` metres away, from positions (K, 3) of the car; where one
    side has none, the next one of the other side. past: none later. None beyond ``MOST`` metres.
    """
    sides = [range(keyframe - 1, -1, -1), range(0) if past else range(keyframe + 1, len(positions))]
    found: list[list[int]] = []
    for side in sides:
        chosen: list[int] = []
        for other in side:
            moved = float(np.linalg.norm(positions[other] - positions[chosen[-1] if chosen else keyframe]))
            if moved > MOST or len(chosen) == 2:
                break
            if moved >= LEAST:
                chosen.append(other)
        found.append(chosen)
    before, after = found
    return [*before[: 1 if after else 2], *after[: 1 if before else 2]]


def choose_sources(
    intrinsics: np.ndarray,
    pose: np.ndarray,
    size: tuple[int, ...],
    others: Sequence[tuple[np.ndarray, np.ndarray, tuple[int, ...]]],
) -> list[int]:
    """Indices of up to ``SOURCES`` other cameras that see most of what this one sees, with parallax; best first.

    A camera: intrinsics (3, 3) of images of a size (height, width), and its pose (4, 4), global from camera.
    """
    step = np.array(size) / (6, 8)
    coarse = np.diag([1 / step[1], 1 / step[0], 1.0]) @ intrinsics
    points = np.stack([unproject(np.full((6, 8), depth), coarse) for depth in DEPTHS]).reshape(-1, 3)
    points = apply(pose, points)
    scores = []
    for matrix, other, (height, width) in others:
        pixels, z = project(apply(invert(other), points), matrix)
        inside = (z > 0.5) & in_image(pixels, height, width)
        ours, theirs = points - pose[:3, 3], points - other[:3, 3]
        cosine = (ours * theirs).sum(1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))
        angle = np.arccos(np.clip(cosine, -1, 1))
        scores.append(float((inside * np.minimum(angle / PARALLAX, 1) * (angle < WIDE)).mean()))
    order = np.argsort(-np.array(scores), kind="stable")
    return [int(index) for index in order[:SOURCES] if scores[index] > 0.03]


def pixel_from_pixel(
    intrinsics: np.ndarray, pose: np.ndarray, other_intrinsics: np.ndarray, other_pose: np.ndarray
) -> np.ndarray:
    """(3, 4) from (column, row, 1, 1 / z-depth) of one camera to homogeneous pixels of another."""
    other_from_camera = invert(other_pose) @ pose
    rotated = other_intrinsics @ other_from_camera[:3, :3] @ np.linalg.inv(intrinsics)
    return np.concatenate([rotated, other_intrinsics @ other_from_camera[:3, 3:]], 1)


def moving(boxes: Boxes, intrinsics: np.ndarray, pose: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: where a camera shows annotated objects that move."""
    chosen = boxes.select(~(np.linalg.norm(boxes.velocity, axis=1) < MOVING))  # of unknown velocity: too
    grown = Boxes(*(getattr(chosen, name) + (GROWN if name == "size" else 0) for name in chosen.__dataclass_fields__))
    return box_layout(grown, intrinsics[None], pose[None], *size)[0, ..., 3] > 0
