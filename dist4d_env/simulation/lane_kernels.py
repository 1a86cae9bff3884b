"""Inner loops of lane traffic, compiled by numba: who is in whose way, whose turn it is, lane changes, one tick of all.

Every episode is computed by itself, body by body in the order of its tracks; no sum is reordered or contracted.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from dist4d_env.geometry.jit import compiled
from dist4d_env.scenes.lights import AMBER, RED
from dist4d_env.simulation.kernels import TAU, Array, record_of

TICK = 0.1
PROBES = 32  # places along the way ahead at which bodies are compared
FORESIGHT, LEAST_SIGHT, MOST_SIGHT = 4.0, 12.0, 55.0  # s, m, m: how far ahead a driver looks
ASIDE = 0.2  # m that a driver leaves beside what it passes
SHORT_OF_LINE = 0.7  # m before a line at which a driver halts
BEHIND, AHEAD, SCAN = 40.0, 60.0, 51  # m along another lane that are looked at before a change, and at how many places
CHANGE_EVERY = 5  # ticks from one thought of changing lanes to the next
SLOWEST_CHANGE, SHORTEST_CHANGE = 3.0, 15.0  # m/s, m
AFTER_CHANGE = 20.0  # m before the next change
MUST_RETURN = 4.0  # s before its lane ends from which a driver wants back whatever it gains

Record = Any  # an entry of one of the arrays below


DRIVER, LOGGED, STILL, EGO = range(4)
"""Kinds of bodies: who drives by rules, who moves as logged, what never moves, and the ego."""
SCENE = record_of("", "drivers driver_count tracks track_count log rows")
"""Where its drivers, tracks and log begin in the tables, and how many there are of each."""
TRACK = record_of("length width x y cos sin", "driver kind vulnerable")
"""driver: its number among its scene's, -1 for none; x, y, cos, sin: where it stands, of STILL ones."""
DRIVERS = record_of("length width fastest end logged_end", "track first last schedule samples samples_last gates gate_count")
"""fastest: m/s, as logged; end: metres of its path, of which the log has the first ``logged_end``; first, last: its valid rows;
schedule, samples, gates: where its own begin."""
GATE = record_of("at", "states")
"""A line on a path that is closed at times: metres from the path's start, and where its states by row begin."""
PARAMETERS = record_of(
    "headway gap acceleration braking hard_braking haste cruise politeness threshold bias safe_braking change_time margin "
    "turning spacing ego_center ego_length ego_width"
)
"""See ``lanes.LaneParameters``; spacing: m between samples; ego_center: m from the ego's origin to its centre."""
X, Y, Z, YAW, ALONG_X, ALONG_Y, COS, SIN, LIMIT, LEFT, RIGHT, LEFT_RUN, RIGHT_RUN, CALM_RUN = range(14)
"""Columns of a path's samples: place, yaw (unwrapped), direction of motion, cosine and sine of the yaw, speed limit (m/s), metres
to the left at which the lanes on either side run, for how many metres from here they do, and metres before the next junction."""
PHASE, POSITION, SPEED, FROM, LANE, CHANGE_AT, CHANGE_LENGTH = range(7)
STATE = ("phase", "position", "speed", "lane_from", "lane", "change_at", "change_length")
"""What is known of a driver: 0 not there yet, 1 there, 2 gone; metres along its path; m/s; the lane it comes from and the one it
is in or changes to (1 left, 0 its own, -1 right); where the change begins and how long it is, in metres of its path."""


class Tables(NamedTuple):
    """Logs, drivers and their paths of several scenes, one behind the other.

    scenes, tracks, drivers, gates, parameters (1,): records as above; schedule: (.., 2) arc length and speed by row; samples:
    (.., 14); states: (..,) of gates, int8 into ``scenes.lights.STATES``; log: (.., 6) x, y, z, yaw in [-pi, pi) and velocity, row
    by row; logged: (..,) whether the agent exists.
    """

    scenes: Array
    tracks: Array
    drivers: Array
    gates: Array
    parameters: Array
    schedule: Array
    samples: Array
    states: Array
    log: Array
    logged: Array


class Bodies(NamedTuple):
    """Room for the N bodies of an instant.

    shape: (N, 7) x, y, cos, sin, length, width, speed; kind, track, driver: (N,) numbers; probes: (N, PROBES, 4) place and
    direction on the way ahead from the front, step: (N,) metres from one to the next, bounds: (N, 4) least and greatest x and y
    of the places; gaps: (N, N) metres from a driver to a body in its way; cross: (N, N) metres until a body's way comes near
    another's; pull: (N,) acceleration.
    """

    shape: Array
    kind: Array
    track: Array
    driver: Array
    probes: Array
    step: Array
    bounds: Array
    gaps: Array
    cross: Array
    pull: Array


@compiled
def at_sample(samples: Array, driver: Record, s: float, spacing: float) -> tuple[int, float]:
    """The sample before an arc length on a path, and the share of the way to the next."""
    place = min(max(s, 0.0), driver.end) / spacing
    index = min(int(place), driver.samples_last)
    return driver.samples + index, place - index


