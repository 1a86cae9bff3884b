"""Batched queries of the routes of several scenes, each answered bit for bit as ``Route`` answers it alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.scenes.route import AHEAD_COUNT, AHEAD_SPACING, NEAR, Route
from dist4d_env.simulation import kernels
from dist4d_env.simulation.ego import cosines, hypotenuses, sines


class Routes:
    """Several routes; ``route`` (B,) in every method says which one each question is about."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._counts = np.array([len(route.points) for route in routes], int)
        longest = int(self._counts.max(initial=2))
        self._points = np.full((2, len(routes), longest), np.inf)
        self._arc = np.full((len(routes), longest), np.inf)
        self._pieces = np.zeros((5, len(routes), longest - 1))  # start, direction and length of every line
        self._heading, self._middles = np.zeros((1, len(routes), longest - 1)), np.zeros((len(routes), longest - 1))
        for row, route in enumerate(routes):
            count = len(route.points)
            self._points[:, row, :count], self._arc[row, :count] = route.points.T, route.arc_length
            self._pieces[:, row, : count - 1] = route.pieces.T
            self._heading[0, row, : count - 1], self._middles[row, : count - 1] = route.piece_heading, route.middles

    def project(
        self, route: np.ndarray, x: np.ndarray, y: np.ndarray, near: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``Route.project`` of points (B,): arc lengths, lateral offsets, headings (B,). near: (B,), nan to search everywhere."""
        route, x, y, near = map(kernels.contiguous, (route, x, y, near))
        tables = self._counts, self._points, self._arc, self._pieces
        pieces, lateral, beyond, along, inner = kernels.project(route, x, y, near, NEAR, *tables)
        apart = np.where(pieces < 0, np.inf, hypotenuses(lateral.ravel(), beyond.ravel()).reshape(2, -1))
        chosen, rows = (apart[1] < apart[0]).astype(int), np.arange(len(route))
        piece, lateral = pieces[chosen, rows], lateral[chosen, rows]
        around_corner = inner & (beyond[chosen, rows] != 0.0)
        signed = np.where(around_corner, np.copysign(apart[chosen, rows], lateral), lateral)
        return self._arc[route, piece] + along[chosen, rows], signed, self._heading[0, route, piece]

    def heading(self, route: np.ndarray, s: np.ndarray) -> np.ndarray:
        """(B,) the heading of ``Route.at`` at arc lengths (B,)."""
        return kernels.interpolate(
            kernels.contiguous(route), kernels.contiguous(s)[:, None], self._counts - 1, self._middles, self._heading
        )[:, 0, 0]

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
        points = kernels.interpolate(kernels.contiguous(route), s, self._counts, self._arc, self._points)
        last = self._counts[route] - 1
        beyond = np.maximum(s - self._arc[route, last][:, None], 0.0)
        points += beyond[..., None] * self._pieces[2:4, route, last - 1].T[:, None]
        # As from a pose: its heading comes from its matrix.
        yaw = np.array([*map(math.atan2, deterministic.sin(yaw).tolist(), deterministic.cos(yaw).tolist())])
        cos, sin = cosines(yaw), sines(yaw)
        turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)  # (B, 2, 2)
        return (points - np.stack([x, y], -1)[:, None]) @ turn
