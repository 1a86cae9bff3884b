"""Views: a policy's features and the meaning of its actions, as pure functions over batches, in training and on the benchmark.

Agents are features in the frame of the *route*: metres along it and beside it, now and where their velocity takes them. Scales
are fixed (no running statistics), so that a saved policy is a pure function of the observation.
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
from dist4d_env.geometry.boxes import VEHICLES, VULNERABLE
from dist4d_env.learning.depth_scan import SCAN_FEATURES, Calibration, Rays, check_cameras, scan, scan_features
from dist4d_env.learning.route_frame import Batch, RouteFrame
from dist4d_env.models.arguments import check_choice
from dist4d_env.simulation.actions import PLAN_DT, PLAN_POSES, TRAJECTORY_HIGH, TRAJECTORY_LOW, action_space

AGENT_ROWS, NEAREST = 16, 40
"""Agents among the features: those that come nearest to the ego's path, out of the nearest to the ego."""
AHEAD = (0.0, 1.0, 2.0, 3.0)
"""Seconds after which an agent's place is a feature, at its present velocity."""
EGO_SCALE = np.array([20, 5, 5, 1, 0.5, 3, 0.5, 20, 1, 20])
_VEHICLES, _PEOPLE = len(VEHICLES), len(VEHICLES + VULNERABLE)  # CATEGORIES: these first, then things
NEAR_STATE_SIZE = len(EGO_SCALE) + 1
STATE_SIZE = NEAR_STATE_SIZE + 2 * 20 + 20
AGENT_SIZE = 2 * len(AHEAD) + 10
LEADER_SIZE = 2 * len(AHEAD) + 2
FREE = 60.0
"""Metres that count as a free path."""
HALF_WIDTH, FRONT = 1.25, 3.9
"""Metres to the side and ahead of the rear axle that the ego needs, a margin included."""
LIMIT = 5.0
"""Features are clipped to +-5."""

PULL, BRAKE, OFFSET, TOP_SPEED, SETTLE = 2.0, 5.0, 1.0, 20.0, 1.5
"""``action="route"``: m/s^2 at +1 and -1, metres beside the route at +-1, m/s it does not exceed, seconds to settle there."""


