"""From the light that a wild scene sends to the picture a camera makes of it: flare, blur, rain, exposure, colour, noise."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np

HEADROOM = 6.0
"""How many times brighter than white paint light may be before it is cut off."""


@dataclass(frozen=True)
class Camera:
    """How one camera develops light in one scene.

    gain: exposure about the scene's; drift: (3, 4) amplitude, period in seconds and phase of slow waves of exposure, and how
    much each turns red into blue; balance: (3,) factor of each channel; vignette: share of light lost in the corners; blur, halo:
    pixels at 100 rows of height; flare: share of light that strays; shot, read: noise of a picture of 900 rows, which smaller
    ones average away; quality: of the stored JPEG; drops: of rain on the glass.
    """

    gain: float
    drift: np.ndarray
    balance: np.ndarray
    saturation: float
    gamma: float
    contrast: float
    black: float
    vignette: float
    blur: float
    halo: float
    flare: float
    shot: float
    read: float
    quality: int
    drops: int


def camera_of(scene_seed: tuple[int, ...], name: str, light: str) -> Camera:
    """The camera ``name`` of a scene: most of it is the scene's, some is its own."""
    rng, own = (np.random.default_rng([*scene_seed, 83, *more]) for more in ((), (_number(name),)))
    dark = light in ("night", "dusk")
    cast = rng.normal(0, 0.06) + own.normal(0, 0.025)
    tint = rng.normal(0, 0.02) + own.normal(0, 0.01)
    drift = np.stack([own.uniform(0, 0.09, 3), own.uniform(3, 25, 3), own.uniform(0, 2 * np.pi, 3), own.normal(0, 0.25, 3)], 1)
    noise = float(rng.lognormal(-0.3, 0.7)) * (2.5 if dark else 1.0)
    soft = float(rng.choice([0.0, 0.2, 0.5], p=[0.6, 0.28, 0.12]))
    return Camera(
        gain=float(np.exp(rng.normal(0.0, 0.18) + own.normal(0, 0.10))), drift=drift,
        balance=np.exp(np.array([cast, tint, -cast])).astype(np.float32),
        saturation=float(np.clip(rng.normal(0.85, 0.18), 0.3, 1.3)), gamma=float(np.exp(rng.normal(0, 0.08))),
        contrast=float(rng.uniform(0, 0.8)), black=float(max(rng.normal(0.01, 0.02), 0)),
        vignette=float(rng.uniform(0, 0.35)), blur=soft * float(own.uniform(0.6, 1.3)), halo=float(rng.uniform(1.5, 7)),
        flare=float(rng.lognormal(-3.2, 0.7)), shot=0.02 * noise, read=0.005 * noise,
        quality=int(np.clip(100 - rng.exponential(12), 55, 97)),
        drops=int(own.integers(2, 14)) if light == "wet" and rng.random() < 0.5 else 0,
    )  # fmt: skip


def developed(
    image: np.ndarray,
    camera: Camera,
    seed: tuple[int, ...],
    name: str,
    time: float,
    rain: float,
    depth: np.ndarray,
    exposure: float,
) -> np.ndarray:
    """The picture (H, W, 3) uint8 that a camera makes of light (H, W, 3) float32, given as 255 times its square root.

    rain: how dense the streaks are; depth: (H, W), for rain lies before what is far; exposure: the scene's. The same arguments,
    the same bits.
    """
    height, width = image.shape[:2]
    scale = height / 100
    rng = np.random.default_rng([*seed, 84, _number(name), max(round(time * 1e4) + 10**6, 0)])
    light = np.square(image * np.float32(1 / 255)) * np.float32(exposure)
    glare = cv2.GaussianBlur(light, (0, 0), max(camera.halo * scale, 0.8), borderType=cv2.BORDER_REPLICATE)
    light += np.float32(camera.flare) * (glare + glare.mean((0, 1)) * np.float32(0.5))
    light = _ghosts(light, camera, seed, name)
    if rain:
        light = _streaks(light, depth, rain, rng)
    if camera.blur * scale > 0.15:
        light = cv2.GaussianBlur(light, (0, 0), camera.blur * scale, borderType=cv2.BORDER_REPLICATE)
    if camera.drops:
        light = _dropped(light, camera, seed, name)
    wave = camera.drift[:, 0] * np.sin(2 * np.pi * time / camera.drift[:, 1] + camera.drift[:, 2])
    gain = camera.gain * float(np.exp(wave.sum()))
    tilt = float(np.exp((wave * camera.drift[:, 3]).sum()))
    factor = (camera.balance * np.array([tilt, 1, 1 / tilt]) * gain).astype(np.float32)
    rows, columns = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)[None]
    light *= (1 - np.float32(camera.vignette / 2) * (rows * rows + columns * columns))[..., None] * factor
    # a sensor's noise: that of light grows with its root, the amplifier's does not
    white = rng.standard_normal(light.shape, np.float32) * np.float32(min(height / 900, 1) ** 0.5)
    light += white * np.sqrt(np.float32(camera.shot**2) * np.maximum(light, 0) + np.float32(camera.read**2))
    return np.rint(_toned(light, camera) * 255).astype(np.uint8)


