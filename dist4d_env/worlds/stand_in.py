"""Stand-ins: a plain body for an inserted agent, seen where no recorded agent shows how it looks from there.

Without one the street behind an agent would be seen through it, and a planner that looks would drive into what it cannot see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dist4d_env.geometry.boxes import CATEGORIES, Boxes
from dist4d_env.geometry.overlap import NEAR, TOLERANCE
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import apply, invert, invert_stretched

HEIGHT, WIDTH = 48, 64
"""Size of the pictures that a stand-in is kept as, taken from its four corners."""
BANDS, ENOUGH = 6, 5
"""Parts of an agent's height, each in one colour, and pixels that it takes to know one."""
UNKNOWN = np.array([0.4, 1.0, 1.05, 0.9, 0.85, 1.0])
"""Colours, from the ground up, of agents that no recorded one lends its own, as multiples of the street's."""
SHADES = dict.fromkeys(("motorcycle", "bicycle"), np.array([0.45, 0.55, 0.6, 0.75, 0.85, 0.95]))
"""The same of categories that have their own: about the medians of those ridden in the town's training streets."""

Sighting = Callable[[], SplatSource]
"""A source that shows an agent, which is read when it is asked for."""
Block = tuple[tuple[float, float, float], tuple[float, float, float]]
_CAR: tuple[Block, ...] = (((-0.5, -0.48, -0.38), (0.5, 0.48, 0.08)), ((-0.42, -0.42, 0.08), (0.2, 0.42, 0.5)))
_WHOLE = (((-0.5, -0.5, -0.44), (0.5, 0.5, 0.5)),)
_WHEELS = ((-0.5, -0.15, -0.5), (0.5, 0.15, 0.1))
_RIDER = (_WHEELS, ((-0.2, -0.35, 0.0), (0.15, 0.35, 0.5)))
_PERSON = (((-0.25, -0.3, -0.5), (0.25, 0.3, 0.33)), ((-0.15, -0.15, 0.33), (0.15, 0.15, 0.5)))
SHAPES = {"car": _CAR, "motorcycle": _RIDER, "bicycle": _RIDER, "pedestrian": _PERSON}
"""Opposite corners of the blocks that an agent is made of, in shares of its box; others fill theirs."""
STANDING = SHAPES | {"motorcycle": (_WHEELS,), "bicycle": (_WHEELS,)}
"""The same of agents that never move: nobody rides them."""


@dataclass(frozen=True)
class Whole:
    """What an agent is a part of, and whose colours it has: the token and size (3,) of its box, and sightings of it."""

    token: int
    size: np.ndarray
    sightings: Iterable[Sighting]


def stand_in(
    token: int,
    category: int,
    size: np.ndarray,
    time: float,
    street: RGBDFrame,
    sightings: Iterable[Sighting] = (),
    moves: bool = True,
    whole: Whole | None = None,
) -> SplatSource:
    """The body of an agent ``token`` whose box is ``size`` (3,), as a source that shows what no other one does.

    sightings: sources in which boxes of this token stand for it, one of which is held at a time. What they look through is cut
    away; colours are theirs, or those of the ``whole`` that it is a part of, by height; where there are none, grey by the
    brightness of the ``street`` in a frame. moves: whether the agent ever does.
    """
    name = CATEGORIES[category]
    shapes = SHAPES if moves else STANDING
    depth, camera, intrinsics = _photographed(shapes.get(name, _WHOLE), size)
    points, hit = _points(depth, camera, intrinsics), depth < FAR
    seen = [(np.zeros(0, int), np.zeros((0, 3), np.uint8))]
    for sighting in sightings:
        source = sighting()
        hit &= ~_looked_through(source, token, points)
        seen += _seen(source, token, size)
    level = _bands(points[..., 2], size)
    if whole is not None:
        for sighting in whole.sightings:
            seen += _seen(sighting(), whole.token, whole.size)
        level = _bands(points[..., 2] + (size[2] - whole.size[2]) / 2, whole.size)  # both stand on the ground
    colours = _colours(*map(np.concatenate, zip(*seen, strict=True)))
    if colours is None:
        near = street.depth < FAR if (street.depth < FAR).any() else np.ones_like(street.depth, bool)
        shades = SHADES.get(name, UNKNOWN)
        colours = np.clip(shades[:, None] * np.full(3, street.rgb[near].mean()), 0, 255).astype(np.uint8)
    frame = RGBDFrame(colours[level], depth, intrinsics, camera, np.full(len(camera), time))
    here = np.array([token]), np.array([category], np.int8), np.zeros((1, 3)), np.asarray(size, float)[None], np.zeros(1)
    source = SplatSource.from_frame(frame, Boxes(*here, velocity=np.zeros((1, 2))), keep=hit)
    return replace(source, keep=source.keep & (source.owner >= 0), generated=True)


