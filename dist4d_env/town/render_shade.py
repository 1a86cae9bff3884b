"""Light on surfaces: sun with cast shadows, sky light, contact shadows, lamps, headlights, haze, and the sky itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.boxes import CATEGORIES, Boxes
from dist4d_env.town.light import Light
from dist4d_env.town.model import TownScene
from dist4d_env.town.render_surface import Surface, dot
from dist4d_env.town.textures import noise
from dist4d_env.town.textures_ground import TEXEL, Ground
from dist4d_env.town.wedges import Wedges

_CELL = 0.25  # metres a cell of the grid of contact shadows and headlights
_REACH = 48.0  # metres from the cameras that this grid covers
_LAMP_CELL = 0.5
_ABOVE = np.array([[0], [0], [0.02]], np.float32)  # off the ground, so that shadow rays do not meet it
_LAMP_COLOUR = np.array([1.0, 0.78, 0.48], np.float32)
_BEAM_COLOUR = np.array([1.0, 0.95, 0.84], np.float32)
_DRIVERS = tuple(CATEGORIES.index(name) for name in ("car", "truck", "bus", "motorcycle"))


@dataclass(frozen=True)
class Grid:
    """values: (H, W) float32 at cell centres, ``cell`` metres apart, from a corner ``low`` (2,); zero outside."""

    values: np.ndarray
    low: np.ndarray
    cell: float

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Values (N,) at points x, y (N,) float32, bilinear."""
        height, width = self.values.shape
        x, y = (x - self.low[0]) / self.cell - 0.5, (y - self.low[1]) / self.cell - 0.5
        inside = (x >= 0) & (y >= 0) & (x < width - 1) & (y < height - 1)
        result = np.zeros(len(x), np.float32)
        at = np.flatnonzero(inside)
        x, y = x[at], y[at]
        left, low = np.floor(x), np.floor(y)
        fx, fy = x - left, y - low
        cells, base = self.values.ravel(), low.astype(np.int64) * width + left.astype(np.int64)
        top = cells[base] * (1 - fx) + cells[base + 1] * fx
        bottom = cells[base + width] * (1 - fx) + cells[base + width + 1] * fx
        result[at] = top * (1 - fy) + bottom * fy
        return result


@dataclass(frozen=True)
class LightPools:
    """Effect of actors on the light on the ground. shade: darkness under them; beam: their headlights; None without."""

    shade: Grid | None
    beam: Grid | None

    @classmethod
    def none(cls) -> LightPools:
        """No actors."""
        return cls(None, None)


