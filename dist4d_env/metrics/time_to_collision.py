"""Time to collision: would the ego, kept at its velocity, meet what is there a moment later?"""

from __future__ import annotations

import math

import numpy as np

from dist4d_env.geometry.boxes import CATEGORIES, Boxes
from dist4d_env.metrics.areas import across_lanes, ego_corners, off_drivable
from dist4d_env.metrics.rectangles import contact_interval, overlap
from dist4d_env.metrics.trace import EpisodeTrace, MetricResult
from dist4d_env.simulation.state import EgoState, VehicleParameters

LEADS = (0, 3, 6, 9)
"""Ticks that the ego is projected ahead."""
_AHEAD, _BEHIND = math.radians(30), math.radians(150)
_STANDING = 0.005  # m/s
HORIZON = 10.0  # s, the largest projected time that is reported


def time_to_collision(trace: EpisodeTrace) -> MetricResult:
    """1 if the projected ego meets nothing within 0.9 s, else 0 (NAVSIM's TTC in the form of v2: steps whose future is recorded).

    At each step with the ego in motion its footprint is shifted along its heading by speed times 0, 0.3, 0.6 and 0.9 s and
    compared with the tracks as they are that much later. A meeting counts if the track is ahead (within 30 degrees), or, while
    the ego stands across lanes, off the road or in an intersection, if it is not behind (beyond 150 degrees); otherwise the track
    is left out from then on. details: step, track, category and lead in seconds of the first one.
    """
    excused: set[int] = set()
    last = len(trace.time) - 1 - LEADS[-1]
    if last < 0:
        return MetricResult(1.0, False, {"reason": f"an episode of fewer than {LEADS[-1] + 1} ticks has no recorded future"})
    for step, lead, track in _meetings(trace, last):
        if track in excused:
            continue
        angle = _bearing(trace, step, trace.position[step + lead, track])
        if angle < _AHEAD or (angle <= _BEHIND and _exposed(trace, step)):
            category = CATEGORIES[trace.category[track]]
            return MetricResult(0.0, True, {"step": step, "track": track, "category": category, "lead": lead * 0.1})
        excused.add(track)
    return MetricResult(1.0, True, {})


def _meetings(trace: EpisodeTrace, last: int) -> list[tuple[int, int, int]]:
    """(step, lead, track) of every meeting in order of time."""
    center = trace.center
    ego = trace.ego[: last + 1]
    heading = np.stack([np.cos(ego[:, 2]), np.sin(ego[:, 2])], -1)
    own = np.array([trace.vehicle.length, trace.vehicle.width])
    radius = math.hypot(*own) / 2 + np.hypot(trace.size[:, 0], trace.size[:, 1]) / 2
    found = []
    for lead in LEADS:
        later = slice(lead, lead + last + 1)
        shifted = center[: last + 1] + heading * (ego[:, 3] * lead * 0.1)[:, None]
        # What is within reach of the projected ego is hardly farther from where the ego really is that much later.
        slack = np.where(ego[:, 3] >= _STANDING, np.linalg.norm(center[later] - shifted, axis=1) + 1e-6, -np.inf)
        step, track = np.nonzero(trace.distance[later] <= radius + slack[:, None])
        if len(step):
            other = trace.position[later][step, track, :2], trace.yaw[later][step, track], trace.size[track, :2]
            hit = overlap(shifted[step], ego[step, 2], own, *other)
            found += [(s, lead, t) for s, t in zip(step[hit].tolist(), track[hit].tolist(), strict=True)]
    return sorted(found)


def _bearing(trace: EpisodeTrace, step: int, position: np.ndarray) -> float:
    x, y, yaw = trace.ego[step, :3].tolist()
    toward = math.atan2(position[1] - y, position[0] - x)
    return abs((toward - yaw + math.pi) % (2 * math.pi) - math.pi)


def _exposed(trace: EpisodeTrace, step: int) -> bool:
    if trace.map is None:
        return False
    corners = ego_corners(trace.ego[step], trace.vehicle)
    in_intersection = bool(trace.map.in_intersection(trace.ego[step, :2]))
    return in_intersection or across_lanes(trace.map, corners) or bool(off_drivable(trace.map, corners))


def projected_time_to_collision(ego: EgoState, boxes: Boxes, vehicle: VehicleParameters) -> float:
    """Seconds until the ego touches an agent that is not behind it at everybody's present velocity, exactly; at most HORIZON."""
    if not len(boxes):
        return HORIZON
    forward = np.array([math.cos(ego.yaw), math.sin(ego.yaw)])
    center = np.array([ego.x, ego.y]) + vehicle.rear_axle_to_center * forward
    own = np.array([vehicle.length, vehicle.width])
    first, last = contact_interval(
        center, ego.yaw, own, ego.speed * forward, boxes.position[:, :2], boxes.yaw, boxes.size[:, :2], boxes.velocity
    )
    offset = boxes.position[:, :2] - (ego.x, ego.y)
    behind = offset @ forward < math.cos(_BEHIND) * np.hypot(offset[:, 0], offset[:, 1])
    meets = (first <= last) & (last >= 0) & ~behind
    return float(min(np.maximum(first[meets], 0.0).min(initial=HORIZON), HORIZON))
