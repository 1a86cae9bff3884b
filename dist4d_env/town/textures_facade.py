"""Pictures for walls, roofs, leaves and signs; rows run upwards, the fourth channel shines at night.

All scenes share a few dozen styles, so the slow pictures are kept once made; do not write to them.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from dist4d_env.town.textures import grain, noise, texels

BAYS, FLOORS = 8, 4
"""Bays and storeys of one facade tile."""
STYLES = 61
"""Different buildings."""

_WALLS = (
    (0.78, 0.73, 0.64), (0.70, 0.52, 0.40), (0.62, 0.36, 0.28), (0.84, 0.82, 0.78), (0.58, 0.60, 0.62), (0.80, 0.68, 0.46),
    (0.52, 0.44, 0.38), (0.66, 0.70, 0.66), (0.88, 0.80, 0.70), (0.46, 0.50, 0.56), (0.74, 0.60, 0.56), (0.60, 0.64, 0.52),
)  # fmt: skip
_SHOPS = (
    (0.70, 0.16, 0.14), (0.14, 0.30, 0.56), (0.12, 0.42, 0.28), (0.82, 0.60, 0.14), (0.22, 0.22, 0.24), (0.80, 0.80, 0.78),
    (0.46, 0.18, 0.40),
)  # fmt: skip


def wall_colour(style: int) -> np.ndarray:
    """The wall of a style (3,), shared by its facade, ground floor and cornice."""
    rng = np.random.default_rng([style, 1])
    return np.clip(np.array(_WALLS[rng.integers(len(_WALLS))]) * rng.uniform(0.85, 1.1) + rng.uniform(-0.03, 0.03, 3), 0.1, 0.95)


def _finish(rgb: np.ndarray, glow: np.ndarray) -> np.ndarray:
    return texels(np.concatenate([rgb, glow[..., None]], -1, dtype=np.float32))


def _wall(style: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Plaster, brick or panels (height, width, 3)."""
    rough = np.roll(grain(1, 256, 1.1), rng.integers(0, 256, 2), (0, 1))
    rough = np.tile(rough, (-(-height // 256), -(-width // 256)))[:height, :width]
    wall = wall_colour(style).astype(np.float32) * (1 + 0.05 * rough[..., None])
    kind = rng.integers(3)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    if kind == 0:  # courses of brick
        joint = (rows % 4 == 0) | ((columns + rows // 4 % 2 * 4) % 8 == 0)
        wall = wall * np.where(joint, 0.86, 1.0)[..., None]
    elif kind == 1:  # panels
        joint = (rows % 64 < 2) | (columns % 64 < 2)
        wall = wall * np.where(joint, 0.78, 1.0)[..., None]
    return wall


def _pane(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, float]:
    """Glass with the sky in it, a curtain or a blind (height, width, 3), and how it shines at night."""
    up = np.linspace(0, 1, height)[:, None, None]
    base = np.array([0.10, 0.13, 0.17]) * rng.uniform(0.7, 1.5) + up * np.array([0.10, 0.15, 0.20]) * rng.uniform(0.3, 1.4)
    pane = np.broadcast_to(base, (height, width, 3)).copy()
    if rng.random() < 0.4:  # curtains at the sides or a blind from above
        cloth = np.array([0.62, 0.58, 0.50]) * rng.uniform(0.6, 1.1)
        if rng.random() < 0.5:
            side = max(int(width * rng.uniform(0.12, 0.3)), 1)
            pane[:, :side] = pane[:, -side:] = cloth
        else:
            pane[int(height * rng.uniform(0.4, 0.85)) :] = cloth
    lit = rng.random() < 0.33
    if lit:
        pane = pane * 0.4 + np.array([0.62, 0.50, 0.30])
    return pane, float(rng.uniform(0.55, 1.0) if lit else 0.0)


@cache
def facade(style: int) -> np.ndarray:
    """Upper storeys: BAYS x FLOORS windows on (256, 512, 4)."""
    rng = np.random.default_rng([style, 2])
    height, width = 256, 512
    wall = _wall(style, height, width, rng)
    glow = np.zeros((height, width))
    cell_h, cell_w = height // FLOORS, width // BAYS
    office = rng.random() < 0.25
    win_w = int(cell_w * (rng.uniform(0.8, 0.92) if office else rng.uniform(0.38, 0.62)))
    win_h = int(cell_h * (rng.uniform(0.62, 0.75) if office else rng.uniform(0.45, 0.62)))
    frame = np.array([0.88, 0.87, 0.84]) if rng.random() < 0.6 else np.array([0.22, 0.20, 0.19])
    balconies = not office and rng.random() < 0.45
    balcony_bays = rng.random(BAYS) < 0.4
    shutters = not office and not balconies and rng.random() < 0.4
    shutter = np.array(_SHOPS[rng.integers(len(_SHOPS))]) * 0.8
    for floor in range(FLOORS):
        for bay in range(BAYS):
            r0 = floor * cell_h + int(cell_h * 0.30)
            c0 = bay * cell_w + (cell_w - win_w) // 2
            balcony = balconies and balcony_bays[bay]
            if balcony:
                r0 = floor * cell_h + int(cell_h * 0.12)
            top, right = min(r0 + win_h + (int(cell_h * 0.15) if balcony else 0), (floor + 1) * cell_h - 4), c0 + win_w
            wall[r0 - 2 : top + 2, c0 - 2 : right + 2] = frame
            pane, shine = _pane(rng, top - r0, win_w)
            wall[r0:top, c0:right] = pane
            glow[r0:top, c0:right] = shine
            wall[top - 3 : top, c0:right] *= 0.55  # the lintel's shadow
            wall[r0:top, c0 + win_w // 2 - 1 : c0 + win_w // 2 + 1] = frame
            glow[r0:top, c0 + win_w // 2 - 1 : c0 + win_w // 2 + 1] = 0
            wall[r0 - 4 : r0 - 2, c0 - 4 : right + 4] = np.minimum(wall_colour(style) * 1.2, 0.95)  # sill
            wall[r0 - 6 : r0 - 4, c0 - 4 : right + 4] *= 0.7
            if shutters:
                side = max(win_w // 3, 4)
                wall[r0:top, c0 - side - 2 : c0 - 2] = wall[r0:top, right + 2 : right + side + 2] = shutter
            if balcony:
                b0, b1 = floor * cell_h + 4, floor * cell_h + 26
                wall[b0:b1, c0 - 8 : right + 8] = wall[b0:b1, c0 - 8 : right + 8] * 0.45
                wall[b0:b1, c0 - 8 : right + 8 : 4] = 0.20
                wall[b1 : b1 + 2, c0 - 8 : right + 8] = 0.25
                wall[b0 - 4 : b0, c0 - 9 : right + 9] = wall_colour(style) * 0.9
                wall[b0 - 10 : b0 - 4, c0 - 9 : right + 9] *= 0.6
                glow[b0:b1, c0 - 8 : right + 8] *= 0.4
    if rng.random() < 0.5:  # a course between storeys
        for floor in range(FLOORS):
            wall[floor * cell_h : floor * cell_h + 3] = np.minimum(wall_colour(style) * 1.15, 0.95)
    return _finish(wall, glow)


@cache
def ground_floor(style: int) -> np.ndarray:
    """Shops with signs and awnings, or flats with doors: BAYS bays on (64, 512, 4), about 4 m high."""
    rng = np.random.default_rng([style, 3])
    height, width = 64, 512
    wall = _wall(style, height, width, rng) * 0.92
    wall[:7] *= 0.7  # plinth
    glow = np.zeros((height, width))
    cell = width // BAYS
    if rng.random() < 0.55:
        bay = 0
        while bay < BAYS:
            span = min(int(rng.integers(1, 4)), BAYS - bay)
            c0, c1 = bay * cell + 4, (bay + span) * cell - 4
            colour = np.array(_SHOPS[rng.integers(len(_SHOPS))])
            wall[8:44, c0:c1], shine = np.array([0.16, 0.17, 0.18]), rng.uniform(0.5, 1.0) * (rng.random() < 0.7)
            goods = rng.uniform(0.15, 0.6, (6, (c1 - c0) // 6 + 1, 3))
            wall[9:27, c0 + 1 : c1 - 1] = np.repeat(np.repeat(goods, 3, 0), 6, 1)[:18, : c1 - c0 - 2] * 0.7
            wall[27:44, c0 + 1 : c1 - 1] = np.array([0.20, 0.24, 0.28])
            glow[9:44, c0 + 1 : c1 - 1] = shine
            for column in range(c0, c1 + 1, 30):
                wall[8:44, column : column + 2], glow[8:44, column : column + 2] = colour * 0.5, 0
            door = int(rng.integers(c0 + 2, max(c1 - 18, c0 + 3)))
            wall[2:38, door : door + 15], glow[2:38, door : door + 15] = colour * 0.55, 0.0
            wall[10:36, door + 3 : door + 12], glow[10:36, door + 3 : door + 12] = (0.3, 0.33, 0.36), shine
            wall[46:58, c0 - 2 : c1 + 2], glow[46:58, c0 - 2 : c1 + 2] = colour, 0.5 * (shine > 0)
            letters = rng.random((c1 - c0 - 16) // 5) < 0.75
            for i, letter in enumerate(letters):
                if letter:
                    c = c0 + 8 + 5 * i
                    wall[49:55, c : c + 3], glow[49:55, c : c + 3] = (0.92, 0.9, 0.84), 0.9 * (shine > 0)
            if rng.random() < 0.4:  # awning
                stripes = (np.arange(c0 - 2, c1 + 2) // 6 % 2)[None, :, None]
                awning = np.where(stripes, colour, (0.86, 0.85, 0.82)) * np.linspace(0.7, 1, 10)[:, None, None]
                wall[36:46, c0 - 2 : c1 + 2] = awning
                glow[36:46, c0 - 2 : c1 + 2] = 0
            bay += span
    else:
        door_bay = int(rng.integers(BAYS))
        for bay in range(BAYS):
            c = bay * cell
            if bay % 4 == door_bay % 4:
                wall[0:46, c + 16 : c + 48], glow[0:46, c + 16 : c + 48] = wall_colour(style) * 0.6, 0
                wall[2:40, c + 20 : c + 44] = np.array(_SHOPS[(style + bay) % len(_SHOPS)]) * 0.7
                wall[41:45, c + 20 : c + 44], glow[41:45, c + 20 : c + 44] = (0.7, 0.65, 0.5), 0.8
            else:
                pane, shine = _pane(rng, 26, 30)
                wall[18:48, c + 15 : c + 49] = 0.85
                wall[20:46, c + 17 : c + 47], glow[20:46, c + 17 : c + 47] = pane, shine
                wall[20:46, c + 31 : c + 33] = 0.85
    return _finish(wall, glow)


@cache
def roof_tiles(style: int) -> np.ndarray:
    """Rows of tiles (128, 128, 4)."""
    rng = np.random.default_rng([style, 4])
    base = np.array([(0.55, 0.27, 0.19), (0.36, 0.34, 0.35), (0.48, 0.33, 0.25)][rng.integers(3)])
    rows, columns = np.arange(128)[:, None], np.arange(128)[None]
    shade = 0.8 + 0.25 * (rows % 8) / 8 - 0.15 * ((columns + rows // 8 % 2 * 4) % 8 == 0) + 0.08 * noise(rng, 128, 0.8)
    return _finish(base * shade[..., None], np.zeros((128, 128)))


@cache
def leaves(style: int) -> np.ndarray:
    """Foliage (128, 128, 4): clumps of light and dark green."""
    rng = np.random.default_rng([style, 5])
    clump, grain = noise(rng, 128, 1.0, 4), noise(rng, 128, 0.2, 16)
    hues = ((0.26, 0.40, 0.14), (0.20, 0.36, 0.16), (0.34, 0.42, 0.16), (0.44, 0.38, 0.14), (0.24, 0.34, 0.20))
    hue = np.array(hues[style % 5])
    shade = 1.0 + 0.30 * clump + 0.18 * grain
    warm = np.array([0.04, 0.03, -0.01]) * np.maximum(grain, 0)[..., None]
    return _finish(hue * np.clip(shade, 0.25, 1.9)[..., None] + warm, np.zeros((128, 128)))


def bark() -> np.ndarray:
    """Bark (64, 64, 4)."""
    rng = np.random.default_rng(6)
    shade = 1 + 0.2 * noise(rng, 64, 0.6) + 0.15 * np.sin(np.arange(64) * np.pi / 4)[None]
    return _finish(np.array([0.33, 0.26, 0.20]) * shade[..., None], np.zeros((64, 64)))


def road_sign(style: int) -> np.ndarray:
    """A traffic sign's face (64, 64, 4): speed, stop-like, warning, parking or direction."""
    rows, columns = (np.mgrid[0:64, 0:64] + 0.5) / 32 - 1
    radius = np.hypot(rows, columns)
    rgb = np.full((64, 64, 3), 0.62)
    kind = style % 5
    if kind == 0:  # a limit
        rgb[radius < 0.98] = (0.80, 0.08, 0.08)
        rgb[radius < 0.74] = (0.95, 0.95, 0.95)
        rgb[(np.abs(rows) < 0.36) & (np.abs(np.abs(columns) - 0.27) < 0.18)] = 0.08
        rgb[(np.abs(rows) < 0.2) & (np.abs(columns - 0.27) < 0.06)] = 0.95
    elif kind == 1:  # no entry
        rgb[radius < 0.98] = (0.78, 0.06, 0.08)
        rgb[(np.abs(rows) < 0.16) & (np.abs(columns) < 0.7)] = 0.95
    elif kind == 2:  # warning triangle
        inside = lambda s: (rows > -0.8 * s) & (rows < 0.9 * s - 1.9 * np.abs(columns))  # noqa: E731
        rgb[inside(1.0)] = (0.80, 0.08, 0.08)
        rgb[inside(0.68)] = (0.95, 0.92, 0.80)
        rgb[(np.abs(columns) < 0.07) & (rows > -0.4) & (rows < 0.3)] = 0.08
    elif kind == 3:  # parking
        rgb[:] = (0.08, 0.22, 0.62)
        rgb[(np.abs(columns + 0.25) < 0.12) & (np.abs(rows) < 0.65)] = 0.95
        ring = np.hypot(rows - 0.25, columns - 0.05)
        rgb[(ring < 0.42) & (ring > 0.2)] = 0.95
    else:  # directions
        rgb[:] = (0.06, 0.36, 0.22)
        rgb[(np.abs(np.abs(rows) - 0.4) < 0.12) & (np.abs(columns) < 0.7)] = 0.92
    return _finish(rgb, np.full((64, 64), 0.12))
