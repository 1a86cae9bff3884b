"""Suites: named lists of scenarios for one data set; those that come with the package are found by name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from dist4d_env.errors import ConfigError
from dist4d_env.scenes.files import dump, read_document, write_text
from dist4d_env.scenes.scenario import Scenario, check_name, scenario_dict, scenario_from


@dataclass(frozen=True)
class Suite:
    """scenarios: in order, each with a name of its own; dataroot, version: as the environment takes them, None for its rules.

    Raises ConfigError for a scenario without a name, a name given twice, or none at all.
    """

    name: str
    dataroot: str | None
    version: str | None
    scenarios: tuple[Scenario, ...]

    def __post_init__(self) -> None:
        check_name("suite", "name", self.name)
        if not self.name:
            raise ConfigError("suite: name must not be empty")
        for field in ("dataroot", "version"):
            if not isinstance(getattr(self, field), str | None):
                raise ConfigError(f"suite: {field} must be text or null, not {getattr(self, field)!r}")
        if not self.scenarios:
            raise ConfigError(f"suite: scenarios must hold at least one, but {self.name} is empty")
        names = Counter(scenario.name for scenario in self.scenarios)
        if "" in names:
            raise ConfigError("suite: scenarios must each have a name")
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ConfigError(f"suite: scenarios must have names of their own, but {twice[0]!r} is there {names[twice[0]]} times")


def shipped_suites() -> dict[str, Path]:
    """The suites that come with the package, by name."""
    folder = Path(str(resources.files("dist4d_env"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_suite(suite: str | Path) -> Path:
    """The file of a suite, given the name of a shipped one or a path. Raises ConfigError for neither."""
    shipped, path = shipped_suites(), Path(suite)
    if str(suite) in shipped:
        return shipped[str(suite)]
    if not os.path.isfile(path):  # false also for what can be no path
        raise ConfigError(f"suite {str(suite)!r} is neither a file nor one of the package's: {', '.join(shipped)}")
    return path


def read_suite(suite: str | Path, allow: Collection[Any] = ()) -> Suite:
    """Reads a suite by name or path: YAML with name, scenarios and, if wanted, dataroot and version. allow: each "module:Class"
    that the file may name as traffic.

    Raises ConfigError for an unknown name, and with file and line for what is wrong in the file.
    """
    path = find_suite(suite)
    document = read_document(path, "suite")
    values = document.value
    if not isinstance(values, Mapping) or not isinstance(values.get("scenarios"), list):
        raise document.error((), "a suite is `name: NAME` and `scenarios:`, a list of scenarios")
    scenarios = tuple(scenario_from(document, ("scenarios", index), allow) for index in range(len(values["scenarios"])))
    return document.build(
        Suite, (), {"name": Path(path).stem, "dataroot": None, "version": None, **values, "scenarios": scenarios}
    )


def write_suite(path: str | Path, suite: Suite, comment: str = "") -> None:
    """Writes a suite so that ``read_suite`` gives back an equal one. comment: lines to put before it."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    origin = {key: value for key in ("dataroot", "version") if (value := getattr(suite, key)) is not None}
    body = {"name": suite.name, **origin, "scenarios": [scenario_dict(scenario) for scenario in suite.scenarios]}
    write_text(path, head + dump(body))
