"""YAML read with the line of every value, for errors that name it; files and folders written whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from dist4d_env.errors import LONGEST, ConfigError, shortened

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same language, ten times faster
_LONGEST_PATH, _DEEPEST = 120, 20
_TAG = "tag:yaml.org,2002:"
_MAP, _SEQ = _TAG + "map", _TAG + "seq"
_SCALARS: Mapping[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    _TAG + "null": (re.compile(r"~|null|Null|NULL|"), lambda text: None),
    _TAG + "bool": (re.compile(r"yes|no|true|false|on|off", re.I), lambda text: text.lower() in ("yes", "true", "on")),
    _TAG + "int": (re.compile(r"[-+]?(0|[1-9][0-9]{,17})"), int),
    _TAG + "float": (re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", re.I),
                     lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))),
    _TAG + "str": (re.compile(r".*", re.S), str),
}  # fmt: skip
"""Plain values by their YAML tags: how they may be written, and what they are."""
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
        return ConfigError(shortened(f"{self.path}, line {self.lines.get(place, 1)}: {message}", LONGEST))


def read_document(path: str | Path, what: str) -> Document:
    """Reads a YAML file. what: its name in errors. Raises ConfigError naming file and line, also for a key that is set twice."""
    shown, text = shortened(str(path), _LONGEST_PATH), ""
    try:
        text = Path(path).read_bytes().decode()
        for event in _shallow(yaml.parse(text, Loader=_LOADER)):
            if isinstance(event, yaml.AliasEvent):  # a few of them can stand for any number of values
                raise _Fault(event, f"a {what} has no aliases (*{event.anchor})")
        reading = _Reading()
        node = yaml.compose(text, Loader=_LOADER)
        return Document(shown, None if node is None else reading.value(node, ()), reading.lines)
    except UnicodeDecodeError as error:
        line, reason = error.object[: error.start].count(b"\n") + 1, f"the {what} is not UTF-8 text: save it as such"
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        raise ConfigError(shortened(f"{shown}: the {what} cannot be read ({error})", LONGEST)) from error
    except yaml.reader.ReaderError as error:
        line, reason = text.encode()[: error.position].count(b"\n") + 1, f"not valid YAML ({error.reason})"
    except yaml.MarkedYAMLError as error:
        line, reason = error.problem_mark.line + 1 if error.problem_mark else 1, f"not valid YAML ({error.problem})"
    except _Fault as fault:
        line, reason = fault.line, str(fault)
    raise ConfigError(shortened(f"{shown}, line {line}: {reason}", LONGEST))


class _Fault(Exception):
    """What is wrong with a node or an event of YAML."""

    def __init__(self, at: yaml.Node | yaml.Event, reason: str) -> None:
        super().__init__(reason)
        self.line = at.start_mark.line + 1 if at.start_mark else 1


def _shallow(events: Iterable[yaml.Event]) -> Iterator[yaml.Event]:
    """The events, as long as collections are not nested deeper than the recursion over them may go."""
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise _Fault(event, f"lists and mappings are nested more than {_DEEPEST} deep")
        yield event


class _Reading:
    """A document's values, and the lines that they are on. Numbers are plain decimal ones: YAML 1.1 reads 010 as eight and 1:30
    as ninety, which nobody means who writes them here."""

    def __init__(self) -> None:
        self.lines: dict[Place, int] = {}

    def value(self, node: yaml.Node, place: Place) -> Any:
        """The value of a node and what is below it."""
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            return dict(self._item(key, value, place) for key, value in node.value)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
            return [self.value(value, (*place, index)) for index, value in enumerate(node.value)]
        return self._scalar(node)

    def _item(self, key: yaml.Node, value: yaml.Node, place: Place) -> tuple[Any, Any]:
        name, here = self._scalar(key), (*place, str(key.value))
        if here in self.lines:
            raise _Fault(key, f"{key.value} is set again (first on line {self.lines[here]})")
        self.lines[here] = key.start_mark.line + 1
        return name, self.value(value, here)

    def _scalar(self, node: yaml.Node) -> Any:
        pattern, convert = _SCALARS.get(node.tag, (None, None))
        if pattern is None or convert is None or not isinstance(node, yaml.ScalarNode):
            kind = node.tag.removeprefix(_TAG)
            raise _Fault(node, f"not valid YAML here: a value of kind {kind} (text that looks like one needs quotes)")
        if not pattern.fullmatch(node.value):
            kind = node.tag.removeprefix(_TAG)
            raise _Fault(node, f"{node.value!r} is no plain {kind}: write decimal numbers, true or false; text needs quotes")
        return convert(node.value)


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


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """``with replacing_folder(path) as fresh``: the folder filled there takes ``path``'s place if nothing went wrong.

    At any instant, also if the process is killed, ``path`` is the whole old folder or the whole new one: the two change places in
    one step. On file systems that cannot do that the old one waits beside it meanwhile, for ``recovered`` to put it back.
    """
    path = recovered(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield fresh
        fresh.chmod(0o755)
        try:
            os.rename(fresh, path)  # in place of nothing, or of an empty folder
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not _exchange(fresh, path):
                shutil.rmtree(_aside(path), ignore_errors=True)
                os.rename(path, _aside(path))
                os.rename(fresh, path)
                shutil.rmtree(_aside(path), ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # half of a new folder, or what was there before


def keep_beside(folder: Path, fresh: Path) -> None:
    """Copies the files and models of ``folder`` that ``fresh``, which is to replace it, does not have. Raises ConfigError where
    there are folders of other things, too: they are left where they are."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if (fresh / path.name).exists():
            continue
        if path.is_file():
            shutil.copy2(path, fresh)
        elif (path / "config.json").is_file():
            shutil.copytree(path, fresh / path.name)
        else:
            raise ConfigError(f"{folder} holds a folder of something else ({path.name}): choose another place to write to")


def recovered(path: str | Path) -> Path:
    """The path of a folder that ``replacing_folder`` writes, links followed; puts the old folder back where a process was killed
    before the new one was there."""
    path = Path(os.path.realpath(path))
    if os.path.isdir(_aside(path)) and not os.path.lexists(path):
        os.rename(_aside(path), path)
    return path


def _aside(path: Path) -> Path:
    return path.parent / f".{path.name}.old"


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where the system or the file system cannot."""
    library: Any = ctypes.CDLL(None) if os.name == "posix" else None
    swap = 2  # RENAME_EXCHANGE, RENAME_SWAP
    names = (os.fsencode(one), os.fsencode(other))
    if hasattr(library, "renameat2"):  # Linux
        return bool(library.renameat2(_HERE, names[0], _HERE, names[1], swap) == 0)
    if hasattr(library, "renamex_np"):  # macOS
        return bool(library.renamex_np(*names, swap) == 0)
    return False


_HERE = -100  # AT_FDCWD: no folder that a relative path starts from


def check_writable(folder: Path) -> None:
    """Raises OSError where nothing could be written into a folder, which may not be there yet: said before work goes into it."""
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        number = errno.EACCES if there.is_dir() else errno.ENOTDIR
        raise OSError(number, os.strerror(number), str(there))


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


_Dumper.add_representer(dict, lambda dumper, value: dumper.represent_mapping(_MAP, value.items(), flow_style=False))
_Dumper.add_representer(Flow, lambda dumper, value: dumper.represent_mapping(_MAP, value.items(), flow_style=True))
_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence(_SEQ, value, flow_style=not any(isinstance(v, dict) for v in value))
)
