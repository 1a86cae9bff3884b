"""Colours of a splat, looked up backwards: each target point in the source image that saw it best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import colour_kernels as kernels
from dist4d_env.geometry.box_motion import MovedSource, motion_about
from dist4d_env.geometry.frustum import frustum_corners, may_see, pinhole_rows, ray_parts
from dist4d_env.geometry.source_kernels import SKY_DEPTH
from dist4d_env.geometry.transforms import invert

AGE, GENERATED = 0.1, 2.0
"""Cost of a second between source and target, and of a generated source."""


@dataclass(frozen=True)
class Lookup:
    """Per target pixel (P,): found, whether any source shows it; rgb (P, 3) float32 in [0, 255]; confidence in [0, 1]; age in
    seconds; generated, whether the colour comes from a generated frame; second (P, 3): the colour that a source from the other
    side in time has, with which rgb is mixed, rgb itself where there is none."""

    found: np.ndarray
    rgb: np.ndarray
    confidence: np.ndarray
    age: np.ndarray
    generated: np.ndarray
    second: np.ndarray


def look_up_colours(
    sources: Sequence[MovedSource],
    depth: np.ndarray,
    label: np.ndarray,
    intrinsics: np.ndarray,
    global_from_camera: np.ndarray,
    time: float,
) -> Lookup:
    """Colours for target depth (V, H, W), 0 in holes, whose pixels show points of the boxes ``label`` (V H W,) or STATIC.

    Among the source cameras that see a point (its depth agrees with theirs and it belongs to the same box), the one with the
    least cost gives a bilinear sample. The cost counts octaves of lost resolution, nearness to a depth edge (where pixels mix
    two colours) and age. A pixel that no source confirms takes the least disagreeing one, with confidence 0. Between sources
    before and after the target the colour goes from the one's to the other's with time: errors of pose and depth halve.
    """
    place = Place(intrinsics, global_from_camera, time)
    best, at, chosen = _choose(sources, [one.distinct for one in sources], depth, label, place)
    rgb, age = _sample(sources, at, chosen, time)
    generated = np.isin(chosen[:, 0], [number for number, one in enumerate(sources) if one.source.generated])
    confidence = np.where(best < kernels.UNCONFIRMED, np.exp2(-np.minimum(best, np.float32(kernels.UNCONFIRMED))), np.float32(0))
    second, its_age = _second(sources, chosen[:, 0], rgb, age, depth, label, place)
    share = (age / np.maximum(age + its_age, np.float32(1e-6)))[:, None]
    return Lookup(chosen[:, 0] >= 0, rgb + share * (second - rgb), confidence, age, generated, second)


@dataclass(frozen=True)
class Place:
    """Where and when targets are: intrinsics (V, 3, 3), poses (V, 4, 4), seconds."""

    intrinsics: np.ndarray
    global_from_camera: np.ndarray
    time: float

    @property
    def origin(self) -> np.ndarray:
        """(3,) global."""
        return self.global_from_camera[:, :3, 3].mean(0)


def _second(
    sources: Sequence[MovedSource], chosen: np.ndarray, rgb: np.ndarray, age: np.ndarray,
    depth: np.ndarray, label: np.ndarray, place: Place,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """``Lookup.second`` and its age (P,), for colours of the sources ``chosen`` (P,), -1 where there is none."""
    later = np.array([one.source.frame.time.mean() > place.time for one in sources], bool)
    second, its_age = rgb.copy(), age.copy()
    for side in np.unique(later):
        others = [one for one, its in zip(sources, later, strict=True) if its == side]
        wanted = (chosen >= 0) & (later[chosen] != side)
        if not wanted.any():
            continue
        rest = np.where(wanted.reshape(depth.shape), depth, np.float32(0))
        cost, at, where = _choose(others, [one.label for one in others], rest, label, place)
        confirmed = cost < kernels.UNCONFIRMED
        sampled, delays = _sample(others, at, where, place.time)
        second[confirmed], its_age[confirmed] = sampled[confirmed], delays[confirmed]
    return second, its_age


def _choose(
    sources: Sequence[MovedSource], labels: Sequence[np.ndarray], depth: np.ndarray, label: np.ndarray, place: Place
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best sample of each target pixel: cost (P,), place (P, 2) in the image, and origin (P, 2) (source, camera) or -1."""
    origin, intrinsics = place.origin, place.intrinsics
    points, corners = _targets(depth, intrinsics, place.global_from_camera, origin)
    targets = depth.reshape(-1), label, points, intrinsics[:, 0, 0].astype(np.float32)
    best, best_at = np.full(depth.size, np.inf, np.float32), np.zeros((depth.size, 2), np.float32)
    chosen = np.full((depth.size, 2), -1, np.int32)
    highest = int(max([label.max(initial=0), *(int(one.box_label.max(initial=0)) for one in sources)]))
    for number, (one, its_label) in enumerate(zip(sources, labels, strict=True)):
        source, frame = one.source, one.source.frame
        size = frame.depth.shape[1], frame.depth.shape[2]
        linear, offset = pinhole_rows(frame.intrinsics, invert(frame.global_from_camera), origin)
        pinholes = linear, offset, may_see(linear, offset, size, corners), *size
        motion = _entries(one, len(linear), highest), *motion_about(invert(one.motion.motion), origin)
        penalty = (AGE * _delay(one, place.time) + GENERATED * source.generated).astype(np.float32)
        focal = frame.intrinsics[:, 0, 0].astype(np.float32)
        shown = its_label, source.inverse_depth, source.edge.reshape(-1), focal, penalty
        kernels.choose(number, targets, pinholes, motion, shown, best, best_at, chosen)
    return best, best_at, chosen


