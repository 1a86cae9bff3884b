"""Lifting: pixels with depth become points, and points cells of a bird's-eye grid that is laid along the route.

In the frame of the route the lane ahead is straight whatever the street does, so that a network need not learn curves. Pure
functions of pictures, calibration, the ego's motion and its route; none of them knows where anything is but from the pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dist4d_env.errors import DataError
from dist4d_env.geometry.jit import compiled
from dist4d_env.learning.depth_scan import Calibration, Rays
from dist4d_env.learning.route_frame import RouteFrame
from dist4d_env.scenes.route import AHEAD_SPACING
from dist4d_env.simulation.ego import EgoState

BACK, AHEAD, SIDE = 4.0, 56.0, 12.0
"""Metres of the grid behind the rear axle, ahead of it and to either side of the route."""
CELL = 0.5
"""Metres of the cells that points are counted in; image features have cells of two of these."""
CELLS = (int((BACK + AHEAD) / CELL), int(2 * SIDE / CELL))
COARSE = (CELLS[0] // 2, CELLS[1] // 2)
BANDS = (-0.3, 0.3, 0.8, 2.3, 6.0)
"""Metres above the road between which points are counted: the road, kerbs and cones, what stands on it, what hangs above."""
PAST = (0.5, 1.0)
"""Seconds before the present of the earlier frames whose points are counted, too: what moved is in other cells in them."""
CHANNELS = len(BANDS) - 1 + 2 * len(PAST)
FARTHEST = 70.0
"""Metres of depth beyond which pixels are no points."""
MOST = 255


@dataclass(frozen=True)
class Pictures:
    """Pictures of an instant. rgb: (V, H, W, 3) uint8; depth: (V, H, W) float32 metres; ego: where the cameras' vehicle was."""

    time: float
    rgb: np.ndarray
    depth: np.ndarray
    ego: EgoState


@dataclass(frozen=True)
class Lifted:
    """counts: (C, 120, 48) uint8 points per cell, the present's by band, then those of each earlier frame in the two middle
    bands; cells: (V, H / 2, W / 2) int16 the coarse cell of each second pixel, -1 for none; seen: (2,) which earlier frames
    there are."""

    counts: np.ndarray
    cells: np.ndarray
    seen: np.ndarray


