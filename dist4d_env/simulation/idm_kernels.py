"""Inner loops of reactive traffic, compiled by numba: who is near whom, and one tick of all movers.

Every episode is computed by itself; no sum is reordered or contracted. Cosines of agents' headings come from the caller, because
numpy's and the C library's differ in the last bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dist4d_env.simulation.kernels import Array, compiled

TICK = 0.1
PROBES = 32  # places along the path at which an agent looks for something in its way
_SHARES = np.linspace(0.0, 1.0, PROBES)


class Streets(NamedTuple):
    """What moves in S scenes, and their logs, one behind the other.

    Per scene: offset (S + 1,) of its movers, track_at and tracks (S,) where its tracks begin and how many there are, log_at and
    rows (S,) the same of its log. Per track: size_x, size_y in metres, edited, mover (its number among its scene's, -1 for none).
    log (6, K) x, y, z, yaw in [-pi, pi), velocity; logged (K,) whether the agent exists. Per mover: track, length, width,
    headway, gap, top_speed, cruise, first, last, end, schedule_at, samples_at,
    samples_last. schedule, pace: by row; samples: (P, 6).
    """

    offset: Array
    track_at: Array
    tracks: Array
    log_at: Array
    rows: Array
    size_x: Array
    size_y: Array
    edited: Array
    mover: Array
    log: Array
    logged: Array
    track: Array
    length: Array
    width: Array
    headway: Array
    gap: Array
    top_speed: Array
    cruise: Array
    first: Array
    last: Array
    end: Array
    schedule_at: Array
    samples_at: Array
    samples_last: Array
    schedule: Array
    pace: Array
    samples: Array


class Manners(NamedTuple):
    """Numbers that all movers share; see ``idm.IdmParameters``. spacing: m between samples; on_schedule: m; side: share of the
    own width wanted free on either side; the rest is the ego: m from its origin to its centre, its length and width."""

    acceleration: float
    braking: float
    hard_braking: float
    catch_up: float
    spacing: float
    on_schedule: float
    side: float
    ego_center: float
    ego_length: float
    ego_width: float


@compiled
def place_on(end: Array, samples_at: Array, samples_last: Array, mover: int, s: float, spacing: float) -> tuple[int, float]:
    """The sample before an arc length on a mover's path, and the share of the way to the next."""
    place = min(max(s, 0.0), end[mover]) / spacing
    index = min(int(place), samples_last[mover])
    return samples_at[mover] + index, place - index


@compiled
def between(samples: Array, index: int, share: float, column: int) -> float:
    """A column of the samples between two of them."""
    return samples[index, column] * (1 - share) + samples[index + 1, column] * share


@compiled
def is_present(first: Array, last: Array, end: Array, mover: int, row: int, s: float, on_schedule: float) -> bool:
    """From its first logged row until its log and its path are both behind it."""
    return row >= first[mover] and (row <= last[mover] or s < end[mover] - on_schedule)


@compiled
def keeps_schedule(
    schedule: Array, schedule_at: Array, last: Array, mover: int, row: int, column: int, s: float, on_schedule: float
) -> bool:
    """Whether a mover is where the log had it at a row."""
    return abs(schedule[schedule_at[mover] + column] - s) < on_schedule and row <= last[mover]


@compiled
def look_ahead(headway: float, v: float, braking: float) -> float:
    """Metres ahead of its front within which a mover looks for leaders."""
    return min(max(6.0 + headway * v + v * v / (2 * braking), 6.0), 60.0)


@compiled
def gather_obstacles(
    streets: Streets, manners: Manners, b: int, number: int, row: int, ego: Array, values: Array, valid: Array, position: Array,
    place: Array, number_of: Array,
) -> tuple[int, int]:  # fmt: skip
    """Fills in the obstacles of episode ``b``: x, y, half of length and width (3, M + 1), and their tracks, M for the ego. Those
    that are not as logged come first; returns how many these are, and how many there are in all."""
    mover_of, edited, size_x, size_y = streets.mover, streets.edited, streets.size_x, streets.size_y
    schedule, schedule_at, last = streets.schedule, streets.schedule_at, streets.last
    at, begin, found, minded = streets.track_at[number], streets.offset[number], 0, 0
    column = min(row, streets.rows[number] - 1)
    for as_logged in range(2):
        for j in range(streets.tracks[number]):
            if not valid[b, j]:
                continue
            k, logged = mover_of[at + j], not edited[at + j]
            if k >= 0 and logged:
                logged = keeps_schedule(schedule, schedule_at, last, begin + k, row, column, position[b, j], manners.on_schedule)
            if logged == (as_logged == 1):
                place[0, found], place[1, found] = values[0, b, j], values[1, b, j]
                place[2, found], number_of[found] = (size_x[at + j] + size_y[at + j]) / 2, j
                found += 1
        if as_logged == 0:
            place[0, found] = ego[b, 0] + manners.ego_center * math.cos(ego[b, 2])
            place[1, found] = ego[b, 1] + manners.ego_center * math.sin(ego[b, 2])
            place[2, found], number_of[found] = (manners.ego_length + manners.ego_width) / 2, valid.shape[1]
            found += 1
            minded = found
    return minded, found


@compiled
def near_pairs(
    streets: Streets, manners: Manners, scene: Array, row: Array, ego: Array, values: Array, valid: Array, position: Array,
    speed: Array,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Episode, mover and obstacle (K,) of every pair in which the obstacle may be in the mover's way, in the order of
    episodes and movers; obstacle M is the ego. Two that are both as logged do not disturb each other."""
    end_of, samples_at, samples_last, samples = streets.end, streets.samples_at, streets.samples_last, streets.samples
    first, last, schedule, schedule_at = streets.first, streets.last, streets.schedule, streets.schedule_at
    headway, length, track, rows, offset = streets.headway, streets.length, streets.track, streets.rows, streets.offset
    count, tracks = valid.shape
    room, found = 64 + 4 * count, 0
    pairs = np.empty((3, room), np.int64)
    place, number_of = np.empty((3, tracks + 1)), np.empty(tracks + 1, np.int64)
    for b in range(count):
        minded, obstacles = gather_obstacles(
            streets, manners, b, scene[b], row[b], ego, values, valid, position, place, number_of
        )
        column = min(row[b], rows[scene[b]] - 1)
        for mover in range(offset[scene[b]], offset[scene[b] + 1]):
            j = track[mover]
            s = position[b, j]
            if not is_present(first, last, end_of, mover, row[b], s, manners.on_schedule):
                continue
            horizon = look_ahead(headway[mover], speed[b, j], manners.braking)
            index, share = place_on(end_of, samples_at, samples_last, mover, s + length[mover] / 2, manners.spacing)
            x, y = between(samples, index, share, 0), between(samples, index, share, 1)
            scheduled = keeps_schedule(schedule, schedule_at, last, mover, row[b], column, s, manners.on_schedule)
            for k in range(minded if scheduled else obstacles):
                dx, dy, reach = place[0, k] - x, place[1, k] - y, horizon + place[2, k]
                if dx * dx + dy * dy < reach * reach and number_of[k] != j:
                    if found == room:
                        room *= 2
                        grown = np.empty((3, room), np.int64)
                        grown[:, :found] = pairs
                        pairs = grown
                    pairs[0, found], pairs[1, found], pairs[2, found] = b, mover, number_of[k]
                    found += 1
    return pairs[0, :found], pairs[1, :found], pairs[2, :found]


@compiled
def free_distance(
    end_of: Array, samples_at: Array, samples_last: Array, samples: Array, mover: int, front: float, horizon: float,
    margin: float, spacing: float, body: tuple[float, float, float, float, float, float],
) -> float:  # fmt: skip
    """Metres from a mover's front to where a body (x, y, cos, sin, length, width) is in its corridor; negative if it is not."""
    x, y, cos, sin, length, width = body
    for share_ahead in _SHARES:
        ahead = horizon * share_ahead
        index, share = place_on(end_of, samples_at, samples_last, mover, front + ahead, spacing)
        dx, dy = between(samples, index, share, 0) - x, between(samples, index, share, 1) - y
        if abs(cos * dx + sin * dy) < length / 2 + margin and abs(cos * dy - sin * dx) < width / 2 + margin:
            return ahead
    return -1.0


@compiled
def find_leaders(
    streets: Streets, manners: Manners, scene: Array, ego: Array, values: Array, position: Array, speed: Array,
    episode: Array, pair: Array, obstacle: Array, cosine: Array, sine: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """Of near pairs (K,) the free distance in metres, -1 where the obstacle is not in the corridor, and its speed along the
    path."""
    end_of, samples_at, samples_last, samples = streets.end, streets.samples_at, streets.samples_last, streets.samples
    track, length, width, headway = streets.track, streets.length, streets.width, streets.headway
    track_at, size_x, size_y = streets.track_at, streets.size_x, streets.size_y
    gaps, along = np.empty(len(pair)), np.zeros(len(pair))
    tracks = values.shape[2]
    for k in range(len(pair)):
        b, mover, other = episode[k], pair[k], obstacle[k]
        j = track[mover]
        front = position[b, j] + length[mover] / 2
        horizon = look_ahead(headway[mover], speed[b, j], manners.braking)
        if other < tracks:
            at = track_at[scene[b]] + other
            body = (values[0, b, other], values[1, b, other], cosine[k], sine[k], size_x[at], size_y[at])
            vx, vy = values[4, b, other], values[5, b, other]
        else:
            cos, sin = math.cos(ego[b, 2]), math.sin(ego[b, 2])
            x, y = ego[b, 0] + manners.ego_center * cos, ego[b, 1] + manners.ego_center * sin
            body = (x, y, cos, sin, manners.ego_length, manners.ego_width)
            vx, vy = ego[b, 3] * cos, ego[b, 3] * sin
        margin = manners.side * width[mover]
        free = free_distance(end_of, samples_at, samples_last, samples, mover, front, horizon, margin, manners.spacing, body)
        gaps[k] = free
        if free >= 0:
            gaps[k] = max(free, 0.1)
            index, share = place_on(end_of, samples_at, samples_last, mover, front + free, manners.spacing)
            along[k] = between(samples, index, share, 4) * vx + between(samples, index, share, 5) * vy
    return gaps, along


@compiled
def yields_to(other: int, own: int, episode: Array, pair: Array, obstacle: Array, gaps: Array, k: int) -> bool:
    """Whether the mover of a pair, which is track ``own``, gives way to the mover ``other``: where two stand in each other's way
    the nearer one goes first."""
    theirs, low = -1.0, k
    while low > 0 and episode[low - 1] == episode[k] and pair[low - 1] >= other:
        low -= 1
    while low < len(pair) and episode[low] == episode[k] and pair[low] < other:
        low += 1
    while low < len(pair) and episode[low] == episode[k] and pair[low] == other:
        if obstacle[low] == own and gaps[low] >= 0:
            theirs = gaps[low]
        low += 1
    return gaps[k] > theirs or (gaps[k] == theirs and pair[k] >= other)


@compiled
def move(
    streets: Streets, manners: Manners, scene: Array, row: Array, position: Array, speed: Array,
    episode: Array, pair: Array, obstacle: Array, gaps: Array, along: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """Positions and speeds (B, M) one tick later, given the near pairs with their gaps and speeds along the path."""
    track, tracks, track_at, mover_of, rows, offset = (
        streets.track,
        streets.tracks,
        streets.track_at,
        streets.mover,
        streets.rows,
        streets.offset,
    )
    headway, gap, schedule, schedule_at, pace = streets.headway, streets.gap, streets.schedule, streets.schedule_at, streets.pace
    first, last, end_of, cruise, top_speed = streets.first, streets.last, streets.end, streets.cruise, streets.top_speed
    next_position, next_speed, k = position.copy(), speed.copy(), 0
    softness = 2 * math.sqrt(manners.acceleration * manners.braking)
    for b in range(len(scene)):
        number, at = scene[b], row[b]
        last_row = rows[number] - 1
        column, later = min(at, last_row), min(at + 1, last_row)
        for mover in range(offset[number], offset[number + 1]):
            j = track[mover]
            s, v, allowed = position[b, j], speed[b, j], np.inf
            while k < len(pair) and episode[k] == b and pair[k] == mover:
                rank = mover_of[track_at[number] + obstacle[k]] if obstacle[k] < tracks[number] else -1
                if gaps[k] >= 0 and (rank < 0 or yields_to(offset[number] + rank, j, episode, pair, obstacle, gaps, k)):
                    approach = v - max(along[k], 0.0)
                    wish = v * headway[mover] + v * approach / softness
                    ratio = (gap[mover] + max(wish, 0.0)) / gaps[k]
                    allowed = min(allowed, manners.acceleration * (1 - ratio * ratio))
                k += 1
            scheduled = schedule_at[mover]
            delay, logged = schedule[scheduled + column] - s, pace[scheduled + column]
            on_schedule = abs(delay) < manners.on_schedule and at <= last[mover]
            # On schedule the log decides, unless that would be a metre per square second beyond what the leader allows.
            if (on_schedule and allowed >= min((logged - v) / TICK, 0.0) - 1.0) or at < first[mover]:
                next_position[b, j], next_speed[b, j] = schedule[scheduled + later], pace[scheduled + later]
                continue
            wanted = (cruise[mover] if at > last[mover] else logged) + manners.catch_up * delay
            free = min(max(wanted, 0.0), top_speed[mover]) - v  # within a second
            pull = min(min(max(free, -manners.braking), manners.acceleration), allowed)
            next_speed[b, j] = max(v + max(pull, -manners.hard_braking) * TICK, 0.0)
            next_position[b, j] = min(s + next_speed[b, j] * TICK, end_of[mover])
    return next_position, next_speed


@compiled
def agents_at(
    streets: Streets, manners: Manners, scene: Array, row: Array, position: Array, speed: Array
) -> tuple[Array, Array]:  # fmt: skip
    """Values (6, B, M) and validity (B, M) of all agents at rows (B,): movers from their paths, the others from the log."""
    end_of, samples_at, samples_last, samples = streets.end, streets.samples_at, streets.samples_last, streets.samples
    first, last, track, tracks_of, rows, offset = (
        streets.first,
        streets.last,
        streets.track,
        streets.tracks,
        streets.rows,
        streets.offset,
    )
    log_at, log, logged = streets.log_at, streets.log, streets.logged
    count, tracks = position.shape
    values, valid = np.zeros((6, count, tracks)), np.zeros((count, tracks), np.bool_)
    for b in range(count):
        number, at = scene[b], row[b]
        own, begin = tracks_of[number], log_at[number] + at * tracks_of[number]
        if at < rows[number]:
            values[:, b, :own] = log[:, begin : begin + own]
            valid[b, :own] = logged[begin : begin + own]
        for mover in range(offset[number], offset[number + 1]):
            j, s = track[mover], position[b, track[mover]]
            valid[b, j] = is_present(first, last, end_of, mover, at, s, manners.on_schedule)
            if not valid[b, j]:
                values[:, b, j] = 0.0
                continue
            index, share = place_on(end_of, samples_at, samples_last, mover, s, manners.spacing)
            values[0, b, j], values[1, b, j] = between(samples, index, share, 0), between(samples, index, share, 1)
            values[2, b, j] = between(samples, index, share, 2)
            values[3, b, j] = (between(samples, index, share, 3) + math.pi) % (2 * math.pi) - math.pi
            values[4, b, j] = speed[b, j] * between(samples, index, share, 4)
            values[5, b, j] = speed[b, j] * between(samples, index, share, 5)
    return values, valid