@compiled
def between(samples: Array, index: int, share: float, column: int) -> float:
    """A column of the samples between two of them."""
    return samples[index, column] * (1 - share) + samples[index + 1, column] * share


@compiled
def aside(samples: Array, driver: Record, plan: Array, s: float, spacing: float) -> float:
    """Metres to the left of its path at which a driver with such a state (7,) is at an arc length: a change of lanes is the
    smooth step of fifth degree, whose curvature has no jump."""
    if plan[FROM] == 0 and plan[LANE] == 0:
        return 0.0
    index, share = at_sample(samples, driver, s, spacing)
    left, right = between(samples, index, share, LEFT), between(samples, index, share, RIGHT)
    before = left if plan[FROM] > 0 else right if plan[FROM] < 0 else 0.0
    after = left if plan[LANE] > 0 else right if plan[LANE] < 0 else 0.0
    w = min(max((s - plan[CHANGE_AT]) / plan[CHANGE_LENGTH], 0.0), 1.0)
    w = w * w * w * (10 - 15 * w + 6 * w * w)
    return (1 - w) * before + w * after


@compiled
def pose(samples: Array, driver: Record, plan: Array, s: float, spacing: float) -> tuple[float, float, float, float, float]:
    """x, y, cosine and sine of the heading at an arc length of a driver's way, and the slope of the way against its path."""
    index, share = at_sample(samples, driver, s, spacing)
    cos, sin = between(samples, index, share, COS), between(samples, index, share, SIN)
    x, y, slope = between(samples, index, share, X), between(samples, index, share, Y), 0.0
    if plan[FROM] != 0 or plan[LANE] != 0:
        d = aside(samples, driver, plan, s, spacing)
        slope = aside(samples, driver, plan, s + 0.5, spacing) - aside(samples, driver, plan, s - 0.5, spacing)
        x, y, cos, sin = x - sin * d, y + cos * d, cos - slope * sin, sin + slope * cos
    norm = math.sqrt(cos * cos + sin * sin)
    return x, y, cos / norm, sin / norm, slope


@compiled
def place_driver(tables: Tables, driver: Record, plan: Array, values: Array, j: int) -> None:
    """Fills values (6, M) at j with where a driver is."""
    samples, spacing = tables.samples, tables.parameters[0].spacing
    index, share = at_sample(samples, driver, plan[POSITION], spacing)
    x, y, cos, sin, slope = pose(samples, driver, plan, plan[POSITION], spacing)
    ahead = between(samples, index, share, ALONG_X) * cos + between(samples, index, share, ALONG_Y) * sin
    v = plan[SPEED] if ahead >= 0 else -plan[SPEED]
    yaw = between(samples, index, share, YAW) + math.atan(slope) + math.pi
    values[0, j], values[1, j], values[2, j] = x, y, between(samples, index, share, Z)
    values[3, j] = (yaw if 0 <= yaw < TAU else yaw % TAU) - math.pi
    values[4, j], values[5, j] = v * cos, v * sin


@compiled
def place_agents(
    tables: Tables, number: int, row: int, state: Array, values: Array, valid: Array
) -> None:  # fmt: skip
    """Fills values (6, M), zero so far, and validity (M,) of an episode's agents at a row, given its state (7, M)."""
    scene, tracks = tables.scenes[number], tables.tracks
    for j in range(scene.track_count):
        rank = tracks[scene.tracks + j].driver
        if rank >= 0:
            valid[j] = state[PHASE, j] == 1
            if valid[j]:
                place_driver(tables, tables.drivers[scene.drivers + rank], state[:, j], values, j)
            continue
        at = scene.log + row * scene.track_count + j
        valid[j] = row < scene.rows and tables.logged[at]
        if valid[j]:
            for column in range(6):
                values[column, j] = tables.log[at, column]


@compiled
def start(tables: Tables, scene: Array, row: Array, tracks: int) -> tuple[Array, Array, Array]:
    """Values (6, B, M), validity (B, M) and state (7, B, M), as logged."""
    count = len(scene)
    state = np.zeros((7, count, tracks))
    values, valid = np.zeros((6, count, tracks)), np.zeros((count, tracks), np.bool_)
    for b in range(count):
        here = tables.scenes[scene[b]]
        for driver in tables.drivers[here.drivers : here.drivers + here.driver_count]:
            j, at = driver.track, driver.schedule + min(row[b], here.rows - 1)
            state[PHASE, b, j] = 0 if row[b] < driver.first else 1 if row[b] <= driver.last else 2
            state[POSITION, b, j], state[SPEED, b, j] = tables.schedule[at, 0], tables.schedule[at, 1]
            state[CHANGE_AT, b, j], state[CHANGE_LENGTH, b, j] = -1e3, 1.0
        place_agents(tables, scene[b], row[b], state[:, b], values[:, b], valid[b])
        for j in range(here.track_count):  # the first instant is the log's to the last bit
            at = here.log + row[b] * here.track_count + j
            if valid[b, j] and row[b] < here.rows and tables.logged[at]:
                for column in range(6):
                    values[column, b, j] = tables.log[at, column]
    return values, valid, state


