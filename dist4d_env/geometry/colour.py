"""Colours of a splat, looked up backwards: each target point in the source image that saw it best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import colour_kernels as kernels
from dist4d_env.geometry.box_motion import STATIC, MovedSource, highest_label
from dist4d_env.geometry.depth import RUN
from dist4d_env.geometry.frustum import frustum_corners, ray_parts
from dist4d_env.geometry.source_cameras import SourceCameras
from dist4d_env.geometry.source_kernels import SKY_DEPTH
from dist4d_env.geometry.threads import in_threads

AGE, GENERATED = 0.1, 2.0
"""Cost of a second between source and target, and of a generated source."""


@dataclass(frozen=True)
class Lookup:
    """Per target pixel (P,): found, whether any source shows it; rgb (P, 3) uint8; confidence in [0, 1] float32; age in seconds,
    float32; generated, whether the colour comes from a generated frame. All zero where nothing was found."""

    found: np.ndarray
    rgb: np.ndarray
    confidence: np.ndarray
    age: np.ndarray
    generated: np.ndarray


def look_up_colours(
    sources: Sequence[MovedSource],
    depth: np.ndarray,
    label: np.ndarray,
    intrinsics: np.ndarray,
    global_from_camera: np.ndarray,
    time: float,
) -> Lookup:
    """Colours for target depth (V, H, W), 0 in holes, whose pixels show the sources' boxes ``label`` (V H W,) or STATIC.

    Among the source cameras that see a point (its depth agrees with theirs and it belongs to the same box), the one with the
    least cost gives a bilinear sample. The cost counts octaves of lost resolution, nearness to a depth edge (where pixels mix
    two colours) and age. A pixel that no source confirms takes the least disagreeing one, with confidence 0. Between sources
    before and after the target the colour goes from the one's to the other's with time: errors of pose and depth halve.
    """
    origin = global_from_camera[:, :3, 3].mean(0)
    views, _, width = depth.shape
    points, corners = _targets(depth, intrinsics, global_from_camera, origin)
    highest = highest_label(sources)
    parts = [_Part.of(SourceCameras.of(one, origin, corners, highest), time) for one in sources]
    depth, label = depth.reshape(views, -1), label.reshape(views, -1)
    pixels = depth.shape[1]
    rgb = np.empty((views, pixels, 3), np.uint8)
    found, generated = np.empty((2, views, pixels), bool)
    confidence, age = np.zeros((2, views, pixels), np.float32)
    made = np.array([*(part.one.source.generated for part in parts), False])

    def one_camera(camera: int) -> None:
        known = depth[camera] > 0
        focal = intrinsics[camera, 0, 0].astype(np.float32)
        target = _Target(camera, width, points[camera], depth[camera], label[camera], focal)
        best, at, chosen = target.choose(parts, [part.one.distinct for part in parts], known)
        colour = np.zeros((pixels, 3), np.float32)
        target.sample(parts, at, chosen, colour, age[camera])
        found[camera], generated[camera] = chosen[0] >= 0, made[chosen[0]]
        sure = np.exp2(-np.minimum(best, np.float32(kernels.UNCONFIRMED)))
        confidence[camera] = np.where(best < kernels.UNCONFIRMED, sure, np.float32(0))
        other, its_age = _second(target, parts, chosen[0], colour, age[camera])
        kernels.mix(colour, other, age[camera], its_age, rgb[camera])

    in_threads(one_camera, views)
    flat = (found, rgb, confidence, age, generated)
    return Lookup(*(array.reshape(views * pixels, *array.shape[2:]) for array in flat))


def _second(
    target: _Target, parts: Sequence[_Part], chosen: np.ndarray, rgb: np.ndarray, age: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a real source from the other side in time shows instead of the colours ``rgb`` (P, 3) from the sources ``chosen``
    (P,), -1 for none: colours float32 and ages (P,), the same as given where there is no such source."""
    later = np.array([part.later for part in parts], bool)
    second, its_age = rgb.copy(), age.copy()
    for side in np.unique(later):
        wanted = (chosen >= 0) & (later[chosen] != side)
        if wanted.any():
            others = [part for part in parts if part.later == side and not part.one.source.generated]
            cost, at, where = target.choose(others, [part.one.label for part in others], wanted)
            where[0, cost >= kernels.UNCONFIRMED] = -1
            target.sample(others, at, where, second, its_age)
    return second, its_age


