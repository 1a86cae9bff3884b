"""A store of scenes for large tables in nuScenes' format: made once in the user's cache, then a scene is opened in milliseconds.

The first opening goes through the largest tables piece by piece, puts the rows of each scene together, and has helper processes
read every scene (``data.nuscenes_scene``) and store it as arrays, which later processes map into memory and share. A scene that
is wrong is stored as its error. The store belongs to the tables' sizes and dates and to the code that reads them; where one of
them has changed it is made anew. A stopped run goes on.

Layout, below ``scenes/<version>-<digest of the folder>/<digest of tables>-<digest of code>/``: ``index.json`` (written last), a
file for each scene in ``logs/`` by its number in the table, its map and route in ``places/``, and while it is being made the rows
by scene in ``spool/``.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import numpy as np
import shapely

from dist4d_env.data.array_files import Arrays, parts_of, put_together, read_arrays, write_arrays
from dist4d_env.data.depth_files import depth_key
from dist4d_env.data.location import REMEDY, LocationMap
from dist4d_env.data.nuscenes_scene import LIDAR, SceneLog, SceneReader
from dist4d_env.data.tables import Incomplete, Tables, read_json, read_pieces, texts_of
from dist4d_env.errors import DataError
from dist4d_env.processes import alone, cores, follow_input, run_helpers
from dist4d_env.progress import Progress
from dist4d_env.scenes.files import write_text

LARGE = 1 << 24
"""Bytes of tables from which on they are worth a store; smaller ones are read in less than a second."""
TOGETHER = ("sample_data", "ego_pose"), ("sample_annotation",)
"""The largest tables, those that one process goes through: the first tells which rows of the second a scene needs."""
SPOOLED = tuple(chain.from_iterable(TOGETHER))
ScenesOf = Callable[[list[Any]], list[tuple[int, ...]]]
"""For each row of a piece of a table, the scenes that need it."""
_OLD = 7 * 86400.0  # s
_AT_LEAST = 16  # scenes that a helper process is worth its start for

Stamp = tuple[tuple[str, int, int], ...]
"""Name, size in bytes and date in ns of each table."""


def stamp_of(folder: Path) -> Stamp:
    """Changes when a table does, so that a data set made anew in the same place is read anew."""
    found = [(path.name, path.stat()) for path in sorted(folder.glob("*.json")) if path.is_file()]
    return tuple((name, about.st_size, about.st_mtime_ns) for name, about in found)


class StoredScenes:
    """The scenes of one version folder, from its store, which is made if it is not there. Raises DataError, OSError."""

    def __init__(self, dataroot: str, version: str, stamp: Stamp) -> None:
        self.dataroot, self.version, self.folder = dataroot, version, Path(dataroot, version)
        self.cache = _cache() / depth_key(self.folder) / f"{_digest(stamp)}-{_code()}"
        if not (self.cache / "index.json").is_file():
            _make(dataroot, version, self.cache)
        index = read_json(self.cache / "index.json", f"delete {self.cache}, it is made again")
        self.names: dict[str, int] = {name: number for number, name in enumerate(index["names"])}
        self.fault: str | None = index["fault"]

    def read(self, name: str) -> SceneLog:
        """The log of a scene. Raises DataError."""
        path = _log_file(self.cache, self.names[name])
        if not path.is_file():  # somebody has cleared the cache
            (self.cache / "index.json").unlink(missing_ok=True)
            _make(self.dataroot, self.version, self.cache)
        arrays, rest = read_arrays(path)
        if "error" in rest:
            raise DataError(rest["error"].replace(rest["folder"], str(self.folder)))
        return put_together(SceneLog, arrays, rest)

    def place_file(self, name: str, map_file: Path) -> Path:
        """Where the map around a scene and its route are kept, while the map file is what it is."""
        about = map_file.stat()
        digest = _digest(str(map_file.resolve()), about.st_size, about.st_mtime_ns)
        return self.cache / "places" / f"{self.names[name]}-{digest}.safetensors"


def open_location(map_file: Path, location: str) -> LocationMap:
    """A whole map from the cache, where it is put the first time; little of it enters memory. Raises DataError, OSError."""
    about = map_file.stat()
    digest = _digest(str(map_file.resolve()), about.st_size, about.st_mtime_ns, _code())
    path = _cache() / "maps" / f"{location}-{digest}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_suffix(".lock"), f"reading {map_file}"):
            if not path.is_file():
                LocationMap(location, read_json(map_file, REMEDY)).store(path)
    return LocationMap.stored(path)


def _cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("dist4d_env"), "scenes")


@cache
def _code() -> str:
    """A digest of everything that decides what a scene becomes."""
    package = Path(__file__).resolve().parents[1]
    files = [path for name in ("data", "geometry", "scenes") for path in sorted((package / name).glob("*.py"))]
    return _digest(np.__version__, shapely.__version__, *(path.read_bytes() for path in files))


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _log_file(place: Path, number: int) -> Path:
    return place / "logs" / f"{number}.safetensors"


# Making it


def _make(dataroot: str, version: str, place: Path) -> None:
    """Makes a store, or waits for another process that does."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with alone(place.parent / ".lock", f"reading the tables of {dataroot}"):
        if (place / "index.json").is_file():
            return
        for other in place.parent.iterdir():  # of tables that are no more, or of code that nobody has used for long
            stale = other.name.split("-")[0] != place.name.split("-")[0] or time.time() - other.stat().st_mtime > _OLD
            if other.is_dir() and other != place and stale:
                shutil.rmtree(other, ignore_errors=True)
        tables = Tables(dataroot, version, SPOOLED)
        names = list(tables.scenes)
        count = len(names)
        if missing := _missing(place, count):
            spooled = _spooled(tables, place)
            with Progress("reading scenes", "scene", count, count - len(missing)) as progress:
                if spooled:
                    helpers = min(cores(), -(-len(missing) // _AT_LEAST))
                    _run("read", tables, place, [missing[index::helpers] for index in range(helpers)], progress)
                if missing := _missing(place, count):  # by one process that ends thereafter, for whole tables need much memory
                    _run("read whole", tables, place, [missing], progress)
        shutil.rmtree(place / "spool", ignore_errors=True)
        for torn in (place / "logs").glob(".*"):
            torn.unlink()  # by a run that was killed
        write_text(place / "index.json", json.dumps({"names": names, "fault": next(tables.faults_of("scene"), None)}))


def _missing(place: Path, count: int) -> list[int]:
    return [number for number in range(count) if not _log_file(place, number).is_file()]


def _spooled(tables: Tables, place: Path) -> bool:
    """Sees to it that the spool is there; False where tables have to be read whole. Raises DataError where one is broken."""
    missing = [table for table in SPOOLED if not _rows_file(place / "spool", table).is_file()]
    paths = [tables.folder / f"{table}.json" for table in missing]
    with Progress("reading tables", "megabyte", sum(path.stat().st_size >> 20 for path in paths if path.is_file())) as progress:
        groups = [group for group in TOGETHER if not set(group).isdisjoint(missing)]
        _run("spool", tables, place, groups, progress)
    if all(_rows_file(place / "spool", table).is_file() for table in SPOOLED):
        return True
    Tables(tables.dataroot, tables.version)  # raises where one is no list of records at all
    return False


def _run(verb: str, tables: Tables, place: Path, works: Sequence[Any], progress: Progress) -> None:
    """Has helper processes do some work each."""
    common = [verb, str(tables.dataroot), tables.version, str(place)]
    if said := run_helpers("dist4d_env.data.store", [[*common, work] for work in works], progress.update):
        raise DataError(f"{tables.folder}: its scenes could not be read: {said}")


def read_scenes(
    dataroot: str, version: str, place: Path, whole: bool, numbers: Iterable[int], done: Callable[[], object]
) -> None:
    """Reads scenes and stores each, or its error. whole: from whole tables; else those are left out that need other rows than
    the spool has of them."""
    tables = Tables(dataroot, version, () if whole else SPOOLED)
    names = list(tables.scenes)
    spool = None if whole else Spool(place / "spool")
    for number in numbers:
        try:
            scene = tables if spool is None else tables.joined(*spool.rows_of(number))
            arrays, rest = parts_of(SceneReader(scene, names[number]).read())
        except Incomplete:
            continue
        except DataError as error:
            arrays, rest = {}, {"error": str(error), "folder": str(tables.folder)}
        write_arrays(_log_file(place, number), arrays, rest)
        done()


class Spool:
    """Rows of the largest tables by scene."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrays = {table: read_arrays(_rows_file(folder, table))[0] for table in SPOOLED}

    def rows_of(self, scene: int) -> tuple[dict[str, list[Any]], dict[str, list[int]]]:
        """By table, the rows of a scene and which rows of the table these are."""
        rows: dict[str, list[Any]] = {}
        numbers: dict[str, list[int]] = {}
        for table, arrays in self._arrays.items():
            here = slice(*np.searchsorted(arrays["scene"], [scene, scene + 1]))
            start, end = arrays["start"][here], arrays["end"][here]
            follows = start[1:] == end[:-1]  # what lies in a row is read at once
            begins, ends = start[np.append(True, ~follows)[: len(start)]], end[np.append(~follows, True)[: len(end)]]
            with (self._folder / table).open("rb") as file:
                text = b"".join(_part(file, *run) for run in zip(begins.tolist(), ends.tolist(), strict=True))
            rows[table] = json.loads(b"[%b]" % text[1:])
            numbers[table] = arrays["row"][here].tolist()
        return rows, numbers


def _part(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def spool_tables(tables: Tables, folder: Path, names: Sequence[str], done: Callable[[], object]) -> None:
    """Writes the rows of some of the largest tables by scene; ``done`` for every megabyte. Leaves it where a table is no plain
    list of records, or holds a token twice."""
    kept = _Kept(tables)
    scenes_of = {"sample_data": kept.data, "ego_pose": kept.poses, "sample_annotation": kept.annotations}
    folder.mkdir(parents=True, exist_ok=True)
    for table in names:
        try:
            arrays = _spool_table(tables.folder / f"{table}.json", folder / table, scenes_of[table], done)
        except (ValueError, RecursionError):
            return
        write_arrays(_rows_file(folder, table), arrays, {})


def _rows_file(spool: Path, table: str) -> Path:
    return spool / f"{table}.safetensors"


def _spool_table(path: Path, out: Path, scenes_of: ScenesOf, done: Callable[[], object]) -> Arrays:
    """Copies the rows of a table that scenes need; scene, row, start and end of each, by scene."""
    entries, tokens = {name: array("q") for name in ("scene", "row", "length")}, array("q")
    first = read = told = 0
    with out.open("wb") as file:
        for rows, piece in read_pieces(path):
            tokens.extend(map(hash, filter(_is_text, _column(rows, "token"))))
            scenes = scenes_of(rows)
            kept = [i for i, found in enumerate(scenes) if found]
            if kept:
                texts = texts_of(rows, piece)
                kept = [i for i in kept for _ in scenes[i]]
                copied = [texts[i] for i in kept]
                file.write(b"}".join(copied) + b"}")
                entries["scene"].extend(chain.from_iterable(map(scenes.__getitem__, dict.fromkeys(kept))))
                entries["row"].extend([first + i for i in kept])
                entries["length"].extend(map(len, copied))
            first += len(rows)
            read += len(piece)
            if read >> 20 > told:
                told += 1
                done()
    if len(np.unique(np.frombuffer(tokens, np.int64))) < len(tokens):
        raise ValueError("a token twice")  # or two of one hash, which costs time and nothing else
    scene, row, length = (np.frombuffer(column, np.int64) for column in entries.values())
    end = np.cumsum(length + 1)
    order = np.argsort(scene, kind="stable")
    columns = {"scene": scene, "row": row, "start": end - length - 1, "end": end}
    return {name: column[order] for name, column in columns.items()}


class _Kept:
    """Which scenes need rows: those of their samples, of cameras and radars key frames only, and the ego poses of these."""

    def __init__(self, tables: Tables) -> None:
        sample = {row["token"]: row for row in tables.records("sample") if _is_text(row.get("token"))}
        self._scenes: dict[str, tuple[int, ...]] = {}
        for number, scene in enumerate(tables.scenes.values()):
            token, seen = scene.get("first_sample_token"), set()
            while _is_text(token) and token in sample and token not in seen:
                seen.add(token)
                token = sample[token].get("next")
            own = (number,)
            for each in seen:
                self._scenes[each] = (*self._scenes[each], number) if each in self._scenes else own
        sensors = {row["token"]: row for row in tables.records("sensor") if _is_text(row.get("token"))}
        mounted = [row for row in tables.records("calibrated_sensor") if _is_text(row.get("token"))]
        sensor = {row["token"]: sensors.get(_text(row.get("sensor_token")), {}) for row in mounted}
        self._chained = {token for token, about in sensor.items() if about.get("channel") == LIDAR}
        self._posed = {token for token, about in sensor.items() if about.get("modality") != "radar"}
        self._poses: dict[str, tuple[int, ...]] = {}

    def annotations(self, rows: list[Any]) -> list[tuple[int, ...]]:
        """For each row of sample_annotation, or of another table by sample, the scenes that need it."""
        return [self._scenes.get(_text(token), ()) for token in _column(rows, "sample_token")]

    def data(self, rows: list[Any]) -> list[tuple[int, ...]]:
        found = self.annotations(rows)
        columns = (_column(rows, name) for name in ("is_key_frame", "calibrated_sensor_token", "ego_pose_token"))
        for i, (key, mounted, pose) in enumerate(zip(*columns, strict=True)):
            if not key and _text(mounted) not in self._chained:
                found[i] = ()
            elif found[i] and _text(mounted) in self._posed:
                known = self._poses.setdefault(_text(pose), found[i])
                if known is not found[i]:
                    self._poses[_text(pose)] = tuple(sorted({*known, *found[i]}))
        return found

    def poses(self, rows: list[Any]) -> list[tuple[int, ...]]:
        return [self._poses.get(_text(token), ()) for token in _column(rows, "token")]


def _column(rows: list[Any], name: str) -> list[Any]:
    """The values of a field, None where there is none."""
    try:
        return list(map(itemgetter(name), rows))
    except (TypeError, KeyError, IndexError):
        return [row.get(name) if type(row) is dict else None for row in rows]


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str)


def _text(value: Any) -> str:
    """A text, "" for what is none."""
    return value if type(value) is str else ""


def help_with(verb: str, dataroot: str, version: str, place: str, work: list[Any], done: Callable[[], object]) -> None:
    """The work of a helper process."""
    if verb == "spool":
        spool_tables(Tables(dataroot, version, SPOOLED), Path(place, "spool"), work, done)
    else:
        read_scenes(dataroot, version, Path(place), verb == "read whole", work, done)


if __name__ == "__main__":
    follow_input()
    gc.disable()  # it would look through all tables again and again
    verb, dataroot, version, place, work = json.loads(sys.argv[1])
    help_with(verb, dataroot, version, place, work, lambda: print("done", flush=True))
