"""Road users that drive and walk by rules, simulated at 10 Hz: the expert ego is one of the drivers.

Drivers follow their lane with the intelligent driver model (Treiber et al. 2000) behind whatever stands in their corridor,
slow down for curves, stop at red lights and at amber ones that they need not hurry for, wait at the stop line until the
junction's conflicting connectors are free (who comes first goes first) and let people on crossings pass. People walk along the
walkways and step on a crossing when no vehicle is about to reach it and traffic along its street, where that has a light, has
red.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.boxes import rectangle_corners
from dist4d_env.scenes.lights import RED, must_stop
from dist4d_env.town.actors import Body
from dist4d_env.town.drives import Drive
from dist4d_env.town.junctions import STOP
from dist4d_env.town.model import Signal
from dist4d_env.town.pedestrians import Walk
from dist4d_env.town.signals import STOP_LINE

DT = 0.1
HEADWAY, STANDSTILL, ACCELERATION, COMFORT = 1.2, 2.0, 1.4, 2.0
"""IDM: time headway (s), gap at standstill (m), greatest acceleration and comfortable deceleration (m/s^2); exponent 4."""
HARDEST = 6.0
"""Braking never exceeds this, m/s^2."""
LOOK_AHEAD = 40
_LINE = STOP - STOP_LINE
"""Metres from the end of a lane to its stop line."""
_SHORT_OF = STANDSTILL - 1.0
"""Who stops at a light comes nearer to its line by so much than to a vehicle."""
_NO_STATES = np.zeros((0, 1), np.int8)


@dataclass(frozen=True)
class Driver:
    """A vehicle on its drive. start: rear-axle arc length at t = 0; speed: at t = 0."""

    body: Body
    drive: Drive
    start: float
    speed: float

    @property
    def front(self) -> float:
        """From the rear axle to the front bumper."""
        return self.body.axle + self.body.size[0] / 2

    @property
    def rear(self) -> float:
        return self.body.size[0] / 2 - self.body.axle


@dataclass(frozen=True)
class Walker:
    """start: arc length on the walk at t = 0; pace: m/s (0: stands)."""

    body: Body
    walk: Walk
    start: float
    pace: float


@dataclass(frozen=True)
class Traffic:
    """Simulated motions. Rows: drivers, then walkers. position: (N, T, 2) box centres; yaw: (N, T); valid: (N, T), false once a
    driver has reached the end of the drive; axle: (D, T, 3) rear-axle poses of the drivers; speed: (D, T)."""

    position: np.ndarray
    yaw: np.ndarray
    valid: np.ndarray
    axle: np.ndarray
    speed: np.ndarray


def simulate(
    drivers: list[Driver],
    walkers: list[Walker],
    conflicts: dict[int, frozenset[int]],
    ticks: int,
    signals: tuple[Signal, ...] = (),
    states: np.ndarray = _NO_STATES,
) -> Traffic:
    """``ticks`` rows DT apart, the first one being the start; states: (G, ticks) of the traffic lights ``signals``."""
    road = _Road(drivers, walkers, conflicts, signals, states)
    history_s, history_v, history_w = [], [], []
    for tick in range(ticks):
        history_s.append(road.s.copy())
        history_v.append(road.v.copy())
        history_w.append(road.w.copy())
        if tick + 1 < ticks:
            road.step()
    return _traffic(drivers, walkers, np.array(history_s).T, np.array(history_v).T, np.array(history_w).T)


def _traffic(drivers: list[Driver], walkers: list[Walker], s: np.ndarray, v: np.ndarray, w: np.ndarray) -> Traffic:
    ticks = s.shape[1]
    axle = np.stack([d.drive.at(s[i]) for i, d in enumerate(drivers)])
    reach = np.array([d.body.axle for d in drivers])[:, None]
    centre = axle[..., :2] + reach[..., None] * np.stack([np.cos(axle[..., 2]), np.sin(axle[..., 2])], -1)
    gone = s + np.array([d.front for d in drivers])[:, None] >= np.array([d.drive.length for d in drivers])[:, None]
    people = np.stack([p.walk.at(w[i]) for i, p in enumerate(walkers)]) if walkers else np.zeros((0, ticks, 3))
    return Traffic(
        np.concatenate([centre, people[..., :2]]),
        np.concatenate([axle[..., 2], people[..., 2]]),
        np.concatenate([~gone, np.ones(people.shape[:2], bool)]),
        axle,
        v,
    )


class _Road:
    """The running simulation: arc lengths and speeds of drivers, arc lengths of walkers, junction claims."""

    def __init__(
        self,
        drivers: list[Driver],
        walkers: list[Walker],
        conflicts: dict[int, frozenset[int]],
        signals: tuple[Signal, ...],
        states: np.ndarray,
    ) -> None:
        self.drivers, self.walkers, self.conflicts = drivers, walkers, conflicts
        self.states, self.tick = states, 0
        self.light_of = {connector: i for i, signal in enumerate(signals) for connector in signal.connectors}
        self.light_at = {signal.crossing: i for i, signal in enumerate(signals)}
        self.s = np.array([d.start for d in drivers])
        self.v = np.array([d.speed for d in drivers])
        self.w = np.array([p.start for p in walkers])
        self.waiting = np.zeros(len(drivers))
        self.claims: dict[int, set[int]] = {}  # connector -> drivers that may use it
        self.front = np.array([d.front for d in drivers])
        self.length = np.array([d.drive.length for d in drivers])
        self.half_width = np.array([d.body.size[1] / 2 for d in drivers])
        self.outline = _outlines([d.body for d in drivers] + [p.body for p in walkers])
        self.reach = np.array([d.body.axle for d in drivers])

    def step(self) -> None:
        alive = self.s + self.front < self.length
        poses = np.stack([d.drive.at(self.s[i]) for i, d in enumerate(self.drivers)])
        people = np.stack([p.walk.at(self.w[i]) for i, p in enumerate(self.walkers)]) if self.walkers else np.zeros((0, 3))
        gap, leader_speed = self._leaders(alive, poses, people)
        on_crossing = self._crossing_people()
        stop = self._stops(alive, on_crossing)
        target = np.array([d.drive.speed[min(int((self.s[i] + 0.4 * self.v[i]) / 0.5), len(d.drive.speed) - 1)]
                           for i, d in enumerate(self.drivers)])  # fmt: skip
        acceleration = np.minimum(
            idm(self.v, np.maximum(target, 0.3), gap, self.v - leader_speed), idm(self.v, np.maximum(target, 0.3), stop, self.v)
        )
        acceleration = np.clip(acceleration, -HARDEST, ACCELERATION)
        faster = np.maximum(self.v + DT * acceleration, 0.0)
        self.s = np.where(alive, self.s + DT * (self.v + faster) / 2, self.s)
        self.v = faster
        self.waiting = np.where(self.v < 0.5, self.waiting + DT, 0.0)
        self._walk(poses)
        self.tick += 1

    def _leaders(self, alive: np.ndarray, poses: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gap to the nearest body in each driver's corridor (inf: none) and that body's speed along the driver's heading."""
        count = len(self.drivers)
        heading = np.stack([np.cos(poses[:, 2]), np.sin(poses[:, 2])], -1)
        centre = np.concatenate([poses[:, :2] + self.reach[:, None] * heading, people[:, :2]])
        yaw = np.concatenate([poses[:, 2], people[:, 2]])
        speed = np.concatenate([self.v, [p.pace for p in self.walkers]])
        present = np.concatenate([alive, np.ones(len(people), bool)])
        away = centre[None] - centre[:count, None]
        ahead = np.einsum("ijk,ik->ij", away, heading)
        wanted = alive[:, None] & present[None] & (np.abs(away).max(-1) < LOOK_AHEAD + 8) & (ahead > -1.0)
        wanted[np.arange(count), np.arange(count)] = False
        driver, other = np.nonzero(wanted)
        gap, along = np.full(count, np.inf), np.zeros(count)
        if not len(driver):
            return gap, along
        cos, sin = np.cos(yaw), np.sin(yaw)
        outline = centre[:, None] + np.stack(
            [self.outline[..., 0] * cos[:, None] - self.outline[..., 1] * sin[:, None],
             self.outline[..., 0] * sin[:, None] + self.outline[..., 1] * cos[:, None]], -1)  # fmt: skip
        steps = np.arange(0.0, LOOK_AHEAD + 1.0, 1.0)
        corridor = np.stack([d.drive.at(self.s[i] + self.front[i] + steps)[:, :2] for i, d in enumerate(self.drivers)])
        square = ((corridor[driver][:, :, None] - outline[other][:, None]) ** 2).sum(-1)  # (pairs, steps, outline points)
        nearest = square.argmin(1)
        inside = np.take_along_axis(square, nearest[:, None], 1)[:, 0] < (self.half_width[driver, None] + 0.3) ** 2
        # A body behind the bumper or beside it shows up at the corridor's very first point: not a leader.
        inside &= nearest > 0
        distance = np.where(inside, nearest.astype(float), np.inf).min(1)
        order = np.argsort(-distance, kind="stable")
        gap[driver[order]] = distance[order]
        along[driver[order]] = (speed[other] * np.cos(yaw[other] - yaw[driver]))[order]
        return gap, along

    def _crossing_people(self) -> set[int]:
        """Crossings with someone on them or about to step on them."""
        found = set()
        for i, person in enumerate(self.walkers):
            if person.walk.crossing is not None:
                begin, end, index = person.walk.crossing
                if begin - 0.3 < self.w[i] < end:
                    found.add(index)
        return found

    def _stops(self, alive: np.ndarray, on_crossing: set[int]) -> np.ndarray:
        """Distance from each front bumper to where the driver has to stop (inf: nowhere)."""
        stop = np.full(len(self.drivers), np.inf)
        bumper = self.s + self.front
        upcoming = []
        for i, driver in enumerate(self.drivers):
            for begin, end, connector in driver.drive.junctions:
                claim = self.claims.setdefault(connector, set())
                if self.s[i] - driver.rear > end or not alive[i]:
                    claim.discard(i)
                elif i not in claim and bumper[i] > begin + 0.8:
                    claim.add(i)  # already inside when the scene began
                elif self._held(i, connector, line := begin + _LINE - bumper[i]):
                    claim.discard(i)
                    stop[i] = max(line + _SHORT_OF, 0.0)
                    break
                elif i not in claim and begin - bumper[i] < self.v[i] ** 2 / (2 * COMFORT) + 8.0:
                    upcoming.append((-self.waiting[i], begin - bumper[i], i, connector))
                    break
        for _, distance, i, connector in sorted(upcoming):
            if any(self.claims.get(other, set()) - {i} for other in self.conflicts[connector]):
                stop[i] = max(distance - 0.3, 0.0)
            else:
                self.claims[connector].add(i)
        for i, driver in enumerate(self.drivers):
            for begin, _, index in driver.drive.crossings:
                distance = begin - 1.2 - bumper[i]
                if index in on_crossing and distance > -0.8 and self.v[i] ** 2 / (2 * HARDEST) < distance + 0.8:
                    stop[i] = min(stop[i], max(distance, 0.0))
        return stop

    def _held(self, driver: int, connector: int, distance: float) -> bool:
        """Whether the light of a connector, whose line is so far ahead, makes a driver stop."""
        light = self.light_of.get(connector)
        if light is None:
            return False
        return bool(must_stop(self.states[light, self.tick], distance, self.v[driver], COMFORT, HARDEST))

    def _walk(self, poses: np.ndarray) -> None:
        for i, person in enumerate(self.walkers):
            pace = person.pace
            if person.walk.crossing is not None:
                begin, _, index = person.walk.crossing
                light = self.light_at.get(index)
                wait = self._vehicle_near(index) or (light is not None and self.states[light, self.tick] != RED)
                if begin - 0.8 <= self.w[i] <= begin - 0.4 and wait:
                    pace = 0.0
            self.w[i] = min(self.w[i] + DT * pace, person.walk.length - 0.3)

    def _vehicle_near(self, crossing: int) -> bool:
        """Whether some vehicle is on a crossing or will be there within the next seconds."""
        for i, driver in enumerate(self.drivers):
            for begin, end, index in driver.drive.crossings:
                distance = begin - (self.s[i] + self.front[i])
                on_it = distance <= 0 and self.s[i] - driver.rear < end + 0.5
                if index == crossing and (on_it or 0 < distance < max(3.5 * self.v[i], 1.0)):
                    return True
        return False


def idm(v: np.ndarray, wanted: np.ndarray, gap: np.ndarray, closing: np.ndarray) -> np.ndarray:
    """Acceleration of the intelligent driver model; an infinite gap is a free road."""
    room = STANDSTILL + np.maximum(0.0, v * HEADWAY + v * closing / (2 * np.sqrt(ACCELERATION * COMFORT)))
    return ACCELERATION * (1 - (v / wanted) ** 4 - (room / np.maximum(gap, 0.1)) ** 2)


def _outlines(bodies: list[Body]) -> np.ndarray:
    """(N, 12, 2) points round each footprint in the body's own frame."""
    size = np.array([b.size[:2] for b in bodies])
    zero = np.zeros(len(bodies))
    corners = rectangle_corners(zero, zero, zero, size[:, 0], size[:, 1])
    following = np.roll(corners, -1, axis=1)
    return np.concatenate([corners, corners * (2 / 3) + following / 3, corners / 3 + following * (2 / 3)], 1)
