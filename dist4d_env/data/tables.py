"""The tables of a nuScenes-format data set: each row is checked when it is first used, all of them by ``faults``.

A row that is wrong is an error of the scene that uses it; the other scenes stay playable. Tables are read whole, or all but the
largest, of which then the rows that a scene needs are joined (``data.store``).
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dist4d_env.errors import LONGEST, DataError, shortened

Record = dict[str, Any]
LABELS = ("lidarseg", "panoptic")
"""Tables of point labels, which may be there and which nothing here reads."""


@dataclass(frozen=True)
class Kind:
    """What a field holds. words: for errors, "is not WORDS"; holds: whether a value is that; target: the table that it points
    into; optional: whether a record may do without."""

    words: str
    holds: Callable[[Any], bool]
    target: str = ""
    optional: bool = False


def number(value: Any, low: float, high: float) -> bool:
    """Whether a value is a number within bounds: NaN is not, nor are True and "1"."""
    return type(value) in (int, float) and low <= value <= high


def numbers(value: Any, count: int, low: float = -1e8, high: float = 1e8) -> bool:
    """Whether a value is a list of so many numbers within bounds."""
    if type(value) is not list or len(value) != count:
        return False
    for each in value:  # written out, for it runs for every pose and box
        if type(each) not in (float, int) or not low <= each <= high:
            return False
    return True


def printable(value: Any) -> bool:
    """Whether a value is a text that can name a thing."""
    return type(value) is str and 0 < len(value) < 1024 and value.isprintable()


def tokens(value: Any) -> bool:
    """Whether a value is a list of tokens."""
    return type(value) is list and set(map(type, value)) <= {str}


def _quaternion(value: Any) -> bool:
    if not numbers(value, 4, -2, 2):
        return False
    w, x, y, z = value
    return -0.02 < w * w + x * x + y * y + z * z - 1 < 0.02


def _intrinsic(value: Any) -> bool:
    if value == []:  # of what is no camera
        return True
    if not (type(value) is list and len(value) == 3 and all(numbers(row, 3, -1e6, 1e6) for row in value)):
        return False
    (fx, _, _), (zero, fy, _), last = value
    return fx > 0 and fy > 0 and abs(zero) < 1e-6 and last == [0, 0, 1]


def _prose(value: Any) -> bool:
    return type(value) is str and not any("\ud800" <= letter <= "\udfff" for letter in value)


def file_name(value: Any) -> bool:
    """Whether a text can be a file's or folder's name by itself."""
    return printable(value) and len(value) < 128 and "/" not in value and value.strip(".") != ""


def _to(target: str, optional: bool = False) -> Kind:
    return Kind(f"a token of {target}.json", lambda value: type(value) is str and value != "", target, optional)


def _link(target: str) -> Kind:
    return Kind(f'a token of {target}.json or ""', lambda value: type(value) is str, target, optional=True)


_NAME = Kind("a name", printable)
_TIME = Kind("a time in microseconds", lambda value: number(value, 0, 1e17))
_PLACE = Kind("three numbers in metres", lambda value: numbers(value, 3))
_QUATERNION = Kind("a unit quaternion", _quaternion)
_PIXELS = Kind("a number of pixels", lambda value: type(value) is int and 0 <= value <= 2**16)
_COUNT = Kind("a count", lambda value: type(value) is int and value >= 0, optional=True)

FIELDS: Mapping[str, Mapping[str, Kind]] = {
    "category": {"name": _NAME},
    "attribute": {},
    "visibility": {},
    "instance": {
        "category_token": _to("category"),
        "first_annotation_token": _link("sample_annotation"),
        "last_annotation_token": _link("sample_annotation"),
        "nbr_annotations": _COUNT,
    },
    "sensor": {
        "channel": Kind("the name of a sensor", file_name),
        "modality": Kind("camera, lidar or radar", lambda value: value in ("camera", "lidar", "radar")),
    },
    "calibrated_sensor": {
        "sensor_token": _to("sensor"),
        "translation": Kind("three numbers in metres, at most 100", lambda value: numbers(value, 3, -100, 100)),
        "rotation": _QUATERNION,
        "camera_intrinsic": Kind("a matrix [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0", _intrinsic),
    },
    "ego_pose": {"translation": _PLACE, "rotation": _QUATERNION, "timestamp": Kind(_TIME.words, _TIME.holds, optional=True)},
    "log": {"location": Kind("the name of a map", file_name)},
    "scene": {
        "name": _NAME,
        "description": Kind("a text", _prose),
        "log_token": _to("log"),
        "first_sample_token": _to("sample"),
        "last_sample_token": _to("sample", optional=True),
        "nbr_samples": _COUNT,
    },
    "sample": {
        "timestamp": _TIME,
        "next": Kind('a token of sample.json or ""', lambda value: type(value) is str, "sample"),
        "prev": _link("sample"),
        "scene_token": _to("scene", optional=True),
    },
    "sample_data": {
        "sample_token": _to("sample"),
        "ego_pose_token": _to("ego_pose"),
        "calibrated_sensor_token": _to("calibrated_sensor"),
        "filename": Kind("the path of a file", printable),
        "width": _PIXELS,
        "height": _PIXELS,
        "timestamp": _TIME,
        "is_key_frame": Kind("true or false", lambda value: type(value) is bool),
        "next": Kind('a token of sample_data.json or ""', lambda value: type(value) is str, "sample_data"),
        "prev": _link("sample_data"),
    },
    "sample_annotation": {
        "sample_token": _to("sample"),
        "instance_token": _to("instance"),
        "translation": _PLACE,
        "size": Kind("a width, length and height above 0 and below 200 m", lambda value: numbers(value, 3, 1e-3, 200)),
        "rotation": _QUATERNION,
        "prev": _link("sample_annotation"),
        "next": _link("sample_annotation"),
    },
    "map": {
        "filename": Kind("the path of a file", printable),
        "log_tokens": Kind("a list of tokens of log.json", tokens),
    },
}  # fmt: skip
"""The thirteen tables, and those of their fields that are looked at."""


def wrong(fields: Mapping[str, Kind], record: Record) -> str | None:
    """What is wrong with a record's own values, None if nothing."""
    for name, kind in fields.items():
        if name not in record:
            if not kind.optional:
                return f"it has no {name}"
        elif not kind.holds(record[name]):
            return f"{name} {shown(record[name])} is not {kind.words}"
    return None


