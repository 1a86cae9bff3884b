"""nuScenes-format data sets, real or built in, read through nuscenes-devkit. The only module that imports the devkit."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.data.contract import resolve_scenes
from dist4d_env.data.location import LocationMap
from dist4d_env.data.logs import ego_log, interpolate_tracks
from dist4d_env.data.sensors import FileSensorLog
from dist4d_env.errors import DataError
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.lidar import NUSCENES_LIDAR
from dist4d_env.geometry.transforms import pose_from_quaternion, yaw_of
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.scenes.routing import route_from_log
from dist4d_env.scenes.scene import EgoLog, Scene, Tracks

TABLES = (
    "category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose", "log", "scene", "sample",
    "sample_data", "sample_annotation", "map",
)  # fmt: skip
LIDAR = "LIDAR_TOP"
RING = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT")
"""nuScenes' cameras, clockwise; a rig has those of them that a data set has in this order, and then its others."""
_NOT_WALKING = ("wheelchair", "stroller", "personal_mobility")  # pedestrians that the detection benchmark leaves out
Record = dict[str, Any]


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
        return tuple(self._tables.scenes)

    def splits(self) -> dict[str, tuple[str, ...]]:
        """Splits that hold scenes of this data set: its own ``splits.json``, else the official ones."""
        return {name: tuple(s for s in scenes if s in self._tables.scenes) for name, scenes in self._tables.splits.items()}

    def scene_names(self, scenes: str | Sequence[str]) -> list[str]:
        """Names for a split ("train", "val", "mini_val", ...), "all", a scene's name, or a list of these. Raises DataError."""
        return resolve_scenes(self, scenes)

    def load(self, name: str, require_map: bool = True) -> Scene:
        """Reads a scene: log, tracks, map and route; sensor files stay closed. Scenes are kept, a second call is free.

        Raises DataError for an unknown scene, tables that contradict each other, or a missing map; with ``require_map=False`` a
        missing map file gives a scene whose ``map`` is None.
        """
        if name not in self._tables.scenes:
            self.scene_names(name)  # raises, unless it is a split
            raise DataError(f"{name!r} is a split, not a scene; take one of scene_names({name!r})")
        return _load_scene(self._tables, name, require_map)

    @property
    def _tables(self) -> _Tables:
        return _open_tables(self.dataroot, self.version, _stamp(Path(self.dataroot, self.version)))


class _Tables:
    """The devkit's tables of one data set, with what is found once and used by every scene."""

    def __init__(self, dataroot: str, version: str) -> None:
        self.dataroot, self.version = dataroot, version
        self.devkit = _read_tables(dataroot, version)
        self.scenes: dict[str, Record] = {record["name"]: record for record in self.devkit.scene}
        self.splits = self._read_splits()

    def _read_splits(self) -> dict[str, list[str]]:
        from nuscenes.utils.splits import create_splits_scenes

        for path in (Path(self.dataroot, "splits.json"), Path(self.dataroot, self.version, "splits.json")):
            if path.is_file():
                splits = _read_json(path)
                if not isinstance(splits, dict) or not all(isinstance(names, list) for names in splits.values()):
                    raise DataError(f"{path}: a split file maps names of splits to lists of scene names")
                return splits
        official: dict[str, list[str]] = create_splits_scenes()
        return official

    @cached_property
    def category_of_instance(self) -> dict[str, str]:
        names = {record["token"]: record["name"] for record in self.devkit.category}
        return {record["token"]: names[record["category_token"]] for record in self.devkit.instance}


def _only_version(root: Path) -> str:
    versions = sorted(path.name for path in root.glob("v*") if path.is_dir())
    if len(versions) == 1:
        return versions[0]
    if versions:
        raise DataError(f"{root} holds several versions ({', '.join(versions)}); choose one with version=")
    raise DataError(f"{root} holds no folder of tables such as v1.0-trainval; is it the right folder?")


