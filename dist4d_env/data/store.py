"""A store of scenes for large tables in nuScenes' format: made once in the user's cache, then a scene is opened in milliseconds.

The first opening goes through the largest tables piece by piece, puts the rows of each scene together, and has helper processes
read every scene (``data.nuscenes_scene``) and store it as arrays, which later processes map into memory and share. A scene that
is wrong is stored as its error. The store belongs to the tables' sizes and dates and to the code that reads them; where one of
them has changed it is made anew. A stopped run goes on.

Layout, below ``scenes/<version>-<digest of the folder>/<digest of tables and code>/``: ``index.json`` (written last), a file for
each scene in ``logs/`` by its number in the table, its map and route in ``places/``, and while it is being made the rows by
scene in ``spool/``.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.data.array_files import Arrays, parts_of, put_together, read_arrays, write_arrays
from dist4d_env.data.depth_files import depth_key
from dist4d_env.data.location import REMEDY, LocationMap
from dist4d_env.data.nuscenes_scene import LIDAR, SceneLog, SceneReader
from dist4d_env.data.tables import Incomplete, Tables, read_json, read_pieces, texts_of
from dist4d_env.errors import DataError
from dist4d_env.processes import cores, follow_input, run_helpers
from dist4d_env.progress import Progress
from dist4d_env.scenes.files import write_text

LARGE = 1 << 24
"""Bytes of tables from which on they are worth a store; smaller ones are read in less than a second."""
SPOOLED = "sample_data", "ego_pose", "sample_annotation"
"""The largest tables; the first tells which rows of the second a scene needs."""
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
        self.cache = _cache() / depth_key(self.folder) / _digest(stamp, _code())
        if not (self.cache / "index.json").is_file():
            _make(dataroot, version, self.cache)
        index = read_json(self.cache / "index.json", f"delete {self.cache}, it is made again")
        self.names: dict[str, int] = {name: number for number, name in enumerate(index["names"])}
        self.fault: str | None = index["fault"]

    def read(self, name: str) -> SceneLog:
        """The log of a scene. Raises DataError."""
        arrays, rest = read_arrays(_log_file(self.cache, self.names[name]))
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
    from filelock import FileLock

    about = map_file.stat()
    digest = _digest(str(map_file.resolve()), about.st_size, about.st_mtime_ns, _code())
    path = _cache() / "maps" / f"{location}-{digest}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
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
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _log_file(place: Path, number: int) -> Path:
    return place / "logs" / f"{number}.safetensors"


# Making it


def _make(dataroot: str, version: str, place: Path) -> None:
    """Makes a store, or waits for another process that does."""
    from filelock import FileLock

    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.parent / ".lock"):
        if (place / "index.json").is_file():
            return
        for other in place.parent.iterdir():  # of other tables or code
            if other.is_dir() and other != place:
                shutil.rmtree(other, ignore_errors=True)
        tables = Tables(dataroot, version, SPOOLED)
        index = {"names": list(tables.scenes), "fault": next(tables.faults_of("scene"), None)}
        count = len(index["names"])
        if missing := _missing(place, count):
            spooled = _spooled(tables, place / "spool")
            common = [str(dataroot), version, str(place)]
            with Progress("reading scenes", "scene", count, count - len(missing)) as progress:
                if spooled:
                    _read_all([*common, False], missing, progress, cores())
                if missing := _missing(place, count):  # by one process that ends thereafter, for whole tables need much memory
                    _read_all([*common, True], missing, progress, 1)
        shutil.rmtree(place / "spool", ignore_errors=True)
        for torn in (place / "logs").glob(".*"):
            torn.unlink()  # by a run that was killed
        write_text(place / "index.json", json.dumps(index))


def _missing(place: Path, count: int) -> list[int]:
    return [number for number in range(count) if not _log_file(place, number).is_file()]


def _spooled(tables: Tables, spool: Path) -> bool:
    """Sees to it that the spool is there; False where tables have to be read whole. Raises DataError where one is broken."""
    if not (spool / "rows.safetensors").is_file():
        try:
            _spool(tables, spool)
        except (ValueError, RecursionError):  # no plain list of records, or none at all
            Tables(tables.dataroot, tables.version)  # raises for the latter
            return False
    return True


def _read_all(common: list[Any], missing: list[int], progress: Progress, most: int) -> None:
    """Has helper processes read scenes, ``most`` of them at most."""
    count = min(most, -(-len(missing) // _AT_LEAST))
    works = [[*common, missing[index::count]] for index in range(count)]
    if said := run_helpers("dist4d_env.data.store", works, progress.update):
        raise DataError(f"{Path(common[0], common[1])}: its scenes could not be read: {said}")


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
        self._arrays, _ = read_arrays(folder / "rows.safetensors")

    def rows_of(self, scene: int) -> tuple[dict[str, list[Any]], dict[str, list[int]]]:
        """By table, the rows of a scene and which rows of the table these are."""
        rows, numbers = {}, {}
        for table in SPOOLED:
            of_scene = self._arrays[f"{table}.scene"]
            here = slice(*np.searchsorted(of_scene, [scene, scene + 1]))
            numbers[table] = self._arrays[f"{table}.row"][here].tolist()
            places = zip(
                self._arrays[f"{table}.start"][here].tolist(), self._arrays[f"{table}.length"][here].tolist(), strict=True
            )
            with (self._folder / table).open("rb") as file:
                rows[table] = json.loads(b"[%b]" % b",".join(_parts(file, places)))
        return rows, numbers


def _parts(file: Any, places: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Parts of a file by start and length; neighbours are read at once."""
    begin = end = 0
    lengths: list[int] = []

    def read() -> Iterator[bytes]:
        file.seek(begin)
        content, at = file.read(end - begin), 0
        for length in lengths:
            yield content[at : at + length]
            at += length

    for start, length in places:
        if start != end:
            yield from read()
            begin, lengths = start, []
        end = start + length
        lengths.append(length)
    yield from read()


