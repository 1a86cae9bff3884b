"""Inner loops of reactive traffic, compiled by numba: who may be in whose way, one tick of all movers, agents on their paths.

Every episode is computed by itself; no sum is reordered or contracted. Cosines of agents' headings come from the caller, because
numpy's and the C library's differ in the last bit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from dist4d_env.geometry.jit import compiled
from dist4d_env.scenes.lights import AMBER, RED
from dist4d_env.simulation.kernels import TAU, Array, record_of

TICK = 0.1
PROBES = 32  # places along the path at which an agent looks for something in its way
_SHARES = np.linspace(0.0, 1.0, PROBES)

Record = Any  # an entry of one of the arrays below


SCENE = record_of("", "movers mover_count tracks track_count log rows lights")
"""Where its movers, tracks, log and states of traffic lights begin in the tables, and how many there are of the first three."""
TRACK = record_of("length width", "mover edited")
"""mover: its number among its scene's, -1 where it does not move; edited: 1 where it is not as it was recorded."""
MOVER = record_of(
    "length width headway gap top_speed cruise end", "track first last schedule samples samples_last lines line_count"
)
"""end: metres of its path; track: in its scene; first, last: its valid rows; schedule, samples, lines: where its own begin."""
LINE = record_of("at", "light")
"""A stop line on a mover's path: metres from its start, and the number of the light in its scene."""
PARAMETERS = record_of("acceleration braking hard_braking catch_up spacing on_schedule side ego_center ego_length ego_width")
"""See ``idm.IdmParameters``. spacing: m between samples; on_schedule: m; side: share of the own width wanted free on either side;
ego_center: m from the ego's origin to its centre."""


class Tables(NamedTuple):
    """Logs, movers and their paths of several scenes, one behind the other.

    scenes, tracks, movers, parameters (1,): records as above; schedule: (.., 2) arc length and speed by row; samples: (.., 6) as
    in ``paths.Paths``; log: (.., 6) x, y, z, yaw in [-pi, pi) and velocity, row by row; logged: (..,) whether the agent exists.
    """

    scenes: Array
    tracks: Array
    movers: Array
    parameters: Array
    schedule: Array
    samples: Array
    log: Array
    logged: Array
    lines: Array
    lights: Array


@compiled
def place_on(mover: Record, s: float, spacing: float) -> tuple[int, float]:
    """The sample before an arc length on a mover's path, and the share of the way to the next."""
    place = min(max(s, 0.0), mover.end) / spacing
    index = min(int(place), mover.samples_last)
    return mover.samples + index, place - index


@compiled
def between(samples: Array, index: int, share: float, column: int) -> float:
    """A column of the samples between two of them."""
    return samples[index, column] * (1 - share) + samples[index + 1, column] * share


@compiled
def is_present(mover: Record, row: int, s: float, on_schedule: float) -> bool:
    """From its first logged row until its log and its path are both behind it."""
    return row >= mover.first and (row <= mover.last or s < mover.end - on_schedule)


@compiled
def keeps_schedule(schedule: Array, mover: Record, row: int, column: int, s: float, on_schedule: float) -> bool:
    """Whether a mover is where the log had it at a row."""
    return abs(schedule[mover.schedule + column, 0] - s) < on_schedule and row <= mover.last


@compiled
def look_ahead(mover: Record, v: float, braking: float) -> float:
    """Metres ahead of its front within which a mover looks for leaders."""
    return min(max(6.0 + mover.headway * v + v * v / (2 * braking), 6.0), 60.0)


@compiled
def first_near_probe(
    samples: Array, mover: Record, front: float, horizon: float, spacing: float, x: float, y: float, reach: float
) -> int:
    """The first probe less than ``reach`` from a place, PROBES where there is none.

    A path is never longer between two probes than they are apart, so those that cannot be near are skipped.
    """
    reach, probe, apart = reach * (1 + 1e-6) + 1e-3, 0, horizon / (PROBES - 1) * (1 + 1e-6)
    while probe < PROBES:
        index, share = place_on(mover, front + horizon * _SHARES[probe], spacing)
        dx, dy = between(samples, index, share, 0) - x, between(samples, index, share, 1) - y
        beyond = math.sqrt(dx * dx + dy * dy) - reach
        if beyond < 0:
            return probe
        probe += 1 + int(beyond / apart)
    return PROBES


