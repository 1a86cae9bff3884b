"""Route frames: the observed routes of B egos as Frenet frames, metres along and metres to the left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.scenes.route import AHEAD_SPACING as SPACING

Batch = Mapping[str, np.ndarray]
"""Observations of B environments, (B, ...) per key."""


@dataclass(frozen=True)
class RouteFrame:
    """The route ahead of B egos in their frames: points (B, 21, 2), the first beside the ego; step (B, 20, 2) between them,
    heading (B, 20) and unit (B, 20, 2) of each piece; beside: (B,) metres of the rear axle to the left of it."""

    points: np.ndarray
    step: np.ndarray
    heading: np.ndarray
    unit: np.ndarray
    beside: np.ndarray

    @classmethod
    def of(cls, observations: Batch) -> RouteFrame:
        ahead = np.asarray(observations["route"], float)
        points = np.concatenate([2 * ahead[:, :1] - ahead[:, 1:2], ahead], 1)
        step = np.diff(points, axis=1)
        heading = np.unwrap(deterministic.arctan2(step[..., 1], step[..., 0]), axis=1)
        unit = np.stack([deterministic.cos(heading), deterministic.sin(heading)], -1)
        beside = unit[:, 0, 1] * points[:, 0, 0] - unit[:, 0, 0] * points[:, 0, 1]
        return cls(points, step, heading, unit, beside)

    def astype(self, dtype: type) -> RouteFrame:
        """In another precision."""
        return RouteFrame(*(getattr(self, name).astype(dtype) for name in self.__dataclass_fields__))

    def row(self, index: int) -> RouteFrame:
        """One of the routes, as a batch of one."""
        return RouteFrame(*(getattr(self, name)[index : index + 1] for name in self.__dataclass_fields__))

    def at(self, metres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions (B, K, 2) and headings (B, K) of the route at (B, K) metres ahead; straight on beyond its end."""
        along = metres / SPACING
        rows, last = np.arange(len(metres))[:, None], self.step.shape[1] - 1
        piece = np.clip(along.astype(int), 0, last)
        position = self.points[rows, piece] + (along - piece)[..., None] * self.step[rows, piece]
        middle = np.clip(along - 0.5, 0, last)
        before = np.minimum(middle.astype(int), last - 1)
        share = middle - before
        return position, (1 - share) * self.heading[rows, before] + share * self.heading[rows, before + 1]

    def project(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Metres ahead, metres to the left and heading of the route (B, K) for places (B, K, 2); the first and the last piece
        go on straight."""
        x, y = (places[:, :, None, axis] - self.points[:, None, :-1, axis] for axis in (0, 1))
        cos, sin = self.unit[:, None, :, 0], self.unit[:, None, :, 1]
        along, left = x * cos + y * sin, y * cos - x * sin
        inside = along.copy()
        np.clip(along[..., 1:], 0, None, out=inside[..., 1:])
        inside[..., :-1] = np.minimum(inside[..., :-1], SPACING)
        piece = np.argmin(left**2 + (along - inside) ** 2, -1)[..., None]
        take = lambda values: np.take_along_axis(values, piece, -1)[..., 0]  # noqa: E731
        heading = np.take_along_axis(self.heading, piece[..., 0], 1)
        return take(inside) + SPACING * piece[..., 0], take(left), heading
