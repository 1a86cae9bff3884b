"""The ground as one picture seen from above: asphalt, paint, kerbs, slabs and grass, with the class of every texel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from shapely import unary_union
from shapely.geometry import LineString, MultiPolygon, Polygon
from shapely.ops import substring

from dist4d_env.town.model import Layout
from dist4d_env.town.textures import bilinear, grain, pyramid, texels

TEXEL = 0.1
"""Metres a texel of the finest level."""

SKY, ROAD, MARKING, CROSSING, SIDEWALK, TERRAIN, BUILDING = range(7)
VEGETATION, POLE, VEHICLE, TWO_WHEELER, PEDESTRIAN, CONE, BARRIER = range(7, 14)
SEMANTICS = (
    "sky", "road", "marking", "crossing", "sidewalk", "terrain", "building", "vegetation", "pole", "vehicle", "two_wheeler",
    "pedestrian", "cone", "barrier",
)  # fmt: skip
"""Names of the ids in semantic images; "pole" holds all street furniture."""

_PAINT = {"white": (0.90, 0.90, 0.88), "yellow": (0.88, 0.68, 0.20)}
_SHIFT = 4  # fractional bits of polygon vertices


@dataclass(frozen=True)
class Ground:
    """origin: (2,) global x, y of the picture's corner; classes: (H, W) uint8; texels: all mip levels, flat; level_*: (L,)."""

    origin: np.ndarray
    classes: np.ndarray
    texels: np.ndarray
    level_start: np.ndarray
    level_width: np.ndarray
    level_height: np.ndarray

    def colour(self, x: np.ndarray, y: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """(4, N) float32 in [0, 255], fourth channel puddles, at x, y (N,) metres from ``origin``.

        ``footprint``: (N,) metres that a pixel covers there.
        """
        last = len(self.level_start) - 1
        level = np.clip(np.rint(np.log2(np.maximum(footprint, 1e-6) / TEXEL)), 0, last).astype(np.int64)
        scale = (1 / (TEXEL * np.exp2(np.arange(last + 1)))).astype(np.float32)[level]
        return bilinear(
            self.texels, self.level_start[level], self.level_width[level], self.level_height[level],
            x * scale - np.float32(0.5), y * scale - np.float32(0.5), wrap=False,
        )  # fmt: skip

    def semantic(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Class ids (N,) uint8 at points x, y (N,) metres from ``origin``."""
        height, width = self.classes.shape
        column = np.clip(x / TEXEL, 0, width - 1).astype(np.int64)
        row = np.clip(y / TEXEL, 0, height - 1).astype(np.int64)
        return self.classes[row, column]


class _Canvas:
    """Polygons and lines into masks of the canvas."""

    def __init__(self, origin: np.ndarray, height: int, width: int) -> None:
        self.origin, self.height, self.width = origin, height, width

    def fill(self, shapes: Iterable[Polygon | MultiPolygon]) -> np.ndarray:
        """Coverage (H, W) uint8, anti-aliased, of the union of areas."""
        mask = np.zeros((self.height, self.width), np.uint8)
        for shape in shapes:
            for polygon in getattr(shape, "geoms", (shape,)):
                if polygon.is_empty or polygon.geom_type != "Polygon":
                    continue
                rings = [self._vertices(polygon.exterior.coords)] + [self._vertices(r.coords) for r in polygon.interiors]
                if len(rings) == 1:
                    cv2.fillPoly(mask, rings, 255, cv2.LINE_AA, _SHIFT)
                else:  # even-odd filling of a polygon with holes must not erase what lies there already
                    own = np.zeros_like(mask)
                    cv2.fillPoly(own, rings, 255, cv2.LINE_AA, _SHIFT)
                    np.maximum(mask, own, out=mask)
        return mask

    def _vertices(self, ring: Iterable[tuple[float, ...]]) -> np.ndarray:
        points = (np.asarray(ring, float)[:, :2] - self.origin) / TEXEL - 0.5
        return np.rint(points * 2**_SHIFT).astype(np.int32)

    def tile(self, pattern: np.ndarray) -> np.ndarray:
        """A tileable pattern repeated over the canvas, anchored to the global origin so that it stays with the world."""
        start = np.rint(self.origin / TEXEL).astype(int)
        pattern = np.roll(pattern, (-start[1], -start[0]), (0, 1))
        repeats = (-(-self.height // pattern.shape[0]), -(-self.width // pattern.shape[1]), 1)[: pattern.ndim]
        return np.ascontiguousarray(np.tile(pattern, repeats)[: self.height, : self.width])


def _strokes(line: LineString, width: float, dashed: bool) -> list[Polygon]:
    """The painted areas of a line; dashes are 3 m with 6 m gaps."""
    if not dashed:
        return [line.buffer(width / 2, cap_style="flat")]
    starts = np.arange(0.0, line.length, 9.0)
    return [substring(line, s, min(s + 3.0, line.length)).buffer(width / 2, cap_style="flat") for s in starts]


def _zebra(crossing: Polygon) -> list[Polygon]:
    """Stripes of a crossing, 0.5 m wide every metre, along the traffic (across the longer side of the area)."""
    corners = np.asarray(crossing.minimum_rotated_rectangle.exterior.coords)[:4]
    sides = np.roll(corners, -1, 0) - corners
    lengths = np.hypot(*sides.T)
    first = int(np.argmax(lengths[:2]))
    start, along, across = corners[first], sides[first] / lengths[first], sides[(first + 1) % 4]
    count = max(int(lengths[first]), 1)
    at = (np.arange(count) + (lengths[first] - count) / 2 + 0.25)[:, None] * along + start
    return [Polygon([p, p + 0.5 * along, p + 0.5 * along + across, p + across]) for p in at]


def _paint(
    image: np.ndarray, mask: np.ndarray, colour: np.ndarray | tuple[float, ...], opacity: np.ndarray | None = None
) -> None:
    """Blend a colour, or a tiled picture, into the picture (H, W, 3) uint8 where a mask (H, W) uint8 is set."""
    at = np.flatnonzero(mask)
    cover = mask.ravel()[at].astype(np.float32)[:, None] / 255
    if opacity is not None:
        cover *= opacity.ravel()[at].astype(np.float32)[:, None] / 255
    paint = colour.reshape(-1, 3)[at] if isinstance(colour, np.ndarray) else np.array(colour, np.float32) * 255
    flat = image.reshape(-1, 3)
    under = flat[at].astype(np.float32)
    flat[at] = np.rint(under + cover * (paint - under)).astype(np.uint8)


TILE = 1024
"""Texels a side of the repeated materials, 102.4 m."""


def materials(seed: int) -> dict[str, np.ndarray]:
    """Asphalt, paving and grass (TILE, TILE, 3), and the opacity of worn paint and puddles (TILE, TILE), all uint8."""
    rng = np.random.default_rng([seed, 7])
    fine, broad, vein, pool = (
        np.roll(grain(number, TILE, smooth, detail), rng.integers(0, TILE, 2), (0, 1))
        for number, smooth, detail in ((2, 0.4, 1.0), (3, 1.6, 1.0), (4, 1.3, 6.0), (5, 1.9, 1.0))
    )
    cracks = (np.abs(vein) < 0.03) & (broad > 0.2)
    tone = float(rng.uniform(0.40, 0.46))
    asphalt = tone + 0.020 * broad + 0.030 * fine - 0.10 * cracks
    cell = np.arange(TILE) // 16
    slab = rng.uniform(0.575, 0.625, (TILE // 16, TILE // 16))[cell[:, None], cell[None]] + 0.02 * fine + 0.02 * broad
    seam = np.arange(TILE) % 16 == 0
    slab -= 0.12 * (seam[:, None] | seam[None])
    grass = np.stack([0.30 + 0.04 * broad, 0.34 + 0.03 * broad, 0.19 + 0.02 * broad], -1) + 0.035 * fine[..., None]
    colours = {
        "asphalt": np.stack([asphalt, asphalt, 1.02 * asphalt], -1), "gutter": np.stack([asphalt - 0.06] * 3, -1),
        "patched": np.stack([asphalt - 0.06 + 0.03 * np.sin(5 * broad)] * 3, -1), "parking": np.stack([1.08 * asphalt] * 3, -1),
        "paving": np.stack([slab, 0.97 * slab, 0.92 * slab], -1), "grass": grass,
        "paint": np.clip(0.93 - 0.10 * np.maximum(broad, 0) - 0.05 * fine, 0.5, 1.0), "puddle": np.clip((pool + 0.1) * 2.0, 0, 1),
    }  # fmt: skip
    return {name: texels(value) for name, value in colours.items()}


def draw_ground(layout: Layout, path: np.ndarray, patterns: dict[str, np.ndarray] | None = None) -> Ground:
    """The ground within 120 m of the bounding box of a path (P, 2); its edge texels go on beyond.

    patterns: what it is made of, as ``materials`` gives by default.
    """
    low = np.floor((path.min(0) - 120.0) / TEXEL) * TEXEL
    size = np.ceil((path.max(0) + 120.0 - low) / TEXEL).astype(int)
    canvas = _Canvas(low, int(size[1]), int(size[0]))
    material = {name: canvas.tile(pattern) for name, pattern in (patterns or materials(layout.seed)).items()}
    image = material["grass"]
    classes = np.full(image.shape[:2], TERRAIN, np.uint8)
    near = Polygon.from_bounds(*low, *(low + size * TEXEL))
    street = unary_union([*layout.road, *layout.intersections]).intersection(near)
    road, walk = canvas.fill([street]), canvas.fill(layout.walkways)
    beside = canvas.fill([street.buffer(0.28)])
    kerb = np.minimum(np.where(road > 127, 0, beside), cv2.dilate(walk, np.ones((9, 9), np.uint8)))  # only where a sidewalk is
    patched = np.minimum(canvas.fill(_patches(street, np.random.default_rng([layout.seed, 8]))), road)
    for mask, colour, semantic in (
        (walk, material["paving"], SIDEWALK), (kerb, (0.74, 0.73, 0.70), SIDEWALK), (road, material["gutter"], ROAD),
        (canvas.fill([street.buffer(-0.35)]), material["asphalt"], ROAD), (patched, material["patched"], ROAD),
        (canvas.fill(layout.carparks), material["parking"], ROAD),
    ):  # fmt: skip
        _paint(image, mask, colour)
        np.copyto(classes, semantic, where=mask > 127)
    zebra = canvas.fill([s for crossing in layout.crossings for s in _zebra(crossing)])
    _paint(image, zebra, _PAINT["white"], material["paint"])
    np.copyto(classes, CROSSING, where=canvas.fill(layout.crossings) > 127)
    for name, colour in _PAINT.items():
        lines = canvas.fill([s for m in layout.markings if m.colour == name for s in _strokes(m.line, m.width, m.dashed)])
        _paint(image, lines, colour, material["paint"])
        np.copyto(classes, MARKING, where=lines > 127)
    puddle = np.where(road > 127, material["puddle"], 0).astype(np.uint8)
    levels = pyramid(np.concatenate([image, puddle[..., None]], -1))[:8]
    areas = [level.shape[0] * level.shape[1] for level in levels]
    return Ground(
        low, classes, np.concatenate([level.reshape(-1, 4).view(np.uint32).ravel() for level in levels]),
        np.cumsum([0, *areas[:-1]]), *(np.array([level.shape[axis] for level in levels]) for axis in (1, 0)),
    )  # fmt: skip


def _patches(road: Polygon | MultiPolygon, rng: np.random.Generator) -> list[Polygon]:
    """Rectangles of repaired asphalt, about one in 150 square metres."""
    if road.is_empty:
        return []
    x0, y0, x1, y1 = road.bounds
    count = int((x1 - x0) * (y1 - y0) / 150)
    centres = rng.uniform((x0, y0), (x1, y1), (count, 2))
    sizes = rng.uniform((0.6, 0.6), (5.0, 2.0), (count, 2))
    turned = rng.random(count) < 0.5
    patches = []
    for (x, y), (a, b), turn in zip(centres, sizes, turned, strict=True):
        a, b = (b, a) if turn else (a, b)
        patches.append(Polygon([(x, y), (x + a, y), (x + a, y + b), (x, y + b)]))
    return [p for p in patches if road.intersects(p)]
