"""Experts with errors: the recorded drive with one kind of error at a chosen strength, from good to bad, to test scores with.

``dist4d_env.planners.experts:bias_0_5`` names a bias of 0.5 m, made without arguments; any kind of KINDS with any strength can
be named so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.planners.contract import PLAN_DT, PLAN_POSES, Plan, PlannerContext, PlannerInput, PlannerNeeds, in_ego_frame
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.ego import EgoState

_BEYOND = 30.0  # s that the recorded drive is carried on at its last speed
_ONWARD = 150.0  # m of route beyond the recorded path
_CATCH_UP = 1.0  # s
_SETTLE = 0.5  # s in which a plan with noise gets to where its draw puts it
_RAMP = 3.0  # s in which a bias comes about
_SLACKEN = 0.4


class RecordedDrive:
    """The logged ego as functions of time and of metres driven; beyond its end it goes on along the route."""

    def __init__(self, scene: Scene) -> None:
        log, route = scene.ego, scene.route
        poses = np.column_stack([log.global_from_ego[:, :2, 3], np.unwrap(yaw_of(log.global_from_ego))])
        metres = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(poses[:, :2], axis=0).T))])
        later = np.arange(1, round(_BEYOND / TICK) + 1) * TICK
        self.speed = np.maximum(log.speed, 0.0)
        self.speed = np.concatenate([self.speed, np.full(len(later), self.speed[-1])])
        self.time = np.concatenate([log.time, log.time[-1] + later])
        self.metres = np.concatenate([metres, metres[-1] + later * self.speed[-1]])
        # The path: rows at which it stood share their place, the first of each is enough.
        end, onward = route.project(*poses[-1, :2].tolist())[0], np.arange(1.0, _ONWARD)
        beyond = route.sample(end + onward)
        beyond[:, 2] = poses[-1, 2] + (beyond[:, 2] - poses[-1, 2] + np.pi) % (2 * np.pi) - np.pi
        moved = np.concatenate([[True], np.diff(metres) > 1e-6])
        self._path = np.concatenate([poses[moved], beyond])
        self._along = np.concatenate([metres[moved], metres[-1] + onward])

    def at(self, time: np.ndarray) -> np.ndarray:
        """x, y, heading (K, 3), global."""
        return self.after(np.interp(time, self.time, self.metres))

    def after(self, metres: np.ndarray) -> np.ndarray:
        """x, y, heading (K, 3) on the path after metres (K,) from the log's first row."""
        return np.column_stack([np.interp(metres, self._along, column) for column in self._path.T])


Erring = Callable[[RecordedDrive, float, float, np.ndarray, int], np.ndarray]
"""(drive, strength, start, times (K,), seed) -> global poses (K, 3); start: the episode's first instant, times begin with now."""


def bias(drive: RecordedDrive, strength: float, start: float, times: np.ndarray, seed: int) -> np.ndarray:
    """``strength`` metres to the right of the recorded path: in right-hand traffic, towards the kerb and parked cars."""
    poses = drive.at(times)
    right = strength * _smooth((times - start) / _RAMP)
    poses[:, 0] += right * deterministic.sin(poses[:, 2])
    poses[:, 1] -= right * deterministic.cos(poses[:, 2])
    return poses


def delay(drive: RecordedDrive, strength: float, start: float, times: np.ndarray, seed: int) -> np.ndarray:
    """Where the recorded ego was up to ``strength`` seconds before: it falls behind at _SLACKEN of its speed until it is."""
    since = times - start
    slackened = _SLACKEN * (since - 1 + deterministic.exp(-since))  # s, setting in within a second
    return drive.at(times - (strength * deterministic.tanh(slackened / strength) if strength else 0.0))


