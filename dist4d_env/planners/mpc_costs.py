"""Costs of the sampling planner: one minus the benchmark's own score, and smooth terms where that score is flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import wrap_angle
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.collision import IS_STATIC
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.plans.scene import PlanScene
from dist4d_env.metrics.plans.scoring import score_plans
from dist4d_env.planners.observed_agents import half_extents
from dist4d_env.planners.route_profile import PathSamples

_EVERY = 2  # ticks between two that the smooth terms look at
_BEHIND, _AHEAD = 10.0, 90.0  # m of the route around the ego
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
    and across; jerk: of squared m/s^3; speeding: of m/s above the limit; stopping: of the squared share that is missing of the
    way that braking before a red light takes. All but the first two are means over the plan."""

    score: float = 10.0
    clearance: float = 8.0
    margin: float = 0.8
    following: float = 15.0
    offset: float = 0.4
    heading: float = 1.0
    effort: float = 0.05
    jerk: float = 0.01
    speeding: float = 0.5
    stopping: float = 30.0


def plan_costs(
    rows: np.ndarray,
    expected: PlanScene,
    speed_limit: np.ndarray,
    reference: float,
    weights: CostWeights,
    stop: float = np.inf,
) -> np.ndarray:
    """(B,) costs of simulated plans, ego rows (B, T, 7) at 10 Hz.

    speed_limit: (P,) m/s at the route's points; reference: metres of progress that count as all there is to make; stop: metres
    along the route to the stop line of a light to stop at.
    """
    score = score_plans(rows, expected, form="corrected", reference=reference).score
    ego, vehicle = rows[:, ::_EVERY], expected.vehicle
    center = ego_centers(ego, vehicle)
    near = np.hypot(*(expected.position[0] - center[0, 0]).T) < _SIGHT
    others = _Others.of(expected, ego.shape[1], near)
    vehicles = _Others.of(expected, ego.shape[1], near & ~IS_STATIC[expected.category])  # things do not brake
    s_now, route = expected.near or 0.0, expected.route
    samples = PathSamples.of(route, np.arange(max(s_now - _BEHIND, 0.0), min(s_now + _AHEAD, route.length) + 1.0))
    s, beside, heading, index = samples.project(center)
    limit = np.interp(samples.s, route.arc_length, speed_limit)[index]
    lateral, jerk = ego[..., 3] * ego[..., 6], np.diff(rows[..., 4], axis=1) / 0.1
    return (
        weights.score * (1 - score)
        + weights.clearance * _closeness(_free(ego, center, others, vehicle), ego[..., 3], weights.margin)
        + weights.following * _tailgating(ego[..., 3], s, beside, samples, vehicles, vehicle)
        + weights.offset * np.mean(beside**2, 1)
        + weights.heading * np.mean(wrap_angle(ego[..., 2] - heading) ** 2, 1)
        + weights.effort * np.mean(ego[..., 4] ** 2 + lateral**2, 1)
        + weights.jerk * np.mean(jerk**2, 1)
        + weights.speeding * np.mean(np.maximum(ego[..., 3] - limit, 0.0), 1)
        + (weights.stopping * _overrun(ego[..., 3], stop - s - vehicle.length / 2) if stop < np.inf else 0.0)
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


def _free(rows: np.ndarray, center: np.ndarray, others: _Others, vehicle: VehicleParameters) -> np.ndarray:
    """(B, T, N) metres that are free between the ego's box and each agent's, negative where they overlap."""
    offset = others.position - center[:, :, None]
    cos, sin = deterministic.cos(rows[..., 2, None]), deterministic.sin(rows[..., 2, None])
    long, wide = half_extents(others.yaw - rows[..., 2, None], others.size)
    along = np.abs(cos * offset[..., 0] + sin * offset[..., 1]) - vehicle.length / 2 - long
    return np.maximum(along, np.abs(cos * offset[..., 1] - sin * offset[..., 0]) - vehicle.width / 2 - wide)


def _closeness(free: np.ndarray, speed: np.ndarray, margin: float) -> np.ndarray:
    """(B,) how near the ego comes to any agent. A contact lasts to the end of the plan, so that driving on through an agent gains
    nothing; of unavoidable contacts later and slower ones cost less, and being hit while standing counts little."""
    if not free.shape[2]:
        return np.zeros(len(free))
    nearest = free.min(-1)
    missing = np.clip(1 - nearest / margin, 0.0, 1.0) ** 2
    touched = np.maximum.accumulate(nearest <= 0, 1)
    impact = np.where(touched.any(1), speed[np.arange(len(speed)), touched.argmax(1)], 0.0)
    touch = np.where(impact > _STANDING, _TOUCH, 1.0)[:, None]
    early = deterministic.exp(-0.1 * _EVERY * np.arange(free.shape[1]) / _PATIENCE)
    return 0.1 * _EVERY * np.where(touched, touch, missing) @ early + impact


def _overrun(speed: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """(B,) the mean squared share of the way to brake that is missing at ``gap`` (B, T) metres before a line, 1 behind it."""
    needed = np.square(speed) / (2 * _BRAKING)
    return np.mean(np.where(gap < 0, 1.0, np.clip(1 - gap / np.maximum(needed, 1e-3), 0.0, 1.0)) ** 2, 1)


def _tailgating(
    speed: np.ndarray, s: np.ndarray, beside: np.ndarray, samples: PathSamples, others: _Others, vehicle: VehicleParameters
) -> np.ndarray:
    """(B,) the mean squared share of a safe distance that is missing along the route behind vehicles ahead that may brake."""
    if not len(others.yaw):
        return np.zeros(len(speed))
    at, away, heading, _ = samples.project(others.position)  # (T, N)
    long, wide = half_extents(others.yaw - heading, others.size)
    theirs = np.maximum(
        deterministic.cos(heading) * others.velocity[:, 0] + deterministic.sin(heading) * others.velocity[:, 1], 0.0
    )
    gap = at - s[..., None] - vehicle.length / 2 - long  # (B, T, N)
    blocks = (at > s[..., None]) & (np.abs(away - beside[..., None]) < vehicle.width / 2 + wide + _BESIDE)
    speed = speed[..., None]
    safe = _REST_GAP + _REACTION * speed + np.maximum(speed**2 / _BRAKING - theirs**2 / _THEIRS, 0.0) / 2
    return np.mean(np.where(blocks, np.clip(1 - gap / safe, 0.0, 1.0), 0.0).max(-1) ** 2, 1)
