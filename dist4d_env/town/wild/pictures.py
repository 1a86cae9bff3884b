"""Facades, roofs, leaves and signs of wild looks, drawn anew for every scene; rows run upwards, the fourth channel shines."""

from __future__ import annotations

import cv2
import numpy as np

from dist4d_env.town import textures_facade as plain
from dist4d_env.town.textures import texels
from dist4d_env.town.wild.natural import dead_leaves, muted, printed, relief, rough, weathered

BAYS, FLOORS = plain.BAYS, plain.FLOORS
_SIZE = 256, 512


class WildPictures:
    """What ``textures_facade`` draws, with natural statistics. The same seed and style give the same picture."""

    STYLES = 22
    """Different buildings of a scene."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _rng(self, *about: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 71, *about])

    def wall_colour(self, style: int) -> np.ndarray:
        """The wall of a style (3,)."""
        return muted(self._rng(style, 1), 1, 0.05, 0.3, 0.9)[0]

    def facade(self, style: int) -> np.ndarray:
        """Upper storeys: BAYS x FLOORS windows on (256, 512, 4)."""
        rng = self._rng(style, 2)
        kind = rng.choice(["glass", "panels", "brick", "windows"], p=[0.25, 0.2, 0.15, 0.4])
        if kind == "glass":
            rgb, glow = _curtain_wall(rng)
        else:
            rgb, glow = _regraded(rng, plain.facade(int(rng.integers(61))), self.wall_colour(style))
            if kind == "brick":
                grown = np.tile(cv2.resize(relief("brick"), (256, 256), interpolation=cv2.INTER_AREA), (1, 2))
                rgb = rgb * (1 + 0.16 * grown[..., None] * (glow == 0)[..., None])
            elif kind == "panels":
                rgb = _joints(rng, rgb)
        rgb = weathered(rng, rgb, float(rng.uniform(0.6, 1.6)))
        return texels(np.concatenate([rgb, glow[..., None]], -1))

    def ground_floor(self, style: int) -> np.ndarray:
        """Shops, doors, pillars or blank walls with posters: BAYS bays on (64, 512, 4), about 4 m high."""
        rng = self._rng(style, 3)
        if rng.random() < 0.75:
            rgb, glow = _regraded(rng, plain.ground_floor(int(rng.integers(61))), self.wall_colour(style))
        else:
            rgb, glow = np.broadcast_to(self.wall_colour(style) * 0.9, (64, 512, 3)).astype(np.float32), np.zeros((64, 512))
        rgb = np.ascontiguousarray(rgb)
        for _ in range(int(rng.integers(0, 7))):
            tall, wide = int(rng.integers(8, 30)), int(rng.integers(8, 60))
            row, column = int(rng.integers(6, 62 - tall)), int(rng.integers(0, 512 - wide))
            rgb[row : row + tall, column : column + wide] = printed(rng, tall, wide)
        return texels(np.concatenate([weathered(rng, rgb, float(rng.uniform(0.6, 1.6))), glow[..., None]], -1))

    def roof_tiles(self, style: int) -> np.ndarray:
        """Rows of tiles (128, 128, 4)."""
        rng = self._rng(style, 4)
        rgb, glow = _regraded(rng, plain.roof_tiles(style), muted(rng, 1, low=0.25, high=0.55)[0])
        return texels(np.concatenate([weathered(rng, rgb), glow[..., None]], -1))

    def leaves(self, style: int) -> np.ndarray:
        """Foliage (256, 256, 4): leaves of all sizes over one another, dark between, light above."""
        rng = self._rng(style, 5)
        hue = np.array([0.37, 0.43, 0.24]) * rng.uniform(0.8, 1.35) + rng.normal(0, 0.02, 3)
        if rng.random() < 0.12:
            hue = np.array([0.42, 0.32, 0.18]) * rng.uniform(0.8, 1.1)
        tone = rng.lognormal(0, 0.45, (24, 1)) * (1 + rng.normal(0, 0.06, (24, 3)))
        image = dead_leaves(rng, 256, 256, 1500, np.clip(hue * tone, 0.02, 0.95), 2.0)
        image *= np.clip(1 + 0.22 * rough(rng, 256, 256, 1.0), 0.3, 1.8)[..., None]
        return texels(np.concatenate([image, np.zeros((256, 256, 1))], -1))

    def bark(self) -> np.ndarray:
        """Bark (64, 64, 4)."""
        rng = self._rng(6)
        rgb, glow = _regraded(rng, plain.bark(), np.array([0.34, 0.30, 0.26]) * rng.uniform(0.7, 1.3))
        return texels(np.concatenate([weathered(rng, rgb, 2.0), glow[..., None]], -1))

    def road_sign(self, style: int) -> np.ndarray:
        """A sign's face (64, 64, 4): a traffic sign as it is elsewhere, or anything printed."""
        rng = self._rng(style, 7)
        if rng.random() < 0.5:
            rgb = plain.road_sign(int(rng.integers(5)))[..., :3] / np.float32(255)
            rgb = rgb + rng.uniform(0, 0.35) * (rgb.mean(-1, keepdims=True) - rgb)
        else:
            rgb = printed(rng, 64, 64)
        return texels(np.concatenate([weathered(rng, rgb, 0.6), np.full((64, 64, 1), 0.05)], -1))

    def board(self, style: int) -> np.ndarray:
        """A poster, banner or side of a lorry (128, 256, 4)."""
        rng = self._rng(style, 8)
        return texels(np.concatenate([weathered(rng, printed(rng, 128, 256), 0.8), np.zeros((128, 256, 1))], -1))

    def grime(self, style: int) -> np.ndarray:
        """Near-white grain (256, 256, 4) for everything that else has one colour only."""
        rng = self._rng(style, 9)
        rgb = weathered(rng, np.full((256, 256, 3), 0.86, np.float32), float(rng.uniform(0.8, 2.0)))
        return texels(np.concatenate([rgb, np.zeros((256, 256, 1))], -1))


