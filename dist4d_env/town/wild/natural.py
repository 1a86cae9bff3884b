"""Pictures with the statistics of natural images: 1/f noise, occluding shapes of all sizes, muted colours, a few photographs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np

from dist4d_env.errors import DataError
from dist4d_env.town.textures import grain

_SHIFT = 3  # fractional bits of drawn shapes


@cache
def photo(name: str) -> np.ndarray:
    """A photograph of ``photos/SOURCES.md`` (H, W, 3) float32 in [0, 1], RGB; do not write to it. Raises DataError where the
    package is damaged."""
    path = Path(__file__).parent / "photos" / f"{name}.webp"
    image = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if image is None:
        raise DataError(f"the photograph {path} is missing or unreadable: install the package again")
    return np.ascontiguousarray(image[..., ::-1], np.float32) / 255


@cache
def relief(name: str) -> np.ndarray:
    """A grey photograph (512, 512) float32 of mean 0 and deviation 1 without its broad shades, made tileable."""
    grey = photo(name)[..., 0]
    grey = grey - cv2.GaussianBlur(grey, (0, 0), 64, borderType=cv2.BORDER_REFLECT)
    ramp = np.clip(np.minimum(np.arange(512) + 0.5, 511.5 - np.arange(512)) / 48, 0, 1).astype(np.float32)
    for axis in (0, 1):  # towards its edges it becomes its own half-shifted copy, which has no seam there
        weight = ramp[:, None] if axis == 0 else ramp[None]
        grey = grey * np.sqrt(weight) + np.roll(grey, 256, axis) * np.sqrt(1 - weight)
    return (grey - grey.mean()) / grey.std()


def rough(rng: np.random.Generator, height: int, width: int, smooth: float = 1.0, detail: float = 1.0) -> np.ndarray:
    """Noise (height, width) of spectrum 1 / f**smooth, mean 0 and deviation 1: a part of a shared tile, anyhow turned."""
    size = 512 if max(height, width) <= 512 else 1024
    tile = np.roll(grain(int(rng.integers(40, 44)), size, smooth, detail), rng.integers(0, size, 2), (0, 1))
    tile = np.rot90(tile, int(rng.integers(4)))
    return tile[:height, :width]


def muted(rng: np.random.Generator, count: int, vivid: float = 0.08, low: float = 0.12, high: float = 0.88) -> np.ndarray:
    """Perceptual colours (count, 3) as streets have them: mostly greys, warmer or cooler, a share ``vivid`` of strong ones."""
    grey = rng.uniform(low, high, (count, 1))
    warm = rng.normal(0.012, 0.035, (count, 1)) * np.array([1.0, 0.1, -1.1])
    green = rng.normal(0, 0.012, (count, 1)) * np.array([-0.5, 1.0, -0.5])
    colour = grey * (1 + 1.6 * (warm + green))
    hue = rng.uniform(0, 1, (count, 3))
    strong = grey + rng.uniform(0.15, 0.6, (count, 1)) * (hue / hue.max(1, keepdims=True) * np.minimum(1.6 * grey, 0.9) - grey)
    return np.clip(np.where(rng.random((count, 1)) < vivid, strong, colour), 0.02, 0.97)


def dead_leaves(
    rng: np.random.Generator, height: int, width: int, count: int, colours: np.ndarray, least: float = 2.0
) -> np.ndarray:
    """Discs, ellipses and rectangles that hide one another (height, width, 3), radii of density 1 / r**3 from ``least`` pixels:
    the dead-leaves model, whose edges and spectrum are those of natural scenes. colours: (K, 3) to choose from."""
    image = np.full((height, width, 3), colours[0], np.float32)
    most = max(height, width) / 3
    inverse = rng.uniform(1 / most**2, 1 / least**2, count)
    radius = 1 / np.sqrt(inverse)
    centre = rng.uniform(0, (width, height), (count, 2))
    flat, turn, kind = rng.uniform(0.35, 1.0, count), rng.uniform(0, 180, count), rng.random(count)
    for i in range(count):
        colour = tuple(float(c) for c in colours[rng.integers(len(colours))] * rng.uniform(0.85, 1.15))
        middle, axes = centre[i] * 2**_SHIFT, np.array([radius[i], radius[i] * flat[i]]) * 2**_SHIFT
        if kind[i] < 0.65:
            at, half = tuple(int(v) for v in middle), tuple(int(v) for v in axes)
            cv2.ellipse(image, at, half, turn[i], 0, 360, colour, -1, cv2.LINE_8, _SHIFT)
        else:
            box = cv2.boxPoints(((middle[0], middle[1]), (2 * axes[0], 2 * axes[1]), float(turn[i])))
            cv2.fillPoly(image, [np.rint(box).astype(np.int32)], colour, cv2.LINE_8, _SHIFT)
    return image


def printed(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Something printed (height, width, 3), the right way up in rows that run upwards: lettering, shapes or a photograph on paint
    or paper."""
    colours = muted(rng, 6, vivid=0.4)
    image = np.full((height, width, 3), colours[0], np.float32)
    kind = rng.random()
    if kind < 0.25:
        image = dead_leaves(rng, height, width, 60, colours, 3.0)
    elif kind < 0.45:
        picture = photo(("coffee", "rocket")[int(rng.integers(2))])
        tall, wide = (int(v * rng.uniform(0.4, 1.0)) for v in picture.shape[:2])
        top, left = int(rng.integers(picture.shape[0] - tall + 1)), int(rng.integers(picture.shape[1] - wide + 1))
        image = cv2.resize(picture[top : top + tall, left : left + wide], (width, height), interpolation=cv2.INTER_AREA)
        image = np.clip(image * rng.uniform(0.7, 1.2, 3), 0, 1).astype(np.float32)
    row = 0.1
    while row < 0.95 and rng.random() < 0.85:  # lines of lettering
        size = float(rng.choice([0.08, 0.14, 0.25]))
        colour = tuple(float(c) for c in colours[1 + int(rng.integers(2))])
        text = "".join(
            chr(c) for c in rng.choice([*range(48, 58), *range(65, 91), *range(97, 123), 32, 32], int(rng.integers(3, 14)))
        )
        scale = size * height / 22
        at = (int(width * rng.uniform(0.02, 0.3)), int((row + size) * height))
        cv2.putText(image, text, at, int(rng.integers(8)), scale, colour, max(int(scale * 1.6), 1), cv2.LINE_AA)
        row += size * 1.4
    return np.ascontiguousarray(image[::-1])


def weathered(rng: np.random.Generator, image: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """A picture (H, W, 3), rows running upwards, after years outdoors: stains at all scales, streaks of rain, dust below."""
    height, width = image.shape[:2]
    stain = rough(rng, height, width, 1.1) * rng.uniform(0.03, 0.09) + rough(rng, height, width, 0.5) * rng.uniform(0.015, 0.05)
    across = rough(rng, 1, width, 0.8)[0]
    fade = np.linspace(1, 0.2, height, dtype=np.float32)[:, None] if rng.random() < 0.5 else np.ones((height, 1), np.float32)
    streak = np.clip(across, 0, 2)[None] * fade * rng.uniform(0, 0.10)
    shade = 1 + strength * (stain - streak)
    hue = 1 + strength * rng.uniform(-0.03, 0.03) * rough(rng, height, width, 1.3)[..., None] * np.array([1.0, 0.0, -1.0])
    return np.clip(image * shade[..., None] * hue, 0, 1).astype(np.float32)
