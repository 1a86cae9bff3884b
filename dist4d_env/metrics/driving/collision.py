"""Collisions of the ego: first contacts, their kind and fault."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.areas import out_of_lane
from dist4d_env.metrics.driving.rectangles import overlap
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult

STATIC = ("traffic_cone", "barrier", "other")
IS_STATIC = np.array([category in STATIC for category in CATEGORIES])
KINDS = ("stopped_ego", "stopped_track", "active_rear", "active_front", "active_lateral")
_STOPPED = 0.05  # m/s
BEHIND = math.radians(150)


@dataclass(frozen=True)
class Collision:
    """The first contact with one track. kind: one of KINDS."""

    step: int
    track: int
    kind: str
    at_fault: bool
    category: str


def classify(
    ego: np.ndarray,
    vehicle: VehicleParameters,
    position: np.ndarray,
    yaw: np.ndarray,
    size: np.ndarray,
    velocity: np.ndarray,
    category: np.ndarray,
) -> np.ndarray:
    """(K,) indices into KINDS of contacts between egos (K, 7) and tracks: position (K, 2), yaw (K,), size (K, 2) length and
    width, velocity (K, 2), category (K,), as nuPlan and NAVSIM classify them.

    In this order: the ego stands; the track stands (static objects always do); the track's centre is behind the rear axle (more
    than 150 degrees off the heading); the ego's front edge, a rectangle without length, is hit; else the side.
    """
    x, y, heading, speed = ego[:, :4].T
    ahead = vehicle.rear_axle_to_center + vehicle.length / 2
    edge = np.column_stack([x + ahead * deterministic.cos(heading), y + ahead * deterministic.sin(heading)])
    front = overlap(edge, heading, np.array([0.0, vehicle.width]), position, yaw, size)
    standing = IS_STATIC[category] | (np.hypot(velocity[:, 0], velocity[:, 1]) <= _STOPPED)
    cases = [np.abs(speed) <= _STOPPED, standing, bearing(ego, position) > BEHIND, front]
    return np.select(cases, range(4), 4)


def bearing(ego: np.ndarray, position: np.ndarray) -> np.ndarray:
    """(K,) radians, without sign, between the headings of egos (K, 7) and the lines from their rear axles to places (K, 2)."""
    toward = deterministic.arctan2(position[:, 1] - ego[:, 1], position[:, 0] - ego[:, 0])
    return np.abs((toward - ego[:, 2] + math.pi) % (2 * math.pi) - math.pi)


def at_fault(kind: np.ndarray, out: np.ndarray) -> np.ndarray:
    """(K,) whether contacts of a kind are the ego's fault: a standing track, the front, or the side while it is out of its lane
    (out: (K,), across lanes or off the drivable area)."""
    return (kind == 1) | (kind == 3) | ((kind == 4) & out)


def find_collisions(trace: EpisodeTrace, known: frozenset[int] = frozenset()) -> tuple[Collision, ...]:
    """First contacts in order of time, classified by ``classify``; those with tracks in ``known`` are left out."""
    hits = np.argwhere(trace.contact)
    first = np.sort(np.unique(hits[:, 1], return_index=True)[1])
    step, track = hits[[row for row in first.tolist() if hits[row, 1] not in known]].T
    if not len(step):
        return ()
    ego, category = trace.ego[step], trace.category[track]
    there = trace.position[step, track, :2], trace.yaw[step, track], trace.size[track, :2], trace.velocity[step, track]
    kind = classify(ego, trace.vehicle, *there, category)
    out = np.zeros(len(step), bool)
    side = kind == 4
    out[side] = out_of_lane(trace.map, ego[side], trace.vehicle)
    columns = step.tolist(), track.tolist(), kind.tolist(), at_fault(kind, out).tolist(), category.tolist()
    return tuple(Collision(s, t, KINDS[k], fault, CATEGORIES[c]) for s, t, k, fault, c in zip(*columns, strict=True))


def no_at_fault_collision(trace: EpisodeTrace) -> MetricResult:
    """1 without an at-fault collision, 1/2 if only static objects were hit, else 0 (NAVSIM's NC). details: the collisions."""
    collisions = find_collisions(trace)
    value = min((0.5 if c.category in STATIC else 0.0 for c in collisions if c.at_fault), default=1.0)
    return MetricResult(value, True, {"collisions": [asdict(collision) for collision in collisions]})


def no_collision(trace: EpisodeTrace) -> MetricResult:
    """1 if the ego touched nothing at all, else 0. details: the collisions."""
    collisions = find_collisions(trace)
    return MetricResult(float(not collisions), True, {"collisions": [asdict(collision) for collision in collisions]})