@compiled
def closed_ahead(tables: Tables, here: Record, driver: Record, row: int, s: float, v: float) -> float:
    """Metres from a driver's front to the nearest line that makes it stop (``scenes.lights.must_stop``), infinite without one."""
    p, nearest, column = tables.parameters[0], np.inf, min(row, here.rows - 1)
    for gate in tables.gates[driver.gates : driver.gates + driver.gate_count]:
        free = gate.at - s - driver.length / 2
        if free < 0 or free >= nearest:
            continue
        state, needed = tables.states[gate.states + column], v * v / (2 * max(free, 1e-3))
        if (state == RED and needed <= p.hard_braking) or (state == AMBER and needed <= p.braking):
            nearest = free
    return nearest


@compiled
def straight_on(bodies: Bodies, k: int, turn: float) -> None:
    """Probes of a body that goes on at its speed, turning by ``turn`` radians a metre."""
    x, y, cos, sin, length, _, v = bodies.shape[k]
    step = min(v * FORESIGHT, MOST_SIGHT) / (PROBES - 1)
    bodies.step[k] = step
    x, y = x + cos * length / 2, y + sin * length / 2
    c, s = math.cos(turn * step), math.sin(turn * step)
    for probe in range(PROBES):
        bodies.probes[k, probe, 0], bodies.probes[k, probe, 1] = x, y
        bodies.probes[k, probe, 2], bodies.probes[k, probe, 3] = cos, sin
        x, y, cos, sin = x + step * cos, y + step * sin, cos * c - sin * s, sin * c + cos * s


@compiled
def own_way(tables: Tables, driver: Record, plan: Array, bodies: Bodies, k: int, stop: float) -> None:
    """Probes of a driver along its way, up to where it has to stop."""
    sight = min(max(plan[SPEED] * FORESIGHT + 8.0, LEAST_SIGHT), MOST_SIGHT)
    step = min(sight, max(stop, 0.5)) / (PROBES - 1)
    bodies.step[k] = step
    for probe in range(PROBES):
        s = plan[POSITION] + driver.length / 2 + probe * step
        x, y, cos, sin, _ = pose(tables.samples, driver, plan, s, tables.parameters[0].spacing)
        over = s - driver.end
        if over > 0:  # past the end of its path it is expected to go straight on
            x, y = x + over * cos, y + over * sin
        bodies.probes[k, probe, 0], bodies.probes[k, probe, 1] = x, y
        bodies.probes[k, probe, 2], bodies.probes[k, probe, 3] = cos, sin


@compiled
def bound(bodies: Bodies, count: int) -> None:
    """Fills in the bounds of the ways of all bodies that move."""
    for k in range(count):
        low_x, high_x, low_y, high_y = np.inf, -np.inf, np.inf, -np.inf
        if bodies.kind[k] != STILL:
            for probe in range(PROBES):
                x, y = bodies.probes[k, probe, 0], bodies.probes[k, probe, 1]
                low_x, high_x, low_y, high_y = min(low_x, x), max(high_x, x), min(low_y, y), max(high_y, y)
        bodies.bounds[k, 0], bodies.bounds[k, 1], bodies.bounds[k, 2], bodies.bounds[k, 3] = low_x, high_x, low_y, high_y


@compiled
def gather(
    tables: Tables, number: int, row: int, ego: Array, values: Array, valid: Array, state: Array, bodies: Bodies, stops: Array
) -> int:  # fmt: skip
    """Fills in the bodies of an episode at a row, and how far each driver is from where a line makes it stop; their number."""
    here, p, count = tables.scenes[number], tables.parameters[0], 0
    for j in range(here.track_count):
        track = tables.tracks[here.tracks + j]
        if not valid[j] and track.kind != STILL:
            continue
        shape = bodies.shape[count]
        bodies.kind[count], bodies.track[count], bodies.driver[count] = track.kind, j, -1
        shape[0], shape[1], shape[4], shape[5], shape[6] = values[0, j], values[1, j], track.length, track.width, 0.0
        if track.kind == DRIVER:
            driver = tables.drivers[here.drivers + track.driver]
            plan = state[:, j]
            stops[count] = closed_ahead(tables, here, driver, row, plan[POSITION], plan[SPEED])
            _, _, shape[2], shape[3], _ = pose(tables.samples, driver, plan, plan[POSITION], p.spacing)
            shape[6], bodies.driver[count] = plan[SPEED], here.drivers + track.driver
            own_way(tables, driver, plan, bodies, count, stops[count])
        elif track.kind == LOGGED:
            v = math.sqrt(values[4, j] ** 2 + values[5, j] ** 2)
            shape[2], shape[3], shape[6] = math.cos(values[3, j]), math.sin(values[3, j]), v
            if track.vulnerable and v > 0.3:  # people need not walk where their boxes face
                shape[2], shape[3] = values[4, j] / v, values[5, j] / v
            straight_on(bodies, count, 0.0)
        elif not valid[j]:
            shape[0], shape[1], shape[2], shape[3] = track.x, track.y, track.cos, track.sin
        else:
            shape[2], shape[3] = math.cos(values[3, j]), math.sin(values[3, j])
        count += 1
    shape, cos, sin = bodies.shape[count], math.cos(ego[2]), math.sin(ego[2])
    bodies.kind[count], bodies.track[count], bodies.driver[count] = EGO, -1, -1
    shape[0], shape[1], shape[2], shape[3] = ego[0] + p.ego_center * cos, ego[1] + p.ego_center * sin, cos, sin
    shape[4], shape[5], shape[6] = p.ego_length, p.ego_width, max(ego[3], 0.0)
    straight_on(bodies, count, ego[6] / ego[3] if ego[3] > 1.0 else 0.0)
    bound(bodies, count + 1)
    return count + 1