def _photographed(blocks: Sequence[Block], size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth (4, H, W), FAR beside the body, poses (4, 4, 4) in the box's frame and intrinsics (4, 3, 3)."""
    radius = float(np.linalg.norm(size)) / 2
    away, camera = 3.0 * radius, np.tile(np.eye(4), (4, 1, 1))
    for view, (x, y) in enumerate(((1, 1), (1, -1), (-1, -1), (-1, 1))):
        forward, right = np.array([-x, -y, -0.6]) / np.sqrt(2.36), np.array([-y, x, 0.0]) / np.sqrt(2)
        camera[view, :3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
        camera[view, :3, 3] = -away * forward
    focal = HEIGHT / 2 * np.sqrt(away**2 - radius**2) / radius
    intrinsics = np.tile(np.array([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]]), (4, 1, 1))
    start = camera[:, None, None, :3, 3]
    rays = _points(np.ones((4, HEIGHT, WIDTH)), camera, intrinsics) - start
    depth = np.full((4, HEIGHT, WIDTH), np.float32(FAR))
    for low, high in blocks:
        one, two = ((np.array(end) * size - start) / rays for end in (low, high))
        enters, leaves = np.minimum(one, two).max(-1), np.maximum(one, two).min(-1)
        depth = np.where(leaves > enters, np.minimum(depth, enters.astype(np.float32)), depth)
    return depth, camera, intrinsics


def _points(depth: np.ndarray, camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Points (V, H, W, 3) in the frame of the poses (V, 4, 4)."""
    rows, columns = np.mgrid[: depth.shape[1], : depth.shape[2]] + 0.5
    x = (columns - intrinsics[:, 0, 2, None, None]) / intrinsics[:, 0, 0, None, None]
    y = (rows - intrinsics[:, 1, 2, None, None]) / intrinsics[:, 1, 1, None, None]
    rays = np.stack([x, y, np.ones_like(x)], -1) * depth[..., None]
    return apply(camera, rays.reshape(len(camera), -1, 3)).reshape(*depth.shape, 3)


def _looked_through(sighting: SplatSource, token: int, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) of an agent, in its box's frame, behind which a camera sees something."""
    frame, through = sighting.frame, np.zeros(points.shape[:-1], bool)
    for entry in np.flatnonzero(sighting.box_token == token):
        view = sighting.box_view[entry]
        x, y, z = apply(invert(frame.global_from_camera[view]) @ sighting.box_pose[entry], points.reshape(-1, 3)).T
        (focal_u, _, centre_u), (_, focal_v, centre_v), _ = frame.intrinsics[view]
        u, v = focal_u * x / z + centre_u, focal_v * y / z + centre_v
        rows, columns = frame.depth.shape[1:]
        seen = np.flatnonzero((z > NEAR) & (u >= 0) & (u < columns) & (v >= 0) & (v < rows))
        depth = np.where(sighting.keep[view], frame.depth[view], np.float32(0))
        through.reshape(-1)[seen] |= depth[v[seen].astype(int), u[seen].astype(int)] > (1 + TOLERANCE) * z[seen]
    return through


def _seen(sighting: SplatSource, token: int, size: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each box of an agent in a source the bands (P,) and colours (P, 3) of its pixels."""
    found = []
    for entry in np.flatnonzero(sighting.box_token == token):
        own = (sighting.keep & (sighting.owner == entry)).reshape(-1)
        height = apply(invert_stretched(sighting.box_pose[entry]), sighting.points.T[own] + sighting.origin)[:, 2]
        found.append((_bands(height, size), sighting.frame.rgb.reshape(-1, 3)[own]))
    return found


def _colours(band: np.ndarray, colour: np.ndarray) -> np.ndarray | None:
    """The colour of each band (BANDS, 3) uint8, from the ground up: the median of what is seen of it, else the nearest band's;
    None where nothing is seen. band, colour: of all pixels."""
    known = np.flatnonzero(np.bincount(band, minlength=BANDS) >= ENOUGH)
    if not len(known):
        return None
    medians = np.array([np.median(colour[band == number], 0) for number in known])
    return medians[np.abs(np.arange(BANDS)[:, None] - known).argmin(1)].astype(np.uint8)


def _bands(height: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The band of each height (...) above the middle of a box."""
    return np.clip(((height / size[2] + 0.5) * BANDS).astype(int), 0, BANDS - 1)