class Lifter:
    """Lifts views of the cameras of a calibration, at one picture size (even height and width).

    depth: whether pictures' own depth is used; without it every pixel is taken to show the flat road, so that only what stands
    near the ego is about where it seems, and no points are counted.
    """

    def __init__(self, calibration: Calibration, size: tuple[int, int], depth: bool = True) -> None:
        self.rays, self._size, self._depth = Rays.of(calibration, size), size, depth
        down = self.rays.direction[:, 2] < -1e-3
        road = np.where(down, -self.rays.origin[:, 2] / np.where(down, self.rays.direction[:, 2], 1.0), np.inf)
        self._road = road.astype(np.float32).reshape(len(calibration), *size)

    def lift(self, views: list[Pictures | None], route: np.ndarray) -> Lifted:
        """views: the present one and those ``PAST`` seconds before, None where there was none; route: (20, 2) as observed.

        Raises DataError for pictures of other cameras, or of another size, than the calibration's.
        """
        frame, now = RouteFrame.of({"route": route[None]}), views[0]
        assert now is not None
        for view in views:
            if view is not None and view.depth.shape != self._road.shape:
                raise DataError(
                    f"pictures of depth {view.depth.shape} do not fit the calibration, which is of {self._road.shape} (cameras, "
                    "height, width): give those of its cameras, at its size"
                )
        depth = now.depth if self._depth else self._road
        present = self._points(depth, frame, now.ego, now.ego)
        parts = []
        for number, view in enumerate(views):
            bands = BANDS if not number else BANDS[1:4]
            if view is None or not self._depth:
                parts.append(np.zeros((len(bands) - 1, *CELLS), np.uint8))
            else:
                points = self._points(view.depth, frame, view.ego, now.ego) if number else present
                parts.append(_counted(*points, bands))
        seen = np.array([view is not None for view in views[1:]])
        return Lifted(np.concatenate(parts), self._cells(depth, *present[:2]), seen)

    def _points(
        self, depth: np.ndarray, frame: RouteFrame, then: EgoState, now: EgoState
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Metres along the route, to the left of it and above the road (P,) of all pixels; nan for those that are too far."""
        cos, sin = math.cos(now.yaw), math.sin(now.yaw)
        dx, dy, turn = then.x - now.x, then.y - now.y, then.yaw - now.yaw
        move = np.array([math.cos(turn), math.sin(turn), cos * dx + sin * dy, cos * dy - sin * dx])
        flat = np.ascontiguousarray(depth, np.float32).reshape(-1)
        found = np.empty((3, len(flat)), np.float32)
        _project(
            flat, self.rays.direction, self.rays.origin, move, frame.points[0], frame.unit[0], FARTHEST, AHEAD_SPACING, found
        )
        return found[0], found[1], found[2]

    def _cells(self, depth: np.ndarray, along: np.ndarray, left: np.ndarray) -> np.ndarray:
        """(V, H / 2, W / 2) the coarse cell of the nearest of each four pixels; along, left: ``_points`` of their depth."""
        views, (height, width) = len(depth), self._size
        row, column = _cell(along, BACK, 2 * CELL, COARSE[0]), _cell(left, SIDE, 2 * CELL, COARSE[1])
        cell = np.where((row >= 0) & (column >= 0), row * COARSE[1] + column, -1)
        fours = lambda of: of.reshape(views, height // 2, 2, width // 2, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 4)  # noqa: E731
        nearest = fours(depth).argmin(1)
        chosen = fours(cell)[np.arange(len(nearest)), nearest]
        return chosen.reshape(views, height // 2, width // 2).astype(np.int16)


def _cell(metres: np.ndarray, before: float, size: float, count: int) -> np.ndarray:
    """Numbers of the cells that places lie in, -1 for none."""
    with np.errstate(invalid="ignore"):
        cell = np.floor((metres + before) / size)
        return np.where((cell >= 0) & (cell < count), cell, -1).astype(np.int64)


def _counted(along: np.ndarray, left: np.ndarray, height: np.ndarray, bands: tuple[float, ...]) -> np.ndarray:
    """(len(bands) - 1, 120, 48) uint8 how many points lie in each cell between each two heights."""
    row, column = _cell(along, BACK, CELL, CELLS[0]), _cell(left, SIDE, CELL, CELLS[1])
    band = np.digitize(height, bands) - 1
    inside = (row >= 0) & (column >= 0) & (band >= 0) & (band < len(bands) - 1)
    place = (band[inside] * CELLS[0] + row[inside]) * CELLS[1] + column[inside]
    count = np.bincount(place, minlength=(len(bands) - 1) * CELLS[0] * CELLS[1])
    return np.minimum(count, MOST).astype(np.uint8).reshape(-1, *CELLS)


def cell_centres(every: int = 4) -> np.ndarray:
    """(R, C, 2) metres along and to the left of the route of the centres of cells of ``every`` fine cells."""
    size = every * CELL
    along = -BACK + size * (np.arange(CELLS[0] // every) + 0.5)
    left = -SIDE + size * (np.arange(CELLS[1] // every) + 0.5)
    return np.stack(np.meshgrid(along, left, indexing="ij"), -1)


@compiled
def _project(
    depth: np.ndarray, direction: np.ndarray, origin: np.ndarray, move: np.ndarray, points: np.ndarray, unit: np.ndarray,
    farthest: float, spacing: float, found: np.ndarray,
) -> None:  # fmt: skip
    """Writes along, left and height (3, P) of pixels of z-depth (P,), on the pieces that ``RouteFrame.project`` finds.

    Outside a bend along goes on beyond the end of its piece, where ``project`` stops: by 3 m at most, 12 m beside a bend of 10 m
    radius. The shipped network is trained with it.

    move: cosine, sine, x, y of the pose of the pictures' vehicle in the present ego frame.
    """
    pieces = len(unit)
    for pixel in range(len(depth)):
        far = depth[pixel]
        if not (0.0 < far < farthest):
            found[0, pixel] = found[1, pixel] = found[2, pixel] = np.nan
            continue
        there_x = direction[pixel, 0] * far + origin[pixel, 0]
        there_y = direction[pixel, 1] * far + origin[pixel, 1]
        x = move[0] * there_x - move[1] * there_y + move[2]
        y = move[1] * there_x + move[0] * there_y + move[3]
        best = np.inf
        for piece in range(pieces):
            dx, dy = x - points[piece, 0], y - points[piece, 1]
            along = dx * unit[piece, 0] + dy * unit[piece, 1]
            left = dy * unit[piece, 0] - dx * unit[piece, 1]
            inside = along
            if piece > 0 and inside < 0.0:
                inside = 0.0
            if piece < pieces - 1 and inside > spacing:
                inside = spacing
            cost = left * left + (along - inside) * (along - inside)
            if cost < best:
                best = cost
                found[0, pixel] = along + spacing * piece
                found[1, pixel] = left
        found[2, pixel] = direction[pixel, 2] * far + origin[pixel, 2]
