"""Commands for many egos at once, from actions or from single commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.errors import ActionError
from dist4d_env.simulation.actions import (
    ACCELERATIONS,
    BRAKING,
    PLAN_DT,
    PLAN_POSES,
    PULLING,
    STEERING_RATE,
    STEERINGS,
    TRAJECTORY_HIGH,
    TRAJECTORY_LOW,
    global_plans,
    parse_action,
)
from dist4d_env.simulation.batch import References
from dist4d_env.simulation.rows import ego_state
from dist4d_env.simulation.state import Command

_SHAPES = {"controls": (2,), "discrete": (), "trajectory": (PLAN_POSES, 3)}
_LIMITS: dict[str, tuple[Any, Any]] = {
    "controls": (-1.0, 1.0),
    "discrete": (0, len(ACCELERATIONS) * len(STEERINGS) - 1),
    "trajectory": (TRAJECTORY_LOW.astype(float), TRAJECTORY_HIGH.astype(float)),
}


@dataclass(frozen=True)
class Commands:
    """What ``Command`` is, B times.

    acceleration (B,); steering_rate (B,); steering (B,), nan where the rate counts; follows (B,) the row of ``references`` that
    is followed instead, -1 for none.
    """

    acceleration: np.ndarray
    steering_rate: np.ndarray
    steering: np.ndarray
    follows: np.ndarray
    references: References | None = None

    @classmethod
    def of(cls, commands: Sequence[Command]) -> Commands:
        """Some commands side by side, of any kinds."""
        references = [command.reference for command in commands if command.reference is not None]
        follows = np.full(len(commands), -1)
        follows[[i for i, command in enumerate(commands) if command.reference is not None]] = np.arange(len(references))
        return cls(
            np.array([command.acceleration for command in commands], float),
            np.array([command.steering_rate for command in commands], float),
            np.array([np.nan if command.steering is None else command.steering for command in commands], float),
            follows,
            References.of(references) if references else None,
        )

    @classmethod
    def following(cls, references: References) -> Commands:
        """Every ego follows the reference of its row."""
        count = len(references)
        return cls(np.zeros(count), np.zeros(count), np.full(count, np.nan), np.arange(count), references)

    def __len__(self) -> int:
        return len(self.acceleration)

    def take(self, rows: np.ndarray) -> Commands:
        """Those of some rows."""
        return Commands(
            self.acceleration[rows], self.steering_rate[rows], self.steering[rows], self.follows[rows], self.references
        )

    def __getitem__(self, index: int) -> Command:
        if self.follows[index] >= 0 and self.references is not None:
            return Command(reference=self.references[int(self.follows[index])])
        steering = float(self.steering[index])
        return Command(
            float(self.acceleration[index]), float(self.steering_rate[index]), None if np.isnan(steering) else steering
        )


def parse_actions(kind: str, actions: Any, ego: np.ndarray, tick: np.ndarray) -> Commands:
    """The commands of B actions of one kind ("controls" (B, 2), "trajectory" (B, 8, 3) or "discrete" (B,)), given ego rows (B, 7)
    and the simulator's ticks (B,): each as ``parse_action`` makes it. Raises its ActionError for the first that is wrong."""
    try:
        values = np.asarray(actions)
    except ValueError:  # of different lengths
        values = np.array([None])
    if not _acceptable(kind, values, len(ego)):
        if not np.ndim(values) or len(actions) != len(ego):
            raise ActionError(f"{len(ego)} egos take as many actions, not an array of shape {values.shape}")
        each = zip(ego, actions, tick.tolist(), strict=True)
        return Commands.of([parse_action(kind, action, ego_state(row), now) for row, action, now in each])
    count, nothing = len(ego), np.zeros(len(ego))
    if kind == "discrete":
        steering = np.array(STEERINGS)[values % len(STEERINGS)]
        return Commands(np.array(ACCELERATIONS)[values // len(STEERINGS)], nothing, steering, np.full(count, -1))
    values = np.clip(values.astype(float), *_LIMITS[kind])
    if kind == "controls":
        pedal, wheel = values.T
        acceleration = pedal * np.where(pedal > 0, PULLING, BRAKING)
        return Commands(acceleration, wheel * STEERING_RATE, np.full(count, np.nan), np.full(count, -1))
    poses = global_plans(values, PLAN_DT, ego[:, :3])
    return Commands.following(References.fitted(poses, np.array(tick, int)))


def _acceptable(kind: str, values: np.ndarray, count: int) -> bool:
    """Whether all actions are well formed; what is wrong otherwise ``parse_action`` says best."""
    if kind not in _SHAPES or values.shape != (count, *_SHAPES[kind]):
        return False
    low, high = _LIMITS[kind]
    if kind == "discrete":
        return bool(np.issubdtype(values.dtype, np.integer) and ((values >= low) & (values <= high)).all())
    if values.dtype.kind not in "fiu":
        return False
    return bool(((values >= low - 1e-6) & (values <= high + 1e-6)).all())
