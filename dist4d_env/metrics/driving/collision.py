"""Collisions of the ego: first contacts, their kind and fault."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.areas import out_of_lane
from dist4d_env.metrics.driving.forms import is_faithful
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
    faithful: bool = False,
) -> np.ndarray:
    """(K,) indices into KINDS of contacts between egos (K, 7) and tracks: position (K, 2), yaw (K,), size (K, 2) length and
    width, velocity (K, 2), category (K,), as nuPlan and NAVSIM classify them.

    In this order: the ego stands; the track stands (static objects always do); the track's centre is behind the rear axle (more
    than 150 degrees off the direction of motion); the ego's leading edge, a rectangle without length, is hit; else the side. The
    rear leads where the ego reverses; faithful: the front always does, as in the originals.
    """
    x, y, heading, speed = ego[:, :4].T
    ahead = vehicle.rear_axle_to_center + vehicle.length / 2 * np.where((speed < 0) & (not faithful), -1, 1)
    edge = np.column_stack([x + ahead * deterministic.cos(heading), y + ahead * deterministic.sin(heading)])
    front = overlap(edge, heading, np.array([0.0, vehicle.width]), position, yaw, size)
    standing = IS_STATIC[category] | (np.hypot(velocity[:, 0], velocity[:, 1]) <= _STOPPED)
    cases = [np.abs(speed) <= _STOPPED, standing, bearing(ego, position, faithful) > BEHIND, front]
    return np.select(cases, range(4), 4)


def bearing(ego: np.ndarray, position: np.ndarray, faithful: bool = False) -> np.ndarray:
    """(K,) radians, without sign, between the directions in which egos (K, 7) move and the lines from their rear axles to places
    (K, 2). That is the heading, turned round where the ego reverses; faithful: the heading always, as in the originals."""
    toward = deterministic.arctan2(position[:, 1] - ego[:, 1], position[:, 0] - ego[:, 0])
    angle = np.abs((toward - ego[:, 2] + math.pi) % (2 * math.pi) - math.pi)
    return angle if faithful else np.where(ego[:, 3] < 0, math.pi - angle, angle)


def at_fault(kind: np.ndarray, out: np.ndarray) -> np.ndarray:
    """(K,) whether contacts of a kind are the ego's fault: a standing track, the front, or the side while it is out of its lane
    (out: (K,), across lanes or off the drivable area)."""
    return (kind == 1) | (kind == 3) | ((kind == 4) & out)


def find_collisions(trace: EpisodeTrace, form: str = "corrected", at_first_sight: bool = False) -> tuple[Collision, ...]:
    """First contacts in order of time, classified by ``classify`` in one of its forms; corrected: tracks that were put where the
    ego was (``first_instant``) are left out. at_first_sight: a track counts as moving as it did when it was first seen instead of
    as it does at the contact.
    """
    faithful = is_faithful(form)
    hits = np.argwhere(trace.contact)
    step, track = hits[np.sort(np.unique(hits[:, 1], return_index=True)[1])].T
    if not faithful:
        step, track = step[~trace.spared[track]], track[~trace.spared[track]]
    if not len(step):
        return ()
    ego, category = trace.ego[step], trace.category[track]
    velocity = trace.velocity[trace.valid.argmax(0)[track] if at_first_sight else step, track]
    there = trace.position[step, track, :2], trace.yaw[step, track], trace.size[track, :2], velocity
    kind = classify(ego, trace.vehicle, *there, category, faithful)
    out = np.zeros(len(step), bool)
    side = kind == 4
    out[side] = out_of_lane(trace.map, ego[side], trace.vehicle)
    columns = step.tolist(), track.tolist(), kind.tolist(), at_fault(kind, out).tolist(), category.tolist()
    return tuple(Collision(s, t, KINDS[k], fault, CATEGORIES[c]) for s, t, k, fault, c in zip(*columns, strict=True))


def no_at_fault_collision(trace: EpisodeTrace, form: str = "corrected") -> MetricResult:
    """1 without an at-fault collision, 1/2 if only static objects were hit, else 0 (NAVSIM's NC). form: as in
    ``find_collisions``; faithful takes tracks as they moved at first sight, as NAVSIM does. details: the collisions."""
    collisions = find_collisions(trace, form, at_first_sight=is_faithful(form))
    value = min((0.5 if c.category in STATIC else 0.0 for c in collisions if c.at_fault), default=1.0)
    return MetricResult(value, True, {"collisions": [asdict(collision) for collision in collisions]})


def no_collision(trace: EpisodeTrace) -> MetricResult:
    """1 if the ego touched nothing but what was put where it was (``first_instant``), else 0. details: the collisions."""
    collisions = find_collisions(trace)
    return MetricResult(float(not collisions), True, {"collisions": [asdict(collision) for collision in collisions]})