def shown(value: Any) -> str:
    """A value for an error message, in JSON's terms where that is short."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # a number too long to print
        text = type(value).__name__
    return text if len(text) <= 48 else f"{text[:45]}..."


def read_json(path: Path, remedy: str) -> Any:
    """The content of a JSON file. Raises DataError, which ends in the remedy."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: it cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({str(error)[:80]}); {remedy}") from error


_CHUNK, _LONGEST = 1 << 16, 1 << 26  # bytes read at once (what fits into a processor's cache), and of the longest record
_BETWEEN = re.compile(rb"\}\s*,\s*(?=\{)")
_SPACE = b" \t\r\n"


def read_pieces(path: Path) -> Iterator[tuple[list[Any], bytes]]:
    """A file that is a JSON list, piece by piece: the values of each and its bytes, which no bracket surrounds.

    A piece ends between "}" and "{" and has to be a list's content by itself, so that no cut can lie within a value. Raises
    ValueError or RecursionError for what cannot be read, is no such list, or might be one in another encoding.
    """
    try:
        opened = path.open("rb")
    except OSError as error:
        raise ValueError("it cannot be read") from error
    with opened as file:
        text = file.read(_CHUNK).lstrip(_SPACE)
        if text[:1] != b"[":
            raise ValueError("no list")
        text = text[1:]
        while more := file.read(_CHUNK):
            text += more
            if len(text) > _LONGEST:
                raise ValueError("no list of records")
            cut = deque(_BETWEEN.finditer(text, max(0, len(text) - _CHUNK)), 1)
            if cut:
                piece, text = text[: cut[0].start() + 1], text[cut[0].end() :]
                yield json.loads(b"[%b]" % piece), piece
        text = text.rstrip(_SPACE)
        if text[-1:] != b"]":
            raise ValueError("the list does not end")
        yield json.loads(b"[%b]" % text[:-1]), text[:-1]


