"""nuScenes-format data sets, real or built in. The only module that looks into nuscenes-devkit, for the official splits.

The devkit's own readers of tables and maps stop at the first row of any scene that is wrong; here it is an error of that scene.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Protocol

from dist4d_env.data.contract import resolve_scenes
from dist4d_env.data.lights import read_lights
from dist4d_env.data.location import REMEDY, LocationMap
from dist4d_env.data.nuscenes_scene import LIDAR as LIDAR
from dist4d_env.data.nuscenes_scene import RING as RING
from dist4d_env.data.nuscenes_scene import SceneLog, SceneReader
from dist4d_env.data.nuscenes_scene import category_index as category_index
from dist4d_env.data.place_files import read_place, write_place
from dist4d_env.data.store import LARGE, Stamp, StoredScenes, open_location, stamp_of
from dist4d_env.data.tables import Tables, read_json, row_error, shown, tokens
from dist4d_env.errors import DataError
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.scenes.route import Route
from dist4d_env.scenes.routing import route_from_log
from dist4d_env.scenes.scene import Scene

OFFICIAL = "train", "val", "test", "mini_train", "mini_val", "train_detect", "train_track"
"""Splits of nuScenes, by the names that the devkit gives them."""


@dataclass(frozen=True)
class NuScenesDataset:
    """A nuScenes-format data set. Pickles as its two names; the tables are kept once per process.

    version: the folder of tables below dataroot, found by itself where there is one ``v*`` folder. Raises DataError.
    """

    dataroot: str
    version: str = ""

    def __post_init__(self) -> None:
        if not self.version:
            object.__setattr__(self, "version", _only_version(Path(self.dataroot)))

    @classmethod
    def recognises(cls, dataroot: str | os.PathLike[str]) -> bool:
        """Whether some folder below holds tables of samples."""
        return any(Path(dataroot).glob("*/sample*.json"))

    def names(self) -> tuple[str, ...]:
        """Every scene's name, in the order of the table."""
        return tuple(self._scenes.names)

    def splits(self) -> dict[str, tuple[str, ...]]:
        """Splits that hold scenes of this data set: its own ``splits.json``, else the official ones."""
        here = self._scenes
        return {name: tuple(s for s in scenes if s in here.names) for name, scenes in here.splits.items()}

    def scene_names(self, scenes: str | Sequence[str]) -> list[str]:
        """Names for a split ("train", "val", "mini_val", ...), "all", a scene's name, or a list of these. Raises DataError."""
        try:
            return resolve_scenes(self, scenes)
        except DataError as error:
            broken = self._scenes.fault  # perhaps what was asked for
            raise (error if broken is None else DataError(f"no scenes {shown(scenes)}, but {broken}")) from error

    def load(self, name: str, require_map: bool = True) -> Scene:
        """Reads a scene: log, tracks, map and route; sensor files stay closed. Scenes are kept, a second call is free.

        Raises DataError for an unknown scene, tables that contradict each other, or a missing map; with ``require_map=False`` a
        missing map file gives a scene whose ``map`` is None.
        """
        if name not in self._scenes.names:
            self.scene_names(name)  # raises, unless it is a split
            raise DataError(f"{name!r} is a split, not a scene; take one of scene_names({name!r})")
        return _load_scene(self._scenes, name, require_map)

    def faults(self) -> list[str]:
        """Everything that is wrong with any row of the tables, one line each; takes a while. Not every scene uses every row."""
        return list(Tables(self.dataroot, self.version).faults())

    @property
    def _scenes(self) -> _Scenes:
        return _open(self.dataroot, self.version, stamp_of(Path(self.dataroot, self.version)))


class _Scenes(Protocol):
    """The scenes of one version folder. splits: names by split; fault: what is wrong with the first broken row of scene.json."""

    dataroot: str
    version: str
    folder: Path
    splits: dict[str, list[str]]

    def __hash__(self) -> int: ...
    @property
    def names(self) -> Collection[str]: ...
    @property
    def fault(self) -> str | None: ...
    def read(self, name: str) -> SceneLog: ...
    def place(self, log: SceneLog, map_file: Path) -> tuple[SceneMap, Route]: ...


class _WholeTables(Tables):
    """Scenes from tables that are kept whole."""

    splits: dict[str, list[str]]

    @property
    def names(self) -> Collection[str]:
        return self.scenes

    @property
    def fault(self) -> str | None:
        return next(self.faults_of("scene"), None)

    def read(self, name: str) -> SceneLog:
        return SceneReader(self, name).read()

    def place(self, log: SceneLog, map_file: Path) -> tuple[SceneMap, Route]:
        return _around(_open_location(map_file, log.location, map_file.stat().st_mtime_ns), log)