class Shading:
    """Turns hits into linear colours (3, N). Built once a scene; all coordinates are relative to ``origin`` (2,).

    headroom: light above this, in units of the screen's white, is cut off.
    """

    def __init__(self, scene: TownScene, light: Light, ground: Ground, origin: np.ndarray, headroom: float = 1.0) -> None:
        self.light, self._headroom = light, headroom
        rng = np.random.default_rng([scene.seed, 13])
        clouds = noise(rng, 256, 1.7, 2)
        self._clouds = np.clip((clouds + (light.cover - 0.5) * 3.0) * 0.55 + 0.2, 0, 1).astype(np.float32)
        self._skyline = _skyline(rng)
        self._lamps = _lamp_grid(scene, ground, origin) if light.lamps > 0 else None

    def shadowed(self, boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
        """Discs, centres (N, 2) and radii (N,), around boxes on the ground and the shadows they cast."""
        away = -self.light.to_sun[:2].astype(float) / self.light.to_sun[2] * bool(self.light.sun.any())
        half = (boxes.position[:, 2:] + boxes.size[:, 2:] / 2) * away / 2  # from a box to the middle of its shadow
        return boxes.position[:, :2] + half, np.hypot(boxes.size[:, 0], boxes.size[:, 1]) / 2 + np.hypot(*half.T)

    def pools(self, boxes: Boxes, around: np.ndarray, view: Wedges, origin: np.ndarray) -> LightPools:
        """Contact shadows of boxes and, at night, headlights of the driving ones, around a point (2,), as far as ``view`` sees.

        All in the global frame; the pools are relative to ``origin`` (2,).
        """
        low = np.floor((around - origin - _REACH) / _CELL) * _CELL
        shape = (int(2 * _REACH / _CELL) + 2,) * 2
        shade = np.zeros(shape, np.float32)
        spread = np.hypot(boxes.size[:, 0], boxes.size[:, 1]) / 2 + 0.8
        seen = view.touch(boxes.position[:, :2], spread * 1.5)  # patches are squares
        for (x, y), (length, width, _), yaw, reach in zip(
            boxes.position[seen, :2] - origin, boxes.size[seen], boxes.yaw[seen], spread[seen], strict=True
        ):
            part, along, across = _patch(shade, low, (x, y), yaw, (x, y), reach)
            outside = np.hypot(np.maximum(np.abs(along) - length / 2, 0), np.maximum(np.abs(across) - width / 2, 0))
            np.maximum(part, np.clip(1 - outside / 0.7, 0, 1) ** 1.5, out=part)
        if self.light.glow < 0.3:
            return LightPools(Grid(shade, low, _CELL), None)
        beam = np.zeros(shape, np.float32)
        driving = boxes.select(np.isin(boxes.category, _DRIVERS) & (np.hypot(*boxes.velocity.T) > 0.5))
        heading = np.stack([np.cos(driving.yaw), np.sin(driving.yaw)], -1)
        front = driving.position[:, :2] - origin + heading * driving.size[:, :1] / 2
        lit = front + heading * 11
        for i in np.flatnonzero(view.touch(lit + origin, np.full(len(lit), 13.0 * 1.5))):
            part, ahead, aside = _patch(beam, low, front[i], driving.yaw[i], lit[i], 13.0)
            broad = 0.9 + 0.16 * np.maximum(ahead, 0)
            part += np.clip(ahead / 1.5, 0, 1) * np.exp(-np.maximum(ahead, 0) / 7 - (aside / broad) ** 2)
        return LightPools(Grid(shade, low, _CELL), Grid(beam, low, _CELL))

    def ground(
        self, point: np.ndarray, length: np.ndarray, colour: np.ndarray, pools: LightPools, blockers: Sequence[Surface]
    ) -> np.ndarray:
        """Linear colours (3, N) of ground points (3, N) painted ``colour`` (4, N), RGB and puddles, ``length`` (N,) m away."""
        light = self.light
        albedo = colour[:3] ** 2  # textures are perceptual, light is linear
        if light.wet:
            albedo *= 1 - light.wet * (0.30 + 0.25 * colour[3])
        shade = pools.shade.at(*point[:2]) if pools.shade is not None else np.zeros(len(length), np.float32)
        total = light.sky[:, None] * (1 - 0.72 * shade)
        if light.sun.any():
            total += light.sun[:, None] * (light.to_sun[2] * self._in_sun(point + _ABOVE, blockers))
        return self._haze(albedo * self._add_lamps(total, point, pools), length)

    def solid(
        self, point: np.ndarray, direction: np.ndarray, length: np.ndarray, albedo: np.ndarray, glow: np.ndarray,
        normal: np.ndarray, pools: LightPools, blockers: Sequence[Surface],
    ) -> np.ndarray:  # fmt: skip
        """Linear colours (3, N) of points (3, N) on meshes, seen along directions (3, N) from ``length`` (N,) metres."""
        light = self.light
        normal = normal * np.where(dot(normal, direction) > 0, np.float32(-1), np.float32(1))
        up = 0.5 + 0.5 * normal[2]
        total = light.ground[:, None] + (light.sky - light.ground)[:, None] * up
        total *= 1 - 0.35 * np.exp(-np.maximum(point[2], 0) / 0.8)
        if light.sun.any():
            slant = dot(light.to_sun, normal)
            lit = np.flatnonzero(slant > 0.01)
            clear = self._in_sun(point.take(lit, 1) + np.float32(0.03) * normal.take(lit, 1), blockers)
            total[:, lit] += light.sun[:, None] * (slant[lit] * clear)
        total = self._add_lamps(total, point, pools)
        if light.glow:
            total = total + glow * np.float32(1.6 * light.glow)
        return self._haze(albedo * albedo * total, length)

    def mirror(self, slant: np.ndarray, puddle: np.ndarray) -> np.ndarray:
        """Share (N,) of mirrored light on wet ground seen at sin(elevation) ``slant``, after Schlick's Fresnel term."""
        return self.light.wet * (0.02 + 0.98 * (1 - slant) ** 5) * (0.12 + 0.38 * puddle)

    def develop(self, rgb: np.ndarray) -> np.ndarray:
        """Linear light to [0, 255] of the screen, brighter ones to as much as the headroom allows."""
        return np.sqrt(np.clip(rgb * np.float32(self.light.exposure), 0, self._headroom)) * 255

    def _in_sun(self, start: np.ndarray, blockers: Sequence[Surface]) -> np.ndarray:
        """(N,) bool for points (3, N), false where something casts its shadow."""
        rows = np.ascontiguousarray(start.T)
        clear = np.ones(len(rows), bool)
        for blocker in blockers:
            left = np.flatnonzero(clear)
            clear[left] = ~blocker.blocked(rows.take(left, 0), self.light.to_sun, 80.0)
        return clear

    def _add_lamps(self, total: np.ndarray, point: np.ndarray, pools: LightPools) -> np.ndarray:
        if self._lamps is not None:
            strength = self._lamps.at(*point[:2]) * np.exp(-np.maximum(point[2] - 4.0, 0) / 2.5) * self.light.lamps
            total = total + _LAMP_COLOUR[:, None] * strength
        if pools.beam is not None:
            strength = pools.beam.at(*point[:2]) * np.exp(-np.maximum(point[2] - 0.7, 0) / 0.5) * self.light.glow
            total = total + _BEAM_COLOUR[:, None] * strength
        return total

    def _haze(self, colour: np.ndarray, length: np.ndarray) -> np.ndarray:
        far = self.light.horizon[:, None] * np.float32(0.92)
        return far + (colour - far) * np.exp(length * np.float32(-1 / self.light.haze_m))

    def sky(self, direction: np.ndarray) -> np.ndarray:
        """Linear colours (3, N) of the sky along directions (3, N), with a hazy skyline far away."""
        light = self.light
        unit = direction / np.sqrt(dot(direction, direction))
        rise = np.maximum(unit[2], 0)
        colour = light.horizon[:, None] + (light.zenith - light.horizon)[:, None] * (1 - np.exp(-3.2 * rise))
        plane = unit[:2] * (40 / (rise + 0.10))
        corner = np.floor(plane)
        fx, fy = plane - corner
        column, row = corner.astype(np.int64)
        cells, row0, row1 = self._clouds.ravel(), (row & 255) << 8, ((row + 1) & 255) << 8
        left, right = column & 255, (column + 1) & 255
        cover = (cells[row0 + left] * (1 - fx) + cells[row0 + right] * fx) * (1 - fy)
        cover += (cells[row1 + left] * (1 - fx) + cells[row1 + right] * fx) * fy
        colour += (light.cloud[:, None] - colour) * (cover * np.clip(rise * 9, 0, 1) * 0.85)
        if light.sun.any():
            towards = np.maximum(dot(light.to_sun, unit), 0)
            bright = np.flatnonzero(towards > 0.7)
            glare = 0.25 * towards[bright] ** 24 + 1.5 * towards[bright] ** 900
            colour[:, bright] += light.sun[:, None] * glare
        low = np.flatnonzero(unit[2] < 0.06)
        turn = np.arctan2(unit[1, low], unit[0, low]) / (2 * np.pi) % 1.0
        top = self._skyline[(turn * len(self._skyline)).astype(np.int64) % len(self._skyline)]
        colour[:, low[unit[2, low] < top]] = (light.horizon * 0.62 + light.zenith * 0.12)[:, None]
        return colour


def _patch(
    grid: np.ndarray, low: np.ndarray, centre: Sequence[float], yaw: float, about: Sequence[float], reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of a grid within ``reach`` of ``about``, and its cells' coordinates along and across ``yaw`` from ``centre``."""
    cells = np.array([[about[0] - reach, about[1] - reach], [about[0] + reach, about[1] + reach]]) - low
    (c0, r0), (c1, r1) = np.maximum(np.floor(cells / _CELL), 0).astype(int)
    part = grid[r0 : r1 + 1, c0 : c1 + 1]
    x = (np.arange(part.shape[1], dtype=np.float32) + c0 + 0.5) * _CELL + (low[0] - centre[0])
    y = ((np.arange(part.shape[0], dtype=np.float32) + r0 + 0.5) * _CELL + (low[1] - centre[1]))[:, None]
    cos, sin = np.cos(yaw), np.sin(yaw)
    return part, x * cos + y * sin, y * cos - x * sin


def _skyline(rng: np.random.Generator) -> np.ndarray:
    """Sine of the elevation of a distant skyline by azimuth (720,)."""
    blocks = np.repeat(rng.uniform(0.004, 0.030, 240), 3)
    return np.where(np.repeat(rng.random(120), 6) < 0.2, blocks * 1.8, blocks).astype(np.float32)


def _lamp_grid(scene: TownScene, ground: Ground, origin: np.ndarray) -> Grid:
    """Light of all street lamps on the ground."""
    height, width = ground.classes.shape
    low = ground.origin - origin
    table = np.zeros((int(height * TEXEL / _LAMP_CELL) + 1, int(width * TEXEL / _LAMP_CELL) + 1), np.float32)
    for prop in scene.layout.props:
        if prop.kind != "lamp":
            continue
        arm = max(prop.size[0] / 2, 1.0) - 0.3
        x = (prop.x - origin[0] + arm * np.cos(prop.yaw) - low[0]) / _LAMP_CELL
        y = (prop.y - origin[1] + arm * np.sin(prop.yaw) - low[1]) / _LAMP_CELL
        r0, c0 = max(int(y) - 60, 0), max(int(x) - 60, 0)
        part = table[r0 : max(int(y) + 60, 0), c0 : max(int(x) + 60, 0)]
        rows, columns = np.arange(part.shape[0])[:, None] + r0 + 0.5, np.arange(part.shape[1]) + c0 + 0.5
        part += 0.75 / (1 + ((rows - y) ** 2 + (columns - x) ** 2) * _LAMP_CELL**2 / 36.0) ** 2
    return Grid(table, low, _LAMP_CELL)
