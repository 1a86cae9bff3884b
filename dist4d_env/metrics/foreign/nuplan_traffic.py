"""nuPlan's collisions (how many at-fault ones, with what and how hard) and its time to collision."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.metrics.driving.areas import ego_corners
from dist4d_env.metrics.driving.collision import BEHIND, IS_STATIC, Collision, find_collisions
from dist4d_env.metrics.driving.forms import Form, is_faithful
from dist4d_env.metrics.driving.rectangles import contact_interval
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.metrics.foreign.nuplan_road import within_lanes

GROUPS = {
    **dict.fromkeys(("pedestrian", "bicycle", "motorcycle"), "vru"),
    **dict.fromkeys(("traffic_cone", "barrier", "other"), "object"),
}
"""nuPlan counts vulnerable road users, objects and (the rest) vehicles apart; riders of motorcycles are VRUs there."""
ALLOWED = {"vru": 0, "vehicle": 0, "object": 1}
"""How many at-fault collisions of a group are forgiven in part."""
TIME_STEP, HORIZON, LEAST = 0.1, 3.0, 0.95
"""Seconds between projections, projected at most, and the least that is within bound."""
_AHEAD = math.radians(30)
_STANDING = 5e-3  # m/s


@dataclass(frozen=True)
class FirstContacts:
    """at_fault: those at the ego's fault; unknown: hits with the side, whose fault needs a map, without one; first: all."""

    at_fault: tuple[Collision, ...]
    unknown: tuple[Collision, ...]
    first: tuple[Collision, ...]


def at_fault_collisions(trace: EpisodeTrace, form: Form = "faithful") -> FirstContacts:
    """First contacts (``find_collisions``) and their fault, as nuPlan assigns it: standing tracks and hits with the front are the
    ego's fault, hits with its side where its corners are not all in one lane or in lanes that follow each other."""
    first = find_collisions(trace, form)
    lateral = [c for c in first if c.kind == "active_lateral"]
    lateral_faults: set[int] = set()
    unknown: tuple[Collision, ...] = ()
    if trace.map is None or not trace.map.lanes:
        unknown = tuple(lateral)
    elif lateral:
        inside = within_lanes(trace.map, ego_corners(trace.ego[[c.step for c in lateral]], trace.vehicle))
        lateral_faults = {c.track for c, kept in zip(lateral, inside.tolist(), strict=True) if not kept}
    at_fault = tuple(c for c in first if c.kind in ("stopped_track", "active_front") or c.track in lateral_faults)
    return FirstContacts(at_fault, unknown, first)


def impact(trace: EpisodeTrace, collision: Collision) -> float:
    """The speed (m/s) that the ego loses in the crash if both masses are equal: half the difference of their velocities."""
    speed, yaw = float(trace.ego[collision.step, 3]), float(trace.ego[collision.step, 2])
    other = math.hypot(*trace.velocity[collision.step, collision.track].tolist())
    turn = math.cos(yaw - float(trace.yaw[collision.step, collision.track]))
    return 0.5 * math.sqrt(max(speed**2 + other**2 - 2 * speed * other * turn, 0.0))


def nuplan_no_at_fault_collision(trace: EpisodeTrace, contacts: FirstContacts | None = None) -> MetricResult:
    """The product over VRUs, vehicles and objects of ``max(0, 1 - n / (allowed + 1))``: one object hit gives 1/2.

    details: n per group, the impacts in m/s, the collisions. Not valid where a side was hit and there is no lane map, which
    the fault depends on.
    """
    contacts = contacts or at_fault_collisions(trace)
    counts = dict.fromkeys(ALLOWED, 0)
    impacts: dict[str, list[float]] = {group: [] for group in ALLOWED}
    for collision in contacts.at_fault:
        group = GROUPS.get(collision.category, "vehicle")
        counts[group] += 1
        impacts[group].append(impact(trace, collision))
    value = math.prod(max(0.0, 1.0 - n / (ALLOWED[group] + 1)) for group, n in counts.items())
    details = {
        "count": len(contacts.at_fault),
        "counts": counts,
        "impacts": impacts,
        "collisions": [{"step": c.step, "track": c.track, "kind": c.kind, "category": c.category} for c in contacts.at_fault],
    }
    if contacts.unknown:
        details["reason"] = "without lanes the fault of a hit with the side is unknown"
    return MetricResult(value, not contacts.unknown, details)