def texts_of(rows: Sequence[Any], piece: bytes) -> list[bytes]:
    """The JSON of each row of a piece, after a comma: its own bytes where each brace is the end of one, else written anew."""
    if piece.count(b"{") == piece.count(b"}") == len(rows) and all(type(row) is dict for row in rows):
        return (b"," + piece).split(b"}")[: len(rows)]
    return [b"," + json.dumps(row).encode()[:-1] for row in rows]


def by_token(rows: Sequence[Any]) -> dict[str, int]:
    """The row of every token; of equal ones the last. Rows without any are left out."""
    try:
        return {row["token"]: i for i, row in enumerate(rows)}
    except (TypeError, KeyError, IndexError):
        return {row["token"]: i for i, row in enumerate(rows) if type(row) is dict and type(row.get("token")) is str}


class Incomplete(Exception):
    """A row is wanted that was not joined; whether the table has it, the table alone knows."""


def row_error(folder: Path, table: str, row: int, words: str) -> DataError:
    """An error that names a table and a row of it, counted from 0."""
    return DataError(f"{folder / table}.json, row {row}: {words}; fetch the metadata again")


class Tables:
    """The tables of one version folder. Raises DataError where one of them is missing or no list of records.

    without: tables that are not read.
    """

    def __init__(self, dataroot: str, version: str, without: Collection[str] = ()) -> None:
        self.dataroot, self.version = dataroot, version
        self.folder = Path(dataroot, version)
        self.rows: dict[str, list[Any]] = {}
        self._numbers: Mapping[str, Sequence[int]] = {}  # of the rows, in tables that are not whole
        broken: dict[str, DataError] = {}
        for name in FIELDS:
            if name in without:
                continue
            try:
                self.rows[name] = self._read(name)
            except DataError as error:
                broken[name] = error
        if broken:
            first, *others = broken
            more = f" (and {', '.join(f'{name}.json' for name in others)})" if others else ""
            raise DataError(shortened(f"{broken[first]}{more}", LONGEST)) from broken[first]
        self._index = {name: by_token(rows) for name, rows in self.rows.items()}
        self._sound: set[int] = set()
        self._twice = {name: self._doubled(name) for name, rows in self.rows.items() if len(self._index[name]) < len(rows)}

    def joined(self, rows: Mapping[str, list[Any]], numbers: Mapping[str, Sequence[int]]) -> Tables:
        """These tables with some rows of those that were not read, which hold no token twice. numbers: which rows these are.

        Raises Incomplete where it is asked for another row of them.
        """
        tables = object.__new__(type(self))
        tables.__dict__ |= {name: value for name, value in self.__dict__.items() if name not in ("keyframes", "annotations")}
        tables.rows = {**self.rows, **rows}
        tables._numbers, tables._sound = numbers, set()
        tables._index = {**self._index, **{name: by_token(some) for name, some in rows.items()}}
        return tables

    def _read(self, table: str) -> list[Any]:
        path = self.folder / f"{table}.json"
        if not os.path.isfile(path):
            raise DataError(f"{path}: table missing; nuScenes-format data has thirteen, fetch the metadata again")
        rows = read_json(path, "fetch the metadata again")
        if type(rows) is not list:
            raise DataError(f"{path}: a table is a list of records, not {shown(rows)}; fetch the metadata again")
        return rows

    def _doubled(self, table: str) -> set[str]:
        counts = Counter(row["token"] for row in self.records(table) if type(row.get("token")) is str)
        return {token for token, count in counts.items() if count > 1}

    def records(self, table: str) -> Iterator[Record]:
        """The rows of a table that are records at all."""
        return (row for row in self.rows[table] if type(row) is dict)

    def error(self, table: str, record: Record | int, words: str) -> DataError:
        """An error that names a table and a row of it, counted from 0."""
        row = record if isinstance(record, int) else next(i for i, each in enumerate(self.rows[table]) if each is record)
        return row_error(self.folder, table, self._numbers[table][row] if table in self._numbers else row, words)

    def follow(self, table: str, record: Record, field: str) -> Record:
        """The record that a field of another one points to. Raises DataError if there is none or something is wrong with it."""
        target, token = FIELDS[table][field].target, record[field]
        row = self._index[target].get(token)
        if row is None and target in self._numbers:
            raise Incomplete(target)
        if row is None:
            raise self.error(table, record, f"{field} {shown(token)} is in no row of {target}.json")
        return self.checked(target, self.rows[target][row])

    def checked(self, table: str, record: Record) -> Record:
        """The record, if nothing is wrong with its own values; DataError if there is."""
        if id(record) not in self._sound:
            if words := self._wrong(table, record):
                raise self.error(table, record, words)
            self._sound.add(id(record))
        return record

    def sensor(self, record: Record) -> Record:
        """The record of the sensor that a record of sample_data is of."""
        return self.follow("calibrated_sensor", self.follow("sample_data", record, "calibrated_sensor_token"), "sensor_token")

    @cached_property
    def keyframes(self) -> dict[str, list[Record]]:
        """The key frames of sample_data by the token of their sample."""
        return _grouped(row for row in self.records("sample_data") if row.get("is_key_frame"))

    @cached_property
    def annotations(self) -> dict[str, list[Record]]:
        """The annotations by the token of their sample."""
        return _grouped(self.records("sample_annotation"))

    @cached_property
    def scenes(self) -> dict[str, Record]:
        """The scenes by name, in the order of the table; of equal names the first."""
        found: dict[str, Record] = {}
        for row in self.records("scene"):
            if printable(row.get("name")) and type(row.get("token")) is str:
                found.setdefault(row["name"], row)
        if not found:
            raise DataError(f"{self.folder / 'scene'}.json: it holds no scene; fetch the metadata again")
        return found

    def mask(self, log: Record) -> tuple[int, str]:
        """The row of a log's map mask, and its file below the data set. Raises DataError if there is none."""
        for number, row in enumerate(self.rows["map"]):
            if type(row) is dict and type(row.get("log_tokens")) is list and log["token"] in row["log_tokens"]:
                return number, self.checked("map", row)["filename"]
        raise self.error("log", log, f"no row of map.json has its token {shown(log['token'])}")

    def faults(self) -> Iterator[str]:
        """Everything that is wrong with any row, one line each: what ``checked`` and ``follow`` would raise, and more."""
        for table in FIELDS:
            yield from self.faults_of(table)
        names = Counter(row["name"] for row in self.records("scene") if printable(row.get("name")))
        for name, count in names.items():
            if count > 1:
                yield f"{self.folder / 'scene'}.json: {count} rows have the name {shown(name)}; fetch the metadata again"
        yield from self._faults_of_files()

    def faults_of(self, table: str) -> Iterator[str]:
        """What is wrong with the rows of one table."""
        links = {name: kind.target for name, kind in FIELDS[table].items() if kind.target}
        for row, record in enumerate(self.rows[table]):
            found = [words] if (words := self._wrong(table, record)) else []
            for name, target in links.items() if type(record) is dict else ():
                value = record.get(name)
                if type(value) is str and value and value not in self._index[target]:
                    found.append(f"{name} {shown(value)} is in no row of {target}.json")
            yield from (str(self.error(table, row, words)) for words in found)

    def _wrong(self, table: str, record: Any) -> str | None:
        """What is wrong with a row by itself, None if nothing."""
        if type(record) is not dict or type(record.get("token")) is not str:
            return f"{shown(record)} is not a record with a token"
        if record["token"] in self._twice.get(table, ()):
            return f"its token {shown(record['token'])} is also that of another row"
        return wrong(FIELDS[table], record)

    def _faults_of_files(self) -> Iterator[str]:
        for row, record in enumerate(self.rows["map"]):
            if type(record) is dict and printable(record.get("filename")):
                if not os.path.isfile(Path(self.dataroot, record["filename"])):
                    yield str(self.error("map", row, f"{record['filename']} is not there"))
        for labels in LABELS:
            path, folder = self.folder / f"{labels}.json", Path(self.dataroot, labels, self.version)
            if path.exists() and not folder.is_dir():
                yield f"{path}: its files in {folder} are missing; fetch them, or delete the table, which nothing here reads"


def _grouped(records: Iterable[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        token = record.get("sample_token")
        if type(token) is str:
            groups[token].append(record)
    return dict(groups)
