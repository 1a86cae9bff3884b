"""Every keyword of the environment, checked where it enters."""

from __future__ import annotations

import difflib
import math
import operator
import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dist4d_env.envs.ending import CAUSES
from dist4d_env.envs.rewards import reward_weights
from dist4d_env.errors import ConfigError, KeywordError, shown
from dist4d_env.registry import DATASETS, SENSORS, TRAFFIC, WORLDS
from dist4d_env.scenes.scenario import Scenario, read_scenario
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.actions import ACTIONS
from dist4d_env.worlds.contract import world_traits
from dist4d_env.worlds.factory import check_device, known_size
from dist4d_env.worlds.memory import MEMORY_POLICIES

TERMINATIONS = ("collision", "off_road", "wrong_way")
"""What terminates unless one chooses; a red light may, too."""
RENDER_MODES = ("rgb_array", "human")
RESET_OPTIONS = ("scene", "start", "scenario")
DEFAULT_SIZE = (64, 112)
SMALLEST, LARGEST = (64, 112), (448, 800)
"""Heights and widths between which the generated world draws."""
LONGEST = 1000.0
"""Seconds of a horizon: what observations can tell of the time left."""
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
        if isinstance(self.version, str) and not self.version:  # as a data set says that it has none (``Dataset.version``)
            set_field("version", None)
        for name in ("dataroot", "version", "weights", "service"):
            set_field(name, _text(name, getattr(self, name), optional=name != "weights"))
        set_field("scenes", self.scenes if isinstance(self.scenes, str) else _names("scenes", self.scenes))
        set_field("scenario", None if self.scenario is None else read_scenario_option(self.scenario, self.traffic))
        if self.service is None:
            check_device(self.device)
        shows_pictures = world_traits(WORLDS.check(self.world)).shows_pictures
        set_field("observation", _sensors(self.observation, shows_pictures))
        set_field("termination", _subset("termination", self.termination, tuple(CAUSES)))
        set_field("size", None if self.size is None else _size(self.size))
        set_field("reward", reward_weights(self.reward))
        _choice("action", self.action, ACTIONS)
        _choice("memory", self.memory, MEMORY_POLICIES)
        TRAFFIC.check(self.traffic)
        if self.dataset is not None:
            DATASETS.check(self.dataset)
        if self.render_mode is not None:
            _choice("render_mode", self.render_mode, RENDER_MODES)
        for name, value in zip(("decision_dt", "horizon"), _durations(self.decision_dt, self.horizon), strict=True):
            set_field(name, value)
        if self.scenario is not None and self.scenario.traffic is not None:
            set_field("traffic", self.scenario.traffic)
        trust_floor = _number("trust_floor", self.trust_floor)
        if not 0 <= trust_floor <= 1:
            raise ConfigError(f"trust_floor={shown(self.trust_floor)} must lie in [0, 1] (0 never ends an episode)")
        set_field("trust_floor", trust_floor)

    def __deepcopy__(self, memo: Any) -> EnvConfig:
        """Itself: nothing of it changes, and a world or traffic model given as an object stays the one that snapshots know."""
        return self

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


def check_size(world: Any, weights: str, size: tuple[int, int] | None) -> None:
    """Raises ConfigError for a size that a world cannot draw, as far as that is known before it and its data are there."""
    if size is not None:
        EnvConfig(world=world, weights=weights, size=size).image_size(*known_size(world, weights))


def read_keywords(keywords: Mapping[str, Any]) -> EnvConfig:
    """The configuration of the environment's keywords. Raises KeywordError, a TypeError, for one that does not exist."""
    known = [field.name for field in fields(EnvConfig)]
    for name in keywords:
        if name not in known:
            near = difflib.get_close_matches(name[:80], known, 1)
            hint = f"did you mean {near[0]!r}?" if near else "DiST4DDrivingEnv documents those that there are"
            raise KeywordError(f"__init__() got an unexpected keyword argument {shown(name)}: {hint}")
    return EnvConfig(**keywords)


def whole(value: Any) -> int | None:
    """A whole number of any kind as Python's, None for everything else, truth values included."""
    try:
        return None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        return None


def _number(keyword: str, value: Any) -> float:
    """A real number of any kind as Python's, nan for one beyond them. Raises ConfigError for everything else, truth values
    included."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise ConfigError(f"{keyword}={shown(value)} must be a number, not of type {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _choice(keyword: str, value: Any, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise ConfigError(f"{keyword}={shown(value)} is unknown: choose one of {', '.join(map(repr, allowed))}")


def _text(keyword: str, value: Any, optional: bool) -> str | None:
    """A name or path. Raises ConfigError for what is no text, or cannot be a file's name."""
    if value is None and optional:
        return None
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(f"{keyword}={shown(value)} must be text{' or None' if optional else ''}, without null characters")
    return text


