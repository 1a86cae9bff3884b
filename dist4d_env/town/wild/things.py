"""Shapes of what stands in wild streets: leafy trees, bushes, fences, rails, cables, trailers, boards, random solids."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from shapely.geometry.polygon import orient

from dist4d_env.town.meshes import Material, Mesh, blob, box, cylinder, flat, join, quads, tube
from dist4d_env.town.meshes_street import MAKERS, Maker, building_mesh
from dist4d_env.town.model import Building, Prop
from dist4d_env.town.textures import TextureSet
from dist4d_env.town.textures_ground import BARRIER, BUILDING, POLE, VEGETATION, VEHICLE
from dist4d_env.town.wild.natural import muted
from dist4d_env.town.wild.pictures import WildPictures

_GRIME = 2.4
"""Metres that a tile of grime covers."""
_FACE = np.array([[(0, 0), (1, 0), (1, 1), (0, 1)]])


def grimy(mesh: Mesh, texture: int) -> Mesh:
    """A mesh whose plain faces bear a texture, laid on along the axis that each faces most."""
    bare = mesh.texture == 0
    axis = np.abs(mesh.normals.mean(1)).argmax(1)
    pick = np.array([[1, 2], [0, 2], [0, 1]])[axis]  # (N, 2)
    uv = np.take_along_axis(mesh.corners, np.repeat(pick[:, None], 3, 1), 2) / _GRIME
    return replace(
        mesh, texture=np.where(bare, texture, mesh.texture).astype(np.int32), uv=np.where(bare[:, None, None], uv, mesh.uv),
        tint=np.where(bare[:, None], np.minimum(mesh.tint * 1.12, 1.0), mesh.tint).astype(np.float32),
    )  # fmt: skip


def wild_building(building: Building, textures: TextureSet, pictures: WildPictures) -> Mesh:
    """A building with things on its walls: fins, slabs, canopies and boxes that throw shadows."""
    rng = np.random.default_rng([building.style, 74])
    outline = np.asarray(orient(building.footprint, 1.0).exterior.coords)[:-1, :2]
    meshes = [building_mesh(building, textures, pictures)]
    kind, tint = rng.random(), muted(rng, 2, 0.05, 0.2, 0.85)
    top = building.height * 0.72
    for a, b in zip(outline, np.roll(outline, -1, 0), strict=True):
        length = float(np.hypot(*(b - a)))
        if length < 5:
            continue
        along = (b - a) / length
        frame = np.eye(4)
        frame[:2, 0], frame[:2, 1], frame[:2, 3] = along, (-along[1], along[0]), a  # y points inwards
        parts: list[Mesh] = []
        if kind < 0.25:
            deep, step = rng.uniform(0.1, 0.28), rng.choice([1.5, 3.0, 4.5])
            parts += [
                box((s - 0.15, -deep, 0), (s + 0.15, 0.05, top), tint=tint[0], semantic=BUILDING)
                for s in np.arange(0.4, length, step)
            ]
        elif kind < 0.45:
            deep = rng.uniform(0.3, 1.1)
            parts += [
                box((0.3, -deep, z), (length - 0.3, 0.05, z + 0.25), tint=tint[0], semantic=BUILDING)
                for z in np.arange(3.6, top, 3.1)
            ]
        elif kind < 0.7:
            parts.append(box((0.5, -rng.uniform(0.6, 1.6), 3.1), (length - 0.5, 0.05, 3.35), tint=tint[1], semantic=BUILDING))
        for _ in range(int(rng.integers(0, 6))):  # coolers, boxes, pipes
            s, z = rng.uniform(0.5, length - 1.2), rng.uniform(2.8, max(top, 3.0))
            parts.append(box((s, -0.35, z), (s + 0.8, 0.02, z + 0.6), tint=tint[1], semantic=BUILDING))
        if parts:
            meshes.append(join(parts).moved(frame))
    return join(meshes)


def _foliage(centre: np.ndarray, radii: np.ndarray, count: int, size: float, texture: int, rng: np.random.Generator) -> Mesh:
    """Leaves on and around an ellipsoid: ``count`` triangles of about ``size`` metres, shaded as the ellipsoid is."""
    outward = rng.normal(size=(count, 3)).astype(np.float32)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    middle = outward * radii * rng.uniform(0.72, 1.12, (count, 1))
    spread = rng.normal(size=(count, 3, 3)).astype(np.float32) * (size * rng.uniform(0.4, 1.0, (count, 1, 1)))
    corners = centre + middle[:, None] + spread
    corners[..., 2] = np.maximum(corners[..., 2], 0.03)
    normal = outward / radii
    normal = normal / np.linalg.norm(normal, axis=1, keepdims=True) + 0.5 * rng.normal(size=(count, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    uv = rng.uniform(0, 1, (count, 1, 2)) + rng.uniform(-0.3, 0.3, (count, 3, 2))
    tint = np.clip(rng.lognormal(-0.05, 0.25, (count, 1)) * (0.75 + 0.3 * (outward[:, 2:] + 1) / 2) * np.ones(3), 0.2, 1.5)
    return flat(
        corners, uv, texture=texture, tint=tint, semantic=VEGETATION,
        normals=np.repeat(normal[:, None].astype(np.float32), 3, 1),
    )  # fmt: skip


def _leaves(prop: Prop, textures: TextureSet, pictures: WildPictures) -> int:
    return textures.get(("leaves", prop.style % 8), lambda: pictures.leaves(prop.style % 8))


def _tree(prop: Prop, textures: TextureSet, pictures: WildPictures) -> Mesh:
    """Broad, slim or high trees, palms and bare ones."""
    rng = np.random.default_rng([prop.style, 75])
    leaf = _leaves(prop, textures, pictures)
    bark: Material = {"texture": textures.get("bark", pictures.bark), "semantic": VEGETATION}
    length, width, height = prop.size
    kind = rng.choice(["broad", "slim", "palm", "bare"], p=[0.62, 0.16, 0.14, 0.08])
    lean = rng.uniform(-0.06, 0.06, 2) * height
    rings = np.array([
        [(lean[0] * s + r * np.cos(t), lean[1] * s + r * np.sin(t), z) for t in np.arange(6) / 3 * np.pi]
        for s, z, r in ((0, 0, 0.03 * height), (0.4, 0.4 * height, 0.02 * height), (1, 0.8 * height, 0.008 * height))
    ])  # fmt: skip
    meshes = [tube(rings, caps=False, **bark)]
    if kind == "palm":
        meshes += [_frond(np.array([*lean, 0.8 * height]), angle, rng, leaf) for angle in np.arange(12) / 6 * np.pi]
        return join(meshes)
    for _ in range(int(rng.integers(6, 14)) if kind == "bare" else int(rng.integers(2, 5))):
        start = np.array([*(lean * 0.6), height * rng.uniform(0.35, 0.7)])
        tip = start + np.array([*(rng.normal(0, 0.22, 2) * height), height * rng.uniform(0.08, 0.3)])
        meshes.append(_stick(start, tip, 0.008 * height, **bark))
    if kind == "bare":
        return join(meshes)
    slim = kind == "slim"
    for _ in range(2 if slim else int(rng.integers(3, 6))):
        radii = np.array([length, width, height]) * rng.uniform(0.2, 0.32, 3) * (1, 1, 0.75 + slim)
        centre = np.array([*(lean + rng.normal(0, 0.04 if slim else 0.17, 2) * length), height * rng.uniform(0.55, 0.8)])
        lumps = rng.uniform(0.65, 1.0, 42)
        meshes.append(blob(centre, radii * 0.85, lumps, texture=leaf, semantic=VEGETATION, tint=(0.62, 0.62, 0.62)))
        meshes.append(_foliage(centre, radii, 110, 0.03 * height, leaf, rng))
    return join(meshes)


def _frond(base: np.ndarray, angle: float, rng: np.random.Generator, texture: int) -> Mesh:
    """A palm leaf that rises and droops."""
    angle, reach = angle + rng.uniform(-0.2, 0.2), rng.uniform(1.4, 2.4)
    out, side = np.array([np.cos(angle), np.sin(angle), 0]), np.array([-np.sin(angle), np.cos(angle), 0])
    spine = [base + out * reach * s + (0, 0, reach * (0.55 * s - 0.9 * s * s) + 0.1) for s in (0, 0.35, 0.7, 1.0)]
    half = [0.05, 0.28, 0.2, 0.02]
    faces = [
        [
            spine[i] - side * half[i],
            spine[i] + side * half[i],
            spine[i + 1] + side * half[i + 1],
            spine[i + 1] - side * half[i + 1],
        ]
        for i in range(3)
    ]
    return quads(np.array(faces), np.repeat(_FACE, 3, 0), texture=texture, semantic=VEGETATION)


def _stick(start: np.ndarray, end: np.ndarray, radius: float, **material: Any) -> Mesh:
    """A thin bar of three sides between two points (3,)."""
    axis = (end - start) / max(float(np.linalg.norm(end - start)), 1e-6)
    across = np.cross(axis, (0.3, 0.9, 0.1) if abs(axis[1]) < 0.9 else (1.0, 0, 0))
    across /= np.linalg.norm(across)
    other = np.cross(axis, across)
    circle = np.stack([np.cos(t) * across + np.sin(t) * other for t in np.arange(3) / 1.5 * np.pi]) * radius
    return tube(np.stack([start + circle, end + circle]), caps=False, **material)


def _bush(prop: Prop, textures: TextureSet, pictures: WildPictures) -> Mesh:
    rng = np.random.default_rng([prop.style, 76])
    leaf, (length, width, height) = _leaves(prop, textures, pictures), prop.size
    meshes = []
    for s in np.arange(0.5, max(round(length / max(height, 0.5)), 1)) / max(round(length / max(height, 0.5)), 1) - 0.5:
        centre = np.array([s * length, rng.normal(0, 0.1) * width, height * rng.uniform(0.35, 0.5)])
        radii = np.array([height * 0.65, width * 0.5, height * rng.uniform(0.45, 0.6)])
        meshes.append(
            blob(centre, radii * 0.85, rng.uniform(0.7, 1, 42), texture=leaf, semantic=VEGETATION, tint=(0.6, 0.6, 0.6))
        )
        meshes.append(_foliage(centre, radii, 45, 0.12, leaf, rng))
    mesh = join(meshes)
    return replace(mesh, corners=np.maximum(mesh.corners, (-np.inf, -np.inf, 0)).astype(np.float32))


def _fence(prop: Prop, textures: TextureSet, pictures: WildPictures) -> Mesh:
    """Posts with bars, boards or a wall between them."""
    rng = np.random.default_rng([prop.style, 77])
    (length, _, height), half = prop.size, prop.size[0] / 2
    material: Material = {"semantic": BARRIER, "tint": muted(rng, 1, 0.1, 0.1, 0.8)[0]}
    meshes = [box((s - 0.04, -0.04, 0), (s + 0.04, 0.04, height), **material) for s in np.arange(-half, half + 0.1, 2.0)]
    kind = rng.random()
    if kind < 0.45:  # bars
        meshes += [box((-half, -0.02, z), (half, 0.02, z + 0.05), **material) for z in (0.12, height - 0.08)]
        step = rng.choice([0.15, 0.3])
        meshes += [box((s - 0.012, -0.012, 0.1), (s + 0.012, 0.012, height), **material) for s in np.arange(-half, half, step)]
    elif kind < 0.75:  # rails
        meshes += [
            box((-half, -0.03, z), (half, 0.03, z + height * 0.16), **material) for z in height * np.array([0.2, 0.5, 0.8])
        ]
    else:
        board = textures.get(("board", prop.style % 6), lambda: pictures.board(prop.style % 6))
        tiles = _FACE * (max(length / 4, 1), 1)
        for y in (-0.05, 0.05):
            face = [[(-half, y, 0.05), (half, y, 0.05), (half, y, height), (-half, y, height)]]
            meshes.append(quads(face, tiles, texture=board if rng.random() < 0.4 else 0, **material | {"tint": (0.8, 0.8, 0.8)}))
    return join(meshes)


def _rail(prop: Prop, textures: TextureSet, pictures: WildPictures) -> Mesh:
    """A guard rail, kerbside barriers in two colours, or a row of posts."""
    rng = np.random.default_rng([prop.style, 78])
    half, height, kind = prop.size[0] / 2, prop.size[2], rng.random()
    colours = muted(rng, 2, 0.35)
    meshes = []
    if kind < 0.35:
        meshes = [
            box((s - 0.05, -0.05, 0), (s + 0.05, 0.05, 0.7), semantic=BARRIER, tint=colours[0]) for s in np.arange(-half, half, 2)
        ]
        meshes.append(box((-half, -0.06, 0.45), (half, 0.06, 0.75), semantic=BARRIER, tint=colours[1]))
    elif kind < 0.6:
        for i, s in enumerate(np.arange(-half, half - 1.0, 1.25)):
            shape = [
                [(-0.6, -0.22), (0.6, -0.22), (0.6, 0.22), (-0.6, 0.22)],
                [(-0.6, -0.09), (0.6, -0.09), (0.6, 0.09), (-0.6, 0.09)],
            ]
            rings = np.array([[(x + s + 0.6, y, z) for x, y in ring] for ring, z in zip(shape, (0, 0.9), strict=True)])
            meshes.append(tube(rings, semantic=BARRIER, tint=colours[i % 2]))
    else:
        radius = rng.uniform(0.03, 0.1)
        spots = np.arange(-half, half, rng.choice([1.2, 2.0]))
        meshes = [cylinder(s, 0, 0, height, radius, sides=6, semantic=POLE, tint=colours[0]) for s in spots]
    return join(meshes)


def _cable(prop: Prop, textures: TextureSet, pictures: WildPictures) -> Mesh:
    """Poles with cables that sag between them, along x."""
    rng = np.random.default_rng([prop.style, 79])
    length, _, height = prop.size
    steel: Material = {"semantic": POLE, "tint": muted(rng, 1, 0.0, 0.15, 0.6)[0]}
    meshes = [cylinder(s, 0, 0, height, 0.11, 0.08, sides=6, **steel) for s in (-length / 2, length / 2)]
    for _ in range(int(rng.integers(1, 5))):
        y, z, sag = rng.uniform(-0.5, 0.5), height - rng.uniform(0.05, 1.2), rng.uniform(0.2, 0.9)
        at = np.linspace(-1, 1, 9)
        line = np.stack([at * length / 2, np.full(9, y), z - sag * (1 - at**2)], -1)
        meshes += [_stick(a, b, 0.02, semantic=POLE, tint=(0.06, 0.06, 0.06)) for a, b in pairwise(line)]
    return join(meshes)


def _trailer(prop: Prop, textures: TextureSet, pictures: WildPictures) -> Mesh:
    """A parked trailer, container or caravan."""
    rng = np.random.default_rng([prop.style, 80])
    half, side, height = prop.size[0] / 2, prop.size[1] / 2, prop.size[2]
    deck = rng.choice([0.1, 0.55, 0.95])
    board = textures.get(("board", prop.style % 6), lambda: pictures.board(prop.style % 6))
    print_on = board if rng.random() < 0.6 else 0
    paint: Material = {"semantic": VEHICLE, "tint": muted(rng, 1, 0.2, 0.3, 0.9)[0]}
    meshes = [box((-half, -side, deck), (half, side, height), texture=print_on, **paint)]
    if deck > 0.3:
        for x in (-half * 0.6, -half * 0.3):
            for y in (-side + 0.15, side - 0.15):
                wheel = np.array([[x, y, 0.42]])
                meshes.append(blob(wheel[0], (0.42, 0.14, 0.42), semantic=VEHICLE, tint=(0.05, 0.05, 0.05)))
        meshes.append(box((half, -0.1, 0.45), (half + 1.0, 0.1, 0.6), semantic=VEHICLE, tint=(0.1, 0.1, 0.1)))
        meshes.append(box((half + 0.7, -0.06, 0), (half + 0.8, 0.06, 0.5), semantic=VEHICLE, tint=(0.1, 0.1, 0.1)))
    return join(meshes)


def _board(prop: Prop, textures: TextureSet, pictures: WildPictures) -> Mesh:
    """A poster or a large sign on one or two posts."""
    rng = np.random.default_rng([prop.style, 81])
    half, height = prop.size[1] / 2, prop.size[2]
    low = height - rng.uniform(0.4, 0.8) * min(2 * half, height)
    board = textures.get(("board", prop.style % 6), lambda: pictures.board(prop.style % 6))
    meshes = [
        cylinder(-0.06, y, 0, height, 0.05, sides=6, semantic=POLE, tint=(0.4, 0.4, 0.4)) for y in (-half * 0.8, half * 0.8)
    ]
    for x, sign in ((0.02, 1), (-0.12, -1)):
        face = [[(x, -half * sign, low), (x, half * sign, low), (x, half * sign, height), (x, -half * sign, height)]]
        meshes.append(quads(face, _FACE, texture=board, semantic=POLE))
    return join(meshes)


def _solid(prop: Prop, textures: TextureSet, pictures: WildPictures) -> Mesh:
    """Something: lumps, stacked boxes, a bent tube or a tapering block, in any colour."""
    rng = np.random.default_rng([prop.style, 82])
    length, width, height = prop.size
    colours = muted(rng, 4, 0.2)
    board = textures.get(("board", prop.style % 6), lambda: pictures.board(prop.style % 6))
    texture = board if rng.random() < 0.25 else 0
    kind = rng.integers(4)
    if kind == 0:
        lumps = np.clip(rng.normal(0.8, 0.25, 42), 0.3, 1.2)
        mesh = blob(
            (0, 0, height * 0.45), (length / 2, width / 2, height / 2), lumps, semantic=POLE, tint=colours[0], texture=texture
        )
    elif kind == 1:
        parts = []
        for _ in range(int(rng.integers(1, 6))):
            size = np.array(prop.size) * rng.uniform(0.25, 0.9, 3)
            low = np.array([*(rng.uniform(-0.5, 0.5, 2) * (np.array([length, width]) - size[:2]) - size[:2] / 2), 0])
            low[2] = rng.uniform(0, height - size[2]) if rng.random() < 0.3 else 0
            parts.append(box(low, low + size, semantic=POLE, tint=colours[int(rng.integers(4))], texture=texture))
        mesh = join(parts)
    elif kind == 2:
        turn = np.linspace(0, np.pi, 8)
        path = np.stack([np.cos(turn) * length / 2, np.zeros(8), np.sin(turn) * height * 0.95], -1)
        mesh = join([_stick(a, b, 0.05 + 0.05 * width, semantic=POLE, tint=colours[0]) for a, b in pairwise(path)])
    else:
        sides = int(rng.integers(3, 9))
        angle = np.arange(sides) / sides * 2 * np.pi
        levels = np.linspace(0, height, 4)
        girth = rng.uniform(0.4, 1.0, 4)
        rings = np.stack([
            np.stack([np.cos(angle) * length / 2 * g, np.sin(angle) * width / 2 * g, np.full(sides, z)], -1)
            for g, z in zip(girth, levels, strict=True)
        ])  # fmt: skip
        mesh = tube(rings, semantic=POLE, tint=colours[1], texture=texture)
    return replace(mesh, corners=np.maximum(mesh.corners, (-np.inf, -np.inf, 0)).astype(np.float32))


WILD_MAKERS: dict[str, Maker] = MAKERS | {
    "tree": _tree, "hedge": _bush, "bush": _bush, "fence": _fence, "rail": _rail, "cable": _cable, "trailer": _trailer,
    "board": _board, "solid": _solid,
}  # fmt: skip
"""Shapes of furniture by ``Prop.kind`` in wild looks."""
