"""The planner contract."""

from __future__ import annotations

import math
import os
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from traceback import walk_tb
from typing import Any, Protocol

import numpy as np

from dist4d_env.errors import ConfigError, DiST4DError, shown
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.scenes.edits import is_number
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.ego import EgoState
from dist4d_env.simulation.state import EpisodeState


@dataclass(frozen=True)
class PlannerNeeds:
    """Inputs that a planner asks for, declared as data.

    cameras: pictures; lidar: the observation "lidar", in worlds with pictures; history: frames of the past it keeps; rate_hz: how
    often it likes to plan (both informative); map: ``context.scene.map``; privileged: the whole scene and the true state;
    imagination: ``context.imagination``.
    """

    cameras: bool = False
    history: int = 0
    rate_hz: float = 2.0
    map: bool = False
    privileged: bool = False
    imagination: bool = False
    lidar: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigError for a value that says nothing."""
        for name in ("cameras", "map", "privileged", "imagination", "lidar"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"PlannerNeeds: {name} must be True or False, not {shown(getattr(self, name))}")
        if not isinstance(self.history, int) or self.history < 0:
            raise ConfigError(f"PlannerNeeds: history must be a whole number of frames, 0 or more, not {shown(self.history)}")
        if not is_number(self.rate_hz, 1e-6, 1e6):
            raise ConfigError(f"PlannerNeeds: rate_hz must be a number above 0, not {shown(self.rate_hz)}")


@dataclass(frozen=True)
class ImaginedInstant:
    """One frame of an imagined rollout. time: s; ego: global; frame: the cameras' RGB-D; trust, source: as in info."""

    time: float
    ego: EgoState
    frame: RGBDFrame
    trust: float
    source: tuple[str, ...]


class Imagination(Protocol):
    """Rolls plans out in copies of the running environment, in which agents keep their velocity (no recorded future)."""

    def try_plans(self, plans: Sequence[Plan], times: Sequence[float]) -> list[tuple[ImaginedInstant, ...]]:
        """For each plan the present instant, and those after it has been followed for ``times`` seconds, multiples of 0.1."""
        ...


@dataclass(frozen=True)
class PlannerContext:
    """An episode's constants. scene is complete only for planners that declare ``privileged`` or ``map``; imagination is there
    for those that declare it."""

    scene: Scene
    decision_dt: float
    horizon: float
    imagination: Imagination | None = None


@dataclass(frozen=True)
class PlannerInput:
    """One decision. ego: rear-axle state, global; observation: the environment's observation; state: truth, privileged only;
    lights: (G,) what the traffic lights of ``context.scene.lights`` show now (``scenes.lights.STATES``), for those who declare
    ``map`` or ``privileged``, else empty."""

    time: float
    ego: EgoState
    observation: dict[str, Any]
    state: EpisodeState | None = None
    lights: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))


@dataclass(frozen=True)
class Plan:
    """trajectory: (N, 3) x, y, heading in the ego frame at dt, 2 dt, ..."""

    trajectory: np.ndarray
    dt: float = 0.5


class PlannerFailure(Exception):
    """A planner raised, took too long, ended its process or returned something that is no plan."""


def failure_text(error: BaseException) -> str:
    """An exception as one short line, also where it cannot say what it is."""
    try:
        text = str(error)
    except Exception:
        text = "it has no text"
    return " ".join(f"{type(error).__name__}: {text}".split())[:300]


_FOLDERS = (*(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")), str(Path(__file__).parents[1]))
_LIBRARIES = (*(folder + os.sep for folder in _FOLDERS), "<")
"""How the files of Python, of what is installed and of this package begin, and what is no file."""


def raised_text(error: BaseException) -> str:
    """What a planner raised, as ``failure_text``, and where: the last place outside libraries, or else the last of all. To be
    called in the function that called the planner."""
    text = failure_text(error)
    key = error.args[0] if isinstance(error, KeyError) and error.args else None
    if isinstance(key, str) and (key == "lidar" or key.startswith("CAM_")):
        need = "lidar" if key == "lidar" else "cameras"
        text += f", there in worlds with pictures alone: requires = PlannerNeeds({need}=True) asks for one"
    frames = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)][1:]
    if not frames or isinstance(error, DiST4DError):  # these say by themselves what is wrong
        return text
    code, line = ([one for one in frames if not one[0].co_filename.startswith(_LIBRARIES)] or frames)[-1]
    return f"{text}, at {Path(code.co_filename).name}:{line} in {code.co_name}"


def guarded(call: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a planner; any exception becomes a PlannerFailure with its ``raised_text``."""
    try:
        return call(*arguments)
    except PlannerFailure:
        raise
    except (Exception, SystemExit) as error:
        raise PlannerFailure(raised_text(error)) from error


def finite_numbers(value: Any, what: str, otherwise: str = "no array of numbers") -> np.ndarray:
    """A planner's numbers as a plain array, of at most eight bytes each. Raises PlannerFailure for anything else: that ``what``
    ("a plan that is") not finite or, where it holds no numbers, what ``otherwise`` says."""
    try:
        array = np.asarray(value)
        if array.dtype.kind == "f" and array.dtype.itemsize > 8:
            with np.errstate(over="ignore"):  # what goes beyond is not finite then
                array = array.astype(float)
        if array.dtype.kind in "iuf":
            if np.isfinite(array).all():
                return array
            otherwise = "not finite"
    except (ValueError, TypeError):  # rows of different lengths, objects that are no arrays
        pass
    raise PlannerFailure(f"{what} {otherwise}: {shown(value)}")


class Planner(Protocol):
    """requires: its inputs; ``reset`` begins an episode, all randomness comes from its seed; ``plan`` answers one decision.

    files, where it is there: paths of weights and settings that plans depend on and that Python does not open itself.
    """

    requires: PlannerNeeds

    def reset(self, context: PlannerContext, seed: int) -> None: ...
    def plan(self, observation: PlannerInput) -> Plan: ...


PLAN_LIMIT, RESET_LIMIT = 30.0, 120.0
"""Seconds that a plan, and that making a planner and its ``reset``, may take where nothing else is asked for."""
PLAN_POSES, PLAN_DT = 8, 0.5
"""Poses of a plan and seconds between them: the next 4 s, as the environment's ``trajectory`` action takes them."""
PLAN_TICKS, POSE_TICKS = round(PLAN_POSES * PLAN_DT / TICK), round(PLAN_DT / TICK)
"""Ticks of a plan, and of each of its poses."""


def in_ego_frame(poses: np.ndarray, ego: EgoState) -> np.ndarray:
    """Global x, y, heading (N, 3) in the ego frame, headings in [-pi, pi)."""
    cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
    dx, dy = poses[:, 0] - ego.x, poses[:, 1] - ego.y
    turn = (poses[:, 2] - ego.yaw + np.pi) % (2 * np.pi) - np.pi
    return np.column_stack([cos * dx + sin * dy, cos * dy - sin * dx, turn])