def _toned(light: np.ndarray, camera: Camera) -> np.ndarray:
    """Linear light to [0, 1] of a screen: less or more colour, highlights that roll off, gamma and an S-curve."""
    grey = light @ np.array([0.3, 0.6, 0.1], np.float32)
    light = np.maximum(grey[..., None] + np.float32(camera.saturation) * (light - grey[..., None]), 0)
    knee = np.float32(0.7)
    over = np.maximum(light - knee, 0)
    light = np.minimum(light, knee) + (1 - knee) * over / (over + (1 - knee) * np.float32(1.6)) * np.float32(1.25)
    value = np.clip(light, 0, 1) ** np.float32(0.5 * camera.gamma)
    curve = value * value * (3 - 2 * value)
    value += np.float32(camera.contrast * 0.5) * (curve - value)
    return np.clip(camera.black + (1 - camera.black) * value, 0, 1)


def _ghosts(light: np.ndarray, camera: Camera, seed: tuple[int, ...], name: str) -> np.ndarray:
    """Reflections between lenses: what is far brighter than white appears again, mirrored through the middle and blurred."""
    bright = np.maximum(light - 1.5, 0)
    if not bright.any():
        return light
    rng = np.random.default_rng([*seed, 85, _number(name)])
    height, width = light.shape[:2]
    for size in rng.uniform(-0.9, -0.25, 2):
        move = np.array([[size, 0, width / 2 * (1 - size)], [0, size, height / 2 * (1 - size)]], np.float32)
        ghost = cv2.warpAffine(bright, move, (width, height))
        ghost = cv2.GaussianBlur(ghost, (0, 0), max(0.03 * height, 0.8))
        light = light + ghost * (rng.uniform(0.2, 1.0, 3) * camera.flare * 2).astype(np.float32)
    return light


def _streaks(light: np.ndarray, depth: np.ndarray, rain: float, rng: np.random.Generator) -> np.ndarray:
    """Falling drops, as bright smears that are longer and paler where they are near, and mist before what is far."""
    height, width = light.shape[:2]
    mask = np.zeros((height, width), np.float32)
    slope, count = rng.uniform(-0.15, 0.15), int(rain * 160)
    near = rng.uniform(0.02, 0.16, count) * height
    x, y, shine = rng.uniform(0, width, count), rng.uniform(-0.1, 1, count) * height, rng.uniform(0.1, 0.6, count)
    for i in range(count):
        ends = ((x[i], y[i]), (x[i] + slope * near[i], y[i] + near[i]))
        a, b = (tuple(round(v * 16) for v in end) for end in ends)
        cv2.line(mask, a, b, float(shine[i]), 1, cv2.LINE_8, 4)
    mask = cv2.GaussianBlur(mask, (0, 0), max(0.004 * height, 0.4))[..., None]
    mean = light.mean((0, 1))
    far = (1 - np.exp(-depth * np.float32(rain / 120)))[..., None]
    light = light + far * (mean * np.float32(1.1) - light)
    return light + mask * (mean * np.float32(1.3) - light) * np.float32(0.5)


def _dropped(light: np.ndarray, camera: Camera, seed: tuple[int, ...], name: str) -> np.ndarray:
    """Drops on the glass: in each the picture, and the picture upside down, out of focus."""
    rng = np.random.default_rng([*seed, 86, _number(name)])
    height, width = light.shape[:2]
    soft = cv2.GaussianBlur(np.minimum(light[::-1] + light, 2.0) / 2, (0, 0), 0.05 * height)
    weight = np.zeros((height, width), np.float32)
    for _ in range(camera.drops):
        radius = float(np.clip(rng.lognormal(-3.2, 0.5), 0.01, 0.12)) * height
        at = tuple(int(v * 16) for v in rng.uniform(0, 1, 2) * (width, height))
        cv2.ellipse(weight, at, (int(radius * 16), int(radius * rng.uniform(1, 1.5) * 16)), 0, 0, 360, 1.0, -1, cv2.LINE_8, 4)
    weight = cv2.GaussianBlur(weight, (0, 0), max(0.012 * height, 0.5))[..., None] * np.float32(0.6)
    return light + weight * (soft - light)


def _number(name: str) -> int:
    """A number that stands for a name in every process."""
    return zlib.crc32(name.encode())