def _stamp(folder: Path) -> int:
    """Changes when a table does, so that a data set made anew in the same place is read anew."""
    return max((path.stat().st_mtime_ns for path in folder.glob("*.json")), default=0)


@lru_cache(maxsize=4)
def _open_tables(dataroot: str, version: str, stamp: int) -> _Tables:
    return _Tables(dataroot, version)


def _read_tables(dataroot: str, version: str) -> Any:
    folder = Path(dataroot, version)
    if not folder.is_dir():
        there = ", ".join(sorted(path.name for path in Path(dataroot).glob("v*") if path.is_dir())) or "none"
        raise DataError(f"{dataroot}: no version {version!r} (there: {there})")
    for table in TABLES:
        if not (folder / f"{table}.json").is_file():
            raise DataError(f"{folder / table}.json: table missing; nuScenes-format data has thirteen, fetch the metadata again")
    from nuscenes.nuscenes import NuScenes

    try:
        return NuScenes(version=version, dataroot=dataroot, verbose=False)
    except json.JSONDecodeError as error:
        broken = next((table for table in TABLES if not _is_json(folder / f"{table}.json")), "?")
        raise DataError(f"{folder / broken}.json: not valid JSON ({error}); fetch the metadata again") from error
    except KeyError as error:
        raise DataError(f"{folder}: the tables refer to {error}, which is not there; fetch the metadata again") from error
    except (AssertionError, IndexError) as error:
        raise DataError(f"{folder}: {error or 'a table is empty'}; fetch the metadata (and map masks) again") from error


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error


@lru_cache(maxsize=64)
def _load_scene(tables: _Tables, name: str, require_map: bool) -> Scene:
    try:
        return _SceneReader(tables, name).read(require_map)
    except KeyError as error:
        raise DataError(
            f"{name} in {tables.dataroot}/{tables.version}: the tables lack {error}; fetch the metadata again"
        ) from error


