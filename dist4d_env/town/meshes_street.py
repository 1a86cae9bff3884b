"""Shapes of everything that never moves above the ground: buildings, trees and street furniture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from shapely.affinity import translate
from shapely.geometry import Polygon
from shapely.geometry.polygon import orient

from dist4d_env.errors import DataError
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.town import textures_facade
from dist4d_env.town.meshes import Material, Mesh, blob, box, cylinder, flat, join, quads, tube
from dist4d_env.town.model import Building, Layout, Prop
from dist4d_env.town.textures import TextureSet
from dist4d_env.town.textures_ground import BUILDING, POLE, VEGETATION

BAY, STOREY, SHOP = 3.0, 3.1, 4.0
"""Metres: width of a window bay, height of a storey and of the ground floor."""


class Pictures(Protocol):
    """What is painted on buildings and furniture, as ``textures_facade`` draws it: (H, W, 4) uint8 by style."""

    @property
    def STYLES(self) -> int: ...
    def wall_colour(self, style: int) -> np.ndarray: ...
    def facade(self, style: int) -> np.ndarray: ...
    def ground_floor(self, style: int) -> np.ndarray: ...
    def roof_tiles(self, style: int) -> np.ndarray: ...
    def leaves(self, style: int) -> np.ndarray: ...
    def bark(self) -> np.ndarray: ...
    def road_sign(self, style: int) -> np.ndarray: ...


Maker = Callable[[Prop, TextureSet, Any], Mesh]
"""From a piece of furniture, textures and pictures to its shape."""


def street_mesh(layout: Layout, textures: TextureSet, origin: np.ndarray) -> Mesh | None:
    """Buildings and props of a layout relative to ``origin`` (2,), or None where there are none."""
    x, y = map(float, origin)
    buildings = [replace(b, footprint=translate(b.footprint, -x, -y)) for b in layout.buildings]
    props = [replace(p, x=p.x - x, y=p.y - y) for p in layout.props]
    meshes = [building_mesh(b, textures, textures_facade) for b in buildings] + [
        prop_mesh(p, textures, textures_facade) for p in props
    ]
    return join(meshes) if meshes else None


def building_mesh(building: Building, textures: TextureSet, pictures: Pictures) -> Mesh:
    """Walls with windows, a ground floor, a cornice, and a flat or (on small houses) a pitched roof."""
    footprint = orient(building.footprint, 1.0)
    outline = np.asarray(footprint.exterior.coords)[:-1, :2]
    style = building.style % pictures.STYLES
    rng = np.random.default_rng([building.style, 21])
    upper = textures.get(("facade", style), lambda: pictures.facade(style))
    lower = textures.get(("ground floor", style), lambda: pictures.ground_floor(style))
    pitched = building.height < 10.0 and len(outline) == 4
    eaves = building.height - (min(2.5, building.height / 3) if pitched else 0.0)
    shop = min(SHOP, eaves / 2)
    start = rng.integers(textures_facade.BAYS) / textures_facade.BAYS
    ends = np.roll(outline, -1, 0)
    bays = np.maximum(np.rint(np.hypot(*(ends - outline).T) / BAY), 1) / textures_facade.BAYS
    right = start + np.cumsum(bays)
    storeys = max(round((eaves - shop) / STOREY), 1) / textures_facade.FLOORS
    left = right - bays
    walls = ((0.0, shop, 1.0, lower), (shop, eaves, storeys, upper))
    meshes = [_walls(outline, ends, low, high, left, right, tiles, face) for low, high, tiles, face in walls]
    colour = pictures.wall_colour(style)
    if pitched:
        meshes.append(_pitched_roof(outline, eaves, building.height, textures, style, pictures))
    else:
        meshes.append(_cap(footprint, eaves, (0.42, 0.41, 0.40)))
        meshes.append(_band(footprint, eaves - 0.45, eaves + 0.25, 0.22, np.minimum(colour * 1.12, 0.95)))
    meshes.append(_band(footprint, shop - 0.12, shop + 0.12, 0.10, np.minimum(colour * 1.1, 0.95)))
    return join(meshes)


def _walls(
    a: np.ndarray, b: np.ndarray, low: float, high: float, left: np.ndarray, right: np.ndarray, up: float, texture: int
) -> Mesh:
    """Upright faces over edges a to b (N, 2), showing a texture from u = left to right (N,) and v = 0 to up."""
    corners = np.stack([_level(a, low), _level(b, low), _level(b, high), _level(a, high)], 1)
    zero = np.zeros_like(left)
    uv = np.stack([np.stack([u, v], -1) for u, v in ((left, zero), (right, zero), (right, zero + up), (left, zero + up))], 1)
    return quads(corners, uv, texture=texture, semantic=BUILDING)


def _level(points: np.ndarray, z: float) -> np.ndarray:
    """Points (N, 2) at a height, (N, 3)."""
    return np.concatenate([points, np.full((len(points), 1), z)], 1)


def _cap(footprint: Polygon, height: float, tint: tuple[float, float, float]) -> Mesh:
    """A horizontal face."""
    outline = np.asarray(footprint.exterior.coords)[:-1, :2]
    return flat(_level(outline, height)[_ears(outline)], tint=tint, semantic=BUILDING)


def _ears(outline: np.ndarray) -> np.ndarray:
    """Triangles (P - 2, 3) of a simple counter-clockwise polygon (P, 2), by cutting ears off."""
    left, triangles = list(range(len(outline))), []
    while len(left) > 3:
        for k in range(len(left)):
            i, j, m = left[k - 1], left[k], left[(k + 1) % len(left)]
            a, b, c = outline[[i, j, m]]
            if _turn(a, b, c) <= 0:
                continue
            others = outline[[p for p in left if p not in (i, j, m)]]
            inside = (_turn(a, b, others) >= 0) & (_turn(b, c, others) >= 0) & (_turn(c, a, others) >= 0)
            if not inside.any():
                break
        else:  # only slivers are left: cut anywhere
            k, (i, j, m) = 1, left[:3]
        triangles.append((i, j, m))
        left.remove(j)
    return np.array([*triangles, tuple(left)])


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Twice the signed area of triangles a, b, c (..., 2)."""
    return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])