def _spool(tables: Tables, folder: Path) -> None:
    """Writes the rows of the largest tables by scene. Raises ValueError or RecursionError where one of them is no plain list of
    records, or holds a token twice; OSError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kept, arrays = _Kept(tables), {}
    paths = {table: tables.folder / f"{table}.json" for table in SPOOLED}
    total = sum(path.stat().st_size for path in paths.values() if path.is_file())
    with Progress("reading tables", "megabyte", total >> 20) as progress:
        for table, scenes_of in {"sample_data": kept.data, "ego_pose": kept.pose, "sample_annotation": kept.annotation}.items():
            entries = _spool_table(paths[table], folder / table, scenes_of, progress)
            arrays |= {f"{table}.{name}": array for name, array in entries.items()}
    write_arrays(folder / "rows.safetensors", arrays, {})


def _spool_table(path: Path, out: Path, scenes_of: Callable[[Mapping[str, Any]], Sequence[int]], progress: Progress) -> Arrays:
    """Copies the rows of a table that scenes need; scene, row, start and length of each, by scene."""
    entries, tokens = array("q"), array("q")
    first = at = read = 0
    with out.open("wb") as file:
        for rows, piece in read_pieces(path):
            text = None
            texts: list[bytes] = []
            for i, row in enumerate(rows):
                if type(row) is not dict:
                    continue
                if type(token := row.get("token")) is str:
                    tokens.append(hash(token))
                for scene in scenes_of(row):
                    text = text or texts_of(rows, piece)
                    texts.append(text(i))
                    entries.extend((scene, first + i, at, len(texts[-1])))
                    at += len(texts[-1])
            file.write(b"".join(texts))
            first += len(rows)
            progress.update(((read + len(piece)) >> 20) - (read >> 20))
            read += len(piece)
    if len(np.unique(np.frombuffer(tokens, np.int64))) < len(tokens):
        raise ValueError("a token twice")  # or two of one hash, which costs time and nothing else
    columns = np.frombuffer(entries, np.int64).reshape(-1, 4)
    columns = columns[np.argsort(columns[:, 0], kind="stable")]
    return dict(zip(("scene", "row", "start", "length"), columns.T, strict=True))


class _Kept:
    """Which scenes need a row: the rows of their samples, of cameras and radars key frames only, and the ego poses of these."""

    def __init__(self, tables: Tables) -> None:
        sample = {row["token"]: row for row in tables.records("sample") if type(row.get("token")) is str}
        self._scenes: dict[str, tuple[int, ...]] = {}
        for number, scene in enumerate(tables.scenes.values()):
            token, seen = scene.get("first_sample_token"), set()
            while type(token) is str and token in sample and token not in seen:
                seen.add(token)
                token = sample[token].get("next")
            for each in seen:
                self._scenes[each] = (*self._scenes.get(each, ()), number)
        sensor = {_text(row, "token"): row for row in tables.records("sensor")}
        self._sensor = {
            _text(row, "token"): sensor.get(_text(row, "sensor_token"), {}) for row in tables.records("calibrated_sensor")
        }
        self._poses: dict[str, tuple[int, ...]] = {}

    def annotation(self, row: Mapping[str, Any]) -> Sequence[int]:
        return self._scenes.get(_text(row, "sample_token"), ())

    def data(self, row: Mapping[str, Any]) -> Sequence[int]:
        found = self._scenes.get(_text(row, "sample_token"), ())
        if found:
            sensor = self._sensor.get(_text(row, "calibrated_sensor_token"), {})
            if not row.get("is_key_frame") and sensor.get("channel") != LIDAR:
                return ()
            pose = _text(row, "ego_pose_token")
            if sensor.get("modality") != "radar" and self._poses.setdefault(pose, found) is not found:
                self._poses[pose] = tuple(sorted({*self._poses[pose], *found}))
        return found

    def pose(self, row: Mapping[str, Any]) -> Sequence[int]:
        return self._poses.get(_text(row, "token"), ())


def _text(row: Mapping[str, Any], name: str) -> str:
    """The text of a field, "" where it is none."""
    value = row.get(name)
    return value if type(value) is str else ""


if __name__ == "__main__":
    follow_input()
    gc.disable()  # it would look through all tables again and again
    root, folder_name, store, from_whole, given = json.loads(sys.argv[1])
    read_scenes(root, folder_name, Path(store), from_whole, given, lambda: print("scene", flush=True))
