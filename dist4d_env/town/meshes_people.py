"""Pedestrians, riders, two-wheelers, cones and barriers in their box's frame, drawn from z = 0 upwards."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dist4d_env.town.meshes import Material, Mesh, blob, box, cylinder, join, quads, tube, tubes
from dist4d_env.town.meshes_vehicles import CHROME, DARK, HEAD, RUBBER, TAIL, paint_of
from dist4d_env.town.textures_ground import BARRIER, CONE, PEDESTRIAN, TWO_WHEELER

SKINS = ((0.80, 0.60, 0.48), (0.62, 0.42, 0.30), (0.36, 0.24, 0.17), (0.86, 0.68, 0.56))
CLOTHES = (
    (0.62, 0.12, 0.12), (0.12, 0.18, 0.36), (0.85, 0.85, 0.82), (0.10, 0.10, 0.11), (0.22, 0.40, 0.26), (0.80, 0.62, 0.16),
    (0.40, 0.42, 0.44), (0.50, 0.30, 0.46), (0.16, 0.44, 0.56), (0.80, 0.38, 0.14),
)  # fmt: skip
TROUSERS = ((0.10, 0.12, 0.20), (0.08, 0.08, 0.08), (0.34, 0.30, 0.24), (0.22, 0.22, 0.24), (0.16, 0.20, 0.32))
HAIR = ((0.08, 0.06, 0.05), (0.24, 0.15, 0.08), (0.45, 0.34, 0.18), (0.5, 0.5, 0.5))
_ANGLES = np.arange(5) / 5 * 2 * np.pi
_AROUND = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], -1)


def limb(start: ArrayLike, end: ArrayLike, thick: float, thin: float, **material: Any) -> Mesh:
    """A five-sided tapered rod between two points."""
    return limbs(np.asarray(start, float)[None], np.asarray(end, float)[None], [thick], [thin], **material)


def limbs(start: np.ndarray, end: np.ndarray, thick: ArrayLike, thin: ArrayLike, **material: Any) -> Mesh:
    """Rods between points (L, 3), ``thick`` (L,) at their start and ``thin`` (L,) at their end; ``tint`` may be (L, 3)."""
    x, y, z = ((end - start) / np.maximum(np.sqrt(((end - start) ** 2).sum(-1, keepdims=True)), 1e-9)).T
    level = np.abs(y) < 0.8
    a, b, c = np.where(level, -z, 0), np.where(level, 0, z), np.where(level, x, -y)
    side = np.stack([a, b, c], -1) / np.sqrt(a * a + b * b + c * c)[:, None]  # across the rod
    a, b, c = side.T
    other = np.stack([y * c - z * b, z * a - x * c, x * b - y * a], -1)
    circle = _AROUND[:, :1] * side[:, None] + _AROUND[:, 1:] * other[:, None]  # (L, 5, 3)
    radius = np.stack([np.asarray(thick, float), np.asarray(thin, float)], 1)[..., None, None]
    return tubes(np.stack([start, end], 1)[:, :, None] + circle[:, None] * radius, **material)


def pedestrian(size: tuple[float, float, float], style: int, phase: float, walking: bool) -> Mesh:
    """A person; ``phase`` (radians) swings arms and legs of one who walks."""
    length, width, height = size
    skin, shirt = SKINS[style % 4], CLOTHES[style // 4 % len(CLOTHES)]
    trousers, hair = TROUSERS[style // 40 % 5], HAIR[style // 7 % 4]
    swing = np.sin(phase) * min(0.20 * height, 0.46 * length) if walking else 0.03 * height
    hip, shoulder = 0.50 * height, 0.81 * height
    half = min(0.13 * height, 0.40 * width)
    depth = min(0.075 * height, 0.4 * length)
    body: Material = {"semantic": PEDESTRIAN}
    meshes, rods = [], []
    for side, forward in ((1, swing), (-1, -swing)):
        foot = np.array([forward, side * half * 0.42, 0.03 * height])
        knee = np.array([forward * 0.45 + 0.02, side * half * 0.5, 0.27 * height])
        top = np.array([0, side * half * 0.48, hip])
        rods += [(top, knee, 0.052 * height, 0.040 * height, trousers), (knee, foot, 0.040 * height, 0.026 * height, trousers)]
        meshes += [box(foot - (0.04, 0.03, 0.03 * height), np.add(foot, (0.09, 0.03, 0.012)), tint=(0.08, 0.07, 0.06), **body)]
        hand = np.array([-forward * 0.75, side * half * 1.02, 0.46 * height])
        elbow = np.array([-forward * 0.25, side * half * 1.08, 0.63 * height])
        arm = np.array([0, side * half * 0.95, shoulder - 0.02])
        rods += [(arm, elbow, 0.036 * height, 0.028 * height, shirt)]
        rods += [(elbow, hand, 0.028 * height, 0.02 * height, skin if style % 3 == 0 else shirt)]
    start, end, thick, thin, tint = (np.array(column) for column in zip(*rods, strict=True))
    meshes.append(limbs(start, end, thick, thin, tint=tint, **body))
    angle = np.arange(8) / 8 * 2 * np.pi
    rings = [
        np.stack([np.cos(angle) * depth * d, np.sin(angle) * half * w, np.full(8, z * height)], -1)
        for z, d, w in ((0.47, 1.0, 0.80), (0.60, 0.9, 0.74), (0.74, 1.1, 0.95), (0.82, 0.8, 0.80), (0.845, 0.4, 0.3))
    ]
    meshes.append(tube(np.stack(rings), tint=shirt, **body))
    head = 0.064 * height
    meshes.append(blob((0.01 * height, 0, height - 1.25 * head), (head * 0.92, head * 0.82, head * 1.2), tint=skin, **body))
    meshes.append(blob((-0.012 * height, 0, height - 1.02 * head), (head * 0.96, head * 0.92, head), tint=hair, **body))
    if style % 5 == 0:  # a rucksack
        low, high = (-depth * 2.0, -half * 0.6, 0.58 * height), (-depth * 0.8, half * 0.6, 0.80 * height)
        meshes.append(box(low, high, tint=CLOTHES[style // 3 % 10], **body))
    return join(meshes)


def _hoop(x: float, radius: float, thick: float, sides: int = 12) -> Mesh:
    """A tyre in the xz plane standing on the ground, drawn as a flat band with both faces."""
    angle = np.arange(sides) / sides * 2 * np.pi
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    meshes = []
    for y, flip in ((thick, False), (-thick, True)):
        outer = np.stack([circle[:, 0] * radius + x, np.full(sides, y), circle[:, 1] * radius + radius], -1)
        inner = np.stack([circle[:, 0] * radius * 0.82 + x, np.full(sides, y), circle[:, 1] * radius * 0.82 + radius], -1)
        o2, i2 = np.roll(outer, -1, 0), np.roll(inner, -1, 0)
        ring = [o2, outer, inner, i2] if flip else [outer, o2, i2, inner]
        meshes.append(quads(np.stack(ring, 1), tint=RUBBER, semantic=TWO_WHEELER))
    outer = np.stack([circle[:, 0] * radius + x, np.zeros(sides), circle[:, 1] * radius + radius], -1)
    o2 = np.roll(outer, -1, 0)
    side = np.array([0, thick, 0])
    meshes.append(quads(np.stack([outer - side, o2 - side, o2 + side, outer + side], 1), tint=RUBBER, semantic=TWO_WHEELER))
    return join(meshes)


def _rider(
    size: tuple[float, float, float], style: int, seat: np.ndarray, hands: np.ndarray, feet: np.ndarray, helmet: bool
) -> list[Mesh]:
    length, width, height = size
    body: Material = {"semantic": TWO_WHEELER}
    shirt, trousers, skin = CLOTHES[style % 10], TROUSERS[style // 10 % 5], SKINS[style % 4]
    head = 0.115
    neck = np.array([min(seat[0] + 0.28, 0.2 * length), 0, height - 2.3 * head])
    half = min(0.19, 0.42 * width)
    meshes = [limb(seat, neck, 0.15, 0.14, tint=shirt, **body)]
    top = paint_of(style) if helmet else skin
    meshes.append(blob((neck[0] + 0.04, 0, height - head * 1.2), (head, head * 0.85, head * 1.2), tint=top, **body))
    if not helmet:
        meshes.append(blob((neck[0] + 0.015, 0, height - head), (head, head * 0.9, head), tint=HAIR[style % 4], **body))
    for side in (1, -1):
        knee = (seat + feet) / 2 + (0.2, side * half * 0.8, 0.06)
        meshes.append(limb(np.add(seat, (0, side * 0.09, 0)), knee, 0.085, 0.06, tint=trousers, **body))
        meshes.append(limb(knee, np.add(feet, (0, side * half * 0.7, 0)), 0.06, 0.045, tint=trousers, **body))
        hand = np.add(hands, (0, side * half, 0))
        meshes.append(limb(np.add(neck, (0, side * half, -0.06)), hand, 0.05, 0.035, tint=shirt, **body))
    return meshes


def bicycle(size: tuple[float, float, float], style: int, ridden: bool) -> Mesh:
    """Two wheels, a frame, and a rider where there is one."""
    length, width, height = size
    body: Material = {"semantic": TWO_WHEELER}
    frame = paint_of(style + 4)
    radius = min(0.34, 0.2 * length)
    rear, front = -length / 2 + radius, length / 2 - radius
    saddle_z = min(0.95, (0.56 if ridden else 0.9) * height)
    saddle, crank = np.array([rear * 0.45, 0, saddle_z]), np.array([0.02, 0, radius * 0.9])
    bars = np.array([front * 0.62, 0, saddle_z + 0.08])
    meshes = [_hoop(rear, radius, 0.03), _hoop(front, radius, 0.03)]
    rod = lambda a, b, t=0.03: limb(np.asarray(a), np.asarray(b), t, t, tint=frame, **body)  # noqa: E731
    neck = bars - (0, 0, 0.12)
    meshes += [rod((rear, 0, radius), crank), rod(crank, saddle), rod(crank, neck), rod(saddle - (0, 0, 0.12), neck)]
    meshes += [rod((front, 0, radius), bars), rod((rear, 0, radius), saddle - (0, 0, 0.15))]
    half = min(0.28, 0.45 * width)
    meshes.append(limb(bars - (0, half, 0), np.add(bars, (0, half, 0)), 0.025, 0.025, tint=DARK, **body))
    meshes.append(box(saddle - (0.13, 0.06, 0.03), np.add(saddle, (0.13, 0.06, 0.03)), tint=DARK, **body))
    if ridden:
        meshes += _rider(size, style, np.add(saddle, (0, 0, 0.06)), bars, crank - (0, 0, 0.02), style % 2 == 0)
    return join(meshes)


def motorcycle(size: tuple[float, float, float], style: int, ridden: bool) -> Mesh:
    """A motorcycle or scooter, and a rider where there is one."""
    length, width, height = size
    body: Material = {"semantic": TWO_WHEELER}
    paint = paint_of(style + 4)
    radius = min(0.31, 0.17 * length)
    rear, front = -length / 2 + radius, length / 2 - radius
    top = min(0.85, (0.56 if ridden else 0.75) * height)
    half = min(0.14, 0.3 * width)
    seat = np.array([rear * 0.4, 0, top])
    bars = np.array([front * 0.55, 0, min(top + 0.25, height - 0.05)])
    meshes = [
        _hoop(rear, radius, 0.07), _hoop(front, radius, 0.06),
        box((rear * 0.9, -half, radius * 0.9), (front * 0.4, half, top * 0.72), tint=DARK, **body),
        box((rear * 0.1, -half * 1.1, top * 0.7), (front * 0.5, half * 1.1, top * 1.02), tint=paint, **body),
        box((rear * 1.05, -half * 0.9, top * 0.85), (rear * 0.05, half * 0.9, top), tint=(0.06, 0.06, 0.06), **body),
        box((rear * 1.15, -half * 0.5, top * 0.78), (rear * 1.02, half * 0.5, top * 0.9), tint=TAIL, glow=1.2, **body),
        limb((front, 0, radius), bars, 0.06, 0.05, tint=CHROME, **body),
        blob((front * 0.75, 0, bars[2] - 0.14), (0.11, 0.12, 0.11), tint=HEAD, glow=1.5, **body),
    ]  # fmt: skip
    reach = min(0.36, 0.46 * width)
    meshes.append(limb(bars - (0, reach, 0), np.add(bars, (0, reach, 0)), 0.03, 0.03, tint=DARK, **body))
    if ridden:
        meshes += _rider(size, style, np.add(seat, (0, 0, 0.1)), bars, np.array([0.05, 0, radius]), True)
    return join(meshes)


def cone(size: tuple[float, float, float], style: int) -> Mesh:
    """A traffic cone: orange with white bands on a dark foot."""
    length, width, height = size
    radius = min(length, width) / 2
    at = (0.06, 0.36, 0.56, 0.66, 0.80, 1.0)
    bands = ((0.88, 0.26, 0.05), (0.92, 0.92, 0.90), (0.88, 0.26, 0.05), (0.92, 0.92, 0.90), (0.88, 0.26, 0.05))
    meshes = [box((-length / 2, -width / 2, 0), (length / 2, width / 2, 0.06 * height), tint=(0.12, 0.10, 0.09), semantic=CONE)]
    for low, high, colour in zip(at[:-1], at[1:], bands, strict=True):
        r0, r1 = (radius * (0.82 - 0.68 * s) for s in (low, high))
        meshes.append(cylinder(0, 0, low * height, high * height, r0, r1, tint=colour, semantic=CONE))
    return join(meshes)


def barrier(size: tuple[float, float, float], style: int) -> Mesh:
    """A concrete or red-and-white plastic barrier along the longer side of its box."""
    length, width, height = size
    long, thick = max(length, width), min(length, width)
    flank = np.array([[0.5, 0], [0.5, 0.18], [0.22, 0.45], [0.16, 1.0]])
    profile = np.concatenate([flank, flank[::-1] * (-1, 1)]) * (thick, height)
    pieces = max(round(long / 0.5), 2)
    cuts = np.linspace(-long / 2, long / 2, pieces + 1)
    colours = [(0.60, 0.59, 0.56)] if style % 2 else [(0.80, 0.14, 0.10), (0.90, 0.90, 0.88)]
    meshes = []
    for k, (a, b) in enumerate(pairwise(cuts)):
        rings = np.stack([np.concatenate([np.full((8, 1), x), profile], 1) for x in (a, b)])
        after = np.roll(np.arange(8), -1)
        faces = np.stack([rings[0], rings[1], rings[1][after], rings[0][after]], 1)
        meshes.append(quads(faces, tint=colours[k % len(colours)], semantic=BARRIER))
    for x, flip in ((-long / 2, False), (long / 2, True)):
        ring = np.concatenate([np.full((8, 1), x), profile], 1)
        order = [[0, 1, 6, 7], [1, 2, 5, 6], [2, 3, 4, 5]]
        faces = ring[np.array(order)]
        meshes.append(quads(faces[:, ::-1] if flip else faces, tint=colours[0], semantic=BARRIER))
    mesh = join(meshes)
    if width > length:
        turn = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        mesh = mesh.moved(turn)
    return mesh