@compiled
def outside(bodies: Bodies, k: int, x: float, y: float, reach: float) -> bool:
    """Whether a place is farther than ``reach`` from all places of a body's way, as its bounds tell."""
    low_x, high_x, low_y, high_y = bodies.bounds[k]
    return x < low_x - reach or x > high_x + reach or y < low_y - reach or y > high_y + reach


@compiled
def gap_to(bodies: Bodies, i: int, j: int, first: int, margin: float) -> float:
    """Metres from driver i's front to body j in the corridor of i's width along its way from probe ``first`` on; infinite where
    it is not there."""
    x, y, cos, sin, length, width, _ = bodies.shape[j]
    for probe in range(first, PROBES):
        px, py, ux, uy = bodies.probes[i, probe]
        dx, dy = px - x, py - y
        if abs(cos * dx + sin * dy) < length / 2 + margin and abs(cos * dy - sin * dx) < width / 2 + margin:
            same, across = abs(cos * ux + sin * uy), abs(cos * uy - sin * ux)
            near = probe * bodies.step[i] - (dx * ux + dy * uy) - same * length / 2 - across * width / 2
            return max(near, 0.05)
    return np.inf


@compiled
def find_gaps(tables: Tables, state: Array, bodies: Bodies, count: int) -> None:
    """Fills in the gaps from every driver to every body. What never moves is not in the way on the logged part of a path: the log
    shows that one gets by."""
    for i in range(count):
        if bodies.driver[i] < 0:
            continue
        driver, plan = tables.drivers[bodies.driver[i]], state[:, bodies.track[i]]
        margin, on_log = driver.width / 2 + ASIDE, 0
        if plan[FROM] == 0 and plan[LANE] == 0:
            free = driver.logged_end - plan[POSITION] - driver.length / 2
            on_log = min(max(int(free / bodies.step[i]) + 1, 0), PROBES)
        for j in range(count):
            reach = (bodies.shape[j, 4] + bodies.shape[j, 5]) / 2 + 2 * margin
            bodies.gaps[i, j] = np.inf
            if i != j and not outside(bodies, i, bodies.shape[j, 0], bodies.shape[j, 1], reach):
                bodies.gaps[i, j] = gap_to(bodies, i, j, on_log if bodies.kind[j] == STILL else 0, margin)


@compiled
def find_crossings(bodies: Bodies, count: int) -> None:
    """Fills in for every driver and every other moving body how far it is for either until its way comes near the other's."""
    for i in range(count):
        for j in range(count):
            bodies.cross[i, j] = np.inf
    for i in range(count):
        for j in range(count):
            both = bodies.driver[i] >= 0 and bodies.driver[j] >= 0
            if bodies.driver[i] < 0 or i == j or bodies.kind[j] == STILL or bodies.step[j] == 0 or (both and j < i):
                continue
            near = (bodies.shape[i, 5] + bodies.shape[j, 5]) / 2 + ASIDE
            one, two = bodies.bounds[i], bodies.bounds[j]
            if one[0] > two[1] + near or two[0] > one[1] + near or one[2] > two[3] + near or two[2] > one[3] + near:
                continue
            first = PROBES
            for probe in range(PROBES):
                x, y = bodies.probes[i, probe, 0], bodies.probes[i, probe, 1]
                if outside(bodies, j, x, y, near):
                    continue
                for other in range(first if first < PROBES else PROBES):
                    dx, dy = bodies.probes[j, other, 0] - x, bodies.probes[j, other, 1] - y
                    if dx * dx + dy * dy < near * near:
                        if bodies.cross[i, j] == np.inf:
                            bodies.cross[i, j] = probe * bodies.step[i]
                        first = other
                        break
            if first < PROBES:
                bodies.cross[j, i] = first * bodies.step[j]


@compiled
def arrival(p: Record, metres: float, v: float) -> float:
    """Seconds in which one gets so far, accelerating evenly."""
    return 2 * metres / (v + math.sqrt(v * v + 2 * p.acceleration * metres) + 1e-6)


