"""Collisions of the ego, and whose fault they are."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.metrics.areas import across_lanes, ego_corners, off_drivable
from dist4d_env.metrics.rectangles import overlap
from dist4d_env.metrics.trace import EpisodeTrace, MetricResult

STATIC = ("traffic_cone", "barrier", "other")
_STOPPED = 0.05  # m/s
_BEHIND = math.radians(150)


@dataclass(frozen=True)
class Collision:
    """The first contact with one track. kind: "stopped_ego", "stopped_track", "active_rear", "active_front", "active_lateral"."""

    step: int
    track: int
    kind: str
    at_fault: bool
    category: str


def find_collisions(trace: EpisodeTrace, known: frozenset[int] = frozenset()) -> tuple[Collision, ...]:
    """First contacts in order of time, classified as nuPlan and NAVSIM do; tracks in ``known`` have been judged before.

    In this order: the ego stands; the track stands (static objects always do); the track's centre is behind the rear axle (more
    than 150 degrees off the heading); the ego's front edge is hit; else the side. At fault: a standing track, the front, or the
    side while the ego stands across lanes or leaves the drivable area.
    """
    found: list[Collision] = []
    judged = set(known)
    for step, track in np.argwhere(trace.contact).tolist():
        if track not in judged:
            judged.add(track)
            found.append(_judge(trace, step, track))
    return tuple(found)


def _judge(trace: EpisodeTrace, step: int, track: int) -> Collision:
    category = CATEGORIES[trace.category[track]]
    x, y, yaw, speed = trace.ego[step, :4].tolist()
    track_speed = math.hypot(*trace.velocity[step, track].tolist())
    toward = math.atan2(trace.position[step, track, 1] - y, trace.position[step, track, 0] - x)
    if abs(speed) <= _STOPPED:
        return Collision(step, track, "stopped_ego", False, category)
    if category in STATIC or track_speed <= _STOPPED:
        return Collision(step, track, "stopped_track", True, category)
    if abs((toward - yaw + math.pi) % (2 * math.pi) - math.pi) > _BEHIND:
        return Collision(step, track, "active_rear", False, category)
    if _front_hit(trace, step, track):
        return Collision(step, track, "active_front", True, category)
    return Collision(step, track, "active_lateral", _out_of_lane(trace, step), category)


def _front_hit(trace: EpisodeTrace, step: int, track: int) -> bool:
    """Whether the ego's front edge, a rectangle without length, touches the track."""
    x, y, yaw = trace.ego[step, :3].tolist()
    ahead = trace.vehicle.rear_axle_to_center + trace.vehicle.length / 2
    edge = np.array([x + ahead * math.cos(yaw), y + ahead * math.sin(yaw)])
    other = trace.position[step, track, :2], trace.yaw[step, track], trace.size[track, :2]
    return bool(overlap(edge, yaw, np.array([0.0, trace.vehicle.width]), *other))


def _out_of_lane(trace: EpisodeTrace, step: int) -> bool:
    if trace.map is None:
        return False
    corners = ego_corners(trace.ego[step], trace.vehicle)
    return bool(across_lanes(trace.map, corners) or off_drivable(trace.map, corners))


def no_at_fault_collision(trace: EpisodeTrace) -> MetricResult:
    """1 without an at-fault collision, 1/2 if only static objects were hit, else 0 (NAVSIM's NC). details: the collisions."""
    collisions = find_collisions(trace)
    value = min((0.5 if c.category in STATIC else 0.0 for c in collisions if c.at_fault), default=1.0)
    return MetricResult(value, True, {"collisions": [asdict(collision) for collision in collisions]})


def no_collision(trace: EpisodeTrace) -> MetricResult:
    """1 if the ego touched nothing at all, else 0. details: the collisions."""
    collisions = find_collisions(trace)
    return MetricResult(float(not collisions), True, {"collisions": [asdict(collision) for collision in collisions]})
