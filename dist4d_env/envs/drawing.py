"""Small drawing tools on uint8 RGB arrays: text, panels, pills, bars and coloured depth."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dist4d_env.geometry.rgbd import FAR

Colour = tuple[int, int, int]


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=512)
def _glyphs(text: str, size: int) -> tuple[np.ndarray, int]:
    """Coverage (h, w) in [0, 1] of one line of text in a line box, and its width; remembered, since most labels repeat."""
    font = _font(size)
    width = int(np.ceil(font.getlength(text))) + 2
    mask = Image.new("L", (width, int(size * 1.4)))
    ImageDraw.Draw(mask).text((1, 0), text, fill=255, font=font)
    return np.asarray(mask, np.float32)[..., None] / 255, width


def text_width(text: str, size: int) -> int:
    """Width in pixels of one line of text."""
    return _glyphs(text, size)[1]


def draw_text(image: np.ndarray, x: int, y: int, text: str, size: int, colour: Colour, align: str = "left") -> int:
    """Write one line with its line box's top at y and its left, centre or right (``align``) at x; returns the width."""
    coverage, width = _glyphs(text, size)
    x -= {"left": 0, "center": width // 2, "right": width}[align]
    top, left = max(y, 0), max(x, 0)
    part = image[top : y + coverage.shape[0], left : x + width]
    coverage = coverage[top - y : top - y + part.shape[0], left - x : left - x + part.shape[1]]
    part[...] = part + (np.array(colour, np.float32) - part) * coverage + 0.5 * (coverage > 0)
    return width


def fill(
    image: np.ndarray, x: int, y: int, width: int, height: int, colour: Colour, opacity: float = 1.0, radius: int = 0
) -> None:
    """A filled rectangle with rounded corners, clipped to the image."""
    left, top = max(x, 0), max(y, 0)
    part = image[top : max(y + height, 0), left : max(x + width, 0)]
    if part.size == 0:
        return
    mask = _rounded(width, height, radius)[top - y : top - y + part.shape[0], left - x : left - x + part.shape[1]] * opacity
    part[...] = part + (np.array(colour, np.float32) - part) * mask + 0.5 * (mask > 0)


@lru_cache(maxsize=256)
def _rounded(width: int, height: int, radius: int) -> np.ndarray:
    """Coverage (height, width, 1) of a rounded rectangle."""
    if radius <= 0:
        return np.ones((height, width, 1), np.float32)
    scale = 4
    mask = np.zeros((height * scale, width * scale), np.uint8)
    r = min(radius, width // 2, height // 2) * scale
    right, bottom = width * scale - 1, height * scale - 1
    cv2.rectangle(mask, (r, 0), (right - r, bottom), 255, -1)
    cv2.rectangle(mask, (0, r), (right, bottom - r), 255, -1)
    for centre in ((r, r), (right - r, r), (r, bottom - r), (right - r, bottom - r)):
        cv2.circle(mask, centre, r, 255, -1)
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)[..., None].astype(np.float32) / 255


def pill(image: np.ndarray, x: int, y: int, text: str, size: int, colour: Colour, background: Colour, align: str = "left") -> int:
    """Text on a rounded plate; returns the plate's width."""
    width, height = text_width(text, size) + size, round(size * 1.55)
    x -= width if align == "right" else 0
    fill(image, x, y, width, height, background, 0.86, height // 2)
    draw_text(image, x + size // 2, y + (height - round(size * 1.3)) // 2, text, size, colour)
    return width


def bar(image: np.ndarray, x: int, y: int, width: int, height: int, share: float, colour: Colour, background: Colour) -> None:
    """A horizontal bar filled from the left to ``share`` in [0, 1]."""
    fill(image, x, y, width, height, background, 1.0, height // 2)
    filled = round(width * float(np.clip(share, 0, 1)))
    if filled > 0:
        fill(image, x, y, filled, height, colour, 1.0, height // 2)


def colour_depth(depth: np.ndarray) -> np.ndarray:
    """z-depth (H, W) in metres to colours (H, W, 3): near is warm, far cold on a logarithmic scale; 100 m (sky) is night blue."""
    near = 2.0
    scale = np.log(np.clip(depth, near, FAR) / near) / np.log(FAR / near)
    code = np.round(255 * (1 - scale)).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(code, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    colours[depth >= FAR - 0.5] = (18, 20, 30)
    return colours


def enlarge(image: np.ndarray, width: int, height: int, smooth: bool) -> np.ndarray:
    """Resize an image; enlarging is bicubic if ``smooth`` and nearest otherwise, shrinking averages areas."""
    if image.shape[:2] == (height, width):
        return image
    shrinking = width < image.shape[1]
    method = cv2.INTER_AREA if shrinking and smooth else cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
    return cv2.resize(image, (width, height), interpolation=method)