@compiled
def urgency(p: Record, bodies: Bodies, i: int, j: int) -> float:
    """The less, the earlier i goes where its way meets j's: who comes first, but later by ``turning`` s for turning off by 60
    degrees or more; who cannot stop any more goes before those who can, and on foot and on two wheels before all drivers."""
    metres, v = bodies.cross[i, j], bodies.shape[i, 6]
    place = min(int(metres / bodies.step[i] + 0.5) + 2, PROBES - 1)
    cos = bodies.shape[i, 2] * bodies.probes[i, place, 2] + bodies.shape[i, 3] * bodies.probes[i, place, 3]
    seconds = arrival(p, metres, v) + p.turning * min(max(2 * (1 - cos), 0.0), 1.0)
    return seconds - (100.0 if v * v > 2 * 1.5 * p.braking * max(metres - 1.0, 0.1) else 0.0)


@compiled
def lets_pass(p: Record, vulnerable: bool, bodies: Bodies, i: int, j: int) -> tuple[float, float]:
    """Metres to what driver i regards as a leader because of j, whose way comes near its own, and that leader's speed; infinite
    where i may go."""
    mine, theirs = bodies.cross[i, j], bodies.cross[j, i]
    if (bodies.gaps[j, i] < np.inf and bodies.kind[j] == DRIVER) or mine == np.inf or theirs == np.inf:
        return np.inf, 0.0  # it is behind i
    v, w = bodies.shape[i, 6], bodies.shape[j, 6]
    if v * v > 2 * p.hard_braking * max(mine, 0.1):
        return np.inf, 0.0  # too late to stop
    here, there = min(int(mine / bodies.step[i]) + 3, PROBES - 1), min(int(theirs / bodies.step[j]) + 3, PROBES - 1)
    cos = bodies.probes[i, here, 2] * bodies.probes[j, there, 2] + bodies.probes[i, here, 3] * bodies.probes[j, there, 3]
    if cos > 0.8:  # merging: the nearer one goes first, the other follows it
        first = mine < theirs or (mine == theirs and i < j)
        return (np.inf, 0.0) if first else (max(mine - theirs, p.gap), w)
    entry, other = arrival(p, mine, v), arrival(p, theirs, w) if bodies.kind[j] == DRIVER else theirs / max(w, 0.1)
    leaves = entry + (bodies.shape[i, 4] + bodies.shape[j, 5] + 1.0) / max(v + p.acceleration * entry, 2.0)
    passes = other + (bodies.shape[j, 4] + bodies.shape[i, 5] + 1.0) / max(w, 1.0)
    if leaves + p.margin < other or passes + p.margin < entry:
        return np.inf, 0.0
    if vulnerable:
        return mine, 0.0
    own, its = urgency(p, bodies, i, j), urgency(p, bodies, j, i)
    return (np.inf, 0.0) if own < its or (own == its and i < j) else (mine, 0.0)


@compiled
def share_of_road(p: Record, v: float, gap: float, leader: float) -> float:
    """(s* / s)^2 of the intelligent driver model."""
    wish = v * p.headway + v * (v - leader) / (2 * math.sqrt(p.acceleration * p.braking))
    ratio = (p.gap + max(wish, 0.0)) / max(gap, 0.1)
    return ratio * ratio


@compiled
def free_pull(p: Record, v: float, wanted: float) -> float:
    """Acceleration on a free road towards a wanted speed."""
    return p.acceleration * (1 - (v / wanted) ** 4) if v <= wanted else max(wanted - v, -p.braking)


@compiled
def wanted_speed(tables: Tables, driver: Record, plan: Array) -> float:
    """m/s that a driver would drive at where it will be in a moment."""
    p = tables.parameters[0]
    index, share = at_sample(tables.samples, driver, plan[POSITION] + 0.4 * plan[SPEED], p.spacing)
    return max(min(max(p.haste * driver.fastest, p.cruise), between(tables.samples, index, share, LIMIT)), 0.5)


@compiled
def lane_left(tables: Tables, driver: Record, plan: Array) -> float:
    """Metres for which the lane beside its own that a driver is in goes on; infinite in its own."""
    if plan[LANE] == 0:
        return np.inf
    index, _ = at_sample(tables.samples, driver, plan[POSITION], tables.parameters[0].spacing)
    return float(tables.samples[index, LEFT_RUN if plan[LANE] > 0 else RIGHT_RUN])


