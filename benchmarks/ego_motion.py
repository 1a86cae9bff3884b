"""Ego motion estimated from two RGB-D frames: points matched between them, and the rigid motion that explains most of them.

Corners (Shi and Tomasi 1994) are followed from each camera's picture to its next one by pyramidal Lucas-Kanade, there and back.
Depth makes the first picture's corners points of the ego frame; random sample consensus over triples (Fischler and Bolles 1981;
the motion of a triple by Arun et al. 1987) finds those that one motion moves to where they were followed to, and the motion is
refined by least squares of the distances in pixels over all cameras (Huber 1964). What moves by itself is outvoted.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from dist4d_env.geometry.cameras import CameraRig, invert_intrinsics
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.transforms import apply, invert
from dist4d_env.geometry.vehicle import VehicleParameters

CORNERS, QUALITY, SPACING = 200, 0.01, 3
"""Corners of a picture at most, their strength as a share of the strongest one's, and pixels between them."""
BACK = 0.5
"""Pixels by which a corner followed there and back may miss itself."""
SLOPE = 0.1
"""Share by which depth may differ among the four pixels around a corner: more is an edge, where depth is either of two."""
PIXELS, DEPTHS = 1.5, 0.1
"""Distance in the picture, and share of depth, within which a motion explains a match."""
TRIPLES, LEAST = 300, 12
"""Triples that are tried; matches that a motion must explain to count as found."""


@dataclass(frozen=True)
class Matches:
    """N matches of two frames. view: (N,) camera; before, after: (N, 3) points in the ego frames of the two instants; pixel:
    (N, 2) column and row in the second picture."""

    view: np.ndarray
    before: np.ndarray
    after: np.ndarray
    pixel: np.ndarray

    def __len__(self) -> int:
        return len(self.view)

    def take(self, rows: np.ndarray) -> Matches:
        """Some of them."""
        return Matches(self.view[rows], self.before[rows], self.after[rows], self.pixel[rows])


@dataclass(frozen=True)
class Motion:
    """motion: (4, 4) pose of the second ego frame in the first, None where too few matches agree; matches: found; agree: that it
    explains."""

    motion: np.ndarray | None
    matches: int
    agree: int


def ego_motion(
    first: RGBDFrame, second: RGBDFrame, rig: CameraRig, masks: tuple[np.ndarray, np.ndarray] | None = None, seed: int = 0
) -> Motion:
    """The ego's motion between two frames of a rig at their size; masks: (V, H, W) pixels of each that may be looked at."""
    return robust_motion(find_matches(first, second, rig, masks), rig, seed)


def find_matches(
    first: RGBDFrame, second: RGBDFrame, rig: CameraRig, masks: tuple[np.ndarray, np.ndarray] | None = None
) -> Matches:
    """Corners that each camera shows in both frames, with depth in both; those on the ego's own body are left out."""
    found = []
    for view in range(len(rig.names)):
        mask = None if masks is None else masks[0][view]
        here, there = _followed(first.rgb[view], second.rgb[view], mask)
        if masks is not None and len(there):
            column, row = np.clip(there.astype(int).T, 0, np.array([[rig.width - 1], [rig.height - 1]]))
            kept = masks[1][view][row, column]
            here, there = here[kept], there[kept]
        if not len(here):
            continue
        before, after = (
            apply(rig.ego_from_camera[view], _points(pixels, frame.depth[view], rig.intrinsics[view]))
            for pixels, frame in ((here, first), (there, second))
        )
        good = np.isfinite(before).all(1) & np.isfinite(after).all(1) & ~_own(before) & ~_own(after)
        found.append(Matches(np.full(int(good.sum()), view), before[good], after[good], there[good]))
    if not found:
        return Matches(np.zeros(0, int), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 2)))
    return Matches(*(np.concatenate([getattr(part, name) for part in found]) for name in Matches.__dataclass_fields__))


