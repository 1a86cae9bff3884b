"""Which footprints touch which tracks, for many trajectories against the same traffic at once."""

from __future__ import annotations

import math

import numpy as np

from dist4d_env.metrics.driving.rectangles import overlap

Hits = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Trajectory, step and track (K,) of every contact, in that order of time per trajectory."""


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
    position (T, N, 2), yaw (T, N), size (N, 2), valid (T, N). Touching counts. Steps past the tracks' T rows meet nobody.
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