@compiled
def gather_obstacles(
    tables: Tables, number: int, row: int, ego: Array, values: Array, valid: Array, position: Array, obstacles: Array,
    tokens: Array,
) -> tuple[int, int]:  # fmt: skip
    """Fills obstacles (M + 1, 4) with x, y, length, width, and tokens (M + 1,) with their tracks, M for the ego.

    Those that are not as logged stand at the front, the others at the back: how many the former are, where the latter begin.
    """
    scene, p, tracks = tables.scenes[number], tables.parameters[0], len(valid)
    movers, schedule = tables.movers, tables.schedule
    column, front, back = min(row, scene.rows - 1), 1, tracks + 1
    obstacles[0, 0], obstacles[0, 1] = ego[0] + p.ego_center * math.cos(ego[2]), ego[1] + p.ego_center * math.sin(ego[2])
    obstacles[0, 2], obstacles[0, 3], tokens[0] = p.ego_length, p.ego_width, tracks
    for j in range(scene.track_count):
        if not valid[j]:
            continue
        track = tables.tracks[scene.tracks + j]
        logged = track.edited == 0
        if logged and track.mover >= 0:
            mover = movers[scene.movers + track.mover]
            logged = keeps_schedule(schedule, mover, row, column, position[j], p.on_schedule)
        if logged:
            back -= 1
            at = back
        else:
            at = front
            front += 1
        obstacles[at, 0], obstacles[at, 1], obstacles[at, 2], obstacles[at, 3] = (
            values[0, j],
            values[1, j],
            track.length,
            track.width,
        )
        tokens[at] = j
    return front, back


@compiled
def near_pairs(
    tables: Tables, scene: Array, row: Array, ego: Array, values: Array, valid: Array, position: Array, speed: Array
) -> Array:
    """(K, 4) episode, mover, obstacle and first probe of every pair in which the obstacle may be in the mover's way.

    In the order of episodes and movers; obstacle M is the ego. Two that are both as logged do not disturb each other.
    """
    p, movers, schedule, samples = tables.parameters[0], tables.movers, tables.schedule, tables.samples
    count, tracks = valid.shape
    pairs, found = np.empty((64 + 4 * count, 4), np.int64), 0
    obstacles, tokens = np.empty((tracks + 1, 4)), np.empty(tracks + 1, np.int64)
    for b in range(count):
        here = tables.scenes[scene[b]]
        front, back = gather_obstacles(
            tables, scene[b], row[b], ego[b], values[:, b], valid[b], position[b], obstacles, tokens
        )  # fmt: skip
        column = min(row[b], here.rows - 1)
        for number in range(here.movers, here.movers + here.mover_count):
            mover = movers[number]
            j = mover.track
            s = position[b, j]
            if not is_present(mover, row[b], s, p.on_schedule):
                continue
            minded = front if keeps_schedule(schedule, mover, row[b], column, s, p.on_schedule) else tracks + 1
            horizon, nose, margin = look_ahead(mover, speed[b, j], p.braking), s + mover.length / 2, p.side * mover.width
            index, share = place_on(mover, nose, p.spacing)
            x, y = between(samples, index, share, 0), between(samples, index, share, 1)
            k = 0
            while k < minded:
                if k == front:
                    k = back
                    if k >= minded:
                        break
                length, width, token = obstacles[k, 2], obstacles[k, 3], tokens[k]
                dx, dy, reach = obstacles[k, 0] - x, obstacles[k, 1] - y, horizon + (length + width) / 2
                if dx * dx + dy * dy < reach * reach and token != j:
                    side, end = width / 2 + margin, length / 2 + margin
                    probe = first_near_probe(
                        samples, mover, nose, horizon, p.spacing, obstacles[k, 0], obstacles[k, 1],
                        math.sqrt(side * side + end * end),
                    )  # fmt: skip
                    if probe < PROBES:
                        if found == len(pairs):
                            pairs = np.concatenate((pairs, np.empty_like(pairs)))
                        pairs[found, 0], pairs[found, 1], pairs[found, 2], pairs[found, 3] = b, number, token, probe
                        found += 1
                k += 1
    return pairs[:found]


