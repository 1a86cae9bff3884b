"""The routes of several scenes asked many questions at once, each answered bit for bit as ``Route`` answers it alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.scenes.route import AHEAD_COUNT, AHEAD_SPACING, NEAR, Route
from dist4d_env.simulation.ego import cosines, hypotenuses, sines


class Routes:
    """Several routes; ``route`` (B,) in every method says which one each question is about."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = tuple(routes)
        self._counts = np.array([len(route.points) for route in routes], int)
        longest = int(self._counts.max(initial=2))
        self._points = np.full((2, len(routes), longest), np.inf)
        self._arc = np.full((len(routes), longest), np.inf)
        self._pieces = np.zeros((5, len(routes), longest - 1))  # start, direction and length of every line
        self._heading, self._middles = np.zeros((len(routes), longest - 1)), np.zeros((len(routes), longest - 1))
        for row, route in enumerate(routes):
            count = len(route.points)
            self._points[:, row, :count], self._arc[row, :count] = route.points.T, route.arc_length
            self._pieces[:, row, : count - 1] = route.pieces.T
            self._heading[row, : count - 1], self._middles[row, : count - 1] = route.piece_heading, route.middles

    def project(
        self, route: np.ndarray, x: np.ndarray, y: np.ndarray, near: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``Route.project`` of points (B,): arc lengths, lateral offsets, headings (B,). near: (B,), nan to search everywhere."""
        rows, count = np.arange(len(route)), self._counts[route]
        first, stop = np.zeros(len(route), int), count.copy()
        some = np.flatnonzero(~np.isnan(near))
        if len(some):
            arc, around = self._arc[route[some]], near[some, None]
            first[some] = np.clip((arc < around - NEAR).sum(1) - 1, 0, count[some] - 2)
            stop[some] = np.minimum(np.maximum((arc < around + NEAR).sum(1) + 1, 2), count[some])
        # Shorter searches look at their last point again: of equally near ones the first counts.
        place = np.minimum(first[:, None] + np.arange((stop - first).max(initial=1)), stop[:, None] - 1)
        dx, dy = self._points[0][route[:, None], place] - x[:, None], self._points[1][route[:, None], place] - y[:, None]
        nearest = first + (dx * dx + dy * dy).argmin(1)
        # The nearest point of the polyline lies on one of the two pieces that meet at its nearest corner.
        pieces = np.stack([nearest - 1, nearest])  # (2, B)
        exists = (pieces >= 0) & (pieces < count - 1)
        pieces = np.clip(pieces, 0, count - 2)
        px, py, ux, uy, length = self._pieces[:, route, pieces]
        along = (x - px) * ux + (y - py) * uy
        lateral = (y - py) * ux - (x - px) * uy
        clipped = np.minimum(np.maximum(along, 0.0), length)
        apart = hypotenuses(lateral.ravel(), (along - clipped).ravel()).reshape(2, -1)
        chosen = np.where(exists, apart, np.inf).argmin(0)
        along, lateral, clipped, apart = along[chosen, rows], lateral[chosen, rows], clipped[chosen, rows], apart[chosen, rows]
        piece = pieces[chosen, rows]
        inner = (along - clipped != 0.0) & (nearest > 0) & (nearest < count - 1)
        signed = np.where(inner, np.copysign(apart, lateral), lateral)
        return self._arc[route, piece] + clipped, signed, self._heading[route, piece]

    def heading(self, route: np.ndarray, s: np.ndarray) -> np.ndarray:
        """(B,) the heading of ``Route.at`` at arc lengths (B,)."""
        return self._between(route, s[:, None], "middles", [self._heading])[0][:, 0]

    def ahead(
        self,
        route: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        yaw: np.ndarray,
        near: np.ndarray,
        count: int = AHEAD_COUNT,
        spacing: float = AHEAD_SPACING,
    ) -> np.ndarray:
        """``Route.ahead`` (B, count, 2) of ego frames x, y, yaw (B,)."""
        s = self.project(route, x, y, near)[0][:, None] + spacing * np.arange(1, count + 1)
        points = np.stack(self._between(route, s, "arc_length", [self._points[0], self._points[1]]), -1)
        last = self._counts[route] - 1
        beyond = np.maximum(s - self._arc[route, last][:, None], 0.0)
        points += beyond[..., None] * self._pieces[2:4, route, last - 1].T[:, None]
        # As from a pose: its heading comes from its matrix.
        yaw = np.array([*map(math.atan2, deterministic.sin(yaw).tolist(), deterministic.cos(yaw).tolist())])
        cos, sin = cosines(yaw), sines(yaw)
        turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)  # (B, 2, 2)
        return (points - np.stack([x, y], -1)[:, None]) @ turn

    def _between(self, route: np.ndarray, s: np.ndarray, knots: str, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """``np.interp`` at s (B, K) over each route's knots ("arc_length" or "middles"), for several tables of values."""
        known = self._arc if knots == "arc_length" else self._middles
        places = [getattr(self._routes[r], knots).searchsorted(at, "right") for r, at in zip(route.tolist(), s, strict=True)]
        count = self._counts[route] - (knots == "middles")
        place = np.array(places).reshape(s.shape) - 1
        last, which = count[:, None] - 1, route[:, None]
        left = np.clip(place, 0, np.maximum(last - 1, 0))
        right = np.minimum(left + 1, last)
        begin, width = known[which, left], np.where(right > left, known[which, right] - known[which, left], 1.0)
        out = []
        for table in values:
            low, high = table[which, left], table[which, right]
            between = np.where(begin == s, low, (high - low) / width * (s - begin) + low)
            out.append(np.where(place < 0, low, np.where(place >= last, high, between)))
        return out
