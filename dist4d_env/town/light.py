"""Light and weather of a town scene: sun, sky, haze and how brightly lamps and windows shine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.errors import DataError


@dataclass(frozen=True)
class Light:
    """Linear RGB radiances, with white paint in full sun near 1.

    sun: (3,) colour, zero where nothing casts a shadow; to_sun: (3,) unit vector; sky, ground: (3,) ambient light from above and
    below; zenith, horizon: (3,) sky colours; cloud: (3,) and cover [0, 1]; haze_m: distance at which haze takes 63 %;
    lamps: strength of street lamps; glow: of windows, lights and signs; wet: [0, 1] how much the ground darkens and mirrors;
    exposure: what the sum is multiplied by.
    """

    sun: np.ndarray
    to_sun: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    cloud: np.ndarray
    cover: float
    haze_m: float
    lamps: float
    glow: float
    wet: float
    exposure: float


_TABLE = {
    # sun, elevation in degrees, sky, ground, zenith, horizon, cloud, cover, haze, lamps, glow, wet, exposure
    "day": ((1.00, 0.92, 0.78), 47.0, (0.34, 0.42, 0.55), (0.16, 0.15, 0.13), (0.10, 0.26, 0.66), (0.62, 0.74, 0.90),
            (0.95, 0.96, 0.98), 0.42, 420.0, 0.0, 0.0, 0.0, 1.0),
    "dusk": ((1.00, 0.52, 0.24), 16.0, (0.30, 0.30, 0.42), (0.13, 0.11, 0.10), (0.10, 0.14, 0.36), (0.95, 0.52, 0.26),
             (0.80, 0.46, 0.40), 0.50, 300.0, 0.10, 0.35, 0.0, 1.0),
    "night": ((0.0, 0.0, 0.0), 60.0, (0.030, 0.036, 0.060), (0.014, 0.014, 0.018), (0.004, 0.007, 0.020), (0.030, 0.034, 0.056),
              (0.030, 0.034, 0.050), 0.35, 220.0, 1.0, 1.0, 0.0, 1.5),
    "overcast": ((0.0, 0.0, 0.0), 60.0, (0.78, 0.80, 0.84), (0.22, 0.21, 0.20), (0.56, 0.60, 0.66), (0.78, 0.80, 0.83),
                 (0.88, 0.89, 0.91), 0.95, 260.0, 0.0, 0.0, 0.0, 0.95),
    "wet": ((0.0, 0.0, 0.0), 60.0, (0.56, 0.59, 0.64), (0.15, 0.15, 0.16), (0.36, 0.39, 0.45), (0.62, 0.64, 0.68),
            (0.60, 0.62, 0.66), 1.0, 150.0, 0.12, 0.20, 1.0, 0.95),
}  # fmt: skip


def light_of(name: str, seed: int) -> Light:
    """The light of a scene: a variant of ``town.model.LIGHTS`` with the sun's bearing drawn from the seed.

    Raises DataError for a name that is not a variant.
    """
    if name not in _TABLE:
        raise DataError(f"unknown light {name!r} in a town scene; known are {', '.join(_TABLE)}")
    sun, elevation, sky, ground, zenith, horizon, cloud, *scalars = _TABLE[name]
    bearing = np.random.default_rng([seed, 11]).uniform(0, 2 * np.pi)
    rise = np.radians(elevation)
    to_sun = np.array([np.cos(rise) * np.cos(bearing), np.cos(rise) * np.sin(bearing), np.sin(rise)], np.float32)
    colours: list[Any] = [np.array(c, np.float32) for c in (sky, ground, zenith, horizon, cloud)]
    return Light(np.array(sun, np.float32), to_sun, *colours, *scalars)
