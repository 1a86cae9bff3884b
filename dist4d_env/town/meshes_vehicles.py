"""Cars, vans, trucks, buses and two-wheelers in their box's frame: x forward, z up, origin at the centre of the box."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dist4d_env.town.meshes import Material, Mesh, box, flat, join, quads, tube
from dist4d_env.town.textures import TextureSet, texels
from dist4d_env.town.textures_ground import VEHICLE

PAINTS = (
    (0.86, 0.86, 0.86), (0.10, 0.10, 0.11), (0.50, 0.52, 0.54), (0.72, 0.73, 0.74), (0.55, 0.06, 0.06), (0.08, 0.16, 0.40),
    (0.80, 0.80, 0.76), (0.24, 0.25, 0.27), (0.12, 0.28, 0.20), (0.16, 0.32, 0.56), (0.70, 0.56, 0.12), (0.36, 0.20, 0.12),
)  # fmt: skip
GLASS, RUBBER, DARK, CHROME = (0.13, 0.16, 0.19), (0.05, 0.05, 0.05), (0.07, 0.07, 0.08), (0.62, 0.63, 0.65)
HEAD, TAIL = (1.0, 0.97, 0.88), (0.72, 0.04, 0.04)


def paint_of(style: int) -> tuple[float, float, float]:
    """Body colour of a style."""
    return PAINTS[style % len(PAINTS)]


def loft(stations: Sequence[tuple[float, Sequence[tuple[float, float]]]], material: Callable[[int, int], Material]) -> Mesh:
    """A hull symmetric about y = 0 through cross-sections (x, [(y, z) from bottom to top on the left side]), rear first.

    ``material(i, j)`` dresses the panel between stations i, i + 1 and profile points j, j + 1; both ends are closed
    with panels i = -1 (rear) and i = len(stations) - 1 (front).
    """
    left = np.array([[(x, y, z) for y, z in profile] for x, profile in stations], float)  # (S, P, 3)
    right = left * (1, -1, 1)
    meshes = []
    uv = [[(0, 0), (1, 0), (1, 1), (0, 1)]]
    for i in range(len(left) - 1):
        for j in range(left.shape[1] - 1):
            dress = material(i, j)
            a, b, c, d = left[i, j], left[i + 1, j], left[i + 1, j + 1], left[i, j + 1]
            meshes.append(quads(np.array([[b, a, d, c]]), np.array([[(1, 0), (0, 0), (0, 1), (1, 1)]]), **dress))
            a, b, c, d = right[i, j], right[i + 1, j], right[i + 1, j + 1], right[i, j + 1]
            meshes.append(quads(np.array([[a, b, c, d]]), np.array(uv), **dress))
        for j, up in ((0, False), (-1, True)):  # belly and roof between the two sides
            a, b, c, d = right[i, j], right[i + 1, j], left[i + 1, j], left[i, j]
            dress = material(i, left.shape[1] - 1 if up else -1)
            meshes.append(quads(np.array([[a, b, c, d] if up else [d, c, b, a]]), np.array(uv), **dress))
    for i, at in ((-1, 0), (len(left) - 1, -1)):
        for j in range(left.shape[1] - 1):
            r0, r1, l0, l1 = right[at, j], right[at, j + 1], left[at, j], left[at, j + 1]
            meshes.append(quads(np.array([[l0, r0, r1, l1] if i < 0 else [r0, l0, l1, r1]]), np.array(uv), **material(i, j)))
    return join(meshes)


def wheel(x: float, y: float, radius: float, width: float, sides: int = 10, rim: Sequence[float] = (0.45, 0.46, 0.48)) -> Mesh:
    """A wheel about the y axis, standing on z = 0, with its outer face at ``y``."""
    angle = -np.arange(sides) / sides * 2 * np.pi
    circle = np.stack([np.cos(angle), np.zeros(sides), np.sin(angle)], -1)
    out = np.sign(y) or 1.0
    centre = np.array([x, 0.0, radius])
    order = np.array([y - out * width, y] if out > 0 else [y, y - out * width])
    rings = np.stack([circle * radius + centre + (0, at, 0) for at in order])
    tyre = tube(rings, semantic=VEHICLE, tint=RUBBER)
    disc = circle * radius * 0.62 + centre + (0, y + out * 0.005, 0)
    middle = np.broadcast_to(np.add(centre, (0, y + out * 0.01, 0)), disc.shape)
    after = np.roll(disc, -1, 0)
    corners = np.stack([middle, disc, after] if out > 0 else [middle, after, disc], 1)
    return join([tyre, flat(corners, semantic=VEHICLE, tint=rim)])


def side_glass() -> np.ndarray:
    """A row of side windows with dark pillars (32, 128, 4), front at the right."""
    image = np.zeros((32, 128, 4))
    image[..., :3] = np.array(GLASS) * np.linspace(0.7, 2.0, 32)[:, None, None]
    for left, right in ((0, 6), (44, 50), (92, 98), (122, 128)):
        image[:, left:right, :3] = 0.03
    image[28:, :, :3] = 0.05
    return texels(image)


def side_panel() -> np.ndarray:
    """Doors, handles and a sill, white to be tinted (64, 128, 4)."""
    image = np.zeros((64, 128, 4))
    image[..., :3] = np.linspace(0.72, 1.0, 64)[:, None, None]
    image[:6, :, :3] = 0.25
    for column in (34, 66, 98):
        image[6:, column, :3] *= 0.55
    image[46:49, 44:50, :3] = image[46:49, 76:82, :3] = 0.4
    image[36:38, :, :3] *= 0.88
    return texels(image)


def front_glass() -> np.ndarray:
    """A windscreen with the sky in it (32, 32, 4)."""
    image = np.zeros((32, 32, 4))
    image[..., :3] = np.array(GLASS) * np.linspace(0.8, 2.4, 32)[:, None, None]
    image[:3, :, :3] = 0.04
    return texels(image)


def bus_side() -> np.ndarray:
    """Large windows over white panels to be tinted (64, 256, 4); lit inside at night."""
    image = np.zeros((64, 256, 4))
    image[..., :3] = 0.95
    image[:5, :, :3] = 0.2
    image[18:22, :, :3] = 0.55
    for left in range(6, 250, 35):
        image[30:56, left : left + 31, :3] = np.array([0.20, 0.24, 0.28]) * np.linspace(0.8, 1.7, 26)[:, None, None]
        image[30:56, left : left + 31, 3] = 0.9
    for left in (60, 200):
        image[6:58, left : left + 22, :3], image[6:58, left : left + 22, 3] = (0.12, 0.13, 0.15), 0.5
        image[6:58, left + 10 : left + 12, :3] = 0.5
    return texels(image)


def cargo_side() -> np.ndarray:
    """A box body with ribs and a stripe, white to be tinted (64, 128, 4)."""
    image = np.zeros((64, 128, 4))
    image[..., :3] = 0.95
    image[:, ::8, :3] = 0.82
    image[:4, :, :3] = image[-3:, :, :3] = 0.5
    image[22:42, 24:104, :3] *= 0.72
    image[28:36, 36:92, :3] = 0.95
    return texels(image)


_CARS = {  # fractions of length (from the rear) and height: (x, belt height, roof height or 0, width share)
    "sedan": dict(rear_deck=0.20, rear_glass=0.33, screen_top=0.58, screen=0.74, deck_z=0.66, hood_z=0.60),
    "hatch": dict(rear_deck=0.05, rear_glass=0.16, screen_top=0.58, screen=0.74, deck_z=0.62, hood_z=0.60),
    "suv": dict(rear_deck=0.03, rear_glass=0.09, screen_top=0.60, screen=0.74, deck_z=0.60, hood_z=0.60),
    "van": dict(rear_deck=0.02, rear_glass=0.05, screen_top=0.78, screen=0.92, deck_z=0.55, hood_z=0.52),
}


def car(size: tuple[float, float, float], style: int, textures: TextureSet) -> Mesh:
    """A passenger car; tall ones are vans, the style chooses the body and the paint."""
    length, width, height = size
    kind = "van" if height > 1.95 else "suv" if height > 1.66 else ("sedan", "hatch", "sedan")[style // 12 % 3]
    form = _CARS[kind]
    x = lambda share: (share - 0.5) * length  # noqa: E731
    w, floor = width / 2 - 0.03, 0.13 * height
    sill, belt, top = 0.30 * height, 0.58 * height, height
    deck, hood = form["deck_z"] * height, form["hood_z"] * height
    roof_w = 0.76 * w if kind != "van" else 0.88 * w

    def section(share: float, upper: float, half: float, roof: float | None = None) -> tuple[float, list[tuple[float, float]]]:
        crest = (roof_w, top - 0.04 * height) if roof else (half * 0.86, upper)
        return x(share), [(half * 0.93, floor), (half, sill), (half, min(belt, upper - 0.02)), crest]

    stations = [
        section(0.005, deck * 0.93, w * 0.90), section(0.03, deck, w * 0.96), section(form["rear_deck"] + 0.02, deck, w),
        section(form["rear_glass"] + 0.02, top, w, top), section((form["rear_glass"] + form["screen_top"]) / 2, top, w, top),
        section(form["screen_top"], top, w, top), section(form["screen"], hood, w), section(0.95, hood * 0.92, w * 0.95),
        section(0.995, hood * 0.80, w * 0.84),
    ]  # fmt: skip
    glass = textures.get("side glass", side_glass)
    panel = textures.get("side panel", side_panel)
    screen = textures.get("front glass", front_glass)
    paint: Material = {"semantic": VEHICLE, "tint": paint_of(style)}
    dark: Material = {"semantic": VEHICLE, "tint": DARK}

    def material(i: int, j: int) -> Material:
        if j == -1 or j == 0:
            return dark
        cabin = i in (3, 4) or (i in (2, 5) and j >= 2)
        if j == 2 and cabin:
            return {"semantic": VEHICLE, "texture": glass}
        if j == 3 and i in (2, 5):
            return {"semantic": VEHICLE, "texture": screen}
        if j == 1 and 2 <= i <= 5:
            return {**paint, "texture": panel}
        if i == 8 and j == 1:
            return {"semantic": VEHICLE, "tint": np.array(paint_of(style)) * 0.35 + 0.02}
        return paint

    meshes = [loft(stations, material)]
    radius = 0.215 * height if kind != "van" else 0.17 * height
    radius = float(np.clip(radius, 0.27, 0.38))
    for axle in (0.19, 0.81):
        for side in (1, -1):
            meshes.append(wheel(x(axle), side * (width / 2 - 0.012), radius, 0.2))
    meshes += _lights(length / 2 - 0.004, w * 0.84, hood * 0.66, hood * 0.80, deck * 0.66, deck * 0.88, w * 0.90)
    plate = {"semantic": VEHICLE, "tint": (0.85, 0.85, 0.80)}
    meshes.append(box((-length / 2, -0.26, 0.36 * height), (-length / 2 + 0.03, 0.26, 0.43 * height), **plate))
    meshes.append(box((length / 2 - 0.04, -0.26, 0.22 * height), (length / 2, 0.26, 0.29 * height), **plate))
    for side in (1, -1):
        low, high = sorted((side * (w - 0.05), side * width / 2))
        meshes.append(box((x(form["screen"]) - 0.32, low, belt), (x(form["screen"]) - 0.16, high, belt + 0.14), **paint))
    return join(meshes)


def _lights(end: float, half: float, low: float, high: float, tail_low: float, tail_high: float, tail_half: float) -> list[Mesh]:
    """Headlights and tail-lights as thin boxes at both ends of a hull of half-length ``end``."""
    lights = []
    for side in (1, -1):
        a, b = sorted((side * half * 0.98, side * half * 0.55))
        lights.append(box((end - 0.05, a, low), (end, b, high), semantic=VEHICLE, tint=HEAD, glow=2.0))
        a, b = sorted((side * tail_half * 0.99, side * tail_half * 0.62))
        lights.append(box((-end, a, tail_low), (-end + 0.05, b, tail_high), semantic=VEHICLE, tint=TAIL, glow=1.2))
    return lights


def truck(size: tuple[float, float, float], style: int, textures: TextureSet) -> Mesh:
    """A cab with a box body."""
    length, width, height = size
    cargo = textures.get("cargo side", cargo_side)
    screen = textures.get("front glass", front_glass)
    cab_length = min(2.2, 0.32 * length)
    w, back = width / 2, -length / 2
    front, split = length / 2, length / 2 - cab_length
    cab_top = min(height, 0.82 * height + 0.3)
    paint: Material = {"semantic": VEHICLE, "tint": paint_of(style)}
    body: Material = {"semantic": VEHICLE, "tint": PAINTS[(0, 6, 3, 9, 0, 4)[style // 12 % 6]], "texture": cargo}
    meshes = [
        box((back, -w, 0.28 * height), (split - 0.15, w, height), **body),
        box((back + 0.1, -w * 0.8, 0.16 * height), (split, w * 0.8, 0.28 * height), semantic=VEHICLE, tint=DARK),
    ]

    def material(i: int, j: int) -> Material:
        if j <= 0:
            return {"semantic": VEHICLE, "tint": DARK}
        if i in (1, 2) and j == 2:
            return {"semantic": VEHICLE, "texture": screen}
        return paint

    half = w * 0.96
    profile = [(half, 0.12 * height), (half, 0.2 * height), (half, 0.5 * height), (half * 0.94, cab_top - 0.06 * height)]
    slope = [(half, 0.12 * height), (half, 0.2 * height), (half, 0.5 * height), (half * 0.9, cab_top - 0.08 * height)]
    meshes.append(loft([(split, profile), (split + 0.3 * cab_length, profile), (front - 0.03, slope)], material))
    radius = float(np.clip(0.15 * height, 0.35, 0.52))
    axles = [front - 0.5 * cab_length, back + 0.18 * length] + ([back + 0.18 * length + 2.3 * radius] if length > 8 else [])
    for axle in axles:
        for side in (1, -1):
            meshes.append(wheel(axle, side * (w - 0.02), radius, 0.28))
    meshes += _lights(front, half, 0.22 * height, 0.29 * height, 0.2 * height, 0.27 * height, w)
    return join(meshes)


def bus(size: tuple[float, float, float], style: int, textures: TextureSet) -> Mesh:
    """A city bus."""
    length, width, height = size
    side = textures.get("bus side", bus_side)
    screen = textures.get("front glass", front_glass)
    paint = [(0.75, 0.12, 0.10), (0.86, 0.86, 0.84), (0.14, 0.40, 0.24), (0.85, 0.62, 0.12), (0.14, 0.28, 0.58)][style % 5]
    w = width / 2 - 0.02

    def material(i: int, j: int) -> Material:
        if j == -1:
            return {"semantic": VEHICLE, "tint": DARK}
        if i in (-1, 2):
            return {"semantic": VEHICLE, "texture": screen} if j == 1 else {"semantic": VEHICLE, "tint": paint}
        return {"semantic": VEHICLE, "tint": paint}

    section = [(w, 0.1 * height), (w, 0.40 * height), (w * 0.98, 0.86 * height), (w * 0.9, height)]
    ends = [(w * 0.97, 0.1 * height), (w * 0.97, 0.40 * height), (w * 0.94, 0.86 * height), (w * 0.84, 0.97 * height)]
    z0, z1 = 0.12 * height, 0.9 * height
    x0, x1 = -length / 2 + 0.3, length / 2 - 0.4
    stations = [(-length / 2 + 0.02, ends), (x0, section), (x1, section), (length / 2 - 0.02, ends)]
    meshes = [loft(stations, lambda i, j: material(min(i, 2), j))]
    uv = np.array([[(0, 0), (1, 0), (1, 1), (0, 1)]])
    for y, a, b in ((-w - 0.015, x0, x1), (w + 0.015, x1, x0)):
        wall = [[(a, y, z0), (b, y, z0), (b, y, z1), (a, y, z1)]]
        meshes.append(quads(wall, uv, semantic=VEHICLE, texture=side, tint=paint))
    for axle in (-0.28, 0.32):
        for s in (1, -1):
            meshes.append(wheel(axle * length, s * width / 2, min(0.48, 0.16 * height), 0.3))
    meshes += _lights(length / 2, w, 0.2 * height, 0.27 * height, 0.2 * height, 0.3 * height, w)
    sign = {"semantic": VEHICLE, "tint": (0.95, 0.6, 0.1), "glow": 1.0}
    meshes.append(box((length / 2 - 0.1, -0.6 * w, 0.88 * height), (length / 2, 0.6 * w, 0.95 * height), **sign))
    return join(meshes)


def trailer(size: tuple[float, float, float], style: int, textures: TextureSet) -> Mesh:
    """A box on wheels without a cab."""
    length, width, height = size
    cargo = textures.get("cargo side", cargo_side)
    w = width / 2
    meshes = [
        box((-length / 2, -w, 0.3 * height), (length / 2, w, height), semantic=VEHICLE, tint=paint_of(style), texture=cargo),
        box((-length / 2, -0.8 * w, 0.2 * height), (length / 2, 0.8 * w, 0.3 * height), semantic=VEHICLE, tint=DARK),
    ]
    radius = float(np.clip(0.15 * height, 0.25, 0.5))
    for x in (-0.32, -0.32 + 2.3 * radius / length):
        meshes += [wheel(x * length, s * (w - 0.02), radius, 0.28) for s in (1, -1)]
    meshes.append(box((length * 0.3, -0.1, 0), (length * 0.32, 0.1, 0.3 * height), semantic=VEHICLE, tint=DARK))
    meshes += _lights(length / 2, w, 0, 0.01, 0.22 * height, 0.28 * height, w)[1::2]
    return join(meshes)


def construction(size: tuple[float, float, float], style: int, textures: TextureSet) -> Mesh:
    """A yellow digger: tracks, house with a cab, and a folded arm."""
    length, width, height = size
    yellow: Material = {"semantic": VEHICLE, "tint": (0.85, 0.58, 0.08)}
    w = width / 2
    arm_y = 0.12 * width
    glass = textures.get("side glass", side_glass)
    meshes = [
        box((-0.5 * length, -w, 0), (0.25 * length, -0.55 * w, 0.26 * height), semantic=VEHICLE, tint=RUBBER),
        box((-0.5 * length, 0.55 * w, 0), (0.25 * length, w, 0.26 * height), semantic=VEHICLE, tint=RUBBER),
        box((-0.48 * length, -0.9 * w, 0.28 * height), (0.2 * length, 0.9 * w, 0.58 * height), **yellow),
        box((-0.12 * length, 0.15 * w, 0.58 * height), (0.18 * length, 0.85 * w, height * 0.97), semantic=VEHICLE, texture=glass),
        box((-0.13 * length, 0.12 * w, height * 0.95), (0.19 * length, 0.88 * w, height), **yellow),
    ]
    arm = np.array([[0.1, 0.5], [0.36, 0.92], [0.46, 0.86], [0.2, 0.44]]) * (length, height)
    stick = np.array([[0.40, 0.92], [0.49, 0.85], [0.47, 0.12], [0.40, 0.12]]) * (length, height)
    for outline in (arm, stick):
        near = np.insert(outline, 1, -arm_y - 0.3 * w, axis=1)
        far = np.add(near, (0, 2 * arm_y, 0))
        faces = [near[::-1], far] + [np.array([near[k], near[(k + 1) % 4], far[(k + 1) % 4], far[k]]) for k in range(4)]
        meshes.append(quads(np.array(faces), **yellow))
    bucket = (0.36 * length, -0.6 * w, 0), (0.5 * length, 0.3 * w, 0.2 * height)
    meshes.append(box(*bucket, semantic=VEHICLE, tint=(0.3, 0.3, 0.3)))
    return join(meshes)
