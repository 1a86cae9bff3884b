"""Scenarios: the scene, start, horizon, traffic and edits of an episode, and their YAML files."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist4d_env.errors import ConfigError
from dist4d_env.registry import TRAFFIC
from dist4d_env.scenes.edits import EDITS, MOST, Edit, is_number
from dist4d_env.scenes.files import Document, Flow, Place, dump, read_document, write_text

DIFFICULTIES = ("easy", "medium", "hard", "extreme")
LIMITS = {
    "start": (0.0, MOST),
    "horizon": (0.1, MOST),
    "ego_offset": (-100.0, 100.0),
    "ego_ahead": (-300.0, 300.0),
    "ego_yaw": (-7.0, 7.0),
    "ego_speed": (0.0, 60.0),
}
"""Closed intervals of a scenario's numbers."""
OPTIONAL = ("horizon", "ego_speed")
LONGEST_NAME = 100
"""Characters of a scenario's or suite's name, which is part of file names."""


@dataclass(frozen=True)
class Scenario:
    """One episode's setting, checked when it is made.

    scene: a scene's name; start: seconds since its first keyframe; horizon: seconds, None for the environment's; traffic: a name
    of ``registry.TRAFFIC`` or "module:Class", None for the environment's; ego_offset: metres the ego starts to the left of the
    log, ego_ahead: ahead of it; ego_yaw: radians it is turned to the left; ego_speed: m/s it starts at, None for the log's;
    edits: other changes to the log, in order (``scenes.edits``). name, family, difficulty ("easy", "medium", "hard", "extreme"):
    for suites and tables, may be empty.
    """

    scene: str
    start: float = 0.0
    horizon: float | None = None
    traffic: str | None = None
    ego_offset: float = 0.0
    ego_yaw: float = 0.0
    ego_speed: float | None = None
    edits: tuple[Edit, ...] = ()
    name: str = ""
    family: str = ""
    difficulty: str = ""
    ego_ahead: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.scene, str) or not self.scene:
            raise ConfigError(f"scenario: scene must be a scene's name, not {self.scene!r}")
        for field, (low, high) in LIMITS.items():
            value = getattr(self, field)
            if not (is_number(value, low, high) or (value is None and field in OPTIONAL)):
                raise ConfigError(f"scenario: {field} must be a number in [{low:g}, {high:g}], not {value!r}")
        if self.traffic is not None:
            self._check_traffic(self.traffic)
        if not isinstance(self.edits, tuple) or not all(isinstance(edit, Edit) for edit in self.edits):
            raise ConfigError(f"scenario: edits must be a tuple of edits ({', '.join(EDITS)}), not {self.edits!r}")
        for field in ("name", "family"):
            check_name("scenario", field, getattr(self, field))
        if self.difficulty not in ("", *DIFFICULTIES):
            raise ConfigError(f"scenario: difficulty must be one of {', '.join(DIFFICULTIES)}, not {self.difficulty!r}")

    def _check_traffic(self, traffic: Any) -> None:
        if not isinstance(traffic, str):
            raise ConfigError(f"scenario: traffic must be a traffic model's name or 'module:Class', not {traffic!r}")
        try:
            TRAFFIC.check(traffic)
        except ConfigError as error:
            raise ConfigError(f"scenario: {error}") from error


def check_name(what: str, field: str, name: Any) -> None:
    """Raises ConfigError for a name that is no text, too long for a file's name, or not all printable."""
    if not isinstance(name, str) or len(name) > LONGEST_NAME or not name.isprintable():
        given = repr(name)[:40] + "..." * (len(repr(name)) > 40)
        raise ConfigError(f"{what}: {field} must be text of at most {LONGEST_NAME} printable characters, not {given}")


def read_scenario(path: str | Path, allow: Collection[Any] = ()) -> Scenario:
    """Reads a scenario from a YAML file with a key per field. allow: each "module:Class" that the file may name as its traffic.
    Raises ConfigError naming the file and the line."""
    return scenario_from(read_document(path, "scenario"), allow=allow)


def write_scenario(path: str | Path, scenario: Scenario) -> None:
    """Writes a scenario so that ``read_scenario`` gives back an equal one; a file that is there is replaced as a whole."""
    write_text(path, dump(scenario_dict(scenario)))


def scenario_dict(scenario: Scenario) -> dict[str, Any]:
    """A scenario as dicts, lists and plain values, as its YAML has them; fields at their defaults are left out."""
    values: dict[str, Any] = {key: value for key in ("name", "family", "difficulty") if (value := getattr(scenario, key))}
    values |= {key: value for key, value in _changed(scenario).items() if key not in values and key != "edits"}
    if scenario.edits:
        values["edits"] = [{edit.kind: Flow(_changed(edit))} for edit in scenario.edits]
    return values


def scenario_from(document: Document, place: Place = (), allow: Collection[Any] = ()) -> Scenario:
    """The scenario at a place of a document; allow as in ``read_scenario``. Raises ConfigError naming the file and the line."""
    values = document.at(place)
    if not isinstance(values, Mapping):
        raise document.error(place, "a scenario is a list of `field: value` lines, at least `scene: NAME`")
    if "scene" not in values:
        raise document.error(place, "the scenario names no scene; add `scene: NAME`")
    try:
        TRAFFIC.check_named_by_file(values.get("traffic"), allow)
    except ConfigError as error:
        raise document.error((*place, "traffic"), str(error)) from error
    edits = values.get("edits")
    if edits is not None and not isinstance(edits, list):
        raise document.error((*place, "edits"), "edits must be a list of `- KIND: {field: value, ...}`")
    made = tuple(_edit_from(document, (*place, "edits", index)) for index in range(len(edits or ())))
    return document.build(Scenario, place, {"edits": made})


def _edit_from(document: Document, place: Place) -> Edit:
    entry = document.at(place)
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise document.error(place, f"edits must each be one `KIND: {{field: value, ...}}` with a kind of {', '.join(EDITS)}")
    ((kind, values),) = entry.items()
    if kind not in EDITS:
        raise document.error((*place, str(kind)), f"unknown edit {kind!r}; there are {', '.join(EDITS)}")
    place = (*place, kind)
    if not isinstance(values, Mapping):
        raise document.error(place, f"{kind} takes {{field: value, ...}}, not {values!r}")
    return document.build(EDITS[kind], place)


def _changed(value: Scenario | Edit) -> dict[str, Any]:
    """Fields that are not at their defaults, tuples as lists."""
    fields = {field.name: (getattr(value, field.name), field.default) for field in dataclasses.fields(value)}
    return {name: _listed(given) for name, (given, default) in fields.items() if given != default}


def _listed(value: Any) -> Any:
    return [_listed(part) for part in value] if isinstance(value, tuple) else value
