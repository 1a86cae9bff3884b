"""Boxes around what depth images show above the road: points in groups, and rectangles around these.

At 64 x 112 an outline falls on one pixel or the next, and a box must not turn or grow by metres for that. Rectangles stand along
the ego's route where they nearly do, unseen sides grow without a step with what is seen, and what lies within the box of a nearer
thing is a part of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.planners.observed_agents import rotation
from dist4d_env.simulation.ego import EgoState

NARROW = (0.9, 1.5)
"""Metres: what is narrower is taken for persons, cycles and poles, what is wider for a vehicle."""
_FACE, _LENGTH, _WIDTH = (2.3, 2.9), 4.2, 1.8
"""Metres: a side across the ego's route up to _FACE wide is the front or the back of a vehicle of _LENGTH, a wider one, as any
along the route, the side of one of _WIDTH."""
_THIN = 0.5  # m, least side of a box
_MOST = 80  # points of an obstacle that are remembered
_ANGLES = np.radians(np.arange(0, 90, 5))
_SKEW = 0.3  # share of its area by which one at 45 degrees to the route counts for larger
_MARGIN, _PART = 0.4, 0.8  # m around a nearer box, and share of a group's points in there, from which on it is a part of it


@dataclass(frozen=True)
class Box:
    """points: (P, 2) global; center, size: (2,), yaw of the box that is taken to be there; near: (2,) the seen place that speeds
    are measured by: at the least distance in the middle of all directions."""

    points: np.ndarray
    center: np.ndarray
    yaw: float
    size: np.ndarray
    near: np.ndarray


def clusters(points: np.ndarray, cell: float) -> list[np.ndarray]:
    """Points (P, 2) in groups whose cells of a square grid touch each other, also at corners."""
    if not len(points):
        return []
    from scipy.ndimage import label

    place = np.floor(points / cell).astype(int)
    place -= place.min(0)
    taken = np.zeros(place.max(0) + 1, bool)
    taken[tuple(place.T)] = True
    group = label(taken, np.ones((3, 3)))[0][tuple(place.T)]
    order = np.argsort(group, kind="stable")
    return np.split(points[order], np.flatnonzero(np.diff(group[order])) + 1)


def boxes_of(groups: Sequence[np.ndarray], route_yaws: Sequence[float], ego: EgoState) -> list[Box]:
    """Boxes around groups of points (P, 2) in the ego frame, the nearest first; what lies within that of a nearer one is a part
    of it. route_yaws: radians in the ego frame of the ego's route at each."""
    found: list[_Rectangle] = []
    for number in sorted(range(len(groups)), key=lambda number: float((groups[number] ** 2).sum(1).min())):
        group, yaw = groups[number], route_yaws[number]
        holding = next((index for index, nearer in enumerate(found) if nearer.share_of(group) > _PART), None)
        if holding is None:
            found.append(_Rectangle.around(group, yaw))
        else:
            found[holding] = _Rectangle.around(np.concatenate([found[holding].points, group]), yaw)
    return [rectangle.seen_from(ego) for rectangle in found]


@dataclass(frozen=True)
class _Rectangle:
    """points: (P, 2) in the ego frame; low, high: (2,) in axes turned by ``angle``, the longer side first."""

    points: np.ndarray
    low: np.ndarray
    high: np.ndarray
    angle: float

    @classmethod
    def around(cls, points: np.ndarray, route_yaw: float) -> _Rectangle:
        """The smallest one around points (Zhang et al. 2017), rather along the route than not; extended away from the ego to the
        size of what shows such a side."""
        cos, sin = np.cos(_ANGLES + route_yaw), np.sin(_ANGLES + route_yaw)
        along, across = (np.outer(a, points[:, 0]) + np.outer(b, points[:, 1]) for a, b in ((cos, sin), (-sin, cos)))
        low, high = (np.stack([edge(along, 1), edge(across, 1)], -1) for edge in (np.min, np.max))
        skew = 1 + _SKEW * np.abs(np.sin(2 * _ANGLES))
        best = int(np.argmin((high - low + 0.1).prod(1) * skew))
        low, high, angle = low[best], high[best], float(_ANGLES[best] + route_yaw)
        seen, least = high - low, np.full(2, _THIN)
        for axis, along_route in enumerate((_ANGLES[best] < math.pi / 4, _ANGLES[best] >= math.pi / 4)):
            depth = _WIDTH if along_route else _LENGTH + (_WIDTH - _LENGTH) * _ramp(seen[axis], *_FACE)
            least[1 - axis] += (depth - _THIN) * _ramp(seen[axis], *NARROW)
        missing = np.maximum(least - seen, 0.0)
        beyond = np.clip(high / np.maximum(seen, 1e-6), 0.0, 1.0)  # in the rectangle's own axes the ego is at 0
        low, high = low - missing * (1 - beyond), high + missing * beyond
        if high[1] - low[1] > high[0] - low[0]:
            low, high, angle = np.array([low[1], -high[0]]), np.array([high[1], -low[0]]), angle + math.pi / 2
        return cls(points, low, high, angle)

    def share_of(self, points: np.ndarray) -> float:
        """The share of points (P, 2) that lie in it, or hardly beside it."""
        place = points @ rotation(self.angle)
        return float(((place >= self.low - _MARGIN) & (place <= self.high + _MARGIN)).all(1).mean())

    def seen_from(self, ego: EgoState) -> Box:
        """It in the global frame."""
        points, global_from_ego, origin = self.points, rotation(ego.yaw), (ego.x, ego.y)
        bearing = np.arctan2(points[:, 1], points[:, 0])
        bearing = (bearing - bearing[0] + np.pi) % (2 * np.pi) - np.pi + bearing[0]
        middle, least_range = (bearing.min() + bearing.max()) / 2, float(np.hypot(*points.T).min())
        near = least_range * np.array([math.cos(middle), math.sin(middle)])
        kept = points[:: -(-len(points) // _MOST)]
        return Box(
            points=kept @ global_from_ego.T + origin,
            center=global_from_ego @ (rotation(self.angle) @ ((self.low + self.high) / 2)) + origin,
            yaw=self.angle + ego.yaw,
            size=self.high - self.low,
            near=global_from_ego @ near + origin,
        )


def _ramp(value: float, zero: float, one: float) -> float:
    """0 and 1 at two values, linear between and constant beyond."""
    return min(max((value - zero) / (one - zero), 0.0), 1.0)
