"""From actions of the environment to commands of the vehicle."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from dist4d_env.errors import ActionError, ConfigError, shown
from dist4d_env.simulation.commands import Commands
from dist4d_env.simulation.ego import cosines, sines
from dist4d_env.simulation.tracker import References, unwrapped

ACTIONS = ("controls", "trajectory", "discrete")

BRAKING, PULLING, STEERING_RATE = 6.0, 3.0, 0.5
"""``controls``: -1 is 6 m/s^2 of braking, +1 is 3 m/s^2 of acceleration (0 is 0); +-1 is 0.5 rad/s at the front wheels."""

ACCELERATIONS = (-6.0, -3.0, -1.0, 0.0, 1.0, 3.0)
STEERINGS = (-0.3, -0.1, -0.03, 0.0, 0.03, 0.1, 0.3)
"""``discrete``: index = acceleration index * 7 + steering index; m/s^2 and front wheel angles in radians, positive left."""

PLAN_POSES, PLAN_DT = 8, 0.5
TRAJECTORY_LOW = np.tile(np.array([-20.0, -80.0, -math.pi], np.float32), (PLAN_POSES, 1))
TRAJECTORY_HIGH = np.tile(np.array([160.0, 80.0, math.pi], np.float32), (PLAN_POSES, 1))
"""``trajectory``: bounds of x, y (metres) and heading in the ego frame."""


def action_space(kind: str) -> Any:
    """The gymnasium space of "controls", "trajectory" or "discrete"."""
    from gymnasium import spaces

    if kind == "controls":
        return spaces.Box(-1.0, 1.0, (2,), np.float32)
    if kind == "trajectory":
        return spaces.Box(TRAJECTORY_LOW, TRAJECTORY_HIGH, dtype=np.float32)
    if kind == "discrete":
        return spaces.Discrete(len(ACCELERATIONS) * len(STEERINGS))
    raise ConfigError(f"action {kind!r} is unknown; choose one of {', '.join(ACTIONS)}")


_NO_ARRAY = (ValueError, TypeError, RuntimeError, OverflowError)
"""What numpy, and torch for its tensors, raise where something cannot become an array."""
_SHAPES = {"controls": (2,), "discrete": (), "trajectory": (PLAN_POSES, 3)}
_LIMITS: dict[str, tuple[Any, Any]] = {
    "controls": (-1.0, 1.0),
    "discrete": (0, len(ACCELERATIONS) * len(STEERINGS) - 1),
    "trajectory": (TRAJECTORY_LOW.astype(float), TRAJECTORY_HIGH.astype(float)),
}


def parse_actions(kind: str, actions: Any, ego: np.ndarray, tick: np.ndarray) -> Commands:
    """The commands of B actions of one kind, given ego rows (B, 7) and the simulator's ticks (B,); see ``checked_actions``."""
    return to_commands(kind, checked_actions(kind, actions, len(ego))[0], ego, tick)


