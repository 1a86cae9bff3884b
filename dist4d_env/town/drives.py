"""Smooth drives along the lane graph: paths, speed profiles and conflicts along them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from shapely import contains_xy, intersects, prepare

from dist4d_env.town.model import Layout, TownLane
from dist4d_env.town.paths import ArcPath, interpolate

SPACING = 0.5
"""Metres between the points of a drive."""
LATERAL = 1.8
"""Lateral acceleration that drivers accept in curves, m/s^2."""
BRAKING = 1.6
"""Deceleration with which they slow down for them, m/s^2."""
_SMOOTH = 1.6  # m; rounds the jumps of curvature between lane pieces, as steering does


@dataclass(frozen=True)
class Drive:
    """The path of a vehicle's rear axle. points: (P, 3) x, y, heading every SPACING metres; speed: (P,) what the road allows;
    junctions: (from, to, lane index) in metres along the drive, one per connector; crossings: (from, to, crossing index)."""

    points: np.ndarray
    speed: np.ndarray
    junctions: tuple[tuple[float, float, int], ...]
    crossings: tuple[tuple[float, float, int], ...]

    @property
    def length(self) -> float:
        return (len(self.points) - 1) * SPACING

    def at(self, s: np.ndarray) -> np.ndarray:
        """Poses (..., 3) at arc lengths (...) clipped to the drive; headings do not wrap."""
        return interpolate(self.points, SPACING, s)


def lane_path(lane: TownLane) -> ArcPath:
    x, y, yaw = lane.centerline[0]
    return ArcPath((float(x), float(y), float(yaw)), lane.pieces)


def make_drive(layout: Layout, lanes: list[int], start: float, offset: float, limit_factor: float) -> Drive:
    """A drive over consecutive lanes, from ``start`` metres into the first, ``offset`` metres left of the centreline."""
    paths = [lane_path(layout.lanes[i]) for i in lanes]
    first = paths[0].section(start, paths[0].length)
    pieces = sum((p.pieces for p in paths[1:]), first.pieces)
    whole = ArcPath(first.start, pieces).offset(offset)
    count = int(whole.length / SPACING) + 1
    margin = round(4 * _SMOOTH / SPACING)
    s = np.arange(-margin, count + margin) * SPACING
    raw = whole.at(s)
    xy = gaussian_filter1d(raw[:, :2], _SMOOTH / SPACING, axis=0)
    step = np.gradient(xy, axis=0)
    heading = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    curvature = np.gradient(heading) / np.hypot(step[:, 0], step[:, 1])
    inside = slice(margin, margin + count)

    borders = np.concatenate([[0.0], np.cumsum([first.length, *(p.length for p in paths[1:])])])
    which = np.clip(np.searchsorted(borders, s[inside], side="right") - 1, 0, len(lanes) - 1)
    limit = np.array([layout.lanes[i].speed_limit for i in lanes])[which] * limit_factor
    speed = np.minimum(limit, np.sqrt(LATERAL / np.maximum(np.abs(curvature[inside]), 1e-4)))
    for index in range(count - 2, -1, -1):
        speed[index] = min(speed[index], np.sqrt(speed[index + 1] ** 2 + 2 * BRAKING * SPACING))
    junctions = [(float(borders[k]), float(borders[k + 1]), i) for k, i in enumerate(lanes) if layout.lanes[i].is_connector]
    points = np.concatenate([xy[inside], heading[inside, None]], 1)
    return Drive(points, speed, tuple(junctions), tuple(_crossings_met(layout, points)))


def _crossings_met(layout: Layout, points: np.ndarray) -> list[tuple[float, float, int]]:
    met = []
    for index, crossing in enumerate(layout.crossings):
        inside = np.flatnonzero(contains_xy(crossing, points[:, 0], points[:, 1]))
        # A drive may come over the same crossing twice; each visit counts.
        for visit in np.split(inside, np.flatnonzero(np.diff(inside) > 4) + 1):
            if len(visit):
                met.append((float(visit[0] * SPACING), float(visit[-1] * SPACING), index))
    return sorted(met)


def wander(
    layout: Layout,
    lane: int,
    distance: float,
    rng: np.random.Generator,
    gentle: bool = False,
    within: frozenset[int] = frozenset(),
) -> list[int]:
    """Consecutive lanes from one lane on, chosen at random at junctions, until ``distance`` metres or an open end.

    gentle: turn only where the arc's radius is above 14 m, if there is a choice (long vehicles); within: stay on these lanes, if
    there is a choice.
    """
    lanes, length = [lane], lane_path(layout.lanes[lane]).length
    while length < distance and layout.lanes[lanes[-1]].successors:
        options = list(layout.lanes[lanes[-1]].successors)
        if gentle:
            options = [i for i in options if max((abs(k) for _, k in layout.lanes[i].pieces), default=0.0) < 1 / 14] or options
        options = [i for i in options if i in within] or options
        lanes.append(int(rng.choice(options)))
        length += lane_path(layout.lanes[lanes[-1]]).length
    return lanes


def endless(layout: Layout) -> frozenset[int]:
    """Lanes from which one can drive on for ever."""
    left = frozenset(range(len(layout.lanes)))
    while dead := {i for i in left if left.isdisjoint(layout.lanes[i].successors)}:
        left -= dead
    return left


def turns_of(layout: Layout, lanes: list[int]) -> int:
    """Number of lanes that are turns of more than 35 degrees."""
    return sum(
        1 for i in lanes if layout.lanes[i].is_connector and abs(sum(length * k for length, k in layout.lanes[i].pieces)) > 0.6
    )


def conflicts(layout: Layout) -> dict[int, frozenset[int]]:
    """For each connector, the connectors whose swept strips meet its own, those from the same incoming lane excepted
    (there vehicles follow one another)."""
    connectors = [i for i, lane in enumerate(layout.lanes) if lane.is_connector]
    origin = {j: i for i, lane in enumerate(layout.lanes) for j in lane.successors}
    strips = {i: lane_path(layout.lanes[i]).strip(1.3, -1.3) for i in connectors}
    shapes = np.array([strips[i] for i in connectors])
    prepare(shapes)
    meets = intersects(shapes[:, None], shapes[None, :])
    return {
        i: frozenset(j for b, j in enumerate(connectors) if meets[a, b] and origin.get(i) != origin.get(j))
        for a, i in enumerate(connectors)
    }