@compiled
def pull_of(tables: Tables, here: Record, state: Array, bodies: Bodies, count: int, i: int, stop: float) -> float:
    """A driver's acceleration: the intelligent driver model behind whatever is in its way, lines, and whom it lets pass."""
    p, driver, plan = tables.parameters[0], tables.drivers[bodies.driver[i]], state[:, bodies.track[i]]
    v, most, yielding = plan[SPEED], 0.0, 0.0
    for j in range(count):
        gap, shape = bodies.gaps[i, j], bodies.shape[j]
        if gap < np.inf:
            back = bodies.gaps[j, i] if bodies.driver[j] >= 0 else np.inf
            if back < gap or (back == gap and j > i):
                continue  # two in each other's way: the nearer one goes first
            place = min(int(gap / bodies.step[i]) + 1, PROBES - 1)
            along = shape[2] * bodies.probes[i, place, 2] + shape[3] * bodies.probes[i, place, 3]
            most = max(most, share_of_road(p, v, gap, max(shape[6] * along, 0.0)))
        elif bodies.cross[i, j] < np.inf:
            vulnerable = bodies.track[j] >= 0 and tables.tracks[here.tracks + bodies.track[j]].vulnerable == 1
            metres, leader = lets_pass(p, vulnerable, bodies, i, j)
            if metres < np.inf:
                yielding = max(yielding, share_of_road(p, v, metres, leader))
    ends = lane_left(tables, driver, plan) - SHORTEST_CHANGE
    for line in (stop, ends - driver.length / 2):
        if line < np.inf:
            most = max(most, share_of_road(p, v, line + p.gap - SHORT_OF_LINE, 0.0))
    free = free_pull(p, v, wanted_speed(tables, driver, plan))
    gentle = max(free - p.acceleration * yielding, -2 * p.braking)
    return min(max(min(free - p.acceleration * most, gentle), -p.hard_braking), p.acceleration)


@compiled
def look_beside(
    tables: Tables, driver: Record, plan: Array, bodies: Bodies, count: int, i: int, lane: float
) -> tuple[float, float, float, int]:  # fmt: skip
    """The free metres ahead and the speed there, the free metres behind and which body is there (-1: none) in another lane;
    negative metres where there is someone beside."""
    samples, spacing, way = tables.samples, tables.parameters[0].spacing, np.empty((SCAN, 2))
    there, step = plan.copy(), (BEHIND + AHEAD) / (SCAN - 1)
    there[FROM], there[LANE] = lane, lane
    for k in range(SCAN):
        s = plan[POSITION] - BEHIND + k * step
        x, y, cos, sin, _ = pose(samples, driver, there, s, spacing)
        way[k, 0], way[k, 1] = x + min(s, 0.0) * cos, y + min(s, 0.0) * sin  # straight on before its path begins
    ahead, leader, behind, follower = np.inf, 0.0, np.inf, -1
    for j in range(count):
        x, y, cos, sin, length, width, v = bodies.shape[j]
        dx, dy, reach = x - bodies.shape[i, 0], y - bodies.shape[i, 1], max(BEHIND, AHEAD) + length
        if j == i or dx * dx + dy * dy > reach * reach:
            continue
        nearest, least = -1, ((driver.width + width) / 2 + ASIDE + 0.3) ** 2
        for k in range(SCAN):
            square = (way[k, 0] - x) ** 2 + (way[k, 1] - y) ** 2
            if square < least:
                nearest, least = k, square
        if nearest < 0:
            continue
        apart = nearest * step - BEHIND
        free = abs(apart) - (length + driver.length) / 2 - step / 2
        if apart > 0 and free < ahead:
            ahead, leader = free, v * max(cos * bodies.shape[i, 2] + sin * bodies.shape[i, 3], 0.0)
        if apart <= 0 and free < behind:
            behind, follower = free, j
    return ahead, leader, behind, follower


@compiled
def gain(
    tables: Tables, driver: Record, plan: Array, bodies: Bodies, count: int, i: int, lane: float, must: bool
) -> float:  # fmt: skip
    """What changing to a lane is worth in m/s^2 beyond the threshold (MOBIL, Kesting et al. 2007); -inf where it is unsafe."""
    p, v = tables.parameters[0], plan[SPEED]
    ahead, leader, behind, follower = look_beside(tables, driver, plan, bodies, count, i, lane)
    if ahead < p.gap or behind < p.gap:
        return -np.inf
    free = free_pull(p, v, wanted_speed(tables, driver, plan))
    own = free - p.acceleration * share_of_road(p, v, ahead, leader)
    if own < -p.safe_braking:
        return -np.inf
    loss = 0.0
    if follower >= 0:
        w = bodies.shape[follower, 6]
        after = p.acceleration * (1 - share_of_road(p, w, behind, v))
        if after < -p.safe_braking:
            return -np.inf
        before = bodies.pull[follower] if bodies.driver[follower] >= 0 else 0.0
        loss = p.politeness * max(min(before, 0.0) - after, 0.0)
    return np.inf if must else own - bodies.pull[i] - loss - p.threshold + (p.bias if lane == 0 else -p.bias)


