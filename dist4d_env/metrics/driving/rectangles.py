"""Overlap and contacts of rectangles by the separating axis theorem, vectorised over pairs, trajectories and tracks."""

from __future__ import annotations

import math

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.vehicle import VehicleParameters

Angle = np.ndarray | float
"""Radians: one, or an array that broadcasts against the centres."""
Hits = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Trajectory, step and track (K,) of every contact, in that order of time per trajectory."""


def ego_centers(ego: np.ndarray, vehicle: VehicleParameters) -> np.ndarray:
    """Box centres (..., 2) of ego rows (..., 7) that hold the rear axle."""
    center = np.array(ego[..., :2])
    center[..., 0] += vehicle.rear_axle_to_center * deterministic.cos(ego[..., 2])
    center[..., 1] += vehicle.rear_axle_to_center * deterministic.sin(ego[..., 2])
    return center


def _along(dx: np.ndarray, dy: np.ndarray, turns: tuple[np.ndarray, ...]) -> np.ndarray:
    """(4, ...) components of a vector along the axes of both rectangles: length and width of one, then of the other."""
    cos, sin, other_cos, other_sin = turns
    out = np.empty((4, *np.broadcast_shapes(np.shape(dx), np.shape(cos), np.shape(other_cos))))
    out[0], out[1] = cos * dx + sin * dy, cos * dy - sin * dx
    out[2], out[3] = other_cos * dx + other_sin * dy, other_cos * dy - other_sin * dx
    return out


def separations(
    center: np.ndarray, yaw: Angle, size: np.ndarray, other_center: np.ndarray, other_yaw: Angle, other_size: np.ndarray
) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    """The separating axes of rectangle pairs that broadcast against each other; size (..., 2) is length and width.

    Returns the sines and cosines that make the axes, offsets (4, ...) of the other centre along them and reaches (4, ...): two
    rectangles overlap where every |offset| <= reach.
    """
    turns = cos, sin, other_cos, other_sin = (
        deterministic.cos(yaw),
        deterministic.sin(yaw),
        deterministic.cos(other_yaw),
        deterministic.sin(other_yaw),
    )
    turn_cos, turn_sin = np.abs(cos * other_cos + sin * other_sin), np.abs(sin * other_cos - cos * other_sin)
    length, width, other_length, other_width = size[..., 0] / 2, size[..., 1] / 2, other_size[..., 0] / 2, other_size[..., 1] / 2
    offset = _along(other_center[..., 0] - center[..., 0], other_center[..., 1] - center[..., 1], turns)
    reach = np.empty_like(offset)
    reach[0] = length + other_length * turn_cos + other_width * turn_sin
    reach[1] = width + other_length * turn_sin + other_width * turn_cos
    reach[2] = other_length + length * turn_cos + width * turn_sin
    reach[3] = other_width + length * turn_sin + width * turn_cos
    return turns, offset, reach


def overlap(
    center: np.ndarray, yaw: Angle, size: np.ndarray, other_center: np.ndarray, other_yaw: Angle, other_size: np.ndarray
) -> np.ndarray:
    """Whether rectangles (...) overlap; touching counts. Centres (..., 2), yaw (...), size (..., 2): length and width."""
    _, offset, reach = separations(center, yaw, size, other_center, other_yaw, other_size)
    return (np.abs(offset) <= reach).all(0)


def contact_interval(
    center: np.ndarray,
    yaw: Angle,
    size: np.ndarray,
    velocity: np.ndarray,
    other_center: np.ndarray,
    other_yaw: Angle,
    other_size: np.ndarray,
    other_velocity: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """First and last time (...) in seconds, in (-inf, inf), at which rectangles moving at constant velocity overlap.

    Exact: along every separating axis the offset is linear in time. Pairs that never touch have a first time after the last.
    """
    turns, offset, reach = separations(center, yaw, size, other_center, other_yaw, other_size)
    rate = _along(other_velocity[..., 0] - velocity[..., 0], other_velocity[..., 1] - velocity[..., 1], turns)
    still = np.abs(rate) < 1e-9
    middle, half = -offset / np.where(still, 1.0, rate), np.abs(reach / np.where(still, 1.0, rate))
    apart = np.abs(offset) > reach
    first = np.where(still, np.where(apart, np.inf, -np.inf), middle - half).max(0)
    last = np.where(still, np.where(apart, -np.inf, np.inf), middle + half).min(0)
    return first, last


def contacts(
    center: np.ndarray,
    heading: np.ndarray,
    own: np.ndarray,
    position: np.ndarray,
    yaw: np.ndarray,
    size: np.ndarray,
    valid: np.ndarray,
) -> Hits:
    """Contacts of rectangles ``own`` (length, width) at centres (B, S, 2) with headings (B, S) and tracks at the same steps:
    position (T, N, 2), yaw (T, N), size (N, 2), valid (T, N). Touching counts. There are no contacts past the tracks' T rows.
    """
    steps = min(center.shape[1], len(position))
    center = center[:, :steps]
    reach = (math.hypot(*own) + np.hypot(size[:, 0], size[:, 1])) / 2  # (N,)
    # Most tracks are nowhere near any of the trajectories: one box around each step's centres sorts them out.
    low, high = center.min(0), center.max(0)  # (S, 2)
    near = valid[:steps]
    for axis in (0, 1):
        place = position[:steps, :, axis]
        near = near & (place >= low[:, axis, None] - reach) & (place <= high[:, axis, None] + reach)
    step, track = np.nonzero(near)
    dx = center[:, step, 0] - position[step, track, 0]  # (B, K)
    dy = center[:, step, 1] - position[step, track, 1]
    trajectory, pair = np.nonzero(dx * dx + dy * dy <= reach[track] ** 2)
    step, track = step[pair], track[pair]
    other = position[step, track], yaw[step, track], size[track]
    hit = overlap(center[trajectory, step], heading[trajectory, step], own, *other)
    return trajectory[hit], step[hit], track[hit]


def first_of_each(*keys: np.ndarray) -> np.ndarray:
    """Indices, in order, of the rows that are the first with their pair of values of the first two of some keys (K,), the
    further keys saying in which order rows come."""
    order = np.lexsort(keys[::-1])
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(keys[0][order]) != 0) | (np.diff(keys[1][order]) != 0)
    return order[first]
