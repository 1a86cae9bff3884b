"""A scenario: which scene an episode plays in, from when, for how long, and what is different from the log."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dist4d_env.errors import ConfigError

TRAFFIC = ("replay", "idm")


@dataclass(frozen=True)
class Scenario:
    """One episode's setting, checked when it is made.

    scene: a scene's name; start: seconds since its first keyframe; horizon: seconds, None for the environment's; traffic:
    "replay", "idm", None for the environment's; ego_offset: metres the ego starts to the left of the log; ego_yaw: radians it is
    turned to the left; ego_speed: m/s it starts at, None for the log's. edits: changes to the scene beyond these; this version
    knows none.
    """

    scene: str
    start: float = 0.0
    horizon: float | None = None
    traffic: str | None = None
    ego_offset: float = 0.0
    ego_yaw: float = 0.0
    ego_speed: float | None = None
    edits: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.scene, str) or not self.scene:
            raise ConfigError(f"scenario: scene must be a scene's name, not {self.scene!r}")
        self._number("start", at_least=0.0)
        self._number("ego_offset")
        self._number("ego_yaw")
        if self.horizon is not None:
            self._number("horizon", at_least=0.1)
        if self.ego_speed is not None:
            self._number("ego_speed", at_least=0.0)
        if self.traffic is not None and self.traffic not in TRAFFIC:
            raise ConfigError(f"scenario: traffic must be one of {', '.join(TRAFFIC)}, not {self.traffic!r}")
        if not isinstance(self.edits, tuple) or self.edits:
            raise ConfigError("scenario: edits must be empty; this version knows no edits")

    def _number(self, field: str, at_least: float = -math.inf) -> None:
        value = getattr(self, field)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < at_least:
            limit = "a finite number" if at_least == -math.inf else f"a number of at least {at_least:g}"
            raise ConfigError(f"scenario: {field} must be {limit}, not {value!r}")


def read_scenario(path: str | Path) -> Scenario:
    """Reads a scenario from a YAML file with a key per field. Raises ConfigError naming the file and the line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the scenario cannot be read ({error})") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}, line {line}: not valid YAML ({error.problem})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({error})") from error
    if not isinstance(values, Mapping) or not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}: a scenario is a list of `field: value` lines, at least `scene: NAME`")
    lines: dict[str, int] = {}
    fields = [field.name for field in dataclasses.fields(Scenario)]
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.value not in fields:
            raise ConfigError(f"{path}, line {line}: unknown field {key.value!r}; there are {', '.join(fields)}")
        if key.value in lines:
            raise ConfigError(f"{path}, line {line}: {key.value} is set again (first on line {lines[key.value]})")
        lines[key.value] = line
    if "scene" not in values:
        raise ConfigError(f"{path}: the scenario names no scene; add `scene: NAME`")
    if isinstance(values.get("edits"), list):
        values = {**values, "edits": tuple(values["edits"])}
    try:
        return Scenario(**{str(key): value for key, value in values.items()})
    except ConfigError as error:
        field = next((name for name in lines if f"scenario: {name} " in str(error)), "scene")
        raise ConfigError(f"{path}, line {lines[field]}: {str(error).removeprefix('scenario: ')}") from error