def read_scenario_option(value: Any, traffic: Any) -> Scenario:
    """A scenario given as such or as the path of its YAML, which may name the environment's own traffic. Raises ConfigError."""
    if isinstance(value, Scenario):
        return value
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"scenario={shown(value)} must be a Scenario or the path of a scenario YAML")
    return read_scenario(Path(_text("scenario", value, optional=False) or ""), (traffic,))


def read_reset_options(options: Any) -> dict[str, Any]:
    """The options of a reset, a copy without a scene or start that is None. Raises ConfigError for what is no mapping of known
    names."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ConfigError(f"options={shown(options)} must be a dict or None")
    unknown = [name for name in options if name not in RESET_OPTIONS]
    if unknown:
        known = ", ".join(map(repr, RESET_OPTIONS))
        raise ConfigError(f"reset option {shown(unknown[0])} is unknown: choose from {known}")
    chosen = {name: value for name, value in options.items() if value is not None or name == "scenario"}
    if not isinstance(scene := chosen.get("scene", ""), str):
        raise ConfigError(f"options['scene']={shown(scene)} must be a scene's name, or None for any")
    if (start := chosen.get("start")) is not None:
        chosen["start"] = _number("options['start']", start)
        if math.isnan(chosen["start"]):
            raise ConfigError(f"options['start']={shown(start)} must be a number of seconds, or None for any")
    return chosen


def read_seed(seed: Any) -> int | None:
    """A seed as Python's integer. Raises ConfigError for what is none."""
    number = whole(seed)
    if seed is not None and (number is None or number < 0):
        raise ConfigError(f"seed={shown(seed)} must be a whole number of at least 0, or None")
    return number


def _names(keyword: str, value: Any) -> tuple[str, ...]:
    names = _listed(value) or ()
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{keyword}={shown(value)} must be a name or a non-empty list of names")
    return names


def _listed(value: Any) -> tuple[Any, ...] | None:
    """The items of what has an order, None for everything else: of a dict only the names would be seen, and a set is in another
    order in every process."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | Set) else None


def _subset(keyword: str, value: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The chosen names once each, in the order of ``allowed``."""
    if isinstance(value, Set):  # the order does not matter
        value = list(value)
    chosen = (value,) if isinstance(value, str) else _listed(value)
    if chosen is None or not all(isinstance(name, str) and name in allowed for name in chosen):
        raise ConfigError(f"{keyword}={shown(value)} is not a selection of {', '.join(map(repr, allowed))}")
    return tuple(name for name in allowed if name in chosen)


def _distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    """Names once each, and objects, which may not be hashable, once each."""
    return tuple({value if isinstance(value, str) else id(value): value for value in values}.values())


def _sensors(value: Any, shows_pictures: bool) -> tuple[Any, ...]:
    """The chosen sensors once each, those with names first, in the registry's order. None chooses for the world."""
    if value is None:
        return PICTURES if shows_pictures else VECTORS
    if isinstance(value, Set) and all(isinstance(name, str) for name in value):  # put in order below
        value = list(value)
    listed = _listed(value)
    chosen = (value,) if listed is None else _distinct(listed)
    if not chosen:
        raise ConfigError(f"observation is empty: name at least one of {', '.join(SENSORS.names())}")
    for sensor in chosen:
        SENSORS.check(sensor)
        if not shows_pictures and getattr(SENSORS.find(sensor), "needs_pictures", False) is True:
            raise ConfigError(
                f"this world makes no pictures, but observation={shown(chosen)} asks for {shown(sensor)}: take it out of "
                "observation, or choose another world, such as 'dist4d', 'replay' or 'oracle'"
            )
    names = SENSORS.names()
    return tuple(sorted(chosen, key=lambda sensor: names.index(sensor) if sensor in names else len(names)))


def _size(value: Any) -> tuple[int, int]:
    height, width = map(whole, value) if isinstance(value, tuple | list | np.ndarray) and len(value) == 2 else (None, None)
    if height is None or width is None:
        raise ConfigError(f"size={shown(value)} must be (height, width), whole numbers of pixels such as {DEFAULT_SIZE}")
    if min(height, width) < 16 or max(height, width) > 4096:
        raise ConfigError(f"size={shown(value)}: height and width must lie between 16 and 4096 pixels")
    return height, width


def _durations(decision_dt: Any, horizon: Any) -> tuple[float, float]:
    """Both in seconds. Raises ConfigError."""
    step, length = _number("decision_dt", decision_dt), _number("horizon", horizon)
    ticks = step / TICK if 0 < step <= LONGEST else 0.0
    if round(ticks) < 1 or abs(ticks - round(ticks)) > 1e-6:
        raise ConfigError(
            f"decision_dt={shown(decision_dt)} must be a positive multiple of the {TICK} s tick, such as 0.1 or 0.5"
        )
    if not 2 * step - 1e-9 <= length <= LONGEST:
        raise ConfigError(f"horizon={shown(horizon)} must be from two decisions, {2 * step} s, to {LONGEST:g} s")
    return step, length