class _SceneReader:
    """Collects one scene's records and turns microseconds and quaternions into seconds and poses."""

    def __init__(self, tables: _Tables, name: str) -> None:
        self.tables, self.name = tables, name
        self.get = tables.devkit.get
        self.record = tables.scenes[name]
        self.samples = self._chain("sample", self.record["first_sample_token"])
        self.start: int = self.samples[0]["timestamp"]
        self.keyframe_time = self._seconds(self.samples)
        self.cameras = self._cameras()
        for sample in self.samples:
            absent = [channel for channel in (*self.cameras, LIDAR) if channel not in sample["data"]]
            if absent:
                missing = ", ".join(absent)
                raise DataError(f"{name}: sample_data.json has no row of {missing} for the keyframe at {sample['timestamp']}")

    def read(self, require_map: bool) -> Scene:
        sensors, rig = self._sensors()
        ego = self._ego()
        path, yaw = ego.global_from_ego[:, :2, 3], yaw_of(ego.global_from_ego)
        location = self.get("log", self.record["log_token"])["location"]
        scene_map = self._map(location, path, require_map)
        return Scene(
            name=self.name,
            token=self.record["token"],
            location=location,
            description=self.record["description"],
            dataroot=self.tables.dataroot,
            version=self.tables.version,
            rig=rig,
            ego=ego,
            tracks=self._tracks(),
            map=scene_map,
            route=route_from_log(path, yaw, scene_map),
            sensors=sensors,
            dataset="nuscenes",
            lidar=replace(NUSCENES_LIDAR, ego_from_lidar=self._mountings(self._lidar_rows[:1])[0]),
        )

    def _cameras(self) -> tuple[str, ...]:
        """The cameras of the scene's keyframes. Raises DataError where there is none."""
        records = [self.get("sample_data", token) for sample in self.samples for token in sample["data"].values()]
        found = {record["channel"] for record in records if record["sensor_modality"] == "camera"}
        if not found:
            raise DataError(f"{self.name}: sample_data.json has no row of any camera; fetch the metadata again")
        table = [record["channel"] for record in self.tables.devkit.sensor]
        return tuple(channel for channel in dict.fromkeys((*RING, *table)) if channel in found)

    def _map(self, location: str, path: np.ndarray, required: bool) -> SceneMap | None:
        file = Path(self.tables.dataroot, "maps", "expansion", f"{location}.json")
        if not file.is_file():
            if not required:
                return None
            raise DataError(f"{file}: no map for {self.name}; put the nuScenes map expansion (v1.3) into {file.parent}")
        return _open_location(self.tables.dataroot, location, file.stat().st_mtime_ns).around(path)

    def _ego(self) -> EgoLog:
        """The log from the ego poses of the LiDAR, sweeps included where there are any."""
        rows = self._lidar_rows
        return ego_log(self._seconds(rows), self._ego_poses(rows), float(self.keyframe_time[-1]))

    def _tracks(self) -> Tracks:
        annotations = [
            (k, self.get("sample_annotation", token)) for k, sample in enumerate(self.samples) for token in sample["anns"]
        ]
        instances = list(dict.fromkeys(record["instance_token"] for _, record in annotations))
        row_of = {token: i for i, token in enumerate(instances)}
        rows = np.array([row_of[record["instance_token"]] for _, record in annotations], int)
        columns = np.array([k for k, _ in annotations], int)
        shape = (len(instances), len(self.samples))
        position, yaw, annotated = np.zeros((*shape, 3)), np.zeros(shape), np.zeros(shape, bool)
        size = np.zeros((len(instances), 3))
        if annotations:
            translation = np.array([record["translation"] for _, record in annotations])
            position[rows, columns] = translation
            yaw[rows, columns] = yaw_of(pose_from_quaternion(translation, np.array([r["rotation"] for _, r in annotations])))
            annotated[rows, columns] = True
            size[rows] = np.array([record["size"] for _, record in annotations])[:, [1, 0, 2]]  # nuScenes: width, length, height
        names = tuple(self.tables.category_of_instance[token] for token in instances)
        return interpolate_tracks(
            instance=tuple(instances),
            name=names,
            category=np.array([category_index(name) for name in names], np.int8),
            size=size,
            keyframe_time=self.keyframe_time,
            position=position,
            yaw=yaw,
            annotated=annotated,
            duration=float(self.keyframe_time[-1]),
        )

    def _sensors(self) -> tuple[FileSensorLog, CameraRig]:
        images = [[self.get("sample_data", sample["data"][channel]) for channel in self.cameras] for sample in self.samples]
        flat = [record for row in images for record in row]
        sizes = [(record["height"], record["width"]) for record in images[0]]
        shape = (len(images), len(self.cameras))
        for record, size in zip(flat, sizes * len(images), strict=True):
            if (record["height"], record["width"]) != size:
                raise DataError(f"{self.name}: images of {record['channel']} have several sizes; each camera has one in a scene")
        ego_from_camera = self._mountings(flat)
        calibrations = [self.get("calibrated_sensor", record["calibrated_sensor_token"]) for record in flat]
        intrinsics = np.array([record["camera_intrinsic"] for record in calibrations], float).reshape(*shape, 3, 3)
        lidar = self._lidar_rows
        row_of = {record["token"]: i for i, record in enumerate(lidar)}
        sensors = FileSensorLog(
            scene=self.name,
            dataroot=self.tables.dataroot,
            keyframe_time=self.keyframe_time,
            camera_names=self.cameras,
            image_files=tuple(tuple(record["filename"] for record in row) for row in images),
            image_size=tuple(sizes),
            intrinsics=intrinsics,
            global_from_camera=(self._ego_poses(flat) @ ego_from_camera).reshape(*shape, 4, 4),
            camera_time=self._seconds(flat).reshape(shape),
            lidar_files=tuple(record["filename"] for record in lidar),
            global_from_lidar=self._ego_poses(lidar) @ self._mountings(lidar),
            lidar_time=self._seconds(lidar),
            lidar_keyframe=np.array([row_of[sample["data"][LIDAR]] for sample in self.samples]),
        )
        return sensors, CameraRig.stored(self.cameras, intrinsics[0], ego_from_camera[: shape[1]], sizes)

    @cached_property
    def _lidar_rows(self) -> list[Record]:
        """LiDAR records of the scene, key frames and sweeps, in order of time."""
        first = self.get("sample_data", self.samples[0]["data"][LIDAR])
        rows = {record["token"]: record for record in self._chain("sample_data", first["token"])}
        for sample in self.samples:  # key frames count even where the chain of a thinned-out data set is broken
            rows.setdefault(sample["data"][LIDAR], self.get("sample_data", sample["data"][LIDAR]))
        ordered = sorted(rows.values(), key=lambda record: record["timestamp"])
        last = self.samples[-1]["timestamp"]
        return [record for record in ordered if record["timestamp"] <= last]

    def _chain(self, table: str, token: str) -> list[Record]:
        records: list[Record] = []
        seen: set[str] = set()
        while token:
            if token in seen:
                raise DataError(f"{self.name}: the records of {table}.json run in a circle at {token}; fetch the metadata again")
            seen.add(token)
            records.append(self.get(table, token))
            token = records[-1]["next"]
        return records

    def _seconds(self, records: Sequence[Record]) -> np.ndarray:
        # Whole microseconds first: a difference of large floats would lose some of them.
        return np.array([record["timestamp"] - self.start for record in records], float) * 1e-6

    def _ego_poses(self, records: Sequence[Record]) -> np.ndarray:
        return _poses([self.get("ego_pose", record["ego_pose_token"]) for record in records])

    def _mountings(self, records: Sequence[Record]) -> np.ndarray:
        return _poses([self.get("calibrated_sensor", record["calibrated_sensor_token"]) for record in records])


