"""Inner loops over episodes, compiled by numba: bicycle, tracker and places on routes.

Every episode is computed by itself, in the order of operations that the callers document, so its bits do not depend on the
others. sin, cos and tan are those of the ``math`` module; no sum is reordered or contracted (no ``fastmath``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dist4d_env.geometry.jit import compiled

Array = np.ndarray
Car = tuple[float, ...]
Gains = tuple[Any, ...]

TAU = 2 * math.pi


def contiguous(array: np.ndarray) -> np.ndarray:
    """The array, or a copy of one that is read-only or has gaps, for which everything would be compiled once more."""
    flags = array.flags
    return array if flags.c_contiguous and flags.writeable else array.copy()


def record_of(floats: str, integers: str = "") -> np.dtype[np.void]:
    """The type of records with float64 and int64 fields of such names."""
    return np.dtype([(name, np.float64) for name in floats.split()] + [(name, np.int64) for name in integers.split()])


def records(dtype: np.dtype[np.void], count: int, **fields: Any) -> np.ndarray:
    """So many records (count,) with such values, zero in all other fields."""
    made = np.zeros(count, dtype)
    for name, values in fields.items():
        made[name] = values
    return made


@compiled
def wrap(angle: float) -> float:
    """An angle to [-pi, pi)."""
    return (angle + math.pi) % TAU - math.pi


@compiled
def advance(ego: Array, acceleration: float, steering: float, car: Car, dt: float, out: Array) -> None:
    """One step of one ego (7,), written to ``out`` (7,); see ``vehicle.advance``. car: as ``vehicle.constants`` has it."""
    wheelbase, acceleration_share, steering_share, slowest, fastest, widest, reach, reverse = car
    x, y, yaw, speed, before, angle = ego[0], ego[1], ego[2], ego[3], ego[4], ego[5]
    new_acceleration = before + acceleration_share * (min(max(acceleration, slowest), fastest) - before)
    turn = steering_share * (min(max(steering, -widest), widest) - angle)
    new_angle = angle + min(max(turn, -reach), reach)
    new_speed = speed + new_acceleration * dt
    if new_speed < 0 and not reverse:
        new_speed, new_acceleration = 0.0, -speed / dt
    out[0] = x + speed * math.cos(yaw) * dt
    out[1] = y + speed * math.sin(yaw) * dt
    out[2] = wrap(yaw + speed * math.tan(angle) / wheelbase * dt)
    out[3], out[4], out[5] = new_speed, new_acceleration, new_angle
    out[6] = new_speed * math.tan(new_angle) / wheelbase


@compiled
def track(
    ego: Array, index: int, poses: Array, speeds: Array, curvatures: Array, wheelbase: float, gains: Gains
) -> tuple[float, float]:
    """Acceleration and steering rate of one ego (7,) at pose ``index`` of its reference; see ``tracker.track``.

    gains: (horizon, dt, proportional gain of the speed, its gain when stopping, stopping speed, weights of lateral error, heading
    error, steering and steering rate).
    """
    horizon, dt, pull, stopping_gain, stopping_speed, q_side, q_turned, q_steering, r_rate = gains
    last, speed, steering = len(speeds) - 1, ego[3], ego[5]
    wanted = speeds[min(index + horizon, last)]
    if speed <= stopping_speed and wanted <= stopping_speed:
        return -stopping_gain * (speed - wanted), 0.0
    acceleration = pull * (speed - wanted)
    pose = poses[min(index, last + 1)]
    side = -math.sin(pose[2]) * (ego[0] - pose[0]) + math.cos(pose[2]) * (ego[1] - pose[1])
    turned = wrap(ego[2] - pose[2])
    # The state after the horizon is free + gain * rate: both are carried through the same linear steps.
    side_gain, turned_gain, steering_gain = 0.0, 0.0, 0.0
    for step in range(horizon):
        distance = (speed + acceleration * step * dt) * dt
        side, turned = side + distance * turned, turned + distance * (steering / wheelbase - curvatures[min(index + step, last)])
        side_gain = side_gain + distance * turned_gain
        turned_gain = turned_gain + distance * steering_gain / wheelbase
        steering_gain += dt
    error = q_side * side_gain * side + q_turned * turned_gain * wrap(turned) + q_steering * steering_gain * steering
    stiffness = q_side * (side_gain * side_gain) + q_turned * (turned_gain * turned_gain)
    stiffness += q_steering * (steering_gain * steering_gain) + r_rate
    return acceleration, -error / stiffness


@compiled
def advance_all(ego: Array, acceleration: Array, steering: Array, car: Car, dt: float) -> Array:
    """``advance`` of egos (B, 7)."""
    after = np.empty_like(ego)
    for row in range(len(ego)):
        advance(ego[row], acceleration[row], steering[row], car, dt, after[row])
    return after


@compiled
def track_all(
    ego: Array,
    tick: Array,
    start_tick: Array,
    poses: Array,
    speeds: Array,
    curvatures: Array,
    wheelbase: float,
    gains: Gains,
) -> tuple[Array, Array]:
    """``track`` of egos (B, 7) at ticks (B,)."""
    acceleration, rate = np.empty(len(ego)), np.empty(len(ego))
    for row in range(len(ego)):
        index = max(tick[row] - start_tick[row], 0)
        acceleration[row], rate[row] = track(ego[row], index, poses[row], speeds[row], curvatures[row], wheelbase, gains)
    return acceleration, rate


@compiled
def drive(
    ego: Array,
    tick: Array,
    ticks: int,
    acceleration: Array,
    steering_rate: Array,
    steering: Array,
    follows: Array,
    reference: tuple[Array, Array, Array, Array],
    coast: tuple[float, float],
    car: Car,
    dt: float,
    gains: Gains,
) -> Array:
    """Egos (B, ticks, 7) after each of the next ticks; arguments as ``drive.drive`` takes them apart.

    reference: start ticks, poses, speeds and curvatures, of B rows where some ``follows`` is true. coast: by which factor the
    acceleration of the others fades a tick, their wheels held, whatever they are commanded, and dt plus the acceleration's lag;
    the factor is nan where commands are carried out.
    """
    start_tick, poses, speeds, curvatures = reference
    fades, answer = coast
    rows = np.empty((len(ego), ticks, 7))
    for row in range(len(ego)):
        now = ego[row]
        for index in range(ticks):
            if follows[row]:
                place = max(tick[row] + index - start_tick[row], 0)
                pull, rate = track(now, place, poses[row], speeds[row], curvatures[row], car[0], gains)
                angle = now[5] + rate * dt
            elif not math.isnan(fades):
                # The command whose lagged answer is the faded acceleration.
                pull, angle = now[4] + (now[4] * fades - now[4]) * answer / dt, now[5]
            else:
                pull, angle = acceleration[row], steering[row]
                if math.isnan(angle):
                    angle = now[5] + steering_rate[row] * dt
            advance(now, pull, angle, car, dt, rows[row, index])
            now = rows[row, index]
    return rows


@compiled
def project(
    route: Array, x: Array, y: Array, near: Array, width: float, counts: Array, points: Array, arc: Array, pieces: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """The two lines that meet at the corner of routes ``route`` (B,) nearest to points x, y (B,), of equally near ones the first;
    near, width: arc lengths (B,) to search around, nan to search everywhere, and how far.

    Returns line numbers (2, B), -1 where there is no such line, offsets to the left of their lines and distances past their ends
    (2, B), clipped distances along them (2, B), and whether the corner is an inner one (B,).
    """
    line = np.full((2, len(route)), -1)
    lateral, beyond, along = np.zeros((2, len(route))), np.zeros((2, len(route))), np.zeros((2, len(route)))
    inner = np.zeros(len(route), np.bool_)
    for row in range(len(route)):
        which = route[row]
        count = counts[which]
        first, stop = 0, count
        if not math.isnan(near[row]):
            known = arc[which, :count]
            first = min(max(np.searchsorted(known, near[row] - width) - 1, 0), count - 2)
            stop = min(max(np.searchsorted(known, near[row] + width) + 1, 2), count)
        nearest, least = first, math.inf
        for place in range(first, stop):
            dx, dy = points[0, which, place] - x[row], points[1, which, place] - y[row]
            distance = dx * dx + dy * dy
            if distance < least:
                nearest, least = place, distance
        inner[row] = 0 < nearest < count - 1
        for side in range(2):
            piece = nearest - 1 + side
            if 0 <= piece < count - 1:
                px, py, ux, uy = (
                    pieces[0, which, piece],
                    pieces[1, which, piece],
                    pieces[2, which, piece],
                    pieces[3, which, piece],
                )
                ahead = (x[row] - px) * ux + (y[row] - py) * uy
                lateral[side, row] = (y[row] - py) * ux - (x[row] - px) * uy
                along[side, row] = min(max(ahead, 0.0), pieces[4, which, piece])
                beyond[side, row] = ahead - along[side, row]
                line[side, row] = piece
    return line, lateral, beyond, along, inner


@compiled
def interpolate(route: Array, s: Array, counts: Array, knots: Array, values: Array) -> Array:
    """(B, K, C) ``np.interp`` at s (B, K) of values (C, R, P) over increasing knots (R, P) for routes (B,), of which only the
    first ``counts`` (R,) knots exist."""
    out = np.empty((*s.shape, len(values)))
    for row in range(len(route)):
        which = route[row]
        last = counts[which] - 1
        known = knots[which, : last + 1]
        for column in range(s.shape[1]):
            at = s[row, column]
            left = np.searchsorted(known, at, side="right") - 1
            for table in range(len(values)):
                if left < 0 or left >= last:
                    out[row, column, table] = values[table, which, min(max(left, 0), last)]
                    continue
                low, high = values[table, which, left], values[table, which, left + 1]
                slope = (high - low) / (known[left + 1] - known[left])
                out[row, column, table] = low if known[left] == at else slope * (at - known[left]) + low
    return out
