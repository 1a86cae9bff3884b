"""Route profile: a route with the speed it can be driven at, and paths beside it that begin where the ego is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.metrics.driving.areas import speed_limit
from dist4d_env.planners.contract import PLAN_TICKS
from dist4d_env.scenes.route import Route
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.ego import EgoState

LATERAL_ACCELERATION = 2.0
"""m/s^2 that curves are driven with; passengers of human drivers feel about that."""
BRAKING = 1.5
"""m/s^2 with which the speed falls towards a curve or a lower limit."""
_REACH = 5.0  # m to either side over which a curve is measured, so that corners of the polyline do not read as curves
_EASE, _SHORTEST, _LONGEST = 0.8, 4.0, 12.0  # s of driving, and metres at least and at most, in which an offset fades
_STEEPEST = 0.5
_STOPPING = 0.6  # of the braking at most with which a place to stand is come to


@dataclass(frozen=True)
class RoutePosition:
    """Where the ego is on a route: s: arc length; offset: metres to its left; slope: tangent of the angle between their headings;
    ease: metres in which the offset fades."""

    s: float
    offset: float
    slope: float
    ease: float


class RouteProfile:
    """speed: (P,) m/s at every route point, at most ``limit`` (P,), low enough for the curves and reached by gentle braking."""

    def __init__(self, route: Route, limit: np.ndarray) -> None:
        self.route = route
        self.speed = drivable_speed(route, limit)

    def locate(self, ego: EgoState, near: float | None = None) -> RoutePosition:
        """Where the ego is; near: an arc length to search around, for routes that cross themselves."""
        s, offset, _ = self.route.project(ego.x, ego.y, near)
        turned = (ego.yaw - float(self.route.at(s)[2]) + math.pi) % (2 * math.pi) - math.pi
        slope = math.tan(min(max(turned, -1.0), 1.0))
        return RoutePosition(s, offset, slope, min(max(_EASE * ego.speed, _SHORTEST), _LONGEST))

    def poses(self, start: RoutePosition, driven: np.ndarray, beside: np.ndarray | float = 0.0) -> np.ndarray:
        """Global x, y, heading (..., 3) after ``driven`` (...) metres on the path that leads from the ego to ``beside`` (...)
        metres left of the route.

        The offset fades as a critically damped spring would have it, over the distance instead of over time: it begins with the
        ego's own offset and direction, and replanning on the way gives the same path.
        """
        away, length = start.offset - beside, start.ease
        pull = start.slope + away / length
        fade = deterministic.exp(-driven / length)
        offset = beside + (away + pull * driven) * fade
        slope = np.clip((pull - (away + pull * driven) / length) * fade, -_STEEPEST, _STEEPEST)
        poses = self.route.sample(np.ravel(start.s + driven)).reshape(*driven.shape, 3)
        heading = poses[..., 2]
        turned = heading + deterministic.arctan(slope)
        return np.stack(
            [poses[..., 0] - offset * deterministic.sin(heading), poses[..., 1] + offset * deterministic.cos(heading), turned], -1
        )

    def speed_at(self, s: np.ndarray) -> np.ndarray:
        """The speed (...) in m/s that the profile allows at arc lengths (...)."""
        return np.interp(s, self.route.arc_length, self.speed)

    def drive(
        self,
        start: RoutePosition,
        speed: float,
        share: np.ndarray,
        acceleration: float,
        braking: np.ndarray | float,
        stop: float = np.inf,
    ) -> np.ndarray:
        """Metres driven (B, 41) at 10 Hz from ``speed`` in m/s towards ``share`` (B,) of the profile's speed.

        acceleration, braking: m/s^2 at most, braking for each (B,) or for all; stop: metres after which to stand, for which a
        share of the braking is used.
        """
        driven, now = np.zeros((len(share), PLAN_TICKS + 1)), np.full(len(share), speed)
        for tick in range(PLAN_TICKS):
            wished = share * self.speed_at(start.s + driven[:, tick])
            wished = np.minimum(wished, np.sqrt(2 * _STOPPING * braking * np.maximum(stop - driven[:, tick], 0.0)))
            later = np.maximum(now + np.clip(wished - now, -braking * TICK, acceleration * TICK), 0.0)
            driven[:, tick + 1], now = driven[:, tick] + (now + later) / 2 * TICK, later
        return driven


@dataclass(frozen=True)
class PathSamples:
    """A path as arc lengths (M,) and poses (M, 3) x, y, heading, to project many points on at once."""

    s: np.ndarray
    poses: np.ndarray

    @classmethod
    def of(cls, route: Route, s: np.ndarray) -> PathSamples:
        """A route at arc lengths (M,)."""
        return cls(s, route.sample(s))

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of points (..., 2): arc length, metres to the left, heading and index of the nearest sample, (...) each."""
        dx, dy = points[..., 0, None] - self.poses[:, 0], points[..., 1, None] - self.poses[:, 1]
        nearest = np.argmin(dx * dx + dy * dy, -1)
        x, y, heading = np.moveaxis(self.poses[nearest], -1, 0)
        dx, dy = points[..., 0] - x, points[..., 1] - y
        cos, sin = deterministic.cos(heading), deterministic.sin(heading)
        return self.s[nearest] + cos * dx + sin * dy, cos * dy - sin * dx, heading, nearest


def drivable_speed(route: Route, limit: np.ndarray) -> np.ndarray:
    """(P,) m/s along a route that keeps ``limit`` (P,) and LATERAL_ACCELERATION, with all braking done ahead at BRAKING."""
    s = route.arc_length
    after, before = np.minimum(s + _REACH, s[-1]), np.maximum(s - _REACH, 0.0)
    turn = np.abs(route.sample(after)[:, 2] - route.sample(before)[:, 2])
    curvature = turn / np.maximum(after - before, 1e-3)
    squared = np.minimum(limit**2, LATERAL_ACCELERATION / np.maximum(curvature, 1e-6))
    # v^2 may fall by 2 a per metre: the lowest of all cones that stand on the points ahead.
    cone = squared + 2 * BRAKING * s
    return np.sqrt(np.minimum.accumulate(cone[::-1])[::-1] - 2 * BRAKING * s)


def posted_limit(scene: Scene, fallback: float) -> np.ndarray:
    """(P,) the speed limit in m/s at every point of a scene's route, ``fallback`` where the map has none."""
    route, on_route = scene.route, frozenset(scene.route.lanes)
    if scene.map is None:
        return np.full(len(route.points), fallback)
    here = scene.map.lanes_along(route.points)
    limits = [speed_limit(lane for lane in lanes if lane.token in on_route) for lanes in here]
    return np.array([fallback if limit is None else limit for limit in limits], float)
