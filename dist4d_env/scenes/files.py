"""YAML read with the line of every value, for errors that name it; files written whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from dist4d_env.errors import ConfigError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same language, ten times faster
Built = TypeVar("Built")
Place = tuple[str | int, ...]
"""The keys and indices that lead to a value."""


@dataclass(frozen=True)
class Document:
    """path: the file; value: its content as dicts, lists and plain values; lines: the line of every value by its place."""

    path: str
    value: Any
    lines: dict[Place, int]

    def at(self, place: Place) -> Any:
        """The value at a place."""
        value = self.value
        for key in place:
            value = value[key]
        return value

    def build(self, kind: type[Built], place: Place, given: Mapping[Any, Any] | None = None) -> Built:
        """A dataclass from the mapping at a place, ``given`` added to its values. What is wrong in it is an error that
        names the line: an unknown field, or the field that the class's own ConfigError names as "something: FIELD ..."."""
        values, names = self.at(place), [field.name for field in fields(cast(Any, kind))]
        for key in values:
            if key not in names:
                raise self.error((*place, str(key)), f"unknown field {key!r} of {kind.__name__}; there are {', '.join(names)}")
        try:
            return kind(**{str(key): value for key, value in {**values, **(given or {})}.items()})
        except ConfigError as error:
            message = str(error)
            named = re.match(r"\w+: (\w+) ", message)
            text = message.removeprefix("scenario: ").removeprefix("suite: ")
            raise self.error((*place, named[1]) if named else place, text) from error

    def error(self, place: Place, message: str) -> ConfigError:
        """An error that names the file and the line of the value, or of the nearest one around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return ConfigError(f"{self.path}, line {self.lines.get(place, 1)}: {message}")


def read_document(path: str | Path, what: str) -> Document:
    """Reads a YAML file. what: its name in errors. Raises ConfigError naming file and line, also for a key that is set twice."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the {what} cannot be read ({error})") from error
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.AliasEvent):  # a few of them can stand for any number of values
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ConfigError(f"{path}, line {line}: a {what} has no aliases (*{event.anchor})")
        node = yaml.compose(text, Loader=_LOADER)
        value = yaml.load(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}, line {line}: not valid YAML ({error.problem})") from error
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML ({error})") from error
    lines: dict[Place, int] = {}
    if node is not None:
        _locate(str(path), node, (), lines)
    return Document(str(path), value, lines)


def _locate(path: str, node: yaml.Node, place: Place, lines: dict[Place, int]) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            here = (*place, str(key.value))
            if here in lines:
                raise ConfigError(f"{path}, line {line}: {key.value} is set again (first on line {lines[here]})")
            lines[here] = line
            _locate(path, value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _locate(path, value, (*place, index), lines)


class replacing:
    """``with replacing(path) as temporary``: the file written there takes ``path``'s place if nothing went wrong."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.temporary = self.path.with_name(f".{self.path.stem}.{os.getpid()}{self.path.suffix}")

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.temporary

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def dump(value: Any) -> str:
    """YAML of plain values: keys in their order, the innermost dicts and lists on one line."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=128, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Indents lists and writes no aliases."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Flow(dict[str, Any]):
    """A dict that is written on one line."""


_MAP, _SEQ = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"
_Dumper.add_representer(dict, lambda dumper, value: dumper.represent_mapping(_MAP, value.items(), flow_style=False))
_Dumper.add_representer(Flow, lambda dumper, value: dumper.represent_mapping(_MAP, value.items(), flow_style=True))
_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence(_SEQ, value, flow_style=not any(isinstance(v, dict) for v in value))
)