@dataclass(frozen=True)
class View:
    """cameras: names of the cameras whose images replace "agents" as input, besides the vectors "ego" and "route"; none: agents.

    action: "route" gives two numbers in [-1, 1], acceleration and place beside the route, which become a trajectory along the
    "route" observation (a residual on the route: 0, 0 follows it at constant speed); "controls" and "discrete" are the
    environment's own. size: height and width of the images. scan: the input is the cameras' depth as a scan along the route
    (``learning.depth_scan``) instead of their colours; calibration: of these cameras for images of that size, which a scan needs.
    """

    cameras: tuple[str, ...] = ()
    action: Literal["route", "controls", "discrete"] = "route"
    size: tuple[int, int] = (64, 112)
    scan: bool = False
    calibration: Calibration = ()

    def __post_init__(self) -> None:
        if self.action not in ("route", "controls", "discrete"):
            raise ConfigError(f"action={self.action!r} is unknown: choose 'route', 'controls' or 'discrete'")
        if self.scan and not self.cameras:
            raise ConfigError("a scan is made of depth images: name cameras=, too")
        check_choice("scan", self.scan, (False, True))
        check_cameras(self.cameras, self.size, self.calibration)
        # Lists, where it was read from a file.
        object.__setattr__(self, "cameras", tuple(self.cameras))
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "calibration", tuple(tuple(row) for row in self.calibration))

    @property
    def modality(self) -> Literal["vectors", "images", "scan"]:
        """Where other road users are among its inputs, which chooses the encoder."""
        return "scan" if self.scan else "images" if self.cameras else "vectors"

    @property
    def groups(self) -> tuple[str, ...]:
        """The environment's ``observation`` keyword."""
        if self.modality == "vectors":
            return "ego", "route", "agents"
        return ("depth" if self.scan else "cameras"), "ego", "route"

    @property
    def keys(self) -> tuple[str, ...]:
        """The observation's entries that are read."""
        return "ego", "route", *((f"{n}/depth" if self.scan else n for n in self.cameras) if self.cameras else ("agents",))

    @property
    def environment_action(self) -> str:
        """The environment's ``action`` keyword."""
        return "trajectory" if self.action == "route" else self.action

    @property
    def observation_space(self) -> spaces.Dict:
        keys: dict[str, spaces.Space] = {"state": spaces.Box(-LIMIT, LIMIT, (STATE_SIZE,), np.float32)}
        if self.modality == "scan":
            keys["scan"] = spaces.Box(-LIMIT, LIMIT, (SCAN_FEATURES,), np.float32)
        elif self.modality == "images":
            keys["cameras"] = spaces.Box(0, 255, (3 * len(self.cameras), *self.size), np.uint8)
        else:
            keys["agents"] = spaces.Box(-LIMIT, LIMIT, (AGENT_ROWS, AGENT_SIZE), np.float32)
            keys["leaders"] = spaces.Box(-LIMIT, LIMIT, (LEADER_SIZE,), np.float32)
        return spaces.Dict(keys)

    @property
    def action_space(self) -> spaces.Space:
        return spaces.Box(-1.0, 1.0, (2,), np.float32) if self.action == "route" else action_space(self.action)

    @property
    def outputs(self) -> int:
        """Numbers that a policy's head gives."""
        space = self.action_space
        return int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape or (1,)))

    def observe(self, observations: Batch) -> dict[str, np.ndarray]:
        """The policy's features (B, ...) of the environments' observations."""
        route, ego = RouteFrame.of(observations), observations["ego"]
        features = {"state": state_features(ego, route)}
        if self.modality == "scan":
            depth = np.stack([observations[f"{name}/depth"] for name in self.cameras], 1)
            features["scan"] = _clipped(scan_features(ego, scan(depth, self.rays, route)))
        elif self.modality == "images":
            images = np.stack([observations[name] for name in self.cameras], 1)  # (B, V, H, W, 3)
            channels = np.ascontiguousarray(images.transpose(0, 1, 4, 2, 3))
            features["cameras"] = channels.reshape(len(images), -1, *images.shape[2:4])
        else:
            features["agents"], features["leaders"] = agent_features(ego, observations["agents"], route)
        return features

    @cached_property
    def rays(self) -> Rays:
        if not self.calibration:
            raise ConfigError("a scan needs its cameras' calibration: see dist4d_env.learning.depth_scan.calibration_of")
        return Rays.of(self.calibration, self.size)

    def act(self, action: np.ndarray, observations: Batch) -> np.ndarray:
        """The environment's actions for the policy's (B, ...), given the observations they answer."""
        if self.action == "route":
            speed = observations["ego"][:, 0].astype(float)
            return route_plans(np.asarray(action, float), speed, RouteFrame.of(observations))
        return action


def state_features(ego: np.ndarray, route: RouteFrame) -> np.ndarray:
    """(B, 71) float32: the ego, its place beside the route, the route's points and changes of heading."""
    points = route.points[:, 1:] / 25.0
    bends = np.diff(route.heading, axis=1, prepend=0.0) * 5.0
    parts = [ego / EGO_SCALE, route.beside[:, None] / 3.0, points.reshape(len(ego), -1), bends]
    return _clipped(np.concatenate(parts, 1))