class _Stored(StoredScenes):
    """Scenes from their store, with the map around each."""

    splits: dict[str, list[str]]

    def place(self, log: SceneLog, map_file: Path) -> tuple[SceneMap, Route]:
        path = self.place_file(log.name, map_file)
        if path.is_file():
            return read_place(path)
        found = _around(open_location(map_file, log.location), log)
        with suppress(OSError):  # of a cache that others have made and that is full or read-only: it is cut out again then
            write_place(path, *found)
        return found


def _around(location: LocationMap, log: SceneLog) -> tuple[SceneMap, Route]:
    here = location.around(log.ego.global_from_ego[:, :2, 3])
    return here, _route(log, here)


def _route(log: SceneLog, scene_map: SceneMap | None) -> Route:
    return route_from_log(log.ego.global_from_ego[:, :2, 3], yaw_of(log.ego.global_from_ego), scene_map)


def _splits(dataroot: str, folder: Path) -> dict[str, list[str]]:
    """Names of scenes by split: the data set's own, else the official ones."""
    for path in (Path(dataroot, "splits.json"), folder / "splits.json"):
        if os.path.isfile(path):
            own = read_json(path, "write it again, or delete it")
            if type(own) is not dict or not all(tokens(names) for names in own.values()):
                raise DataError(f"{path}: a split file maps names of splits to lists of scene names; write it again")
            return dict(own)
    return official_splits()


def _only_version(root: Path) -> str:
    versions = sorted(path.name for path in root.glob("v*") if path.is_dir())
    if len(versions) == 1:
        return versions[0]
    if versions:
        raise DataError(f"{root} holds several versions ({', '.join(versions)}); choose one with version=")
    raise DataError(f"{root} holds no folder of tables such as v1.0-trainval; is it the right folder?")


@lru_cache(maxsize=4)
def _open(dataroot: str, version: str, stamp: Stamp) -> _Scenes:
    if not Path(dataroot, version).is_dir():
        there = ", ".join(sorted(path.name for path in Path(dataroot).glob("v*") if path.is_dir())) or "none"
        raise DataError(f"{dataroot}: no version {version!r} (there: {there})")
    splits = _splits(dataroot, Path(dataroot, version))
    large = sum(size for _, size, _ in stamp) >= LARGE
    scenes = _Stored(dataroot, version, stamp) if large else _WholeTables(dataroot, version)
    scenes.splits = splits
    return scenes


@lru_cache(maxsize=64)
def _load_scene(scenes: _Scenes, name: str, require_map: bool) -> Scene:
    try:
        return _completed(scenes, scenes.read(name), require_map)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _completed(scenes: _Scenes, log: SceneLog, require_map: bool) -> Scene:
    """A scene with what lies beside the tables: its map and route, and its lights."""
    dataroot = scenes.dataroot
    if not os.path.isfile(Path(dataroot, log.mask)):
        raise row_error(scenes.folder, "map", log.mask_row, f"{log.mask} is not there")
    file = Path(dataroot, "maps", "expansion", f"{log.location}.json")
    scene_map: SceneMap | None = None
    if os.path.isfile(file):
        scene_map, route = scenes.place(log, file)
    elif require_map:
        raise DataError(f"{file}: no such map; put the nuScenes map expansion (v1.3) into {file.parent}")
    else:
        route = _route(log, None)
    return Scene(
        name=log.name,
        token=log.token,
        location=log.location,
        description=log.description,
        dataroot=dataroot,
        version=scenes.version,
        rig=log.rig,
        ego=log.ego,
        tracks=log.tracks,
        map=scene_map,
        route=route,
        sensors=replace(log.sensors, dataroot=dataroot),
        dataset="nuscenes",
        lidar=log.lidar,
        lights=read_lights(dataroot, log.name, log.ego.time),
    )


@lru_cache(maxsize=8)
def _open_location(map_file: Path, location: str, stamp: int) -> LocationMap:
    """The map of a location, once per process."""
    return LocationMap(location, read_json(map_file, REMEDY))


@cache
def official_splits() -> dict[str, list[str]]:
    """nuScenes' own splits, from the assignments in the devkit's module: importing the devkit takes seconds and 100 MB."""
    import ast
    from importlib.util import find_spec

    spec = find_spec("nuscenes")
    assert spec is not None and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], "utils", "splits.py")
    assigned: list[ast.stmt] = [line for line in ast.parse(path.read_bytes()).body if isinstance(line, ast.Assign)]
    lists: dict[str, list[str]] = {}
    exec(compile(ast.Module(assigned, []), str(path), "exec"), {"sorted": sorted, "list": list, "set": set}, lists)
    return {name: lists[name] for name in OFFICIAL}
