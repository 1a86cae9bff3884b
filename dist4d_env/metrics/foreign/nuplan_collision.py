"""nuPlan's collisions: how many at-fault ones, with whom and how hard."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dist4d_env.metrics.driving.areas import ego_corners
from dist4d_env.metrics.driving.collision import Collision, find_collisions
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.metrics.foreign.nuplan_lanes import within_lanes

GROUPS = {
    **dict.fromkeys(("pedestrian", "bicycle", "motorcycle"), "vru"),
    **dict.fromkeys(("traffic_cone", "barrier", "other"), "object"),
}
"""nuPlan counts vulnerable road users, objects and (the rest) vehicles apart; riders of motorcycles are VRUs there."""
ALLOWED = {"vru": 0, "vehicle": 0, "object": 1}
"""How many at-fault collisions of a group are forgiven in part."""


@dataclass(frozen=True)
class FaultJudgement:
    """at_fault: those that are; unknown: side hits whose fault only a map could tell; first: all first contacts."""

    at_fault: tuple[Collision, ...]
    unknown: tuple[Collision, ...]
    first: tuple[Collision, ...]


def at_fault_collisions(trace: EpisodeTrace) -> FaultJudgement:
    """Every first contact judged as nuPlan does: standing tracks and hits with the front are the ego's fault, hits with its side
    where its corners are not all in one lane or in lanes that follow each other."""
    first = find_collisions(trace)
    lateral = [c for c in first if c.kind == "active_lateral"]
    guilty: set[int] = set()
    unknown: tuple[Collision, ...] = ()
    if trace.map is None or not trace.map.lanes:
        unknown = tuple(lateral)
    elif lateral:
        inside = within_lanes(trace.map, ego_corners(trace.ego[[c.step for c in lateral]], trace.vehicle))
        guilty = {c.track for c, kept in zip(lateral, inside.tolist(), strict=True) if not kept}
    at_fault = tuple(c for c in first if c.kind in ("stopped_track", "active_front") or c.track in guilty)
    return FaultJudgement(at_fault, unknown, first)


def impact(trace: EpisodeTrace, collision: Collision) -> float:
    """The speed (m/s) that a crash takes from the ego if both weigh the same: half the difference of their velocities."""
    speed, yaw = float(trace.ego[collision.step, 3]), float(trace.ego[collision.step, 2])
    other = math.hypot(*trace.velocity[collision.step, collision.track].tolist())
    turn = math.cos(yaw - float(trace.yaw[collision.step, collision.track]))
    return 0.5 * math.sqrt(max(speed**2 + other**2 - 2 * speed * other * turn, 0.0))


def nuplan_no_at_fault_collision(trace: EpisodeTrace, judged: FaultJudgement | None = None) -> MetricResult:
    """The product over VRUs, vehicles and objects of ``max(0, 1 - n / (allowed + 1))``: one object hit gives 1/2.

    details: n per group, the impacts in m/s, the collisions. Not valid where a side was hit and there is no lane map to tell
    whose fault it was.
    """
    judged = judged or at_fault_collisions(trace)
    counts = dict.fromkeys(ALLOWED, 0)
    impacts: dict[str, list[float]] = {group: [] for group in ALLOWED}
    for collision in judged.at_fault:
        group = GROUPS.get(collision.category, "vehicle")
        counts[group] += 1
        impacts[group].append(impact(trace, collision))
    value = math.prod(max(0.0, 1.0 - n / (ALLOWED[group] + 1)) for group, n in counts.items())
    details = {
        "count": len(judged.at_fault),
        "counts": counts,
        "impacts": impacts,
        "collisions": [{"step": c.step, "track": c.track, "kind": c.kind, "category": c.category} for c in judged.at_fault],
    }
    if judged.unknown:
        details["reason"] = "without lanes the fault of a hit with the side is unknown"
    return MetricResult(value, not judged.unknown, details)
