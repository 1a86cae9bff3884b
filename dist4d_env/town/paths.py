"""Curves made of straight pieces and circular arcs: streets, lanes and turns are all described by these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from shapely.geometry import Polygon

from dist4d_env.geometry.transforms import wrap_angle

Pose = tuple[float, float, float]


@dataclass(frozen=True)
class ArcPath:
    """start: x, y, heading; pieces: (length, curvature) one after the other, curvature positive to the left.

    Lanes stay exact under parallel offset, and nuScenes' ``arcline_path_3`` can hold them without any fitting error.
    """

    start: Pose
    pieces: tuple[tuple[float, float], ...]

    @cached_property
    def _knots(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Arc length (N + 1,), pose (N + 1, 3) at the piece boundaries and curvature (N,)."""
        length = np.array([p[0] for p in self.pieces])
        curvature = np.array([p[1] for p in self.pieces])
        poses = [np.array(self.start, float)]
        for piece, bend in zip(length, curvature, strict=True):
            poses.append(_advance(poses[-1], piece, bend))
        return np.concatenate([[0.0], np.cumsum(length)]), np.stack(poses), curvature

    @property
    def length(self) -> float:
        return float(self._knots[0][-1])

    @property
    def end(self) -> Pose:
        x, y, yaw = self._knots[1][-1]
        return float(x), float(y), float(yaw)

    def at(self, s: np.ndarray | float) -> np.ndarray:
        """Poses (..., 3) at arc lengths (...); beyond the ends the path goes straight on."""
        s = np.asarray(s, float)
        knots, poses, curvature = self._knots
        index = np.clip(np.searchsorted(knots, s, side="right") - 1, 0, len(curvature) - 1)
        inside = np.clip(s, 0.0, knots[-1])
        pose = _advance(poses[index], inside - knots[index], curvature[index])
        beyond = s - inside
        pose[..., 0] += beyond * np.cos(pose[..., 2])
        pose[..., 1] += beyond * np.sin(pose[..., 2])
        return pose

    def sample(self, spacing: float = 1.0) -> np.ndarray:
        """Poses (P, 3) from the first to the last point, evenly spaced by about ``spacing`` metres."""
        count = max(2, round(self.length / spacing) + 1)
        return self.at(np.linspace(0.0, self.length, count))

    def offset(self, left: float) -> ArcPath:
        """The parallel path ``left`` metres to the left (negative: to the right)."""
        x, y, yaw = self.start
        pieces = tuple((length * (1 - bend * left), bend / (1 - bend * left)) for length, bend in self.pieces)
        return ArcPath((x - left * np.sin(yaw), y + left * np.cos(yaw), yaw), pieces)

    def reverse(self) -> ArcPath:
        x, y, yaw = self.end
        return ArcPath((x, y, float(wrap_angle(yaw + np.pi))), tuple((length, -bend) for length, bend in reversed(self.pieces)))

    def section(self, begin: float, end: float) -> ArcPath:
        """The part between two arc lengths, 0 <= begin < end <= length."""
        knots = self._knots[0]
        pieces = []
        for index, (_, bend) in enumerate(self.pieces):
            low, high = max(begin, knots[index]), min(end, knots[index + 1])
            if high - low > 1e-9:
                pieces.append((float(high - low), bend))
        x, y, yaw = self.at(begin)
        return ArcPath((float(x), float(y), float(yaw)), tuple(pieces))

    def strip(self, left: float, right: float, spacing: float = 1.0) -> Polygon:
        """The area between two parallels, given as offsets to the left with ``left > right``."""
        bent = any(bend != 0.0 for _, bend in self.pieces)
        if not bent:
            poses = self.at(np.array([0.0, self.length]))
        else:
            poses = self.sample(spacing)
        normal = np.stack([-np.sin(poses[:, 2]), np.cos(poses[:, 2])], -1)
        return Polygon(np.concatenate([poses[:, :2] + right * normal, (poses[:, :2] + left * normal)[::-1]]))


