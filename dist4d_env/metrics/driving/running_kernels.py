"""Inner loops of the running values over episodes and agents, compiled by numba; each episode's bits are its own."""

from __future__ import annotations

import math

import numpy as np

from dist4d_env.geometry.jit import compiled

Array = np.ndarray


@compiled
def near_agents(
    centers: Array, values: Array, valid: Array, scene: Array, footprints: Array, radius: float
) -> tuple[Array, Array, Array]:
    """Episode, tick and track (K,) of every agent whose footprint may touch the ego's, in this order.

    centers: (B, n, 2) of the ego's box; values, valid: (6, B, n, M) and (B, n, M) as in ``AgentArrays``; scene: (B,) rows of
    footprints (S, 2, M), lengths and widths; radius: m around the ego's centre that holds its footprint.
    """
    found = []
    for row in range(valid.shape[0]):
        sizes = footprints[scene[row]]
        for tick in range(valid.shape[1]):
            for track in range(valid.shape[2]):
                if valid[row, tick, track]:
                    dx = values[0, row, tick, track] - centers[row, tick, 0]
                    dy = values[1, row, tick, track] - centers[row, tick, 1]
                    reach = radius + (sizes[0, track] + sizes[1, track]) / 2
                    if dx * dx + dy * dy < reach * reach:
                        found.append((row, tick, track))
    episodes, ticks, tracks = np.empty(len(found), np.int64), np.empty(len(found), np.int64), np.empty(len(found), np.int64)
    for index, (row, tick, track) in enumerate(found):
        episodes[index], ticks[index], tracks[index] = row, tick, track
    return episodes, ticks, tracks


@compiled
def first_overlap(offsets: Array, rates: Array, reaches: Array) -> float:
    """Seconds until two boxes overlap along all four of their axes, infinite if they never do: they are ``offsets`` (4,) metres
    apart, which change by ``rates`` m/s, and overlap along an axis within its ``reaches``."""
    first, last = -math.inf, math.inf
    for axis in range(4):
        if abs(rates[axis]) < 1e-9:
            if abs(offsets[axis]) > reaches[axis]:
                first, last = math.inf, -math.inf
        else:
            middle, half = -offsets[axis] / rates[axis], abs(reaches[axis] / rates[axis])
            first, last = max(first, middle - half), min(last, middle + half)
    return max(first, 0.0) if first <= last and last >= 0 else math.inf


@compiled
def time_to_contact(
    ego: Array,
    forward: Array,
    cos: Array,
    sin: Array,
    own: Array,
    offset: float,
    values: Array,
    valid: Array,
    other_cos: Array,
    other_sin: Array,
    scene: Array,
    footprints: Array,
    behind: float,
    horizon: float,
) -> Array:
    """(B,) seconds until egos (B, 7) touch an agent at everybody's present velocity, as ``rectangles.contact_interval`` has it.

    forward: (B, 2) unit vectors along their headings, cos, sin: (B,) of these, for the axes of their boxes; own: length and
    width; offset: m from the rear axle to the box centre; values, valid, other_cos, other_sin: (6, B, M) and (B, M) of the
    agents; behind: cosine of the angle off the motion from which an agent does not count; horizon: the most that is reported.
    """
    out = np.full(len(ego), horizon)
    length, width = own[0] / 2, own[1] / 2
    offsets, rates, reaches = np.empty(4), np.empty(4), np.empty(4)
    for row in range(len(ego)):
        ahead, left, speed = forward[row, 0], forward[row, 1], ego[row, 3]
        center_x, center_y = ego[row, 0] + offset * ahead, ego[row, 1] + offset * left
        c, s = cos[row], sin[row]
        onward = -1.0 if speed < 0 else 1.0
        sizes = footprints[scene[row]]
        for track in range(valid.shape[1]):
            if not valid[row, track]:
                continue
            other_x, other_y = values[0, row, track], values[1, row, track]
            dx, dy = other_x - ego[row, 0], other_y - ego[row, 1]
            if (dx * ahead + dy * left) * onward < behind * math.hypot(dx, dy):
                continue
            oc, os = other_cos[row, track], other_sin[row, track]
            turn_cos, turn_sin = abs(c * oc + s * os), abs(s * oc - c * os)
            other_length, other_width = sizes[0, track] / 2, sizes[1, track] / 2
            dx, dy = other_x - center_x, other_y - center_y
            offsets[0], offsets[1], offsets[2], offsets[3] = (
                c * dx + s * dy,
                c * dy - s * dx,
                oc * dx + os * dy,
                oc * dy - os * dx,
            )
            dx, dy = values[4, row, track] - speed * ahead, values[5, row, track] - speed * left
            rates[0], rates[1] = c * dx + s * dy, c * dy - s * dx
            rates[2], rates[3] = oc * dx + os * dy, oc * dy - os * dx
            reaches[0] = length + other_length * turn_cos + other_width * turn_sin
            reaches[1] = width + other_length * turn_sin + other_width * turn_cos
            reaches[2] = other_length + length * turn_cos + width * turn_sin
            reaches[3] = other_width + length * turn_sin + width * turn_cos
            out[row] = min(out[row], first_overlap(offsets, rates, reaches))
    return out


@compiled
def motion(ego: Array, before: Array, tick: float, limits: tuple[float, ...]) -> Array:
    """(6, B) over egos (B, n, 7), before them (B, 7): acceleration, lateral acceleration, jerk, yaw rate and yaw acceleration of
    the largest magnitude, and the share of ticks outside the limits (smallest and largest acceleration, then the magnitudes)."""
    slowest, fastest, lateral_limit, jerk_limit, yaw_rate_limit, yaw_acceleration_limit = limits
    out, now = np.zeros((6, len(ego))), np.empty(5)
    for row in range(len(ego)):
        last, rough = before[row], 0
        for index in range(ego.shape[1]):
            here = ego[row, index]
            now[0], now[1], now[3] = here[4], here[3] * here[6], here[6]
            now[2], now[4] = (here[4] - last[4]) / tick, (here[6] - last[6]) / tick
            rough += (
                now[0] <= slowest
                or now[0] >= fastest
                or abs(now[1]) >= lateral_limit
                or abs(now[2]) >= jerk_limit
                or abs(now[3]) >= yaw_rate_limit
                or abs(now[4]) >= yaw_acceleration_limit
            )
            for signal in range(5):
                if index == 0 or abs(now[signal]) > abs(out[signal, row]):
                    out[signal, row] = now[signal]
            last = here
        out[5, row] = rough / ego.shape[1]
    return out
