"""Reading a scene from nuScenes' tables: its records, checked and turned into log, tracks, rig and sensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from dist4d_env.data.logs import ego_log, interpolate_tracks
from dist4d_env.data.sensors import FileSensorLog
from dist4d_env.data.tables import Record, Tables
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.lidar import NUSCENES_LIDAR, LidarPattern
from dist4d_env.geometry.transforms import pose_from_quaternion, yaw_of
from dist4d_env.scenes.scene import EgoLog, Tracks

LIDAR = "LIDAR_TOP"
RING = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT")
"""nuScenes' cameras, clockwise; a rig has those of them that a data set has in this order, and then its others."""
_NOT_WALKING = ("wheelchair", "stroller", "personal_mobility")  # pedestrians that the detection benchmark leaves out
_LEAST_GAP, _MOST_GAP = 1e-3, 10.0  # s between keyframes
_MOST_SHIFT = 1.0  # s between a sensor's own time and its keyframe's
_MOST_SPEED, _JITTER = 100.0, 2.0  # m/s and m that the ego moves between two of its poses
_MOST_RANGE = 1000.0  # m from the ego to what is annotated


@dataclass(frozen=True)
class SceneLog:
    """What the tables say of a scene. mask, mask_row: its log's map mask, a file below the data set, and its row of map.json."""

    name: str
    token: str
    location: str
    description: str
    mask_row: int
    mask: str
    rig: CameraRig
    ego: EgoLog
    tracks: Tracks
    sensors: FileSensorLog
    lidar: LidarPattern


