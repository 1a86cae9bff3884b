"""Every keyword of the environment, checked where it enters."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from dist4d_env.envs.rewards import reward_weights
from dist4d_env.errors import ConfigError
from dist4d_env.registry import DATASETS, SENSORS, TRAFFIC, WORLDS
from dist4d_env.scenes.scenario import Scenario, read_scenario
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.actions import ACTIONS
from dist4d_env.worlds.contract import world_traits
from dist4d_env.worlds.memory import MEMORY_POLICIES

TERMINATIONS = ("collision", "off_road", "wrong_way")
RENDER_MODES = ("rgb_array", "human")
DEFAULT_SIZE = (64, 112)
SMALLEST, LARGEST = (64, 112), (448, 800)
"""Heights and widths between which the generated world draws."""
PICTURES, VECTORS = ("cameras", "depth", "ego", "route"), ("ego", "route", "agents")
"""What is observed in worlds with and without pictures where nothing is asked for."""


@dataclass(frozen=True)
class EnvConfig:
    """The environment's keywords as values; ``DiST4DDrivingEnv`` documents each of them.

    Raises ConfigError, naming the keyword and the remedy, for a value that cannot work.
    """

    dataroot: str | None = None
    version: str | None = None
    dataset: Any = None
    scenes: str | tuple[str, ...] = "val"
    scenario: Scenario | None = None
    world: Any = "dist4d"
    weights: str = "tiny"
    size: tuple[int, int] | None = None
    observation: tuple[Any, ...] | None = None
    action: str = "controls"
    memory: Literal["log", "history"] = "log"
    traffic: Any = "replay"
    decision_dt: float = 0.5
    horizon: float = 10.0
    reward: str | Mapping[str, float] | None = None
    termination: tuple[str, ...] = TERMINATIONS
    trust_floor: float = 0.0
    device: str = "auto"
    service: str | None = None
    render_mode: str | None = None

    def __post_init__(self) -> None:
        set_field = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 (frozen: normalise once, here)
        set_field("dataroot", None if self.dataroot is None else str(self.dataroot))
        set_field("weights", str(self.weights))
        set_field("scenes", self.scenes if isinstance(self.scenes, str) else _names("scenes", self.scenes))
        set_field("scenario", None if self.scenario is None else read_scenario_option(self.scenario))
        shows_pictures = world_traits(WORLDS.check(self.world)).shows_pictures
        set_field("observation", _sensors(self.observation, shows_pictures))
        set_field("termination", _subset("termination", self.termination, TERMINATIONS))
        set_field("size", None if self.size is None else _size(self.size))
        set_field("reward", reward_weights(self.reward))
        _choice("action", self.action, ACTIONS)
        _choice("memory", self.memory, MEMORY_POLICIES)
        TRAFFIC.check(self.traffic)
        if self.dataset is not None:
            DATASETS.check(self.dataset)
        if self.render_mode is not None:
            _choice("render_mode", self.render_mode, RENDER_MODES)
        _durations(self.decision_dt, self.horizon)
        if self.scenario is not None and self.scenario.traffic is not None:
            set_field("traffic", self.scenario.traffic)
        if not (_finite(self.trust_floor) and 0 <= self.trust_floor <= 1):
            raise ConfigError(f"trust_floor={self.trust_floor!r} must lie in [0, 1] (0 never ends an episode)")

    def image_size(self, made_for: tuple[int, int] | None, multiple: int | None = None) -> tuple[int, int]:
        """Height and width of the camera images. made_for: what a world draws unless asked otherwise, None if it draws at any;
        multiple: what the sides of the other sizes that it draws must be divisible by, None if it draws no other.
        """
        if self.size is None or made_for is None or tuple(made_for) == self.size:
            return self.size or made_for or DEFAULT_SIZE
        if multiple is None:
            raise ConfigError(f"size={self.size}, but world={self.world!r} draws {tuple(made_for)}: leave size out")
        fits = all(side % multiple == 0 for side in self.size)
        if not (fits and all(low <= side <= high for low, side, high in zip(SMALLEST, self.size, LARGEST, strict=True))):
            raise ConfigError(
                f"size={self.size} cannot be drawn with weights={self.weights!r}: height and width must be multiples of "
                f"{multiple} from {SMALLEST} to {LARGEST}, such as (64, 112) or (224, 400)"
            )
        return self.size


def read_keywords(keywords: Mapping[str, Any]) -> EnvConfig:
    """The configuration of the environment's keywords. Raises ConfigError for one that does not exist."""
    known = [field.name for field in fields(EnvConfig)]
    for name in keywords:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ConfigError(f"keyword {name!r} is unknown: {hint}")
    return EnvConfig(**keywords)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _choice(keyword: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{keyword}={value!r} is unknown: choose one of {', '.join(map(repr, allowed))}")


def read_scenario_option(value: Any) -> Scenario:
    """A scenario given as such or as the path of its YAML. Raises ConfigError."""
    if isinstance(value, Scenario):
        return value
    if isinstance(value, str | os.PathLike):
        return read_scenario(Path(value))
    raise ConfigError(f"scenario={value!r} must be a Scenario or the path of a scenario YAML")


def _names(keyword: str, value: Any) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, Iterable) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{keyword}={value!r} must be a name or a non-empty list of names")
    return names


