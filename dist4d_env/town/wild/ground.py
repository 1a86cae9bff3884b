"""Asphalt, paving and grass of wild looks: patched, stained, grainy down to a centimetre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.town.textures import TextureSet, TextureTable, texels
from dist4d_env.town.textures_ground import CROSSING, MARKING, ROAD, SEMANTICS, SIDEWALK, TERRAIN, TILE, Ground
from dist4d_env.town.wild.natural import muted, relief, rough

_GRAIN = 6.4
"""Metres a side of a tile of fine grain, of 512 texels."""
_PLAIN, _GRAVEL, _GRASS, _CONCRETE = range(4)


def wild_materials(seed: int) -> dict[str, np.ndarray]:
    """What ``textures_ground.materials`` gives, with wider tones and stains at all scales."""
    rng = np.random.default_rng([seed, 72])
    broad, patch, fine, pool = (rough(rng, TILE, TILE, smooth) for smooth in (1.6, 1.1, 0.4, 1.9))
    hue = 1 + rng.normal(0, 0.015, (4, 1, 1, 3))
    tone = rng.uniform(0.30, 0.56)
    cracks = (np.abs(rough(rng, TILE, TILE, 1.3, 6.0)) < 0.02) & (broad > rng.uniform(-0.5, 1.5))
    spots = rough(rng, TILE, TILE, 0.9, 30.0) > 2.6  # oil, gum, leaves
    asphalt = tone * (1 + 0.05 * broad + 0.05 * patch + 0.03 * fine - 0.25 * cracks - 0.2 * spots)[..., None] * hue[0]
    across, along = int(rng.choice([4, 8, 16, 32])), int(rng.choice([4, 8, 16, 32]))
    cells = rng.normal(1, rng.uniform(0.01, 0.07), (TILE // across, TILE // along))
    slab = np.repeat(np.repeat(cells, across, 0), along, 1)
    slab[(np.arange(TILE) % across == 0)[:, None] | (np.arange(TILE) % along == 0)[None]] -= rng.uniform(0.05, 0.25)
    paving = (slab + 0.05 * broad + 0.05 * fine + 0.04 * patch)[..., None] * muted(rng, 1, 0.06, 0.38, 0.75)[0]
    green = np.array([0.36, 0.38, 0.22]) * rng.uniform(0.75, 1.2) * (1 + rng.normal(0, 0.05, 3))
    soil = np.array([0.55, 0.47, 0.38]) * rng.uniform(0.6, 1.1)
    bare = np.clip(patch * rng.uniform(0.4, 1.2) + rng.uniform(-0.8, 0.5), 0, 1)[..., None]
    grass = (green + (soil - green) * bare) * (1 + 0.07 * broad + 0.12 * fine)[..., None]
    worn = np.clip(rng.uniform(0.6, 1.0) - 0.14 * np.maximum(patch, 0) - 0.08 * fine, 0.15, 1.0)
    colours = {
        "asphalt": asphalt, "gutter": asphalt * rng.uniform(0.75, 1.25) * hue[1],
        "patched": asphalt * (rng.uniform(0.7, 1.2) + 0.1 * np.sin(5 * broad)[..., None]) * hue[2],
        "parking": asphalt * rng.uniform(0.8, 1.3) * hue[3], "paving": paving, "grass": grass,
        "paint": worn, "puddle": np.clip((pool + rng.uniform(-0.5, 0.5)) * 2.0, 0, 1),
    }  # fmt: skip
    return {name: texels(value) for name, value in colours.items()}


@dataclass(frozen=True)
class GrainyGround(Ground):
    """A ground with fine grain over its picture. grain: tiles of _GRAIN metres; tile_of: (C,) the tile of each class."""

    grain: TextureTable
    tile_of: np.ndarray

    def colour(self, x: np.ndarray, y: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """See ``Ground.colour``."""
        colour = super().colour(x, y, footprint)
        level = np.log2(np.maximum(footprint, 1e-6) * np.float32(512 / _GRAIN))
        tile = self.tile_of[self.semantic(x, y)]
        factor = self.grain.sample(tile, x * np.float32(1 / _GRAIN), y * np.float32(1 / _GRAIN), level) * np.float32(1 / 128)
        colour[:3] *= factor[:3]
        return colour


def grainy(ground: Ground, seed: int) -> GrainyGround:
    """The same ground with grain: gravel in asphalt, blades in grass, pores in concrete; how strong, depends on the seed."""
    rng = np.random.default_rng([seed, 73])
    tiles = TextureSet()  # its first texture is white: never used here, for 128 stands for no change
    for relief_of, strength in (
        (relief("gravel"), rng.uniform(0.04, 0.12)), (relief("grass"), rng.uniform(0.12, 0.25)),
        (rough(rng, 512, 512, 0.6), rng.uniform(0.03, 0.09)),
    ):  # fmt: skip
        image = (1 + strength * np.clip(relief_of, -3, 3))[..., None] * np.ones(4)
        tiles.add(len(tiles.sizes), texels(image / 2))
    tile_of = np.full(len(SEMANTICS), _CONCRETE)
    tile_of[[ROAD, MARKING, CROSSING]], tile_of[SIDEWALK], tile_of[TERRAIN] = _GRAVEL, _CONCRETE, _GRASS
    return GrainyGround(**vars(ground), grain=tiles.freeze(), tile_of=tile_of)