def times_to_collision(
    trace: EpisodeTrace,
    contacts: FirstContacts | None = None,
    form: Form = "faithful",
    horizon: float = HORIZON,
    step: float = TIME_STEP,
) -> tuple[np.ndarray, np.ndarray]:
    """(T,) seconds until the ego's projected box meets a track's, multiples of ``step`` short of ``horizon``, infinite for none;
    (T,) which track's, -1 for none.

    0 where an at-fault collision begins. Tracks count while they have not been hit and are ahead (within 30 degrees), or not
    behind (beyond 150) while the ego is not within lanes or is in an intersection. A standing ego meets nothing. faithful: an ego
    that reverses is projected along its heading, as in the original; corrected: along its velocity, which says what is ahead,
    and tracks that were put where it was are left out (``first_instant``).
    """
    contacts, faithful = contacts or at_fault_collisions(trace, form), is_faithful(form)
    rows, tracks = np.nonzero(relevant_tracks(trace, contacts, faithful))
    times, met = np.full(len(trace.time), np.inf), np.full(len(trace.time), -1)
    if len(rows):
        center, ego = trace.center[rows], trace.ego[rows]
        speed = np.where(IS_STATIC[trace.category[tracks]], 0.0, np.linalg.norm(trace.velocity[rows, tracks], axis=-1))
        own, heading = np.array([trace.vehicle.length, trace.vehicle.width]), trace.yaw[rows, tracks]
        first, last = contact_interval(
            center,
            ego[:, 2],
            own,
            (np.abs(ego[:, 3, None]) if faithful else ego[:, 3, None]) * direction(ego[:, 2]),
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
    for collision in contacts.at_fault:
        times[collision.step], met[collision.step] = 0.0, collision.track
    return times, met


def direction(yaw: np.ndarray) -> np.ndarray:
    """(..., 2) unit vectors of headings (...)."""
    return np.stack([deterministic.cos(yaw), deterministic.sin(yaw)], -1)


def relevant_tracks(trace: EpisodeTrace, contacts: FirstContacts, faithful: bool) -> np.ndarray:
    """(T, N) which tracks ``times_to_collision`` looks at."""
    offset, onward = trace.position[..., :2] - trace.ego[:, None, :2], trace.ego[:, 2]
    if not faithful:
        onward = onward + np.where(trace.ego[:, 3] < 0, np.pi, 0.0)
    turn = deterministic.arctan2(offset[..., 1], offset[..., 0]) - onward[:, None]
    angle = np.abs((turn + np.pi) % (2 * np.pi) - np.pi)
    counts = trace.valid & (angle < _AHEAD)
    if trace.map is not None and trace.map.lanes:
        exposed = ~within_lanes(trace.map, ego_corners(trace.ego, trace.vehicle)) | trace.map.in_intersection(trace.ego[:, :2])
        counts |= trace.valid & exposed[:, None] & (angle <= BEHIND)
    for collision in contacts.first:
        counts[collision.step :, collision.track] = False
    if not faithful:
        counts &= ~trace.spared
    return counts & (np.abs(trace.ego[:, 3]) > _STANDING)[:, None]


def nuplan_time_to_collision(trace: EpisodeTrace, contacts: FirstContacts | None = None, form: Form = "faithful") -> MetricResult:
    """1 if the time to collision stays above 0.95 s, else 0. form: as in ``times_to_collision``. details: the least (None for
    none within 3 s) and, where that is too little, its step, track and category."""
    times, met = times_to_collision(trace, contacts, form)
    least, step = float(times.min()), int(times.argmin())
    details: dict[str, object] = {"least": least if np.isfinite(least) else None, "step": None, "track": None}
    if least <= LEAST:
        details |= {"step": step, "track": int(met[step]), "category": CATEGORIES[trace.category[met[step]]]}
    return MetricResult(float(least > LEAST), True, details)