def _advance(pose: np.ndarray, length: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """Poses (..., 3) moved along arcs; the chord form holds for straight pieces too."""
    turn = curvature * length
    chord = length * np.sinc(turn / (2 * np.pi))
    direction = pose[..., 2] + turn / 2
    return np.stack([pose[..., 0] + chord * np.cos(direction), pose[..., 1] + chord * np.sin(direction), pose[..., 2] + turn], -1)


def interpolate(points: np.ndarray, spacing: float, s: np.ndarray) -> np.ndarray:
    """Rows (..., K) at arc lengths s (...) of points (P, K) that lie ``spacing`` apart, clipped to both ends."""
    position = np.clip(np.asarray(s, float) / spacing, 0, len(points) - 1.000001)
    index = position.astype(int)
    part = (position - index)[..., None]
    return points[index] * (1 - part) + points[index + 1] * part


def rounded_polyline(points: np.ndarray, radii: np.ndarray | Sequence[float]) -> ArcPath:
    """A path through points (K, 2) whose inner corners are rounded with radii (K - 2,)."""
    points = np.asarray(points, float)
    steps = np.diff(points, axis=0)
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    headings = np.arctan2(steps[:, 1], steps[:, 0])
    turns = wrap_angle(np.diff(headings))
    tangents = np.concatenate([[0.0], np.asarray(radii) * np.tan(np.abs(turns) / 2), [0.0]])
    pieces = []
    for index, length in enumerate(lengths):
        straight = length - tangents[index] - tangents[index + 1]
        if straight < -1e-9:
            raise ValueError(f"corner radii {radii} do not fit between the points {points.tolist()}")
        if straight > 1e-9:
            pieces.append((float(straight), 0.0))
        if index < len(turns) and abs(turns[index]) > 1e-9:
            radius = radii[index]
            pieces.append((float(radius * abs(turns[index])), float(np.sign(turns[index]) / radius)))
    return ArcPath((float(points[0, 0]), float(points[0, 1]), float(headings[0])), tuple(pieces))


def connect(begin: Pose, end: Pose, largest_radius: float) -> ArcPath:
    """A smooth path between two poses: straight, arc, straight for turns, two arcs where the headings nearly agree."""
    turn = float(wrap_angle(end[2] - begin[2]))
    ahead, ahead_end = _direction(begin[2]), _direction(end[2])
    step = np.array([end[0] - begin[0], end[1] - begin[1]])
    if abs(turn) > 0.35:
        a, b = np.linalg.solve(np.stack([ahead, ahead_end], -1), step)
        radius = min(min(a, b) / np.tan(abs(turn) / 2), largest_radius)
        if radius > 3.0:
            tangent = radius * np.tan(abs(turn) / 2)
            pieces = [(a - tangent, 0.0), (radius * abs(turn), np.sign(turn) / radius), (b - tangent, 0.0)]
            return ArcPath(begin, tuple((float(length), float(bend)) for length, bend in pieces if length > 1e-6))
    return _biarc(begin, end)


def _direction(yaw: float) -> np.ndarray:
    return np.array([np.cos(yaw), np.sin(yaw)])


def _biarc(begin: Pose, end: Pose) -> ArcPath:
    """Two arcs with equal tangent lengths (the classical biarc); exact for parallel headings with a lateral step as well."""
    p, q = np.array(begin[:2]), np.array(end[:2])
    u, v = _direction(begin[2]), _direction(end[2])
    step, total = q - p, u + v
    square = 2 * (1 - u @ v)
    if square < 1e-9:
        d = (step @ step) / (2 * (step @ total))
    else:
        along = step @ total
        d = (-along + np.sqrt(along**2 + square * (step @ step))) / square
    joint = (p + q + d * (u - v)) / 2
    first = _arc(p, u, joint)
    heading = begin[2] + first[0] * first[1]
    return ArcPath(begin, (first, _arc(joint, _direction(heading), q)))


def _arc(p: np.ndarray, direction: np.ndarray, q: np.ndarray) -> tuple[float, float]:
    """Length and curvature of the arc that leaves p along a direction and ends in q."""
    chord = q - p
    distance = float(np.hypot(*chord))
    turn = 2 * np.arctan2(direction[0] * chord[1] - direction[1] * chord[0], direction @ chord)
    if abs(turn) < 1e-9:
        return distance, 0.0
    return float(distance / np.sinc(turn / (2 * np.pi))), float(turn / (distance / np.sinc(turn / (2 * np.pi))))