@compiled
def find_leader(
    tables: Tables, mover: Record, probe: int, s: float, v: float, place: tuple[float, float, float, float],
    length: float, width: float, vx: float, vy: float,
) -> tuple[float, float]:  # fmt: skip
    """The free distance in metres from a mover's front to a body at a place (x, y, cos, sin), negative where it is not in the
    corridor, and the body's speed along the path there. probe: the first at which it can be."""
    p, samples = tables.parameters[0], tables.samples
    x, y, cos, sin = place
    front, horizon, margin = s + mover.length / 2, look_ahead(mover, v, p.braking), p.side * mover.width
    for share_ahead in _SHARES[probe:]:
        ahead = horizon * share_ahead
        index, share = place_on(mover, front + ahead, p.spacing)
        dx, dy = between(samples, index, share, 0) - x, between(samples, index, share, 1) - y
        if abs(cos * dx + sin * dy) < length / 2 + margin and abs(cos * dy - sin * dx) < width / 2 + margin:
            return max(ahead, 0.1), between(samples, index, share, 4) * vx + between(samples, index, share, 5) * vy
    return -1.0, 0.0


@compiled
def find_leaders(
    tables: Tables,
    scene: Array,
    ego: Array,
    values: Array,
    position: Array,
    speed: Array,
    pairs: Array,
    cosine: Array,
    sine: Array,
) -> Array:
    """(K, 2) of near pairs the free distance and the speed of the obstacle along the path, as ``find_leader`` has them."""
    p, tracks, leaders = tables.parameters[0], values.shape[2], np.empty((len(pairs), 2))
    for k in range(len(pairs)):
        b, mover, other = pairs[k, 0], tables.movers[pairs[k, 1]], pairs[k, 2]
        if other < tracks:
            track = tables.tracks[tables.scenes[scene[b]].tracks + other]
            place = values[0, b, other], values[1, b, other], cosine[k], sine[k]
            length, width, vx, vy = track.length, track.width, values[4, b, other], values[5, b, other]
        else:
            cos, sin = math.cos(ego[b, 2]), math.sin(ego[b, 2])
            place = ego[b, 0] + p.ego_center * cos, ego[b, 1] + p.ego_center * sin, cos, sin
            length, width, vx, vy = p.ego_length, p.ego_width, ego[b, 3] * cos, ego[b, 3] * sin
        s, v = position[b, mover.track], speed[b, mover.track]
        leaders[k, 0], leaders[k, 1] = find_leader(tables, mover, pairs[k, 3], s, v, place, length, width, vx, vy)
    return leaders


@compiled
def goes_second(pairs: Array, leaders: Array, k: int, other: int, own: int) -> bool:
    """Whether the mover of a pair, which is track ``own``, gives way to the mover ``other``: where two stand in each other's way
    the nearer one goes first."""
    theirs, at = -1.0, k
    while at > 0 and pairs[at - 1, 0] == pairs[k, 0] and pairs[at - 1, 1] >= other:
        at -= 1
    while at < len(pairs) and pairs[at, 0] == pairs[k, 0] and pairs[at, 1] <= other:
        if pairs[at, 1] == other and pairs[at, 2] == own and leaders[at, 0] >= 0:
            theirs = leaders[at, 0]
        at += 1
    return leaders[k, 0] > theirs or (leaders[k, 0] == theirs and pairs[k, 1] >= other)