def agent_features(ego: np.ndarray, rows: np.ndarray, route: RouteFrame) -> tuple[np.ndarray, np.ndarray]:
    """The 16 agents that matter most (B, 16, 18) and the leaders (B, 10), float32.

    Of each agent, zeros where there are fewer: metres ahead and beside (scaled by 30 and 5) after 0, 1, 2, 3 s; cosine and sine
    of the heading to the route's, length, width, velocity along and across; vehicle, person, thing; 1 for an agent. Leaders: see
    ``_leader_features``.
    """
    rows, route = np.asarray(rows[:, :NEAREST], np.float32), route.astype(np.float32)  # the hot loop of training
    batch, count = rows.shape[:2]
    there = rows[..., 8] > 0.5
    ahead = np.array(AHEAD, np.float32)
    later = rows[:, :, None, :2] + ahead[:, None] * rows[:, :, None, 5:7]  # (B, A, T, 2)
    along, left, heading = (part.reshape(batch, count, -1) for part in route.project(later.reshape(batch, -1, 2)))
    turn = rows[..., 2] - heading[..., 0]
    turn_cos, turn_sin = deterministic.cos(turn), deterministic.sin(turn)
    cos, sin = deterministic.cos(heading[..., 0]), deterministic.sin(heading[..., 0])
    velocity = rows[..., 5] * cos + rows[..., 6] * sin
    length, width, category = rows[..., 3], rows[..., 4], rows[..., 7]
    # Nearest to where the ego will be if it goes on: beside its path counts in full, along it a quarter.
    gap = np.abs(along - ego[:, :1, None] * ahead)
    order = np.argsort(np.where(there, (np.abs(left) + 0.25 * gap).min(-1), np.inf), 1, kind="stable")[:, :AGENT_ROWS]
    rest = [
        turn_cos, turn_sin, length / 5.0, width / 2.0, velocity / 10.0, (rows[..., 6] * cos - rows[..., 5] * sin) / 5.0,
        category < _VEHICLES, (category >= _VEHICLES) & (category < _PEOPLE), category >= _PEOPLE, there,
    ]  # fmt: skip
    columns = np.concatenate([along / 30.0, left / 5.0, np.stack(rest, -1)], -1)
    columns *= there[..., None]
    half_length = (np.abs(turn_cos) * length + np.abs(turn_sin) * width) / 2
    half_width = (np.abs(turn_sin) * length + np.abs(turn_cos) * width) / 2
    in_way = there[..., None] & (np.abs(left) < half_width[..., None] + HALF_WIDTH) & (along > FRONT / 2)
    free = np.where(in_way, np.clip(along - half_length[..., None] - FRONT, 0.0, FREE), FREE)  # (B, A, T)
    leaders = _leader_features(ego[:, :1], free, velocity)
    return _clipped(np.take_along_axis(columns, order[..., None], 1)), _clipped(leaders)


def _leader_features(own: np.ndarray, free: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """(B, 10) of the nearest agents in the ego's path after 0, 1, 2, 3 s, given speeds (B, 1), free metres (B, A, T) and
    velocities along the route (B, A).

    After each time: metres from the ego's front to the nearest agent on its path, at most 60, scaled by 30; that agent's velocity
    along the route, the ego's where there is none, scaled by 10. Of the one in the path now: the deceleration that keeps clear of
    it, scaled by 5, and the gap in seconds, scaled by 5.
    """
    nearest = np.argmin(free, 1)[:, None]  # (B, 1, T)
    metres = np.take_along_axis(free, nearest, 1)[:, 0]
    speed = np.take_along_axis(np.broadcast_to(velocity[..., None], free.shape), nearest, 1)[:, 0]
    speed = np.where(metres < FREE, speed, own)
    closing, now = np.maximum(own - speed[:, :1], 0.0), metres[:, :1]
    needed = closing**2 / (2 * np.maximum(now - 1.0, 0.5))
    return np.concatenate([metres / 30.0, speed / 10.0, needed / 5.0, now / np.maximum(own, 1.0) / 5.0], 1)


def route_plans(action: np.ndarray, speed: np.ndarray, route: RouteFrame) -> np.ndarray:
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
    away = (route.beside[:, None] - target) * deterministic.exp(-time / SETTLE)
    position, heading = route.at(metres)
    left = np.stack([-deterministic.sin(heading), deterministic.cos(heading)], -1)
    position = position + (target + away)[..., None] * left
    slope = deterministic.arctan(-away / SETTLE / np.maximum(end, 2.0))
    heading = (heading + slope + math.pi) % (2 * math.pi) - math.pi
    return np.clip(np.concatenate([position, heading[..., None]], -1).astype(np.float32), TRAJECTORY_LOW, TRAJECTORY_HIGH)


def _clipped(features: np.ndarray) -> np.ndarray:
    return np.clip(features, -LIMIT, LIMIT).astype(np.float32)


def batch_of_one(observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A single observation as a batch of one."""
    return {key: np.asarray(value)[None] for key, value in observation.items()}
