"""What the sampling planner minimises: one minus the benchmark's own score, and smooth terms where that score is flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.collision import IS_STATIC
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.plans.scene import PlanScene
from dist4d_env.metrics.plans.scoring import score_plans

_EVERY = 2  # ticks between two that the smooth terms look at
_BEHIND, _AHEAD, _SPACING = 10.0, 90.0, 1.0  # m of the route around the ego
_SIGHT = 60.0  # m
_PATIENCE = 2.0  # s, after which a touch counts for a third: much may happen until then
_TOUCH, _STANDING = 10.0, 0.05  # times as bad as coming as near as can be, if it happens above so many m/s
_REST_GAP, _REACTION, _BRAKING, _THEIRS = 2.0, 0.9, 4.0, 6.0  # m, s, m/s^2: what makes a distance safe if they brake harder
_BESIDE = 0.2  # m to the side between two boxes from which on neither is in the way


@dataclass(frozen=True)
class CostWeights:
    """score: of 1 - PDMS; clearance: of the squared share of ``margin`` metres that is missing beside an agent, or much more once
    one is touched, summed over seconds, of which the first weigh most; following: of the squared share that is missing of a
    safe distance; offset: of squared metres beside the route; heading: of squared radians off it; effort: of squared m/s^2 along
    and across; jerk: of squared m/s^3; speeding: of m/s above the limit. All but the first two are means over the plan."""

    score: float = 10.0
    clearance: float = 8.0
    margin: float = 0.8
    following: float = 15.0
    offset: float = 0.4
    heading: float = 1.0
    effort: float = 0.05
    jerk: float = 0.01
    speeding: float = 0.5


def plan_costs(
    rows: np.ndarray, expected: PlanScene, speed_limit: np.ndarray, reference: float, weights: CostWeights
) -> np.ndarray:
    """(B,) costs of simulated plans, ego rows (B, T, 7) at 10 Hz.

    speed_limit: (P,) m/s at the route's points; reference: metres of progress that count as all there is to make.
    """
    score = score_plans(rows, expected, form="corrected", reference=reference).score
    seen, vehicle = rows[:, ::_EVERY], expected.vehicle
    center = ego_centers(seen, vehicle)
    near = np.hypot(*(expected.position[0] - center[0, 0]).T) < _SIGHT
    others = _Others.of(expected, seen.shape[1], near)
    vehicles = _Others.of(expected, seen.shape[1], near & ~IS_STATIC[expected.category])  # things do not brake
    way = _Way.of(expected, speed_limit)
    s, beside, heading, limit = way.project(center)
    lateral, jerk = seen[..., 3] * seen[..., 6], np.diff(rows[..., 4], axis=1) / 0.1
    return (
        weights.score * (1 - score)
        + weights.clearance * _closeness(_free(seen, center, others, vehicle), seen[..., 3], weights.margin)
        + weights.following * _tailgating(seen[..., 3], s, beside, way, vehicles, vehicle)
        + weights.offset * np.mean(beside**2, 1)
        + weights.heading * np.mean(_wrapped(seen[..., 2] - heading) ** 2, 1)
        + weights.effort * np.mean(seen[..., 4] ** 2 + lateral**2, 1)
        + weights.jerk * np.mean(jerk**2, 1)
        + weights.speeding * np.mean(np.maximum(seen[..., 3] - limit, 0.0), 1)
    )


@dataclass(frozen=True)
class _Others:
    """Agents: position (T, N, 2) at the ticks that are looked at; yaw (N,), velocity (N, 2) and size (N, 2), which they keep."""

    position: np.ndarray
    yaw: np.ndarray
    velocity: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, expected: PlanScene, ticks: int, mask: np.ndarray) -> _Others:
        position = expected.position[: ticks * _EVERY : _EVERY, mask]
        return cls(position, expected.yaw[0, mask], expected.velocity[0, mask], expected.size[mask])


@dataclass(frozen=True)
class _Way:
    """The route around the ego, sampled: arc lengths (M,), poses (M, 3) and speed limits (M,)."""

    s: np.ndarray
    poses: np.ndarray
    limit: np.ndarray

    @classmethod
    def of(cls, expected: PlanScene, speed_limit: np.ndarray) -> _Way:
        route, near = expected.route, expected.near or 0.0
        s = np.arange(max(near - _BEHIND, 0.0), min(near + _AHEAD, route.length) + _SPACING, _SPACING)
        return cls(s, route.sample(s), np.interp(s, route.arc_length, speed_limit))

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of points (..., 2): arc length, metres to the left, heading and speed limit of the route there, (...) each."""
        dx, dy = points[..., 0, None] - self.poses[:, 0], points[..., 1, None] - self.poses[:, 1]
        nearest = np.argmin(dx * dx + dy * dy, -1)
        x, y, heading = np.moveaxis(self.poses[nearest], -1, 0)
        dx, dy = points[..., 0] - x, points[..., 1] - y
        cos, sin = deterministic.cos(heading), deterministic.sin(heading)
        return self.s[nearest] + cos * dx + sin * dy, cos * dy - sin * dx, heading, self.limit[nearest]


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _extent(turn: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half of what boxes (N, 2) that are turned by (..., N) cover along and across."""
    cos, sin = np.abs(deterministic.cos(turn)), np.abs(deterministic.sin(turn))
    return (cos * size[:, 0] + sin * size[:, 1]) / 2, (sin * size[:, 0] + cos * size[:, 1]) / 2


def _free(rows: np.ndarray, center: np.ndarray, others: _Others, vehicle: VehicleParameters) -> np.ndarray:
    """(B, T, N) metres that are free between the ego's box and each agent's, negative where they overlap."""
    offset = others.position - center[:, :, None]
    cos, sin = deterministic.cos(rows[..., 2, None]), deterministic.sin(rows[..., 2, None])
    long, wide = _extent(others.yaw - rows[..., 2, None], others.size)
    along = np.abs(cos * offset[..., 0] + sin * offset[..., 1]) - vehicle.length / 2 - long
    return np.maximum(along, np.abs(cos * offset[..., 1] - sin * offset[..., 0]) - vehicle.width / 2 - wide)


def _closeness(free: np.ndarray, speed: np.ndarray, margin: float) -> np.ndarray:
    """(B,) how near the ego comes to anybody. Who touches, touches to the end: to drive on through somebody gains nothing. Where
    it cannot be helped later and slower is better, and to be hit while standing is nobody's fault here."""
    if not free.shape[2]:
        return np.zeros(len(free))
    nearest = free.min(-1)
    missing = np.clip(1 - nearest / margin, 0.0, 1.0) ** 2
    touched = np.maximum.accumulate(nearest <= 0, 1)
    impact = np.where(touched.any(1), speed[np.arange(len(speed)), touched.argmax(1)], 0.0)
    touch = np.where(impact > _STANDING, _TOUCH, 1.0)[:, None]
    early = deterministic.exp(-0.1 * _EVERY * np.arange(free.shape[1]) / _PATIENCE)
    return 0.1 * _EVERY * np.where(touched, touch, missing) @ early + impact


def _tailgating(
    speed: np.ndarray, s: np.ndarray, beside: np.ndarray, way: _Way, others: _Others, vehicle: VehicleParameters
) -> np.ndarray:
    """(B,) the mean squared share of a safe distance that is missing along the route behind whoever is ahead and may brake."""
    if not len(others.yaw):
        return np.zeros(len(speed))
    at, away, heading, _ = way.project(others.position)  # (T, N)
    long, wide = _extent(others.yaw - heading, others.size)
    theirs = np.maximum(
        deterministic.cos(heading) * others.velocity[:, 0] + deterministic.sin(heading) * others.velocity[:, 1], 0.0
    )
    gap = at - s[..., None] - vehicle.length / 2 - long  # (B, T, N)
    blocks = (at > s[..., None]) & (np.abs(away - beside[..., None]) < vehicle.width / 2 + wide + _BESIDE)
    speed = speed[..., None]
    safe = _REST_GAP + _REACTION * speed + np.maximum(speed**2 / _BRAKING - theirs**2 / _THEIRS, 0.0) / 2
    return np.mean(np.where(blocks, np.clip(1 - gap / safe, 0.0, 1.0), 0.0).max(-1) ** 2, 1)