@compiled
def allowed_acceleration(
    tables: Tables, scene: Record, mover: Record, v: float, pairs: Array, leaders: Array, begin: int, end: int
) -> float:
    """What the leaders of a mover's pairs (begin to end) allow; infinite without one."""
    p, allowed = tables.parameters[0], np.inf
    for k in range(begin, end):
        rank = tables.tracks[scene.tracks + pairs[k, 2]].mover if pairs[k, 2] < scene.track_count else -1
        if leaders[k, 0] >= 0 and (rank < 0 or goes_second(pairs, leaders, k, scene.movers + rank, mover.track)):
            approach = v - max(leaders[k, 1], 0.0)
            wish = v * mover.headway + v * approach / (2 * math.sqrt(p.acceleration * p.braking))
            ratio = (mover.gap + max(wish, 0.0)) / leaders[k, 0]
            allowed = min(allowed, p.acceleration * (1 - ratio * ratio))
    return allowed


@compiled
def allowed_by_light(tables: Tables, scene: Record, mover: Record, row: int, s: float, v: float) -> float:
    """What the nearest light ahead that makes a mover stop (``scenes.lights.must_stop``) allows: its line is like a leader that
    stands there. Infinite without one, and on schedule, for the log shows when it went."""
    p, column = tables.parameters[0], min(row, scene.rows - 1)
    if keeps_schedule(tables.schedule, mover, row, column, s, p.on_schedule):
        return np.inf
    for line in tables.lines[mover.lines : mover.lines + mover.line_count]:
        free = line.at - s - mover.length / 2
        if free < 0:
            continue
        state, needed = tables.lights[scene.lights + line.light * scene.rows + column], v * v / (2 * max(free, 1e-3))
        if (state == RED and needed <= p.hard_braking) or (state == AMBER and needed <= p.braking):
            wish = v * mover.headway + v * v / (2 * math.sqrt(p.acceleration * p.braking))
            ratio = (mover.gap + wish) / max(free, 0.1)
            return p.acceleration * (1 - ratio * ratio)
    return np.inf


@compiled
def move(
    schedule: Array, p: Record, mover: Record, row: int, rows: int, s: float, v: float, allowed: float
) -> tuple[float, float]:
    """Position and speed of a mover one tick later. p: the parameters."""
    now, later = mover.schedule + min(row, rows - 1), mover.schedule + min(row + 1, rows - 1)
    delay, logged = schedule[now, 0] - s, schedule[now, 1]
    on_schedule = abs(delay) < p.on_schedule and row <= mover.last
    # On schedule the log decides, unless that would be a metre per square second beyond what the leader allows.
    if (on_schedule and allowed >= min((logged - v) / TICK, 0.0) - 1.0) or row < mover.first:
        return schedule[later, 0], schedule[later, 1]
    wanted = (mover.cruise if row > mover.last else logged) + p.catch_up * delay
    free = min(max(wanted, 0.0), mover.top_speed) - v  # within a second
    pull = min(min(max(free, -p.braking), p.acceleration), allowed)
    next_v = max(v + max(pull, -p.hard_braking) * TICK, 0.0)
    return min(s + next_v * TICK, mover.end), next_v


@compiled
def place_agents(
    tables: Tables, number: int, row: int, position: Array, speed: Array, values: Array, valid: Array
) -> None:  # fmt: skip
    """Fills values (6, M), zero so far, and validity (M,) of an episode's agents at a row: movers from their paths, the others
    from the log."""
    scene, p = tables.scenes[number], tables.parameters[0]
    tracks, movers, samples, log, logged = tables.tracks, tables.movers, tables.samples, tables.log, tables.logged
    for j in range(scene.track_count):
        rank = tracks[scene.tracks + j].mover
        if rank < 0:
            at = scene.log + row * scene.track_count + j
            valid[j] = row < scene.rows and logged[at]
            if valid[j]:
                for column in range(6):
                    values[column, j] = log[at, column]
            continue
        mover, s, v = movers[scene.movers + rank], position[j], speed[j]
        valid[j] = is_present(mover, row, s, p.on_schedule)
        if valid[j]:
            index, share = place_on(mover, s, p.spacing)
            values[0, j], values[1, j] = between(samples, index, share, 0), between(samples, index, share, 1)
            yaw = between(samples, index, share, 3) + math.pi
            values[2, j], values[3, j] = between(samples, index, share, 2), (yaw if 0 <= yaw < TAU else yaw % TAU) - math.pi
            values[4, j], values[5, j] = v * between(samples, index, share, 4), v * between(samples, index, share, 5)