def noise(drive: RecordedDrive, strength: float, start: float, times: np.ndarray, seed: int) -> np.ndarray:
    """Every plan ends up off the recorded drive by a draw of its own, a normal of ``strength`` metres along and sideways."""
    now = round(float(times[0]) / TICK)
    along, side = strength * np.random.default_rng([seed, now]).standard_normal(2)
    poses = drive.at(times)
    fade = 1 - deterministic.exp(-(times - times[0]) / _SETTLE)
    cos, sin = deterministic.cos(poses[:, 2]), deterministic.sin(poses[:, 2])
    # No draw makes the ego back up: an aim behind a standing ego is where it stands.
    along = fade * max(along, -0.5 * float(np.interp(times[0], drive.time, drive.speed)))
    poses[:, 0] += along * cos - fade * side * sin
    poses[:, 1] += along * sin + fade * side * cos
    return poses


def late(drive: RecordedDrive, strength: float, start: float, times: np.ndarray, seed: int) -> np.ndarray:
    """Brakes ``strength`` seconds too late: it gets as far as if it had kept any speed of the last ``strength`` seconds.

    Where the record keeps its speed or gains some, that is the record itself; where it brakes, the ego overshoots and waits.
    """
    grid = np.arange(round(start / TICK), round(float(times[-1]) / TICK) + 1) * TICK
    lag = np.arange(round(strength / TICK) + 1) * TICK
    past = np.maximum(grid[:, None] - lag, start)  # braking before the start was on time
    kept = np.interp(past, drive.time, drive.metres) + (grid[:, None] - past) * np.interp(past, drive.time, drive.speed)
    reached = np.maximum.accumulate(kept.max(1))
    return drive.after(np.interp(times, grid, reached))


KINDS: Mapping[str, Erring] = MappingProxyType({"bias": bias, "delay": delay, "noise": noise, "late": late})


class ErringExpert:
    """Drives as the recorded ego did, with one kind of error; strength: metres for bias and noise, seconds for delay and late."""

    requires = PlannerNeeds(privileged=True)

    def __init__(self, kind: str, strength: float) -> None:
        if kind not in KINDS:
            raise ConfigError(f"an expert's error is one of {', '.join(KINDS)}, not {kind!r}")
        if not (math.isfinite(strength) and strength >= 0):
            raise ConfigError(f"an error's strength is a finite number of at least 0, not {strength!r}")
        self.kind, self.strength = kind, strength

    def reset(self, context: PlannerContext, seed: int) -> None:
        self._drive = RecordedDrive(context.scene)
        self._seed = seed
        self._start: float | None = None

    def plan(self, observation: PlannerInput) -> Plan:
        now = observation.time
        self._start = now if self._start is None else self._start
        times = now + PLAN_DT * np.arange(PLAN_POSES + 1)
        poses = KINDS[self.kind](self._drive, self.strength, self._start, times, self._seed)
        return Plan(in_ego_frame(_caught_up(poses, times, observation.ego), observation.ego), PLAN_DT)


def _caught_up(poses: np.ndarray, times: np.ndarray, ego: EgoState) -> np.ndarray:
    """The poses (K - 1, 3) after now, made up for over some seconds what the ego now is ahead or behind of the first (K, 3).

    The tracker follows speeds, a second ahead: what a plan wants to gain at once, it would never gain.
    """
    x, y, heading = poses[0]
    ahead = (ego.x - x) * math.cos(heading) + (ego.y - y) * math.sin(heading)
    rest = ahead * deterministic.exp(-(times[1:] - times[0]) / _CATCH_UP)
    towards = np.column_stack([deterministic.cos(poses[1:, 2]), deterministic.sin(poses[1:, 2]), np.zeros(len(rest))])
    return poses[1:] + rest[:, None] * towards


def _smooth(part: np.ndarray) -> np.ndarray:
    """0 to 1 with level ends."""
    part = np.clip(part, 0.0, 1.0)
    return part * part * (3 - 2 * part)


def __getattr__(name: str) -> Any:
    """Factories without arguments such as ``bias_0_5``."""
    kind, _, strength = name.partition("_")
    if kind in KINDS and strength:
        try:
            return partial(ErringExpert, kind, float(strength.replace("_", ".")))
        except ValueError:
            pass
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