def _sample(sources: Sequence[MovedSource], at: np.ndarray, chosen: np.ndarray, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Colours (P, 3) float32 in [0, 255] and ages (P,) of what was chosen, 0 where nothing was."""
    rgb, age = np.zeros((len(chosen), 3), np.float32), np.zeros(len(chosen), np.float32)
    for number, one in enumerate(sources):
        source = one.source
        pixels = np.require(source.frame.rgb, np.uint8, ["C", "W"]).reshape(-1, 3)
        size = source.frame.depth.shape[1], source.frame.depth.shape[2]
        surface = source.inverse_depth, source.edge.reshape(-1), _delay(one, time).astype(np.float32)
        kernels.sample(number, chosen, at, pixels, *surface, *size, rgb, age)
    return rgb, age


def _targets(
    depth: np.ndarray, intrinsics: np.ndarray, global_from_camera: np.ndarray, origin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points (3, V H W) of target depth (V, H, W) from ``origin``, and the hulls (V, 8, 3) of each camera's points."""
    views, height, width = depth.shape
    along_row, along_column, _ = ray_parts(intrinsics, global_from_camera, (height, width))
    points = np.empty((3, depth.size), np.float32)
    near, far = np.full(views, SKY_DEPTH, np.float32), np.zeros(views, np.float32)
    shift = (global_from_camera[:, :3, 3] - origin).astype(np.float32)
    kernels.unproject_targets(depth, along_row, along_column, shift, points, near, far)
    return points, frustum_corners(intrinsics, global_from_camera, (height, width), near, far, origin)


def _delay(one: MovedSource, time: float) -> np.ndarray:
    """Seconds (S,) between each source camera's exposure and ``time``."""
    return np.abs(time - np.asarray(one.source.frame.time, np.float64))


def _entries(one: MovedSource, views: int, highest: int) -> np.ndarray:
    """(views, highest + 1) int32: the row of each label's box for each source camera where it has moved, else -1."""
    entry = np.full((views, highest + 1), -1, np.int32)
    moved = np.flatnonzero(one.motion.moved)
    entry[one.source.box_view[moved], one.box_label[moved]] = moved
    return entry
