"""What a learned policy sees and what its numbers mean: pure functions over batches, the same in training and on the benchmark.

The policy sees agents as they stand to its *route*: how far along it and how far beside it, now and where their velocity takes
them. Scales are fixed (no running statistics), so that a saved policy is a pure function of the observation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.cameras import RING
from dist4d_env.learning.depth_scan import SCAN_FEATURES, Calibration, Rays, scan, scan_features
from dist4d_env.simulation.actions import PLAN_DT, PLAN_POSES, TRAJECTORY_HIGH, TRAJECTORY_LOW, action_space

Batch = Mapping[str, np.ndarray]

AGENTS_SEEN, AGENTS_LOOKED_AT = 16, 40
"""The agents that come nearest to the ego's way, out of the nearest."""
AHEAD = (0.0, 1.0, 2.0, 3.0)
"""Seconds after which an agent's place is told, at its present velocity."""
SPACING = 2.5  # m between the points of the "route" observation
EGO_SCALE = np.array([20, 5, 5, 1, 0.5, 3, 0.5, 20, 1, 20])
_VEHICLES, _PEOPLE = 5, 8  # CATEGORIES: vehicles first, then motorcycles, bicycles and pedestrians, then things
NEAR_STATE_SIZE = len(EGO_SCALE) + 1
STATE_SIZE = NEAR_STATE_SIZE + 2 * 20 + 20
AGENT_SIZE = 2 * len(AHEAD) + 10
LEADER_SIZE = 2 * len(AHEAD) + 2
FREE = 60.0
"""Metres that count as a free way."""
HALF_WIDTH, FRONT = 1.25, 3.9
"""Metres to the side and ahead of the rear axle that the ego needs, a margin included."""
LIMIT = 5.0
"""Features are clipped to +-5."""

PULL, BRAKE, OFFSET, TOP_SPEED, SETTLE = 2.0, 5.0, 1.0, 20.0, 1.5
"""``action="route"``: m/s^2 at +1 and -1, metres beside the route at +-1, m/s it does not exceed, seconds to settle there."""


@dataclass(frozen=True)
class View:
    """cameras: whether the six images are seen besides the vectors ("ego" and "route"; agents then must be seen in them).

    action: "route" gives two numbers in [-1, 1], acceleration and place beside the route, which become a trajectory along the
    "route" observation (a residual on the route: 0, 0 follows it at constant speed); "controls" and "discrete" are the
    environment's own. size: height and width of the images. scan: the depth of the six cameras is seen as a scan along the
    route (``learning.depth_scan``), and their colours are not; calibration: of the cameras for images of that size, which this
    takes.
    """

    cameras: bool = False
    action: Literal["route", "controls", "discrete"] = "route"
    size: tuple[int, int] = (64, 112)
    scan: bool = False
    calibration: Calibration = ()

    def __post_init__(self) -> None:
        if self.action not in ("route", "controls", "discrete"):
            raise ConfigError(f"action={self.action!r} is unknown: choose 'route', 'controls' or 'discrete'")
        if self.scan and not self.cameras:
            raise ConfigError("a scan is made of what cameras see: choose cameras=True, too")
        object.__setattr__(self, "calibration", tuple(tuple(row) for row in self.calibration))  # lists, where it was a file

    @property
    def sees(self) -> Literal["vectors", "images", "scan"]:
        """What tells it of other road users, which chooses its encoder."""
        return "scan" if self.scan else "images" if self.cameras else "vectors"

    @property
    def groups(self) -> tuple[str, ...]:
        """The environment's ``observation`` keyword."""
        if self.sees == "vectors":
            return "ego", "route", "agents"
        return ("depth" if self.scan else "cameras"), "ego", "route"

    @property
    def environment_action(self) -> str:
        """The environment's ``action`` keyword."""
        return "trajectory" if self.action == "route" else self.action

    @property
    def observation_space(self) -> spaces.Dict:
        keys: dict[str, spaces.Space] = {"state": spaces.Box(-LIMIT, LIMIT, (STATE_SIZE,), np.float32)}
        if self.sees == "scan":
            keys["scan"] = spaces.Box(-LIMIT, LIMIT, (SCAN_FEATURES,), np.float32)
        elif self.sees == "images":
            keys["cameras"] = spaces.Box(0, 255, (3 * len(RING), *self.size), np.uint8)
        else:
            keys["agents"] = spaces.Box(-LIMIT, LIMIT, (AGENTS_SEEN, AGENT_SIZE), np.float32)
            keys["leaders"] = spaces.Box(-LIMIT, LIMIT, (LEADER_SIZE,), np.float32)
        return spaces.Dict(keys)

    @property
    def action_space(self) -> spaces.Space:
        return spaces.Box(-1.0, 1.0, (2,), np.float32) if self.action == "route" else action_space(self.action)

    def observe(self, given: Batch) -> dict[str, np.ndarray]:
        """Observations of B environments, (B, ...) per key, as the policy sees them."""
        way = Way.of(given)
        seen = {"state": state_features(given["ego"], way)}
        if self.sees == "scan":
            seen["scan"] = _clipped(scan_features(given["ego"], scan(given, self.rays, way)))
        elif self.sees == "images":
            images = np.stack([given[name] for name in RING], 1)  # (B, 6, H, W, 3)
            seen["cameras"] = np.ascontiguousarray(images.transpose(0, 1, 4, 2, 3)).reshape(len(images), -1, *images.shape[2:4])
        else:
            seen["agents"], seen["leaders"] = agent_features(given["ego"], given["agents"], way)
        return seen

    @cached_property
    def rays(self) -> Rays:
        if not self.calibration:
            raise ConfigError(
                "a view that scans needs the calibration of its cameras: see dist4d_env.learning.depth_scan.calibration_of"
            )
        return Rays.of(self.calibration, self.size)

    def act(self, action: np.ndarray, given: Batch) -> np.ndarray:
        """The environment's actions for the policy's (B, ...), given the observations they answer."""
        if self.action == "route":
            return route_plans(np.asarray(action, float), given["ego"][:, 0].astype(float), Way.of(given))
        return action


