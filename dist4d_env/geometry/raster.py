"""Drawing map geometry into an ego-aligned bird's-eye raster, fast enough for every decision step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import yaw_of

SIZE = 200
"""Rows and columns of the raster."""
CELL = 0.5
"""Metres per cell."""
_SHIFT = 4  # OpenCV's fixed-point drawing: coordinates in 1/16 cell
_REACH = SIZE * CELL / 2 * 2**0.5 + 2.0  # farthest corner, and a line's width


class BEVRaster:
    """Polygons and line strings per channel, ready to be drawn at any pose.

    layers: one sequence of shapely geometries per channel. Polygons that overlap are united first, so that one fill per channel
    by the even-odd rule leaves exactly the holes empty. Lines are drawn one cell wide.
    """

    def __init__(self, layers: Sequence[Sequence[BaseGeometry]]) -> None:
        # Points of all rings of all channels in one array, so that a pose costs one matrix product.
        points = [np.zeros((0, 2))]
        self._groups: list[tuple[int, bool, np.ndarray, np.ndarray]] = []  # channel, closed, bounds (R, 4), slices (R, 2)
        count = 0
        for channel, geometries in enumerate(layers):
            for closed, rings in _rings(geometries):
                if rings:
                    ends = count + np.cumsum([len(ring) for ring in rings])
                    slices = np.stack([np.concatenate([[count], ends[:-1]]), ends], -1)
                    bounds = np.array([[*ring.min(0), *ring.max(0)] for ring in rings])
                    self._groups.append((channel, closed, bounds, slices))
                    points += rings
                    count = int(ends[-1])
        self._count = len(layers)
        self._points = np.concatenate(points)

    def __call__(self, global_from_ego: np.ndarray) -> np.ndarray:
        """(channels, SIZE, SIZE) uint8 of 0 and 1; see ``SceneMap.bev`` for the axes."""
        import cv2

        x, y = global_from_ego[:2, 3]
        yaw = yaw_of(global_from_ego)
        cos, sin = deterministic.cos(yaw), deterministic.sin(yaw)
        offset = self._points - (x, y)
        # Column runs to the ego's right, row to its back; OpenCV's pixel centres are at whole numbers.
        column = SIZE / 2 - 0.5 + (sin * offset[:, 0] - cos * offset[:, 1]) / CELL
        row = SIZE / 2 - 0.5 - (cos * offset[:, 0] + sin * offset[:, 1]) / CELL
        pixels = np.round(np.stack([column, row], -1) * 2**_SHIFT).astype(np.int32)
        image = np.zeros((self._count, SIZE, SIZE), np.uint8)
        for channel, closed, bounds, slices in self._groups:
            close = (bounds[:, :2] < (x + _REACH, y + _REACH)).all(1) & (bounds[:, 2:] > (x - _REACH, y - _REACH)).all(1)
            rings = [pixels[start:end] for start, end in slices[close]]
            if closed and rings:
                cv2.fillPoly(image[channel], rings, 1, shift=_SHIFT)
            elif rings:
                cv2.polylines(image[channel], rings, False, 1, shift=_SHIFT)
        return image


def _rings(geometries: Sequence[BaseGeometry]) -> list[tuple[bool, list[np.ndarray]]]:
    """Two groups: the rings of the united polygons (closed) and the line strings (open)."""
    parts = shapely.get_parts(np.array(geometries, dtype=object))
    kinds = shapely.get_type_id(parts)
    polygons = shapely.get_parts(shapely.union_all(parts[kinds == 3]))
    rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(polygons)]
    lines = [shapely.get_coordinates(line) for line in parts[(kinds == 1) | (kinds == 2)]]
    return [(True, rings), (False, lines)]