def _regraded(rng: np.random.Generator, picture: np.ndarray, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A plain picture (H, W, 4) uint8 with less colour and another main colour, and its glow (H, W)."""
    rgb = picture[..., :3].astype(np.float32) / 255
    grey = rgb @ np.array([0.3, 0.6, 0.1], np.float32)
    median = max(float(np.median(grey)), 0.05)
    chroma = rgb / np.maximum(grey[..., None], 0.02) - 1
    main = colour / max(float(colour @ np.array([0.3, 0.6, 0.1])), 0.05)
    # what is about as bright as the wall takes the wall's hue; the rest keeps some of its own
    like = np.exp(-(((grey - median) / 0.12) ** 2))[..., None]
    hue = like * main + (1 - like) * (1 + rng.uniform(0.2, 0.9) * chroma)
    scale = float(colour @ np.array([0.3, 0.6, 0.1])) / median
    value = grey * (like[..., 0] * (scale - 1) + 1)
    return np.clip(value[..., None] * hue, 0, 1).astype(np.float32), picture[..., 3] / np.float32(255)


def _curtain_wall(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Glass between thin bars, each pane with a piece of sky or street in it, and its glow."""
    height, width = _SIZE
    rows, columns = int(rng.choice([4, 4, 8])), int(rng.choice([8, 16, 16, 32]))
    tall, wide = height // rows, width // columns
    tone = rng.uniform(0.15, 0.5) * np.array([0.85, 0.98, 1.1]) * (1 + rng.normal(0, 0.05, 3))
    panes = rng.normal(1, rng.uniform(0.03, 0.25), (rows, columns, 1)) * tone
    image = np.repeat(np.repeat(panes, tall, 0), wide, 1)
    sky = dead_leaves(rng, height // 2, width // 2, 90, muted(rng, 8, 0.02, 0.2, 0.9), 6.0)
    sky = cv2.GaussianBlur(cv2.resize(sky, (width, height)), (0, 0), 2)
    image = image * (1 - rng.uniform(0.0, 0.4)) + sky * rng.uniform(0, 0.35) + 0.05 * rough(rng, height, width, 1.3)[..., None]
    bar, colour = int(rng.integers(1, 4)), muted(rng, 1, 0.02)[0]
    band, solid = int(tall * rng.uniform(0, 0.4)), muted(rng, 1, 0.04, 0.25, 0.8)[0]
    lit = np.where(rng.random((rows, columns)) < 0.3, rng.uniform(0.4, 1.0, (rows, columns)), 0)
    glow = np.repeat(np.repeat(lit, tall, 0), wide, 1)
    row, column = np.arange(height)[:, None] % tall, np.arange(width)[None] % wide
    spandrel, bars = np.broadcast_to(row < band, _SIZE), (row < bar) | (column < bar)
    image[spandrel], glow[spandrel] = solid, 0
    image[bars], glow[bars] = colour, 0
    return np.clip(image, 0, 1).astype(np.float32), glow


def _joints(rng: np.random.Generator, rgb: np.ndarray) -> np.ndarray:
    """Slabs or ribs on a wall: each a little different, with joints between."""
    height, width = rgb.shape[:2]
    tall, wide = int(rng.choice([16, 32, 64, 256])), int(rng.choice([8, 16, 32, 64]))
    tone = rng.normal(1, 0.04, (height // tall, width // wide, 1))
    row, column = np.arange(height)[:, None] % tall, np.arange(width)[None] % wide
    joint = 1 - rng.uniform(0.1, 0.4) * ((row < 1) | (column < 1 + (wide > 16)))[..., None]
    return rgb * np.repeat(np.repeat(tone, tall, 0), wide, 1) * joint
