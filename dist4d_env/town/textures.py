"""Mip-mapped procedural textures, all in one flat array so that one gather shades surfaces of every kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np
import scipy.fft


def noise(rng: np.random.Generator, size: int, smooth: float, detail: float = 1.0) -> np.ndarray:
    """Tileable noise (size, size) float32 of mean 0 and deviation 1: spectrum 1 / f**smooth from ``detail`` cycles a tile on."""
    rows = (np.fft.fftfreq(size) * size).astype(np.float32)[:, None]
    columns = np.arange(size // 2 + 1, dtype=np.float32)[None]
    frequency = np.sqrt(rows * rows + columns * columns)
    gain = np.where(frequency < detail, np.float32(0), np.maximum(frequency, 1) ** np.float32(-smooth))
    white = rng.standard_normal((size, size), np.float32)
    waves = scipy.fft.irfft2(scipy.fft.rfft2(white, workers=1) * gain, s=(size, size), workers=1)
    return (waves - waves.mean()) / waves.std()


@cache
def grain(number: int, size: int, smooth: float, detail: float = 1.0) -> np.ndarray:
    """A noise tile shared by everything that only needs some grain; do not write to it."""
    return noise(np.random.default_rng([number, size]), size, smooth, detail)


def texels(image: np.ndarray) -> np.ndarray:
    """An image (..., C) in [0, 1], values beyond it clipped, as uint8."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def pyramid(image: np.ndarray) -> list[np.ndarray]:
    """Box-filtered halvings of an image (H, W, C) uint8 down to one texel in the shorter side; odd edges are cropped."""
    levels = [np.ascontiguousarray(image)]
    while min(levels[-1].shape[:2]) > 1:
        height, width = levels[-1].shape[0] // 2, levels[-1].shape[1] // 2
        levels.append(cv2.resize(levels[-1][: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA))
    return levels


@dataclass
class TextureSet:
    """Textures of power-of-two size, RGB albedo and a fourth channel of self-illumination, as one array of texels.

    Index 0 is plain white, for surfaces that have nothing but a tint.
    """

    texels: list[np.ndarray] = field(default_factory=list)
    count: int = 0
    starts: list[list[int]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    names: dict[object, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add("white", np.concatenate([np.full((1, 1, 3), 255, np.uint8), np.zeros((1, 1, 1), np.uint8)], -1))

    def add(self, name: object, image: np.ndarray) -> int:
        """Store an image (H, W, 4) uint8 with power-of-two sides under a name; the index comes back."""
        levels = pyramid(image)
        starts = []
        for level in levels:
            starts.append(self.count)
            self.texels.append(level.reshape(-1, 4).view(np.uint32).ravel())
            self.count += level.shape[0] * level.shape[1]
        self.starts.append(starts)
        self.sizes.append((image.shape[1], image.shape[0]))
        self.names[name] = len(self.sizes) - 1
        return self.names[name]

    def get(self, name: object, make: object) -> int:
        """The index of a named texture, made by ``make()`` when it is new."""
        return self.names[name] if name in self.names else self.add(name, make())  # type: ignore[operator]

    def freeze(self) -> TextureTable:
        """The arrays that sampling reads."""
        levels = max(len(s) for s in self.starts)
        starts = np.array([s + [s[-1]] * (levels - len(s)) for s in self.starts], np.int64)
        return TextureTable(
            np.concatenate(self.texels), starts, np.array(self.sizes, np.int64), np.array([len(s) - 1 for s in self.starts])
        )


@dataclass(frozen=True)
class TextureTable:
    """texels: (T,) uint32 RGBA; starts: (K, L) first texel of a level; sizes: (K, 2) width, height; last: (K,) coarsest level."""

    texels: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    last: np.ndarray

    def sample(self, index: np.ndarray, u: np.ndarray, v: np.ndarray, level: np.ndarray) -> np.ndarray:
        """(4, N) float32 in [0, 255]: textures ``index`` (N,) at tile coordinates u, v (wrapping), bilinear at rounded levels."""
        level = np.clip(np.rint(level), 0, self.last[index]).astype(np.int64)
        size = self.sizes[index]
        width, height = np.maximum(size[:, 0] >> level, 1), np.maximum(size[:, 1] >> level, 1)
        return bilinear(self.texels, self.starts[index, level], width, height, u * width - 0.5, v * height - 0.5, wrap=True)


def bilinear(
    texels: np.ndarray, start: np.ndarray, width: np.ndarray, height: np.ndarray, x: np.ndarray, y: np.ndarray, wrap: bool
) -> np.ndarray:
    """(4, N) float32 colours at texel coordinates (texel centres at integers) of images inside a flat (T,) uint32 array."""
    left, low = np.floor(x), np.floor(y)
    fx, fy = (x - left).astype(np.float32), (y - low).astype(np.float32)
    x0, y0 = left.astype(np.int64), low.astype(np.int64)
    x1, y1 = x0 + 1, y0 + 1
    if wrap:  # sides are powers of two, so wrapping is a mask
        x0, x1, y0, y1 = x0 & (width - 1), x1 & (width - 1), y0 & (height - 1), y1 & (height - 1)
    else:
        x0, x1 = np.clip(x0, 0, width - 1), np.clip(x1, 0, width - 1)
        y0, y1 = np.clip(y0, 0, height - 1), np.clip(y1, 0, height - 1)
    row0, row1 = start + y0 * width, start + y1 * width
    a, b, c, d = (
        np.ascontiguousarray(texels.take(i).view(np.uint8).reshape(-1, 4).T, np.float32)
        for i in (row0 + x0, row0 + x1, row1 + x0, row1 + x1)
    )
    top = a + (b - a) * fx
    return top + (c + (d - c) * fx - top) * fy