@compiled
def change_lanes(tables: Tables, row: int, state: Array, bodies: Bodies, count: int) -> None:
    """Writes into the state (7, M) which drivers begin to change lanes. One at a time within its neighbourhood."""
    p = tables.parameters[0]
    for i in range(count):
        if bodies.driver[i] < 0 or (row + bodies.track[i]) % CHANGE_EVERY:
            continue
        driver, plan = tables.drivers[bodies.driver[i]], state[:, bodies.track[i]]
        s, v = plan[POSITION], plan[SPEED]
        index, _ = at_sample(tables.samples, driver, s, p.spacing)
        sample, length = tables.samples[index], max(SHORTEST_CHANGE, p.change_time * v)
        done = plan[CHANGE_AT] + plan[CHANGE_LENGTH]
        left = lane_left(tables, driver, plan)
        must = left < length + v * MUST_RETURN + 10.0
        if s < done + (0.0 if must else AFTER_CHANGE) or s + length > driver.end:
            continue
        if not must and (v < SLOWEST_CHANGE or sample[CALM_RUN] < length):
            continue
        if others_change(state, bodies, count, i):
            continue
        best, lane = 0.0, plan[LANE]
        for target in (1.0, -1.0, 0.0):
            run = sample[LEFT_RUN] if target > 0 else sample[RIGHT_RUN]
            if (target == 0) == (plan[LANE] == 0) or (target != 0 and run < length + v * MUST_RETURN + 40.0):
                continue
            if target != 0 and free_pull(p, v, wanted_speed(tables, driver, plan)) - bodies.pull[i] < p.threshold + p.bias:
                continue  # nothing to gain
            worth = gain(tables, driver, plan, bodies, count, i, target, must)
            if worth > best:
                best, lane = worth, target
        if lane != plan[LANE]:
            plan[FROM], plan[LANE], plan[CHANGE_AT], plan[CHANGE_LENGTH] = plan[LANE], lane, s, min(length, max(left, 8.0))


@compiled
def others_change(state: Array, bodies: Bodies, count: int, i: int) -> bool:
    """Whether another driver near by is just changing lanes."""
    for j in range(count):
        plan = state[:, bodies.track[j]]
        if bodies.driver[j] >= 0 and j != i and plan[POSITION] < plan[CHANGE_AT] + plan[CHANGE_LENGTH]:
            dx, dy = bodies.shape[j, 0] - bodies.shape[i, 0], bodies.shape[j, 1] - bodies.shape[i, 1]
            if dx * dx + dy * dy < AHEAD * AHEAD:
                return True
    return False


@compiled
def overlap(one: Array, other: Array, margin: float) -> bool:
    """Whether two rectangles (x, y, cos, sin, length, width) overlap, the first grown by a margin."""
    dx, dy = other[0] - one[0], other[1] - one[1]
    length, width = one[4] / 2 + margin, one[5] / 2 + margin
    same, across = abs(one[2] * other[2] + one[3] * other[3]), abs(one[2] * other[3] - one[3] * other[2])
    return (
        abs(one[2] * dx + one[3] * dy) < length + same * other[4] / 2 + across * other[5] / 2
        and abs(one[2] * dy - one[3] * dx) < width + across * other[4] / 2 + same * other[5] / 2
        and abs(other[2] * dx + other[3] * dy) < other[4] / 2 + same * length + across * width
        and abs(other[2] * dy - other[3] * dx) < other[5] / 2 + across * length + same * width
    )


@compiled
def blocked(tables: Tables, plan: Array, driver: Record, body: Array, bodies: Bodies, count: int, i: int) -> bool:
    """Whether a place (7,) of driver i touches a body that its present one does not touch. What never moves is passed on the
    logged part of a path as the log does."""
    on_log = plan[FROM] == 0 and plan[LANE] == 0 and plan[POSITION] + driver.length / 2 < driver.logged_end
    for j in range(count):
        if j == i or (on_log and bodies.kind[j] == STILL):
            continue
        dx, dy = bodies.shape[j, 0] - body[0], bodies.shape[j, 1] - body[1]
        reach = body[4] + body[5] + bodies.shape[j, 4] + bodies.shape[j, 5]
        if 4 * (dx * dx + dy * dy) < reach * reach and overlap(body, bodies.shape[j], 0.0):
            if i < 0 or not overlap(bodies.shape[i], bodies.shape[j], 0.0):
                return True
    return False


@compiled
def move(tables: Tables, state: Array, bodies: Bodies, count: int) -> None:
    """Moves the drivers of an episode by a tick, one after the other; who would touch another body stands where it is."""
    spacing, there = tables.parameters[0].spacing, np.empty(7)
    for i in range(count):
        if bodies.driver[i] < 0:
            continue
        driver, plan = tables.drivers[bodies.driver[i]], state[:, bodies.track[i]]
        s, v = plan[POSITION], plan[SPEED]
        after = max(v + bodies.pull[i] * TICK, 0.0)
        _, _, _, _, slope = pose(tables.samples, driver, plan, s, spacing)
        plan[POSITION], plan[SPEED] = s + (v + after) / 2 * TICK / math.sqrt(1 + slope * slope), after
        if plan[POSITION] >= driver.end:
            plan[PHASE] = 2
            bodies.shape[i, 0] = 1e9  # out of everybody's way
            continue
        there[:] = bodies.shape[i]
        there[0], there[1], there[2], there[3], _ = pose(tables.samples, driver, plan, plan[POSITION], spacing)
        if plan[POSITION] > s and blocked(tables, plan, driver, there, bodies, count, i):
            plan[POSITION], plan[SPEED] = s, 0.0
        else:
            bodies.shape[i] = there