class SceneReader:
    """Collects one scene's records and turns microseconds and quaternions into seconds and poses. Raises DataError."""

    def __init__(self, tables: Tables, name: str) -> None:
        self.tables, self.name = tables, name
        self.record = tables.checked("scene", tables.scenes[name])
        for row in tables.records("scene"):
            if row is not self.record and row.get("name") == name:
                raise tables.error("scene", row, f"another row has the name {name}")
        self.samples = self._samples()
        self.start: int = self.samples[0]["timestamp"]
        self.keyframe_time = self._seconds(self.samples)
        self.data = [self._sensors_of(sample) for sample in self.samples]  # per keyframe, channel to record
        self.cameras = self._cameras()
        for sample, data in zip(self.samples, self.data, strict=True):
            absent = [channel for channel in (*self.cameras, LIDAR) if channel not in data]
            if absent:
                raise tables.error("sample", sample, f"sample_data.json has no key frame of {', '.join(absent)} for it")

    def _samples(self) -> list[Record]:
        """The scene's keyframes. Raises DataError where the chain is not the scene's, or does not run forward in time."""
        tables, scene = self.tables, self.record
        samples = list(self._chain("sample", tables.follow("scene", scene, "first_sample_token")))
        for sample in samples:
            if sample.get("scene_token", scene["token"]) != scene["token"]:
                raise tables.error("sample", sample, f"scene_token is not that of {self.name}, whose samples lead here")
        for before, after in pairwise(samples):
            if after.get("prev", before["token"]) != before["token"]:
                raise tables.error("sample", after, "prev is not the sample whose next it is")
            gap = (after["timestamp"] - before["timestamp"]) * 1e-6
            if not _LEAST_GAP < gap < _MOST_GAP:
                raise tables.error("sample", after, f"its time is {gap:g} s after the keyframe before it")
        if scene.get("last_sample_token", samples[-1]["token"]) != samples[-1]["token"]:
            raise tables.error("sample", samples[-1], "next ends the scene here, last_sample_token in scene.json elsewhere")
        if scene.get("nbr_samples", len(samples)) != len(samples):
            raise tables.error("scene", scene, f"nbr_samples is {scene['nbr_samples']}, but {len(samples)} samples are linked")
        return samples

    def _sensors_of(self, sample: Record) -> dict[str, Record]:
        """The key frames of a sample by channel."""
        found: dict[str, Record] = {}
        for record in self.tables.keyframes.get(sample["token"], ()):
            channel = self.tables.sensor(self.tables.checked("sample_data", record))["channel"]
            if channel in found:
                raise self.tables.error("sample_data", record, f"another row is the key frame of {channel} for its sample")
            shift = (record["timestamp"] - sample["timestamp"]) * 1e-6
            if abs(shift) > _MOST_SHIFT:
                raise self.tables.error("sample_data", record, f"its time is {shift:g} s from that of its sample")
            found[channel] = record
        return found

    def read(self) -> SceneLog:
        """All that the tables say of the scene."""
        sensors, rig = self._sensors()
        log = self.tables.follow("scene", self.record, "log_token")
        mask_row, mask = self.tables.mask(log)
        return SceneLog(
            name=self.name,
            token=self.record["token"],
            location=log["location"],
            description=self.record["description"],
            mask_row=mask_row,
            mask=mask,
            rig=rig,
            ego=self._ego(),
            tracks=self._tracks(),
            sensors=sensors,
            lidar=replace(NUSCENES_LIDAR, ego_from_lidar=self._mountings(self._lidar_rows[:1])[0]),
        )

    def _cameras(self) -> tuple[str, ...]:
        """The cameras of the scene's keyframes. Raises DataError where there is none."""
        found: set[str] = set()
        for channel, record in (item for data in self.data for item in data.items()):
            is_camera = self.tables.sensor(record)["modality"] == "camera"
            calibration = self.tables.follow("sample_data", record, "calibrated_sensor_token")
            if is_camera != bool(calibration["camera_intrinsic"]):
                words = (
                    "camera_intrinsic is empty, but its sensor is a"
                    if is_camera
                    else "it has a camera_intrinsic, but its sensor is no"
                )
                raise self.tables.error("calibrated_sensor", calibration, f"{words} camera")
            if is_camera and not (record["height"] and record["width"]):
                raise self.tables.error("sample_data", record, f"height {record['height']}, width {record['width']}")
            if is_camera:
                found.add(channel)
        if not found:
            raise self.tables.error("scene", self.record, "sample_data.json has no key frame of any camera for it")
        table = [record["channel"] for record in self.tables.records("sensor") if record.get("channel") in found]
        return tuple(channel for channel in dict.fromkeys((*RING, *table)) if channel in found)

    def _ego(self) -> EgoLog:
        """The log from the ego poses of the LiDAR, sweeps included where there are any."""
        rows = self._lidar_rows
        return ego_log(self._seconds(rows), self._ego_poses(rows), float(self.keyframe_time[-1]))

    def _tracks(self) -> Tracks:
        annotations = list(self._annotations())
        instances = list(dict.fromkeys(record["instance_token"] for _, record in annotations))
        row_of = {token: i for i, token in enumerate(instances)}
        rows = np.array([row_of[record["instance_token"]] for _, record in annotations], int)
        columns = np.array([k for k, _ in annotations], int)
        shape = (len(instances), len(self.samples))
        position, yaw, annotated = np.zeros((*shape, 3)), np.zeros(shape), np.zeros(shape, bool)
        size, names = np.zeros((len(instances), 3)), [""] * len(instances)
        if annotations:
            translation = np.array([record["translation"] for _, record in annotations], float)
            self._in_range(annotations, translation, columns)
            position[rows, columns] = translation
            yaw[rows, columns] = yaw_of(pose_from_quaternion(translation, np.array([r["rotation"] for _, r in annotations])))
            annotated[rows, columns] = True
            size[rows] = np.array([record["size"] for _, record in annotations])[:, [1, 0, 2]]  # nuScenes: width, length, height
        first = {record["instance_token"]: record for _, record in reversed(annotations)}
        for row, token in enumerate(instances):
            instance = self.tables.follow("sample_annotation", first[token], "instance_token")
            names[row] = self.tables.follow("instance", instance, "category_token")["name"]
        return interpolate_tracks(
            instance=tuple(instances),
            name=tuple(names),
            category=np.array([category_index(name) for name in names], np.int8),
            size=size,
            keyframe_time=self.keyframe_time,
            position=position,
            yaw=yaw,
            annotated=annotated,
            duration=float(self.keyframe_time[-1]),
        )

    def _annotations(self) -> Iterator[tuple[int, Record]]:
        """Keyframe and record of every annotation. Raises DataError where one is lost: where a link to it leads nowhere."""
        tables = self.tables
        found = [tables.annotations.get(sample["token"], []) for sample in self.samples]
        own = {record.get("token"): record for records in found for record in records if type(record.get("token")) is str}
        for k, records in enumerate(found):
            seen: set[str] = set()
            for record in records:
                tables.checked("sample_annotation", record)
                instance = record["instance_token"]
                tables.follow("sample_annotation", record, "instance_token")
                if instance in seen:
                    raise tables.error("sample_annotation", record, "another row is of the same instance and sample")
                seen.add(instance)
                for link in ("prev", "next"):
                    if token := record.get(link):
                        other = own.get(token) or tables.follow("sample_annotation", record, link)
                        if other.get("instance_token") != instance or token not in own:
                            raise tables.error("sample_annotation", record, f"{link} leads to another instance or scene")
                yield k, record

    def _in_range(self, annotations: Sequence[tuple[int, Record]], translation: np.ndarray, columns: np.ndarray) -> None:
        ego = self._ego_poses([data[LIDAR] for data in self.data])[columns, :3, 3]
        distance = np.linalg.norm(translation - ego, axis=1)
        if (far := int(distance.argmax())) >= 0 and distance[far] > _MOST_RANGE:
            words = f"translation is {distance[far]:.0f} m from the ego"
            raise self.tables.error("sample_annotation", annotations[far][1], words)

    def _sensors(self) -> tuple[FileSensorLog, CameraRig]:
        images = [[data[channel] for channel in self.cameras] for data in self.data]
        flat = [record for row in images for record in row]
        sizes = [(record["height"], record["width"]) for record in images[0]]
        shape = (len(images), len(self.cameras))
        for record, size in zip(flat, sizes * len(images), strict=True):
            if (record["height"], record["width"]) != size:
                words = f"{record['height']} x {record['width']} pixels, but {size[0]} x {size[1]} earlier in the scene"
                raise self.tables.error("sample_data", record, words)
        ego_from_camera = self._mountings(flat)
        calibrations = [self.tables.follow("sample_data", record, "calibrated_sensor_token") for record in flat]
        intrinsics = np.array([record["camera_intrinsic"] for record in calibrations], float).reshape(*shape, 3, 3)
        lidar = self._lidar_rows
        self._plausible([*flat, *lidar])
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
            lidar_keyframe=np.array([row_of[data[LIDAR]["token"]] for data in self.data]),
        )
        return sensors, CameraRig.stored(self.cameras, intrinsics[0], ego_from_camera[: shape[1]], sizes)

    def _plausible(self, records: list[Record]) -> None:
        """Raises DataError where the ego jumps between the poses of two of the scene's records of sample_data."""
        ordered = sorted(records, key=lambda record: record["timestamp"])
        poses = [self.tables.follow("sample_data", record, "ego_pose_token") for record in ordered]
        place = np.array([pose["translation"] for pose in poses], float)
        step = np.linalg.norm(np.diff(place, axis=0), axis=1)
        jumps = np.flatnonzero(step > _JITTER + _MOST_SPEED * np.diff(self._seconds(ordered)))
        if len(jumps):
            away = np.linalg.norm(place - np.median(place, axis=0), axis=1)
            row = max(jumps[0], jumps[0] + 1, key=lambda i: away[i])
            raise self.tables.error(
                "ego_pose", poses[row], f"translation is {step[jumps[0]]:.0f} m from the pose before or after"
            )

    @cached_property
    def _lidar_rows(self) -> list[Record]:
        """LiDAR records of the scene, key frames and sweeps, in order of time."""
        rows = {}
        for record in self._chain("sample_data", self.data[0][LIDAR]):
            if self.tables.sensor(record)["channel"] != LIDAR:
                raise self.tables.error(
                    "sample_data", record, f"a record of {LIDAR} has it as its next, but it is of another sensor"
                )
            rows[record["token"]] = record
        for data in self.data:  # key frames count even where the chain of a thinned-out data set is broken
            rows.setdefault(data[LIDAR]["token"], data[LIDAR])
        ordered = sorted(rows.values(), key=lambda record: record["timestamp"])
        for before, after in pairwise(ordered):
            if before["timestamp"] == after["timestamp"]:
                raise self.tables.error("sample_data", after, f"another record of {LIDAR} has the same time")
        last = max(self.samples[-1]["timestamp"], self.data[-1][LIDAR]["timestamp"])
        return [record for record in ordered if record["timestamp"] <= last]

    def _chain(self, table: str, record: Record) -> Iterator[Record]:
        """A record and those that follow it by ``next``."""
        seen: set[str] = set()
        while True:
            if record["token"] in seen:
                raise self.tables.error(table, record, "the records run in a circle through it")
            seen.add(record["token"])
            yield record
            if not record["next"]:
                return
            record = self.tables.follow(table, record, "next")

    def _seconds(self, records: Sequence[Record]) -> np.ndarray:
        # Whole microseconds first: a difference of large floats would lose some of them.
        return np.array([record["timestamp"] - self.start for record in records], float) * 1e-6

    def _ego_poses(self, records: Sequence[Record]) -> np.ndarray:
        return _poses([self.tables.follow("sample_data", record, "ego_pose_token") for record in records])

    def _mountings(self, records: Sequence[Record]) -> np.ndarray:
        return _poses([self.tables.follow("sample_data", record, "calibrated_sensor_token") for record in records])


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