def category_index(name: str) -> int:
    """Index into CATEGORIES of a full nuScenes category name: its ten detection classes, all else "other"."""
    head, _, rest = name.partition(".")
    kind, _, detail = rest.partition(".")
    if head == "human" and kind == "pedestrian":
        kind = "other" if detail in _NOT_WALKING else kind
    elif head in ("vehicle", "movable_object"):
        kind = {"construction": "construction_vehicle", "trafficcone": "traffic_cone"}.get(kind, kind)
    else:
        kind = "other"
    return CATEGORIES.index(kind if kind in CATEGORIES else "other")


def _poses(records: Sequence[Record]) -> np.ndarray:
    """(N, 4, 4) from records with translation and rotation."""
    translations, rotations = ([record[key] for record in records] for key in ("translation", "rotation"))
    return pose_from_quaternion(np.array(translations, float), np.array(rotations, float))


@lru_cache(maxsize=8)
def _open_location(dataroot: str, location: str, stamp: int) -> LocationMap:
    """The map of a location, once per process."""
    from nuscenes.map_expansion.map_api import NuScenesMap

    file = Path(dataroot, "maps", "expansion", f"{location}.json")
    try:
        tables = NuScenesMap(dataroot=dataroot, map_name=location)
    except KeyError as error:
        raise DataError(f"{file}: the map lacks {error}; fetch the map expansion (v1.3) again") from error
    except ValueError as error:
        raise DataError(f"{file}: not valid JSON ({error}); fetch the map expansion (v1.3) again") from error
    except AssertionError as error:
        raise DataError(f"{file}: {location!r} is none of the four nuScenes locations that the devkit can read") from error
    except Exception as error:  # the devkit raises a bare Exception for old map files
        raise DataError(f"{file}: {error}; fetch the map expansion (v1.3) again") from error
    try:
        return LocationMap(location, tables.json_obj)
    except KeyError as error:
        raise DataError(f"{file}: the map refers to {error}, which is not there; fetch the map expansion (v1.3) again") from error
