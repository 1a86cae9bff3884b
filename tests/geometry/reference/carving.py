"""Carving in numpy, as ``geometry.carving``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dist4d_env.geometry.box_motion import UNUSED, MovedSource, motion_about
from dist4d_env.geometry.carving_kernels import AGREEMENT, BEHIND, DOUBT, FARTHER, NEAR
from dist4d_env.geometry.frustum import pinhole_rows, ray_parts
from dist4d_env.geometry.transforms import invert
from tests.geometry.reference import to_rows

HALF, ONE, LIMIT = np.float32(0.5), np.float32(1), np.float32(AGREEMENT)


def floor(
    sources: Sequence[MovedSource], depth: np.ndarray, label: np.ndarray, intrinsics: np.ndarray, global_from_camera: np.ndarray
) -> np.ndarray:
    """As ``carving.Carver.floor``, of depth and label (V, H, W)."""
    origin = global_from_camera[:, :3, 3].mean(0)
    along_row, along_column, _ = ray_parts(intrinsics, global_from_camera, depth.shape[1:])
    shift = (global_from_camera[:, :3, 3] - origin).astype(np.float32)
    camera, row, column = np.nonzero(np.stack([outlines(*one) for one in zip(depth, label, strict=True)]))
    metres, of = depth[camera, row, column], label[camera, row, column]
    rays = (along_column[camera, :, row] + along_row[camera, :, column]).astype(np.float32).T
    points = rays * metres + shift[camera].T
    votes = np.zeros((2, len(metres)), np.float32)
    for one in sources:
        frame = one.source.frame
        linear, offset = pinhole_rows(frame.intrinsics, invert(frame.global_from_camera), origin)
        turn, step = motion_about(one.motion.back, origin)
        entry = one.entries(max(int(label.max(initial=0)), int(one.box_label.max(initial=0))))
        for view in range(len(linear)):
            box = entry[view][of]
            known = np.flatnonzero(box > -2)
            moved = np.stack(to_rows(turn.take(box, 0).transpose(1, 2, 0), step.take(box, 0).T, points)) if len(turn) else points
            about = np.where(box >= 0, moved, points)[:, known], metres[known], of[known], intrinsics[camera[known]]
            mine = votes[:, known]
            _vote(one, view, linear[view], offset[view], *about, mine)
            votes[:, known] = mine
    result = np.zeros(depth.shape, np.float32)
    result[camera, row, column] = np.where(votes[1] > np.float32(DOUBT) * votes[0], np.float32(BEHIND) * metres, np.float32(0))
    return result


def outlines(depth: np.ndarray, label: np.ndarray) -> np.ndarray:
    """As ``carving_kernels.outlines``: what lies beyond the image is no farther than what is in it."""
    height, width = depth.shape
    around, labels = np.pad(depth, 1, mode="edge"), np.pad(label, 1, mode="edge")
    outline = np.zeros(depth.shape, bool)
    for down in range(3):
        for across in range(3):
            other, of = (image[down : down + height, across : across + width] for image in (around, labels))
            outline |= (other == 0) | (other > depth * np.float32(FARTHER)) | ((of != label) & (other > depth))
    return outline & (depth > 0)


def _vote(
    one: MovedSource, view: int, linear: np.ndarray, offset: np.ndarray, points: np.ndarray, metres: np.ndarray, of: np.ndarray,
    intrinsics: np.ndarray, votes: np.ndarray,
) -> None:  # fmt: skip
    """Add the votes of one of a source's cameras about points (3, n) to ``votes`` (2, n)."""
    frame = one.source.frame
    _, height, width = frame.depth.shape
    x, y, z = to_rows(linear, offset, points)
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = x / z, y / z
        inside = (z > np.float32(NEAR)) & (u >= HALF) & (v >= HALF)
        index = np.flatnonzero(inside & (u < np.float32(width) - HALF) & (v < np.float32(height) - HALF))
    u, v, z, of = u[index] - HALF, v[index] - HALF, z[index], of[index]
    fineness = frame.intrinsics[view, 0, 0].astype(np.float32) / z * metres[index] / intrinsics[index, 0, 0].astype(np.float32)
    say = np.minimum(fineness * fineness, ONE)
    left, top = u.astype(np.int32), v.astype(np.int32)
    for down in range(2):
        for across in range(2):
            beside_u, beside_v = u - (left + across).astype(np.float32), v - (top + down).astype(np.float32)
            there = (view * height + top + down) * width + left + across
            inverse, per_column, per_row = one.source.inverse_depth.take(there, 0).T
            here = inverse * z
            slope = per_column * beside_u + per_row * beside_v
            off, off_there = here - ONE, here + slope * z - ONE
            weight = say * (ONE - np.abs(beside_u)) * (ONE - np.abs(beside_v))
            shown = one.label[there]
            same = (shown == of) & (np.minimum(np.abs(off), np.abs(off_there)) < LIMIT)
            farther = ~same & (np.maximum(off, off_there) < -LIMIT)
            votes[0, index] += np.where(same & (shown != UNUSED), weight, np.float32(0))
            votes[1, index] += np.where(farther & (shown != UNUSED) & (not one.source.generated), weight, np.float32(0))
