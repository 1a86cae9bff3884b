"""A route: the logged path extended along the lane graph, as one polyline with arc length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dist4d_env.geometry import deterministic

AHEAD_COUNT = 20
AHEAD_SPACING = 2.5
"""Default number and spacing (metres) of the route points a planner is shown: 2.5 m to 50 m ahead."""

NEAR = 30.0
"""Metres that ``project`` searches before and after a place."""


@dataclass(frozen=True)
class Route:
    """points: (P, 2) global, about 1 m apart; arc_length: (P,) metres from the first point; lanes: tokens it runs over, in order.

    log_length: arc length at which the logged path ends; graph_length: arc length up to which the lane graph carries the route
    on. Beyond it, the route goes straight on. None where the route was not made from a log.
    """

    points: np.ndarray
    arc_length: np.ndarray
    lanes: tuple[str, ...] = ()
    log_length: float | None = None
    graph_length: float | None = None

    @classmethod
    def through(
        cls, points: np.ndarray, lanes: tuple[str, ...] = (), log_length: float | None = None, graph_length: float | None = None
    ) -> Route:
        """A route over distinct points (P, 2), P >= 2, taken as they are."""
        steps = np.hypot(*np.diff(points, axis=0).T)
        if len(points) < 2 or not (steps > 0).all():
            raise ValueError("a route needs two or more points, no two neighbours alike")
        return cls(np.asarray(points, float), np.concatenate([[0.0], np.cumsum(steps)]), lanes, log_length, graph_length)

    @property
    def length(self) -> float:
        """Metres from the first to the last point."""
        return float(self.arc_length[-1])

    def project(self, x: float, y: float, near: float | None = None) -> tuple[float, float, float]:
        """The nearest point of the route: arc length, lateral offset (positive to the left of it) and heading there.

        near: an arc length to search around (30 m before and after), for routes that cross themselves.
        Before the first and past the last point the arc length is clipped and the offset taken from the first or last line.
        """
        first, last = 0, len(self.points)
        if near is not None:
            first, last = np.searchsorted(self.arc_length, (near - NEAR, near + NEAR))
            first, last = min(max(first - 1, 0), len(self.points) - 2), max(last + 1, 2)
        offset = self.points[first:last] - (x, y)
        nearest = first + int(np.argmin(np.einsum("pi,pi->p", offset, offset)))
        # The nearest point of the polyline lies on one of the two pieces that meet at its nearest corner.
        best = None
        for piece in (nearest - 1, nearest):
            if 0 <= piece < len(self._pieces_list):
                px, py, dx, dy, length = self._pieces_list[piece]
                along = (x - px) * dx + (y - py) * dy
                lateral = (y - py) * dx - (x - px) * dy
                clipped = min(max(along, 0.0), length)
                distance = math.hypot(lateral, along - clipped)
                if best is None or distance < best[0]:
                    best = (distance, piece, clipped, lateral, along - clipped)
        assert best is not None
        distance, piece, clipped, lateral, beyond = best
        inner = beyond != 0.0 and 0 < nearest < len(self.points) - 1
        signed = math.copysign(distance, lateral) if inner else lateral
        return float(self.arc_length[piece] + clipped), signed, float(self.piece_heading[piece])

    def follow(self, points: np.ndarray) -> np.ndarray:
        """Arc lengths (N,) of the points (N, 2) of a path: each is projected near the one before, the first anywhere."""
        offset = points[:, None] - self.points  # (N, P, 2)
        nearest = np.argmin(np.einsum("npi,npi->np", offset, offset), axis=1)
        begin, unit, length = self.pieces[:, :2], self.pieces[:, 2:4], self.pieces[:, 4]
        # The two pieces that meet at the nearest corner, as in ``project``; the first of them wins a tie.
        piece = np.stack([np.maximum(nearest - 1, 0), np.minimum(nearest, len(length) - 1)], 1)  # (N, 2)
        away = points[:, None] - begin[piece]
        along = (away * unit[piece]).sum(-1)
        clipped = np.clip(along, 0.0, length[piece])
        lateral = away[..., 1] * unit[piece][..., 0] - away[..., 0] * unit[piece][..., 1]
        best = np.argmin(np.hypot(lateral, along - clipped), axis=1)[:, None]
        s = np.take_along_axis(self.arc_length[piece] + clipped, best, 1)[:, 0]
        if (np.abs(self.arc_length[nearest][1:] - s[:-1]) < NEAR).all():
            return s
        # The route comes by here more than once: point by point.
        positions: list[float] = []
        for x, y in points.tolist():
            positions.append(self.project(x, y, positions[-1] if positions else None)[0])
        return np.array(positions)

    def at(self, s: float) -> tuple[float, float, float]:
        """x, y, heading at arc length s, clipped to the route; the heading turns evenly from line to line."""
        x, y = (float(np.interp(s, self.arc_length, self.points[:, i])) for i in (0, 1))
        return x, y, float(np.interp(s, self.middles, self.piece_heading))

    def sample(self, s: np.ndarray) -> np.ndarray:
        """``at`` for an array of arc lengths (N,): (N, 3)."""
        columns = [np.interp(s, self.arc_length, self.points[:, 0]), np.interp(s, self.arc_length, self.points[:, 1])]
        return np.stack([*columns, np.interp(s, self.middles, self.piece_heading)], -1)

    def ahead(
        self, pose: np.ndarray, count: int = AHEAD_COUNT, spacing: float = AHEAD_SPACING, near: float | None = None
    ) -> np.ndarray:
        """Points (count, 2) of the route in the frame of a pose (4, 4): ``spacing``, 2 ``spacing``, ... beyond its projection.

        Past the end of the route the last line goes on straight, so that the points never pile up.
        """
        x, y = float(pose[0, 3]), float(pose[1, 3])
        s = self.project(x, y, near)[0] + spacing * np.arange(1, count + 1)
        points = np.stack([np.interp(s, self.arc_length, self.points[:, i]) for i in (0, 1)], -1)
        beyond = np.maximum(s - self.length, 0.0)
        points += beyond[:, None] * self.pieces[-1, 2:4]
        # Only the heading counts: the road a pitched or rolled car sees is still the flat route.
        yaw = math.atan2(pose[1, 0], pose[0, 0])
        turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
        return (points - (x, y)) @ turn

    @cached_property
    def pieces(self) -> np.ndarray:
        """(P - 1, 5): start, unit direction and length of every line."""
        step = np.diff(self.points, axis=0)
        length = np.hypot(step[:, 0], step[:, 1])
        return np.concatenate([self.points[:-1], step / length[:, None], length[:, None]], 1)

    @cached_property
    def _pieces_list(self) -> list[tuple[float, ...]]:
        return [tuple(row) for row in self.pieces.tolist()]

    @cached_property
    def piece_heading(self) -> np.ndarray:
        """(P - 1,) heading of every line, unwrapped."""
        return np.unwrap(deterministic.arctan2(self.pieces[:, 3], self.pieces[:, 2]))

    @cached_property
    def middles(self) -> np.ndarray:
        """(P - 1,) arc length of the middle of every line."""
        return (self.arc_length[1:] + self.arc_length[:-1]) / 2