@dataclass(frozen=True)
class _Target:
    """A target camera: its number, width in pixels, points (3, P) from the origin, depth (P,), label (P,) and focal length."""

    camera: int
    width: int
    points: np.ndarray
    depth: np.ndarray
    label: np.ndarray
    focal: np.float32

    def choose(
        self, parts: Sequence[_Part], labels: Sequence[np.ndarray], wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best sample of each wanted pixel: cost (P,), infinite where there is none, place (2, P) in the image, and origin
        (2, P) (source, camera) or -1."""
        standing = wanted & (self.label == STATIC)
        detail = self.focal / np.where(wanted, self.depth, np.float32(1))
        targets = self.points, detail, self.label, standing, np.flatnonzero(wanted & ~standing)
        best, at = np.full(len(wanted), np.inf, np.float32), np.empty((2, len(wanted)), np.float32)
        chosen = np.full((2, len(wanted)), -1, np.int32)
        for number, (part, its_label) in enumerate(zip(parts, labels, strict=True)):
            cameras, shown = part.cameras, (its_label, *part.surface, part.cameras.focal, part.penalty)
            kernels.choose(number, RUN, targets, cameras.pinholes(self.camera), cameras.motion, shown, best, at, chosen)
        return best, at, chosen

    def sample(self, parts: Sequence[_Part], at: np.ndarray, chosen: np.ndarray, rgb: np.ndarray, age: np.ndarray) -> None:
        """Write colours (P, 3) float32 in [0, 255] and ages (P,) where something was chosen."""
        for number, part in enumerate(parts):
            kernels.sample(number, chosen, at, part.pixels, *part.surface, part.delay, *part.cameras.size, rgb, age)


@dataclass(frozen=True)
class _Part:
    """A source for all targets, as ``colour_kernels`` take it. surface: inverse depth and edges; pixels: (M, 3) uint8;
    delay: (S,) seconds; later: it lies after the targets."""

    cameras: SourceCameras
    surface: tuple[np.ndarray, np.ndarray]
    pixels: np.ndarray
    penalty: np.ndarray
    delay: np.ndarray
    later: bool

    @classmethod
    def of(cls, cameras: SourceCameras, time: float) -> _Part:
        source, frame = cameras.one.source, cameras.one.source.frame
        delay = np.abs(time - np.asarray(frame.time, np.float64))
        return cls(
            cameras,
            surface=(source.inverse_depth, source.edge.reshape(-1)),
            pixels=np.require(frame.rgb, np.uint8, ["C", "W"]).reshape(-1, 3),
            penalty=(AGE * delay + GENERATED * source.generated).astype(np.float32),
            delay=delay.astype(np.float32),
            later=bool(frame.time.mean() > time),
        )

    @property
    def one(self) -> MovedSource:
        return self.cameras.one


def _targets(
    depth: np.ndarray, intrinsics: np.ndarray, global_from_camera: np.ndarray, origin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points (V, 3, H W) of target depth (V, H, W) from ``origin``, and the hulls (V, 8, 3) of each camera's points."""
    views, height, width = depth.shape
    along_row, along_column, _ = ray_parts(intrinsics, global_from_camera, (height, width))
    points = np.empty((views, 3, height * width), np.float32)
    near, far = np.full(views, SKY_DEPTH, np.float32), np.zeros(views, np.float32)
    shift = (global_from_camera[:, :3, 3] - origin).astype(np.float32)
    kernels.unproject_targets(depth, along_row, along_column, shift, points, near, far)
    return points, frustum_corners(intrinsics, global_from_camera, (height, width), near, far, origin)