def _followed(first: np.ndarray, second: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates (N, 2) of corners in one picture (H, W, 3) and in the next."""
    one, two = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second))
    allowed = None if mask is None else mask.astype(np.uint8)
    corners = cv2.goodFeaturesToTrack(one, CORNERS, QUALITY, SPACING, mask=allowed)
    if corners is None:
        return np.zeros((0, 2)), np.zeros((0, 2))
    levels = max(int(np.log2(min(one.shape) / 16)), 0)
    ends, forth, _ = cv2.calcOpticalFlowPyrLK(one, two, corners, None, winSize=(11, 11), maxLevel=levels)
    again, back, _ = cv2.calcOpticalFlowPyrLK(two, one, ends, None, winSize=(11, 11), maxLevel=levels)
    away = np.hypot(*(again - corners)[:, 0].T)
    kept = (forth[:, 0] > 0) & (back[:, 0] > 0) & (away < BACK)
    return corners[kept, 0] + 0.5, ends[kept, 0] + 0.5  # a pixel's centre is at (0.5, 0.5) here


def _points(pixels: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Camera points (N, 3) of pixel coordinates (N, 2): depth linear between pixels; nan beyond the picture, at edges and in the
    sky."""
    height, width = depth.shape
    x, y = np.clip(pixels[:, 0] - 0.5, 0, width - 1.001), np.clip(pixels[:, 1] - 0.5, 0, height - 1.001)
    column, row = x.astype(int), y.astype(int)
    corner = np.stack([depth[row + i, column + j] for i in (0, 1) for j in (0, 1)]).astype(float)
    right, down = x - column, y - row
    share = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
    inside = (pixels > 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    smooth = (corner.max(0) - corner.min(0) <= SLOPE * corner.min(0)) & (corner.max(0) < FAR) & inside
    z = np.where(smooth, (corner * share).sum(0), np.nan)
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ invert_intrinsics(intrinsics).T
    return rays * z[:, None]


def _own(points: np.ndarray, margin: float = 0.4) -> np.ndarray:
    """(N,) which points of the ego frame are on the car that the cameras are mounted on."""
    car = VehicleParameters()
    along, across = abs(points[:, 0] - car.rear_axle_to_center), abs(points[:, 1])
    low = points[:, 2] < car.height + 2 * margin
    return (along < car.length / 2 + margin) & (across < car.width / 2 + margin) & low


def robust_motion(matches: Matches, rig: CameraRig, seed: int = 0) -> Motion:
    """The motion that explains most matches."""
    count = len(matches)
    if count < LEAST:
        return Motion(None, count, 0)
    triples = np.random.default_rng(seed).random((TRIPLES, count)).argpartition(2, axis=1)[:, :3]
    agree = _explained(rigid_motion(matches.before[triples], matches.after[triples]), matches, rig)
    best = agree[int(agree.sum(1).argmax())]
    motion = None
    for _ in range(3):  # more of them agree with the motion of many than with that of three
        if best.sum() < LEAST:
            return Motion(None, count, int(best.sum()))
        motion = _refined(rigid_motion(matches.before[best], matches.after[best]), matches.take(best), rig)
        best = _explained(motion, matches, rig)
    return Motion(motion, count, int(best.sum())) if best.sum() >= LEAST else Motion(None, count, int(best.sum()))


def rigid_motion(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The pose (..., 4, 4) of the second frame in the first whose points (..., N, 3) these are, by least squares (Arun et al.
    1987)."""
    middle, other = before.mean(-2, keepdims=True), after.mean(-2, keepdims=True)
    u, _, v = np.linalg.svd(np.swapaxes(after - other, -1, -2) @ (before - middle))
    back, ahead = np.swapaxes(u, -1, -2), np.swapaxes(v, -1, -2)
    mirrored = np.ones((*u.shape[:-2], 3))
    mirrored[..., 2] = np.linalg.det(ahead @ back)
    motion = np.zeros((*u.shape[:-2], 4, 4))
    motion[..., :3, :3] = (ahead * mirrored[..., None, :]) @ back
    motion[..., :3, 3] = middle[..., 0, :] - np.einsum("...ij,...j->...i", motion[..., :3, :3], other[..., 0, :])
    motion[..., 3, 3] = 1.0
    return motion


def _expected(motion: np.ndarray, matches: Matches, rig: CameraRig) -> np.ndarray:
    """(..., N, 3) column, row and depth at which motions (..., 4, 4) make the second picture show the first one's points."""
    moved = apply(invert(motion), matches.before)
    pose = invert(rig.ego_from_camera)[matches.view]
    camera = np.einsum("nij,...nj->...ni", pose[:, :3, :3], moved) + pose[:, :3, 3]
    seen = np.einsum("nij,...nj->...ni", rig.intrinsics[matches.view], camera)
    return np.concatenate([seen[..., :2] / np.maximum(seen[..., 2:], 1e-3), camera[..., 2:]], -1)


def _explained(motion: np.ndarray, matches: Matches, rig: CameraRig) -> np.ndarray:
    """(..., N) which matches motions (..., 4, 4) explain."""
    expected = _expected(motion, matches, rig)
    pose = invert(rig.ego_from_camera)[matches.view]
    depth = np.einsum("nj,nj->n", pose[:, 2, :3], matches.after) + pose[:, 2, 3]
    near = np.linalg.norm(expected[..., :2] - matches.pixel, axis=-1) < PIXELS
    return np.asarray(near & (abs(expected[..., 2] / depth - 1) < DEPTHS))


def _refined(motion: np.ndarray, matches: Matches, rig: CameraRig) -> np.ndarray:
    """Least squares over pixels, from a motion nearby."""

    def pose(change: np.ndarray) -> np.ndarray:
        moved = motion.copy()
        moved[:3, :3] = motion[:3, :3] @ Rotation.from_rotvec(change[3:]).as_matrix()
        moved[:3, 3] += change[:3]
        return moved

    def missed(change: np.ndarray) -> np.ndarray:
        return np.asarray(_expected(pose(change), matches, rig)[:, :2] - matches.pixel).ravel()

    return pose(least_squares(missed, np.zeros(6), loss="huber", f_scale=0.5, max_nfev=15).x)


def difference(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Metres in the plane and degrees of heading between two motions (4, 4)."""
    heading = [np.arctan2(pose[1, 0], pose[0, 0]) for pose in (found, true)]
    turn = (heading[0] - heading[1] + np.pi) % (2 * np.pi) - np.pi
    return float(np.hypot(*(found[:2, 3] - true[:2, 3]))), float(abs(np.degrees(turn)))