def _band(footprint: Polygon, low: float, high: float, out: float, tint: np.ndarray) -> Mesh:
    """A cornice around a footprint: face, underside and top."""
    inner = np.asarray(footprint.exterior.coords)[:-1, :2]
    before, after = np.roll(inner, 1, 0), np.roll(inner, -1, 0)
    normal = _outward(before, inner) + _outward(inner, after)
    outer = inner + normal / np.maximum((normal**2).sum(1, keepdims=True) / 2, 0.5) * out
    o2, i2 = np.roll(outer, -1, 0), after
    face = np.stack([_level(outer, low), _level(o2, low), _level(o2, high), _level(outer, high)], 1)
    under = np.stack([_level(inner, low), _level(i2, low), _level(o2, low), _level(outer, low)], 1)
    top = np.stack([_level(outer, high), _level(o2, high), _level(i2, high), _level(inner, high)], 1)
    back = np.stack([_level(i2, low), _level(inner, low), _level(inner, high), _level(i2, high)], 1)
    return quads(np.concatenate([face, under, top, back]), tint=tuple(tint), semantic=BUILDING)


def _outward(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Unit normals to the right of edges a to b: outwards of a counter-clockwise outline."""
    d = b - a
    return np.stack([d[:, 1], -d[:, 0]], 1) / np.maximum(np.hypot(d[:, 0], d[:, 1]), 1e-9)[:, None]


def _pitched_roof(outline: np.ndarray, eaves: float, ridge: float, textures: TextureSet, style: int, pictures: Pictures) -> Mesh:
    """A gable over four corners with the ridge along the longer side."""
    if np.hypot(*(outline[1] - outline[0])) < np.hypot(*(outline[2] - outline[1])):
        outline = np.roll(outline, -1, 0)
    a, b, c, d = (np.array([*p, eaves]) for p in outline)
    m, n = np.array([*(outline[0] + outline[3]) / 2, ridge]), np.array([*(outline[1] + outline[2]) / 2, ridge])
    long, slope = np.linalg.norm(b - a) / 4, np.linalg.norm(m - a) / 4
    uv = np.array([[(0, 0), (long, 0), (long, slope), (0, slope)]] * 2)
    tiles = textures.get(("roof", style), lambda: pictures.roof_tiles(style))
    roof = quads(np.array([[a, b, n, m], [c, d, m, n]]), uv, texture=tiles, semantic=BUILDING)
    gable = flat(np.array([[b, c, n], [d, a, m]]), tint=tuple(pictures.wall_colour(style)), semantic=BUILDING)
    return join([roof, gable])


def prop_mesh(prop: Prop, textures: TextureSet, pictures: Pictures, makers: Mapping[str, Maker] | None = None) -> Mesh:
    """One piece of street furniture, on the ground where it stands; makers: of each kind, MAKERS by default."""
    makers = MAKERS if makers is None else makers
    if prop.kind not in makers:
        raise DataError(f"unknown street furniture {prop.kind!r} in the town layout; known kinds are {', '.join(makers)}")
    return makers[prop.kind](prop, textures, pictures).moved(pose_from_xy_yaw(prop.x, prop.y, prop.yaw))


def _tree(prop: Prop, textures: TextureSet, pictures: Pictures) -> Mesh:
    rng = np.random.default_rng([prop.style, 31])
    length, width, height = prop.size
    leaf = textures.get(("leaves", prop.style % 10), lambda: pictures.leaves(prop.style % 10))
    bark = textures.get("bark", pictures.bark)
    crown = np.array([length / 2, width / 2, height * rng.uniform(0.30, 0.36)])
    centre = np.array([0, 0, height - crown[2]])
    girth = height**0.9
    trunk = cylinder(0, 0, 0, centre[2], 0.035 * girth, 0.02 * girth, sides=6, texture=bark, semantic=VEGETATION, caps=False)
    meshes = [trunk]
    count = int(rng.integers(5, 8))
    for i in range(count):
        angle = 2 * np.pi * (i / count + rng.uniform(0, 0.1))
        share = rng.uniform(0.46, 0.62)
        reach = (1 - share) * np.array([np.cos(angle), np.sin(angle), rng.uniform(-0.9, 0.9)])
        tint = np.full(3, rng.uniform(0.85, 1.15))
        lumps = rng.uniform(0.8, 1.08, 42)
        meshes.append(blob(centre + crown * reach, crown * share, lumps, texture=leaf, semantic=VEGETATION, tint=tint))
    above, lumps = np.add(centre, (0, 0, crown[2] * 0.35)), rng.uniform(0.8, 1.0, 42)
    top = blob(above, crown * 0.64, lumps, texture=leaf, semantic=VEGETATION, tint=(1.1, 1.1, 1.1))
    return join([*meshes, top])


def _pole(prop: Prop, textures: TextureSet, pictures: Pictures) -> Mesh:
    return cylinder(0, 0, 0, prop.size[2], 0.09, 0.07, semantic=POLE, tint=(0.42, 0.42, 0.42))


def _lamp(prop: Prop, textures: TextureSet, pictures: Pictures) -> Mesh:
    height = prop.size[2]
    arm = max(prop.size[0] / 2, 1.0)
    steel: Material = {"semantic": POLE, "tint": (0.36, 0.38, 0.39)}
    return join([
        cylinder(0, 0, 0, height, 0.10, 0.06, **steel),
        box((0, -0.04, height - 0.12), (arm, 0.04, height - 0.02), **steel),
        box((arm - 0.55, -0.13, height - 0.16), (arm, 0.13, height - 0.05), **steel),
        quads([[(x, y, height - 0.17) for x, y in ((arm - 0.5, -0.1), (arm - 0.5, 0.1), (arm - 0.05, 0.1), (arm - 0.05, -0.1))]],
              semantic=POLE, tint=(1.0, 0.86, 0.6), glow=3.0),
    ])  # fmt: skip


def _sign(prop: Prop, textures: TextureSet, pictures: Pictures) -> Mesh:
    height = prop.size[2]
    face = textures.get(("sign", prop.style % 5), lambda: pictures.road_sign(prop.style % 5))
    half = min(max(prop.size[1] / 2, 0.3), 0.5)
    z0, z1 = height - 2 * half, height
    front = [[(0.06, -half, z0), (0.06, half, z0), (0.06, half, z1), (0.06, -half, z1)]]
    return join([
        cylinder(0, 0, 0, height, 0.04, sides=6, semantic=POLE, tint=(0.5, 0.5, 0.5)),
        quads(front, np.array([[(0, 0), (1, 0), (1, 1), (0, 1)]]), texture=face, semantic=POLE),
        quads([[(0.05, half, z0), (0.05, -half, z0), (0.05, -half, z1), (0.05, half, z1)]],
              semantic=POLE, tint=(0.45, 0.45, 0.46)),
    ])  # fmt: skip


def _hedge(prop: Prop, textures: TextureSet, pictures: Pictures) -> Mesh:
    length, width, height = prop.size
    leaf = textures.get(("leaves", prop.style % 10), lambda: pictures.leaves(prop.style % 10))
    sections = max(round(length / 0.8), 1) + 1
    rng = np.random.default_rng([prop.style, 32])
    angle = np.array([-0.5, -0.18, 0.18, 0.5]) * np.pi
    profile = np.stack([np.sin(angle), np.cos(angle)], -1) * (width / 2, height)
    profile[[0, -1], 1] = 0.0
    profile[1:3] = [[-0.42 * width, 0.94 * height], [0.42 * width, 0.94 * height]]
    rings = np.zeros((sections, 4, 3))
    rings[..., 0] = np.linspace(-length / 2, length / 2, sections)[:, None]
    rings[..., 1:] = profile * (1 - rng.uniform(0, 0.1, (sections, 4, 1)))
    return tube(rings[:, ::-1], (2.0, max(length / 2.0, 1.0)), texture=leaf, semantic=VEGETATION)


def _bin(prop: Prop, textures: TextureSet, pictures: Pictures) -> Mesh:
    length, width, height = prop.size
    colour = [(0.16, 0.30, 0.18), (0.22, 0.22, 0.24), (0.42, 0.30, 0.12)][prop.style % 3]
    return join([
        box((-length / 2, -width / 2, 0), (length / 2, width / 2, height * 0.9), semantic=POLE, tint=colour),
        box((-length / 2, -width / 2, height * 0.9), (length / 2, width / 2, height), semantic=POLE, tint=np.array(colour) * 0.6),
    ])  # fmt: skip


MAKERS: dict[str, Maker] = {"tree": _tree, "pole": _pole, "lamp": _lamp, "sign": _sign, "hedge": _hedge, "bin": _bin}
"""Shapes of street furniture by ``Prop.kind``."""