def checked_actions(kind: str, actions: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """B actions of one kind ("controls" (B, 2), "trajectory" (B, 8, 3) or "discrete" (B,)) in the numbers of its space, and (B,)
    which of them had to be clipped to it.

    Finite controls, and x and y of trajectories, are clipped; headings are taken modulo 2 pi. Raises ActionError for the first
    action that is no number, not finite, of another shape or an index that is not there.
    """
    if kind not in _SHAPES:
        raise ConfigError(f"action {kind!r} is unknown; choose one of {', '.join(ACTIONS)}")
    try:
        values = np.asarray(actions)
    except _NO_ARRAY:
        values = np.array(None)
    # Beside whole numbers numpy takes truth values for such.
    several = isinstance(actions, list | tuple)
    mixed = kind == "discrete" and several and any(isinstance(each, bool | np.bool_) for each in actions)
    if mixed or not _acceptable(kind, values, count):
        if not (np.ndim(values) or several) or len(actions) != count:
            raise ActionError(f"{count} environments take as many actions, not an array of shape {values.shape}")
        values = np.array([_checked(kind, action) for action in actions])
    if kind == "discrete":
        return values, np.zeros(count, bool)
    values = values.astype(float)
    if kind == "trajectory":
        heading = values[..., 2]
        turns = np.where(np.abs(heading) > math.pi + 1e-6, np.round(heading / math.tau), 0.0)
        values[..., 2] = heading - math.tau * turns
    low, high = _LIMITS[kind]
    outside = (values < low - 1e-6) | (values > high + 1e-6)
    return np.clip(values, low, high), outside.reshape(count, -1).any(1)


def to_commands(kind: str, values: np.ndarray, ego: np.ndarray, tick: np.ndarray) -> Commands:
    """The commands of B checked actions."""
    if kind == "discrete":
        return Commands.controls(
            np.array(ACCELERATIONS)[values // len(STEERINGS)], steering=np.array(STEERINGS)[values % len(STEERINGS)]
        )
    if kind == "controls":
        pedal, wheel = values.T
        return Commands.controls(pedal * np.where(pedal > 0, PULLING, BRAKING), wheel * STEERING_RATE)
    return follow(values, PLAN_DT, ego, tick)


def follow(plans: np.ndarray, dt: float, ego: np.ndarray, tick: np.ndarray) -> Commands:
    """The commands to follow plans (B, P, 3) x, y, heading in the frames of egos (B, 7) at dt, 2 dt, ..., linear in between."""
    return Commands.following(References.fitted(global_plans(plans, dt, ego[:, :3]), np.array(tick, int)))


def _acceptable(kind: str, values: np.ndarray, count: int) -> bool:
    """Whether all actions are well formed; what is wrong otherwise ``_checked`` says for each."""
    if values.shape != (count, *_SHAPES[kind]):
        return False
    if kind == "discrete":
        low, high = _LIMITS[kind]
        return values.dtype.kind in "iu" and bool(((values >= low) & (values <= high)).all())
    return values.dtype.kind in "fiu" and values.dtype.itemsize <= 8 and bool(np.isfinite(values).all())


def global_plans(plans: np.ndarray, dt: float, start: np.ndarray) -> np.ndarray:
    """Plans (B, P, 3) x, y, heading in the ego frame at dt, 2 dt, ... as global poses (B, T, 3) every 0.1 s, now included.

    start: (B, 3) or (1, 3) x, y, yaw of the ego frames. Linear between the poses given; each plan comes out as it would alone.
    Raises ActionError for plans over less than 0.3 s: the tracker has nothing to fit there.
    """
    if round(plans.shape[1] * dt / 0.1) < 3:
        raise ActionError(f"a plan of {plans.shape[1]} poses, one every {dt} s, is too short to follow: plan 0.3 s or more ahead")
    local = np.zeros((len(plans), plans.shape[1] + 1, 3))
    local[:, 1:] = plans
    local[..., 2] = unwrapped(local[..., 2])
    piece, since, spacing, ends = _between(plans.shape[1], dt)
    slope = (local[:, 1:] - local[:, :-1]) / spacing
    poses = slope[:, piece] * since + local[:, piece]
    poses[:, ends:] = local[:, -1:]
    cos, sin = cosines(start[:, 2])[:, None], sines(start[:, 2])[:, None]
    x, y, yaw = start.T[..., None]
    placed = np.empty_like(poses)
    placed[..., 0] = x + cos * poses[..., 0] - sin * poses[..., 1]
    placed[..., 1] = y + sin * poses[..., 0] + cos * poses[..., 1]
    placed[..., 2] = yaw + poses[..., 2]
    return placed


@lru_cache(maxsize=64)
def _between(count: int, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """How a plan of ``count`` poses, one every dt, is filled in every 0.1 s: (T,) the piece each tick lies on, (T, 1) the seconds
    since that began, (count, 1) how long each lasts, and from which tick on the last pose stands."""
    given = np.arange(count + 1) * dt
    ticks = np.arange(round(given[-1] / 0.1) + 1) * 0.1
    piece = np.clip(np.searchsorted(given, ticks, side="right") - 1, 0, count - 1)
    return piece, (ticks - given[piece])[:, None], np.diff(given)[:, None], int((ticks < given[-1]).sum())


def _checked(kind: str, action: Any) -> np.ndarray | int:
    """One action as numbers. Raises ActionError that says what is wrong with it."""
    shape = _SHAPES[kind]
    try:
        given = np.asarray(action)
    except _NO_ARRAY as error:
        raise ActionError(f"action={kind!r} takes numbers of shape {shape}, not {shown(action)}") from error
    if kind == "discrete":
        count = len(ACCELERATIONS) * len(STEERINGS)
        if given.shape != () or given.dtype.kind not in "iu" or not 0 <= int(given) < count:
            raise ActionError(f"action='discrete' takes one whole number from 0 to {count - 1}, not {shown(action)}")
        return int(given)
    if given.dtype.kind not in "fiub":
        raise ActionError(f"action={kind!r} takes numbers of shape {shape}, not {shown(action)}")
    if given.shape != shape:
        raise ActionError(f"action={kind!r} takes shape {shape}, not {given.shape}")
    with np.errstate(over="ignore"):
        values = given.astype(float)
    if not np.isfinite(values).all():
        raise ActionError(f"action={kind!r} takes finite numbers, but got {shown(values.tolist())}")
    return values