@dataclass(frozen=True)
class Way:
    """The route ahead of B egos in their frames: points (B, 21, 2), the first beside the ego; step (B, 20, 2) between them,
    heading (B, 20) and unit (B, 20, 2) of each piece; beside: (B,) metres of the rear axle to the left of it."""

    points: np.ndarray
    step: np.ndarray
    heading: np.ndarray
    unit: np.ndarray
    beside: np.ndarray

    @classmethod
    def of(cls, given: Batch) -> Way:
        ahead = np.asarray(given["route"], float)
        points = np.concatenate([2 * ahead[:, :1] - ahead[:, 1:2], ahead], 1)
        step = np.diff(points, axis=1)
        heading = np.unwrap(deterministic.arctan2(step[..., 1], step[..., 0]), axis=1)
        unit = np.stack([deterministic.cos(heading), deterministic.sin(heading)], -1)
        beside = unit[:, 0, 1] * points[:, 0, 0] - unit[:, 0, 0] * points[:, 0, 1]
        return cls(points, step, heading, unit, beside)

    def astype(self, dtype: type) -> Way:
        """In another precision."""
        return Way(*(getattr(self, name).astype(dtype) for name in self.__dataclass_fields__))

    def at(self, metres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions (B, K, 2) and headings (B, K) of the route at (B, K) metres ahead; straight on beyond its end."""
        along = metres / SPACING
        rows, last = np.arange(len(metres))[:, None], self.step.shape[1] - 1
        piece = np.clip(along.astype(int), 0, last)
        position = self.points[rows, piece] + (along - piece)[..., None] * self.step[rows, piece]
        middle = np.clip(along - 0.5, 0, last)
        before = np.minimum(middle.astype(int), last - 1)
        share = middle - before
        return position, (1 - share) * self.heading[rows, before] + share * self.heading[rows, before + 1]

    def project(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Metres ahead, metres to the left and heading of the route (B, K) for places (B, K, 2); the first and the last piece
        go on straight."""
        x, y = (places[:, :, None, axis] - self.points[:, None, :-1, axis] for axis in (0, 1))
        cos, sin = self.unit[:, None, :, 0], self.unit[:, None, :, 1]
        along, left = x * cos + y * sin, y * cos - x * sin
        inside = along.copy()
        np.clip(along[..., 1:], 0, None, out=inside[..., 1:])
        inside[..., :-1] = np.minimum(inside[..., :-1], SPACING)
        piece = np.argmin(left**2 + (along - inside) ** 2, -1)[..., None]
        take = lambda values: np.take_along_axis(values, piece, -1)[..., 0]  # noqa: E731
        heading = np.take_along_axis(self.heading, piece[..., 0], 1)
        return take(inside) + SPACING * piece[..., 0], take(left), heading


def state_features(ego: np.ndarray, way: Way) -> np.ndarray:
    """(B, 71) float32: the ego, its place beside the route, the route's points and its turns."""
    points = way.points[:, 1:] / 25.0
    turns = np.diff(way.heading, axis=1, prepend=0.0) * 5.0
    parts = [ego / EGO_SCALE, way.beside[:, None] / 3.0, points.reshape(len(ego), -1), turns]
    return _clipped(np.concatenate(parts, 1))


def agent_features(ego: np.ndarray, rows: np.ndarray, way: Way) -> tuple[np.ndarray, np.ndarray]:
    """The 16 agents that matter most (B, 16, 18) and who is in the way (B, 10), float32.

    Of each agent, zeros where there are fewer: metres ahead and beside (scaled by 30 and 5) after 0, 1, 2, 3 s; cosine and sine
    of the heading to the route's, length, width, velocity along and across; vehicle, person, thing; 1 for an agent. In the way
    after 0, 1, 2, 3 s: metres from the ego's front to the nearest agent on its way, at most 60, scaled by 30; that agent's
    velocity along the route, the ego's where there is none, scaled by 10. Of the one in the way now: the deceleration that keeps
    clear of it, scaled by 5, and the gap in seconds, scaled by 5.
    """
    rows, way = np.asarray(rows[:, :AGENTS_LOOKED_AT], np.float32), way.astype(np.float32)  # the hot loop of training
    batch, count = rows.shape[:2]
    there = rows[..., 8] > 0.5
    ahead = np.array(AHEAD, np.float32)
    later = rows[:, :, None, :2] + ahead[:, None] * rows[:, :, None, 5:7]  # (B, A, T, 2)
    along, left, heading = (part.reshape(batch, count, -1) for part in way.project(later.reshape(batch, -1, 2)))
    turn = rows[..., 2] - heading[..., 0]
    turn_cos, turn_sin = deterministic.cos(turn), deterministic.sin(turn)
    cos, sin = deterministic.cos(heading[..., 0]), deterministic.sin(heading[..., 0])
    velocity = rows[..., 5] * cos + rows[..., 6] * sin
    # Nearest to where the ego will be if it goes on: beside its way counts in full, along it a quarter.
    gap = np.abs(along - ego[:, :1, None] * ahead)
    order = np.argsort(np.where(there, (np.abs(left) + 0.25 * gap).min(-1), np.inf), 1, kind="stable")[:, :AGENTS_SEEN]
    category = rows[..., 7]
    columns = np.concatenate(
        [
            along / 30.0,
            left / 5.0,
            np.stack(
                [
                    turn_cos,
                    turn_sin,
                    rows[..., 3] / 5.0,
                    rows[..., 4] / 2.0,
                    velocity / 10.0,
                    (rows[..., 6] * cos - rows[..., 5] * sin) / 5.0,
                    category < _VEHICLES,
                    (category >= _VEHICLES) & (category < _PEOPLE),
                    category >= _PEOPLE,
                    there,
                ],
                -1,
            ),
        ],
        -1,
    )
    columns *= there[..., None]
    half_length = (np.abs(turn_cos) * rows[..., 3] + np.abs(turn_sin) * rows[..., 4]) / 2
    half_width = (np.abs(turn_sin) * rows[..., 3] + np.abs(turn_cos) * rows[..., 4]) / 2
    in_way = there[..., None] & (np.abs(left) < half_width[..., None] + HALF_WIDTH) & (along > FRONT / 2)
    free = np.where(in_way, np.clip(along - half_length[..., None] - FRONT, 0.0, FREE), FREE)  # (B, A, T)
    nearest = np.argmin(free, 1)[:, None]  # (B, 1, T)
    metres = np.take_along_axis(free, nearest, 1)[:, 0]
    speed = np.take_along_axis(np.broadcast_to(velocity[..., None], free.shape), nearest, 1)[:, 0]
    own = ego[:, :1]
    speed = np.where(metres < FREE, speed, own)
    closing, now = np.maximum(own - speed[:, :1], 0.0), metres[:, :1]
    needed = closing**2 / (2 * np.maximum(now - 1.0, 0.5))
    leaders = np.concatenate([metres / 30.0, speed / 10.0, needed / 5.0, now / np.maximum(own, 1.0) / 5.0], 1)
    return _clipped(np.take_along_axis(columns, order[..., None], 1)), _clipped(leaders)


def route_plans(action: np.ndarray, speed: np.ndarray, way: Way) -> np.ndarray:
    """Trajectories (B, 8, 3) float32 along the route for actions (B, 2) in [-1, 1] and speeds (B,) in m/s.

    The acceleration is kept, down to a stop and up to the top speed; the offset from the route settles with a time constant.
    """
    pedal, wheel = np.clip(action, -1.0, 1.0).T
    acceleration = np.minimum(np.where(pedal > 0, PULL, BRAKE) * pedal, TOP_SPEED - speed)[:, None]
    time = PLAN_DT * np.arange(1, PLAN_POSES + 1)
    stops = np.where(acceleration < 0, speed[:, None] / np.maximum(-acceleration, 1e-6), np.inf)
    reaches = np.where(acceleration > 0, (TOP_SPEED - speed[:, None]) / np.maximum(acceleration, 1e-6), np.inf)
    driving = np.minimum(time, np.minimum(stops, reaches))
    end = np.maximum(speed[:, None] + acceleration * driving, 0.0)
    metres = (speed[:, None] + end) / 2 * driving + end * (time - driving)
    target = OFFSET * wheel[:, None]
    away = (way.beside[:, None] - target) * deterministic.exp(-time / SETTLE)
    position, heading = way.at(metres)
    left = np.stack([-deterministic.sin(heading), deterministic.cos(heading)], -1)
    position = position + (target + away)[..., None] * left
    slope = deterministic.arctan(-away / SETTLE / np.maximum(end, 2.0))
    heading = (heading + slope + math.pi) % (2 * math.pi) - math.pi
    return np.clip(np.concatenate([position, heading[..., None]], -1).astype(np.float32), TRAJECTORY_LOW, TRAJECTORY_HIGH)


def _clipped(features: np.ndarray) -> np.ndarray:
    return np.clip(features, -LIMIT, LIMIT).astype(np.float32)


def one(observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A single observation as a batch of one."""
    return {key: np.asarray(value)[None] for key, value in observation.items()}


assert CATEGORIES[:_VEHICLES] == ("car", "truck", "bus", "trailer", "construction_vehicle"), "_VEHICLES counts these"
