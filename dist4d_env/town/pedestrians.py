"""Paths of pedestrians: along the walkways, and over the crossings from one side of a street to the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from dist4d_env.town.paths import ArcPath, interpolate

SPACING = 0.25
"""Metres between the points of a walk."""


@dataclass(frozen=True)
class FootStreet:
    """A street as people on foot see it. path: its dividing line between the street corners; left, right: kerb distances;
    sidewalk: width; crossings: (arc length, crossing index) of the crossings at its ends (arc length may lie outside the path,
    which then goes straight on)."""

    path: ArcPath
    left: float
    right: float
    sidewalk: float
    crossings: tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Walk:
    """points: (P, 3) x, y, heading every SPACING metres; crossing: (from, to, crossing index) in metres, or None."""

    points: np.ndarray
    crossing: tuple[float, float, int] | None

    @property
    def length(self) -> float:
        return (len(self.points) - 1) * SPACING

    def at(self, s: np.ndarray) -> np.ndarray:
        """Poses (..., 3) at arc lengths (...) clipped to the walk."""
        return interpolate(self.points, SPACING, s)


def along(street: FootStreet, begin: float, direction: int, side: int, aside: float, length: float) -> Walk:
    """A walk along one side (+1 left), starting ``begin`` metres along the street; ``aside``: metres from the kerb."""
    offset = side * ((street.left if side > 0 else street.right) + aside)
    s = begin + direction * np.arange(0.0, length, SPACING)
    poses = street.path.at(s[(s >= 0.5) & (s <= street.path.length - 0.5)])
    return Walk(_headed(poses[:, :2] + offset * np.stack([-np.sin(poses[:, 2]), np.cos(poses[:, 2])], -1)), None)


def across(street: FootStreet, which: int, side: int, aside: float, before: float, after: float) -> Walk:
    """A walk that comes along one side, crosses at crossing ``which`` of the street and goes on along the other side."""
    at, index = street.crossings[which]
    inwards = 1 if at < street.path.length / 2 else -1  # away from the junction
    kerb = {1: street.left, -1: street.right}
    x, y, yaw = street.path.at(at)
    normal, tangent = np.array([-np.sin(yaw), np.cos(yaw)]), np.array([np.cos(yaw), np.sin(yaw)])
    corner_a = np.array([x, y]) + normal * side * (kerb[side] + aside)
    corner_b = np.array([x, y]) - normal * side * (kerb[-side] + aside)
    corners = np.stack([corner_a + tangent * inwards * before, corner_a, corner_b, corner_b + tangent * inwards * after])
    steps = np.hypot(*np.diff(corners, axis=0).T)
    knots = np.concatenate([[0.0], np.cumsum(steps)])
    s = np.arange(0.0, knots[-1], SPACING)
    xy = np.stack([np.interp(s, knots, corners[:, k]) for k in (0, 1)], -1)
    return Walk(_headed(gaussian_filter1d(xy, 0.4 / SPACING, axis=0, mode="nearest")), (before + aside, knots[2] - aside, index))


def _headed(xy: np.ndarray) -> np.ndarray:
    if len(xy) < 2:
        return np.zeros((0, 3))
    step = np.gradient(xy, axis=0)
    return np.concatenate([xy, np.unwrap(np.arctan2(step[:, 1], step[:, 0]))[:, None]], 1)