@compiled
def start(tables: Tables, scene: Array, row: Array, tracks: int) -> tuple[Array, Array, Array, Array]:
    """Values (6, B, M) and validity (B, M) of the agents, positions and speeds (B, M), as logged."""
    count = len(scene)
    position, speed = np.zeros((count, tracks)), np.zeros((count, tracks))
    values, valid = np.zeros((6, count, tracks)), np.zeros((count, tracks), np.bool_)
    for b in range(count):
        here = tables.scenes[scene[b]]
        for mover in tables.movers[here.movers : here.movers + here.mover_count]:
            at = mover.schedule + min(row[b], here.rows - 1)
            position[b, mover.track], speed[b, mover.track] = tables.schedule[at, 0], tables.schedule[at, 1]
        place_agents(tables, scene[b], row[b], position[b], speed[b], values[:, b], valid[b])
    return values, valid, position, speed


@compiled
def step(
    tables: Tables, scene: Array, row: Array, ego: Array, values: Array, position: Array, speed: Array, pairs: Array,
    cosine: Array, sine: Array,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """``start``'s arrays one tick later, given the near pairs and the cosines and sines (K,) of their obstacles' headings."""
    leaders = find_leaders(tables, scene, ego, values, position, speed, pairs, cosine, sine)
    p, movers, schedule = tables.parameters[0], tables.movers, tables.schedule
    count, tracks = position.shape
    next_position, next_speed, end = position.copy(), speed.copy(), 0
    next_values, next_valid = np.zeros((6, count, tracks)), np.zeros((count, tracks), np.bool_)
    for b in range(count):
        here = tables.scenes[scene[b]]
        for number in range(here.movers, here.movers + here.mover_count):
            mover, begin = movers[number], end
            j = mover.track
            while end < len(pairs) and pairs[end, 0] == b and pairs[end, 1] == number:
                end += 1
            s, v, allowed = position[b, j], speed[b, j], np.inf
            if begin < end:
                allowed = allowed_acceleration(tables, here, mover, v, pairs, leaders, begin, end)
            if mover.line_count:
                allowed = min(allowed, allowed_by_light(tables, here, mover, row[b], s, v))
            next_position[b, j], next_speed[b, j] = move(schedule, p, mover, row[b], here.rows, s, v, allowed)
        place_agents(tables, scene[b], row[b] + 1, next_position[b], next_speed[b], next_values[:, b], next_valid[b])
    return next_values, next_valid, next_position, next_speed


@compiled
def anticipate(
    tables: Tables, scene: Array, row: Array, position: Array, speed: Array, rows: Array
) -> tuple[Array, Array]:  # fmt: skip
    """Values (6, B, K, M) and validity (B, K, M) at later rows (B, K): those on schedule go on with the log, the others at their
    present speed along their paths."""
    count, tracks = position.shape
    later = rows.shape[1]
    values, valid = np.zeros((6, count, later, tracks)), np.zeros((count, later, tracks), np.bool_)
    ahead, on_schedule = np.zeros(tracks), tables.parameters[0].on_schedule
    for b in range(count):
        here = tables.scenes[scene[b]]
        for k in range(later):
            for mover in tables.movers[here.movers : here.movers + here.mover_count]:
                s, v = position[b, mover.track], speed[b, mover.track]
                delay = tables.schedule[mover.schedule + min(row[b], here.rows - 1), 0] - s
                ahead[mover.track] = min(s + v * (rows[b, k] - row[b]) * TICK, mover.end)
                if abs(delay) < on_schedule or row[b] < mover.first:
                    ahead[mover.track] = tables.schedule[mover.schedule + min(rows[b, k], here.rows - 1), 0]
            place_agents(tables, scene[b], rows[b, k], ahead, speed[b], values[:, b, k], valid[b, k])
    return values, valid