def _subset(keyword: str, value: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The chosen names once each, in the order of ``allowed``."""
    if isinstance(value, str):
        value = (value,)
    chosen = tuple(value) if isinstance(value, Iterable) else None
    unknown = None if chosen is None else [name for name in chosen if name not in allowed]
    if chosen is None or unknown:
        raise ConfigError(f"{keyword}={value!r} is not a selection of {', '.join(map(repr, allowed))}")
    return tuple(name for name in allowed if name in chosen)


def _distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    """Names once each, and objects, which may not be hashable, once each."""
    return tuple({value if isinstance(value, str) else id(value): value for value in values}.values())


def _sensors(value: Any, shows_pictures: bool) -> tuple[Any, ...]:
    """The chosen sensors once each, those with names first, in the registry's order. None chooses for the world."""
    if value is None:
        return PICTURES if shows_pictures else VECTORS
    chosen = (value,) if isinstance(value, str) or not isinstance(value, Iterable) else _distinct(value)
    if not chosen:
        raise ConfigError(f"observation is empty: name at least one of {', '.join(SENSORS.names())}")
    for sensor in chosen:
        SENSORS.check(sensor)
        if not shows_pictures and getattr(SENSORS.find(sensor), "needs_pictures", False) is True:
            raise ConfigError(
                f"this world makes no pictures, but observation={chosen} asks for {sensor!r}: take it out of observation, or "
                "choose another world, such as 'dist4d', 'replay' or 'oracle'"
            )
    names = SENSORS.names()
    return tuple(sorted(chosen, key=lambda sensor: names.index(sensor) if sensor in names else len(names)))


def _size(value: Any) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in value)
    except (TypeError, ValueError):
        raise ConfigError(f"size={value!r} must be (height, width) in pixels, such as {DEFAULT_SIZE}") from None
    if min(height, width) < 16 or max(height, width) > 4096:
        raise ConfigError(f"size={value!r}: height and width must lie between 16 and 4096 pixels")
    return height, width


def _durations(decision_dt: Any, horizon: Any) -> None:
    ticks = decision_dt / TICK if _finite(decision_dt) else 0
    if round(ticks) < 1 or abs(ticks - round(ticks)) > 1e-6:
        raise ConfigError(f"decision_dt={decision_dt!r} must be a positive multiple of the {TICK} s tick, such as 0.1 or 0.5")
    if not _finite(horizon) or horizon < 2 * decision_dt - 1e-9:
        raise ConfigError(f"horizon={horizon!r} must be at least two decisions, {2 * decision_dt} s")