@compiled
def enter(tables: Tables, here: Record, row: int, state: Array, bodies: Bodies, count: int) -> int:
    """Lets those in whose log begins now or began while their place was taken; the number of bodies then."""
    p = tables.parameters[0]
    for number in range(here.drivers, here.drivers + here.driver_count):
        driver = tables.drivers[number]
        plan = state[:, driver.track]
        if plan[PHASE] != 0 or row < driver.first:
            continue
        if row > driver.last:
            plan[PHASE] = 2
            continue
        at, body = driver.schedule + driver.first, bodies.shape[count]
        plan[POSITION], plan[SPEED] = tables.schedule[at, 0], tables.schedule[at, 1]
        body[0], body[1], body[2], body[3], _ = pose(tables.samples, driver, plan, plan[POSITION], p.spacing)
        body[4], body[5], body[6] = driver.length + 1.0, driver.width, plan[SPEED]
        if not blocked(tables, plan, driver, body, bodies, count, -1):
            plan[PHASE], body[4] = 1, driver.length
            bodies.kind[count], bodies.track[count], bodies.driver[count] = DRIVER, driver.track, number
            count += 1
    return count


@compiled
def logged_on(tables: Tables, here: Record, row: int, bodies: Bodies, count: int) -> None:
    """Moves those who follow their log to where it has them at a row."""
    for i in range(count):
        at = here.log + row * here.track_count + bodies.track[i]
        if bodies.kind[i] == LOGGED and row < here.rows and tables.logged[at]:
            bodies.shape[i, 0], bodies.shape[i, 1] = tables.log[at, 0], tables.log[at, 1]
            bodies.shape[i, 2], bodies.shape[i, 3] = math.cos(tables.log[at, 3]), math.sin(tables.log[at, 3])


@compiled
def step(
    tables: Tables, scene: Array, row: Array, ego: Array, values: Array, valid: Array, state: Array
) -> tuple[Array, Array, Array]:
    """``start``'s arrays one tick later."""
    count, tracks = valid.shape
    after = state.copy()
    next_values, next_valid = np.zeros((6, count, tracks)), np.zeros((count, tracks), np.bool_)
    room = tracks + 1
    number = np.zeros((3, room), np.int64)
    bodies = Bodies(
        np.zeros((room, 7)), number[0], number[1], number[2], np.zeros((room, PROBES, 4)), np.zeros(room), np.zeros((room, 4)),
        np.empty((room, room)), np.empty((room, room)), np.zeros(room),
    )  # fmt: skip
    stops = np.empty(room)
    for b in range(count):
        here, own = tables.scenes[scene[b]], after[:, b]
        found = gather(tables, scene[b], row[b], ego[b], values[:, b], valid[b], own, bodies, stops)
        find_gaps(tables, own, bodies, found)
        find_crossings(bodies, found)
        for i in range(found):
            bodies.pull[i] = 0.0
            if bodies.driver[i] >= 0:
                bodies.pull[i] = pull_of(tables, here, own, bodies, found, i, stops[i])
        change_lanes(tables, row[b], own, bodies, found)
        logged_on(tables, here, row[b] + 1, bodies, found)
        move(tables, own, bodies, found)
        enter(tables, here, row[b] + 1, own, bodies, found)
        place_agents(tables, scene[b], row[b] + 1, own, next_values[:, b], next_valid[b])
    return next_values, next_valid, after


@compiled
def anticipate(tables: Tables, scene: Array, row: Array, state: Array, rows: Array) -> tuple[Array, Array]:
    """Values (6, B, K, M) and validity (B, K, M) at later rows (B, K): drivers go on at their speed along their way, who is not
    there yet comes when the log says."""
    count, tracks = state.shape[1:]
    later = rows.shape[1]
    values, valid = np.zeros((6, count, later, tracks)), np.zeros((count, later, tracks), np.bool_)
    ahead = np.empty((7, tracks))
    for b in range(count):
        here = tables.scenes[scene[b]]
        for k in range(later):
            ahead[:] = state[:, b]
            for driver in tables.drivers[here.drivers : here.drivers + here.driver_count]:
                j = driver.track
                if ahead[PHASE, j] == 1:
                    ahead[POSITION, j] += ahead[SPEED, j] * (rows[b, k] - row[b]) * TICK
                    ahead[PHASE, j] = 1 if ahead[POSITION, j] < driver.end else 2
                elif ahead[PHASE, j] == 0 and driver.first <= rows[b, k] <= driver.last:
                    at = driver.schedule + min(rows[b, k], here.rows - 1)
                    ahead[PHASE, j], ahead[POSITION, j], ahead[SPEED, j] = 1, tables.schedule[at, 0], tables.schedule[at, 1]
            place_agents(tables, scene[b], rows[b, k], ahead, values[:, b, k], valid[b, k])
    return values, valid
