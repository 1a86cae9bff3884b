"""nuPlan's time to collision: everybody goes on at constant speed and heading from where they are."""

from __future__ import annotations

import math

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.metrics.driving.areas import ego_corners
from dist4d_env.metrics.driving.collision import STATIC
from dist4d_env.metrics.driving.rectangles import contact_interval
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.metrics.foreign.nuplan_collision import FaultJudgement, at_fault_collisions
from dist4d_env.metrics.foreign.nuplan_lanes import within_lanes

TIME_STEP, HORIZON, LEAST = 0.1, 3.0, 0.95
"""Seconds between projections, projected at most, and the least that is within bound."""
_AHEAD, _BEHIND = math.radians(30), math.radians(150)
_STANDING = 5e-3  # m/s
_STATIC = np.array([name in STATIC for name in CATEGORIES])


def times_to_collision(
    trace: EpisodeTrace, judged: FaultJudgement | None = None, horizon: float = HORIZON, step: float = TIME_STEP
) -> tuple[np.ndarray, np.ndarray]:
    """(T,) seconds until the ego's projected box meets a track's, multiples of ``step`` short of ``horizon``, infinite for none;
    (T,) which track's, -1 for none.

    0 where an at-fault collision begins. Tracks count while they have not been hit and are ahead (within 30 degrees), or not
    behind (beyond 150) while the ego is not within lanes or is in an intersection. A standing ego meets nothing.
    """
    judged = judged or at_fault_collisions(trace)
    rows, tracks = np.nonzero(relevant_tracks(trace, judged))
    times, met = np.full(len(trace.time), np.inf), np.full(len(trace.time), -1)
    if len(rows):
        center, ego = trace.center[rows], trace.ego[rows]
        speed = np.where(_STATIC[trace.category[tracks]], 0.0, np.linalg.norm(trace.velocity[rows, tracks], axis=-1))
        own, heading = np.array([trace.vehicle.length, trace.vehicle.width]), trace.yaw[rows, tracks]
        first, last = contact_interval(
            center,
            ego[:, 2],
            own,
            ego[:, 3, None] * direction(ego[:, 2]),
            trace.position[rows, tracks, :2],
            heading,
            trace.size[tracks, :2],
            speed[:, None] * direction(heading),
        )
        # Contact is looked for at 1, 2, ... steps only, and before the horizon.
        count = np.maximum(np.ceil(np.where(np.isfinite(first), first, 0.0) / step - 1e-9), 1.0)
        hit = (first <= last) & (count * step <= last + 1e-9) & (count * step < horizon - 1e-9)
        soonest = np.lexsort((count[hit], rows[hit]))[::-1]  # of a step's meetings the soonest is written last
        times[rows[hit][soonest]], met[rows[hit][soonest]] = count[hit][soonest] * step, tracks[hit][soonest]
    for collision in judged.at_fault:
        times[collision.step], met[collision.step] = 0.0, collision.track
    return times, met


def direction(yaw: np.ndarray) -> np.ndarray:
    """(..., 2) unit vectors of headings (...)."""
    return np.stack([deterministic.cos(yaw), deterministic.sin(yaw)], -1)


def relevant_tracks(trace: EpisodeTrace, judged: FaultJudgement) -> np.ndarray:
    """(T, N) which tracks ``times_to_collision`` looks at."""
    offset = trace.position[..., :2] - trace.ego[:, None, :2]
    turn = deterministic.arctan2(offset[..., 1], offset[..., 0]) - trace.ego[:, 2, None]
    angle = np.abs((turn + np.pi) % (2 * np.pi) - np.pi)
    counts = trace.valid & (angle < _AHEAD)
    if trace.map is not None and trace.map.lanes:
        exposed = ~within_lanes(trace.map, ego_corners(trace.ego, trace.vehicle)) | trace.map.in_intersection(trace.ego[:, :2])
        counts |= trace.valid & exposed[:, None] & (angle <= _BEHIND)
    for collision in judged.first:
        counts[collision.step :, collision.track] = False
    return counts & (trace.ego[:, 3] > _STANDING)[:, None]


def nuplan_time_to_collision(trace: EpisodeTrace, judged: FaultJudgement | None = None) -> MetricResult:
    """1 if the time to collision stays above 0.95 s, else 0. details: the least (None for none within 3 s) and, where that is
    too little, its step, track and category."""
    times, met = times_to_collision(trace, judged)
    least, step = float(times.min()), int(times.argmin())
    details: dict[str, object] = {"least": least if np.isfinite(least) else None, "step": None, "track": None}
    if least <= LEAST:
        details |= {"step": step, "track": int(met[step]), "category": CATEGORIES[trace.category[met[step]]]}
    return MetricResult(float(least > LEAST), True, details)
