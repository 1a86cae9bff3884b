"""One 123D log, or a part of a long one, as a scene: microseconds become seconds, the IMU's poses the ego's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.data.logs import ego_log, interpolate_tracks
from dist4d_env.data.py123d.labels import category_index
from dist4d_env.data.py123d.lenses import Lens
from dist4d_env.data.py123d.maps import lights_along, map_around
from dist4d_env.data.py123d.sensors import LogSensors
from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.lidar import NUSCENES_LIDAR, LidarPattern
from dist4d_env.geometry.transforms import invert, pose_from_quaternion, pose_from_xy_yaw, yaw_of
from dist4d_env.scenes.interpolation import interpolate_poses
from dist4d_env.scenes.lights import NO_LIGHTS
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.scenes.routing import route_from_log
from dist4d_env.scenes.scene import EgoLog, Scene, Tracks

PART = 20.0
"""Seconds of a part of a long log."""
KEYFRAMES = 0.5
"""Seconds between frames whose images are remembered, as in nuScenes; logs have ten a second and more."""
_JITTER = 0.05  # s by which keyframes may be closer
_MOST_GAP = 10.0  # s without any frame
_NEEDED = ("ego_state_se3", "box_detections_se3", "traffic_light_detections")
_AGAIN = "convert the log again"


@dataclass(frozen=True)
class LogPart:
    """A log's folder and which of its parts, None for the whole of a short one. root: of the data set."""

    root: Path
    folder: Path
    split: str
    part: int | None = None

    @property
    def name(self) -> str:
        """The scene's name."""
        return self.folder.name if self.part is None else f"{self.folder.name}-{self.part:03}"


def parts_of(root: Path, folder: Path, split: str) -> list[LogPart]:
    """A log, or its parts where it is of 40 s or more. One that cannot be read is one part: loading it says why."""
    try:
        time = _sync_times(folder)
    except DataError:
        time = np.zeros(1)
    count = int((time[-1] - time[0]) // PART)
    return [LogPart(root, folder, split, None if count < 2 else part) for part in range(max(count, 1))]


def _sync_times(folder: Path) -> np.ndarray:
    """(F,) seconds of a log's frames. Raises DataError for a log that is not whole."""
    path = folder / "sync.arrow"
    if not path.exists():
        raise DataError(f"{path} is not there: the conversion of this log was broken off; {_AGAIN}")
    time = _table(path)["sync.timestamp_us"].to_numpy() * 1e-6
    if len(time) < 2:
        raise DataError(f"{path} holds {len(time)} frame{'s' * (len(time) != 1)}, and a drive needs two; {_AGAIN}")
    return time


def _table(path: Path) -> Any:
    """An Arrow table, memory-mapped. Raises DataError."""
    try:
        import pyarrow
    except ImportError as error:
        raise _no_package() from error
    try:
        with pyarrow.memory_map(str(path)) as source:
            return pyarrow.ipc.open_file(source).read_all()
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise DataError(f"{path} cannot be read ({str(error)[:80]}); {_AGAIN}") from error


def _check_tables(folder: Path) -> None:
    """Raises DataError where a table that a log names is broken, which py123d leaves out with a warning alone, or is not there
    and is no sensor's."""
    for name in _table(folder / "sync.arrow").column_names:
        path = folder / f"{name}.arrow"
        if path.exists():
            _table(path)
        elif name in _NEEDED:
            raise DataError(f"{path} is not there; fetch it, or {_AGAIN}")


def _no_package() -> DataError:
    return DataError("123D logs are read with py123d, which is not installed: pip install 'dist4d_env[py123d]'")


def load_part(part: LogPart, version: str, require_map: bool) -> Scene:
    """The scene of a part. Raises DataError."""
    _sync_times(part.folder)
    _check_tables(part.folder)
    try:
        import py123d.api  # noqa: F401
    except ImportError as error:
        raise _no_package() from error
    return _LogReader(part, version).read(require_map)


class _LogReader:
    """Collects the modalities of the frames of one part. ``time`` is in seconds since its first keyframe."""

    def __init__(self, part: LogPart, version: str) -> None:
        self.part, self.version = part, version
        self.log = self._open()
        stamps = np.array([stamp.time_us for stamp in self._get(self.log.get_all_iteration_timestamps)])
        first = 0 if part.part is None else np.searchsorted(stamps, stamps[0] + part.part * PART * 1e6)
        whole = part.part is None or part.part == (stamps[-1] - stamps[0]) // round(PART * 1e6) - 1
        last = len(stamps) if whole else np.searchsorted(stamps, stamps[first] + PART * 1e6, side="right")
        frames = np.arange(first, last)
        self.cameras = self._cameras()
        self.seen = np.array([[self._stamp(frame, "camera", camera) >= 0 for camera in self.cameras] for frame in frames], bool)
        self.seen = self.seen.reshape(len(frames), len(self.cameras))
        chosen = keyframes(stamps[frames] * 1e-6, self.seen.all(1))
        self.frames, self.seen = frames[chosen[0] :], self.seen[chosen[0] :]
        self.keyframes = chosen - chosen[0]
        self.start = int(stamps[self.frames[0]])
        self.time = self._seconds(stamps[self.frames])
        gap = float(np.diff(self.time).max(initial=0.0))
        if len(self.time) < 2 or gap > _MOST_GAP:
            raise DataError(f"{len(self.time)} frames, {gap:.1f} s apart: no drive; {_AGAIN}, or leave it out")

    def _open(self) -> Any:
        from py123d.api.scene.arrow.arrow_scene_builder import ArrowSceneBuilder
        from py123d.api.scene.scene_filter import SceneFilter
        from py123d.common.execution import SequentialExecutor

        # Taken for a split, the log's folder is the only one that is searched.
        folder = self.part.folder
        builder = ArrowSceneBuilder(folder.parent, self.part.root / "maps")
        found = self._get(builder.get_scenes, SceneFilter(split_names=[folder.name]), SequentialExecutor())
        if len(found) != 1:
            raise DataError(f"{folder}: a file of it is cut off or missing; {_AGAIN}")
        return found[0]

    def _get(self, read: Callable[..., Any], *where: Any) -> Any:
        """What py123d gives; DataError, with whatever its own code runs into, where it fails."""
        try:
            return read(*where)
        except Exception as error:
            words = f"{type(error).__name__}: {error}"[:120]
            raise DataError(f"{self.part.folder} cannot be read ({words}); {_AGAIN}") from error

    def _column(self, frame: int, column: str, *modality: Any) -> Any:
        return self._get(self.log.get_modality_column_at_iteration, int(frame), column, *modality)

    def _stamp(self, frame: int, *modality: Any) -> int:
        """Microseconds at which a modality was recorded that a frame has, -1 where it has none."""
        found = self._column(frame, "timestamp_us", *modality)
        return -1 if found is None else int(found)

    def _seconds(self, stamps: np.ndarray) -> np.ndarray:
        return (np.asarray(stamps) - self.start) * 1e-6

    def read(self, require_map: bool) -> Scene:
        ego, log = self._ego(), self.log.get_log_metadata()
        path, yaw = ego.global_from_ego[:, :2, 3], yaw_of(ego.global_from_ego)
        location = log.location or log.dataset
        scene_map = self._map(location, path, require_map)
        route = route_from_log(path, yaw, scene_map)
        sensors, rig, lidar = self._sensors()
        shown = [] if scene_map is None else list(self._lights())
        return Scene(
            name=self.part.name,
            token=f"{self.part.split}/{self.part.name}",
            location=location,
            description="",
            dataroot=str(self.part.root),
            version=self.version,
            rig=rig,
            ego=ego,
            tracks=self._tracks(),
            map=scene_map,
            route=route,
            sensors=sensors,
            dataset="py123d",
            lidar=lidar,
            lights=lights_along([s for _, s in shown], np.array([t for t, _ in shown]), ego.time, scene_map, route.lanes)
            if scene_map is not None and shown
            else NO_LIGHTS,
        )

    # --- ego

    @cached_property
    def _imu_from_ego(self) -> np.ndarray:
        """(4, 4): the ego's origin is on the ground below the rear axle, its axes are the IMU's.

        Where a data set gives no place of the axle apart from the centre's, the axle is half a wheel base behind the centre and
        the IMU on the ground.
        """
        car = self._get(self.log.get_ego_state_se3_metadata)
        if car is None:
            raise DataError(f"{self.part.folder} has no poses of the ego; {_AGAIN}")
        axle, centre = (np.asarray(pose.array, float)[:3] for pose in (car.rear_axle_to_imu_se3, car.center_to_imu_se3))
        pose = np.eye(4)
        if (axle == centre).all():
            pose[:3, 3] = axle - (car.wheel_base / 2, 0.0, 0.0)
        else:
            pose[:3, 3] = axle[0], axle[1], centre[2] - car.height / 2
        return pose

    @cached_property
    def _poses(self) -> tuple[np.ndarray, np.ndarray]:
        """Times (N,) and global_from_ego (N, 4, 4) of every pose of the log around the part."""
        from py123d.datatypes.modalities.base_modality import ModalityType

        ends = (int(self.start + seconds * 1e6) for seconds in (-1.0, self.time[-1] + 1.0))
        found = list(
            self._get(lambda: list(self.log.get_modality_between_timestamps(*ends, ModalityType.EGO_STATE_SE3, inclusive="both")))
        )
        stamps, rows = np.unique([state.timestamp.time_us for state in found], return_index=True)
        if len(stamps) < 2:
            raise DataError(f"{self.part.folder} has {len(stamps)} poses of the ego, and a drive needs two; {_AGAIN}")
        imu = self._pose(np.array([state.imu_se3.array for state in found])[rows], "the ego's poses")
        return self._seconds(stamps), imu @ self._imu_from_ego

    def _pose(self, values: np.ndarray, what: str) -> np.ndarray:
        """Poses (..., 4, 4) from (..., 7) x, y, z and quaternions w, x, y, z. Raises DataError for what is none."""
        values = np.asarray(values, float)
        if not np.isfinite(values).all() or not (np.linalg.norm(values[..., 3:], axis=-1) > 1e-6).all():
            raise DataError(f"{self.part.folder}: {what} are not finite, or no rotations; {_AGAIN}")
        return pose_from_quaternion(values[..., :3], values[..., 3:])

    def _ego(self) -> EgoLog:
        return ego_log(*self._poses, float(self.time[-1]))

    def _ego_at(self, time: np.ndarray) -> np.ndarray:
        return interpolate_poses(*self._poses, time)

    # --- tracks

    def _tracks(self) -> Tracks:
        times, columns, tokens, labels, box = self._boxes()
        index = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
        rows = np.array([index[token] for token in tokens], int)
        shape = (len(index), len(times))
        position, yaw, annotated, size = np.zeros((*shape, 3)), np.zeros(shape), np.zeros(shape, bool), np.zeros((len(index), 3))
        pose = self._pose(box[:, :7], "boxes of objects")
        position[rows, columns], yaw[rows, columns], annotated[rows, columns] = pose[:, :3, 3], yaw_of(pose), True
        size[rows] = box[:, 7:]
        first = dict(zip(reversed(tokens), reversed(labels), strict=True))
        names = tuple(first[token].name for token in index)
        return interpolate_tracks(
            instance=tuple(index),
            name=names,
            category=np.array([category_index(type(first[token]).__name__, first[token].name) for token in index], np.int8),
            size=size,
            keyframe_time=times,
            position=position,
            yaw=yaw,
            annotated=annotated,
            duration=float(self.time[-1]),
        )

    def _boxes(self) -> tuple[np.ndarray, np.ndarray, list[str], list[Any], np.ndarray]:
        """Times (K,) of annotations; and of N boxes the index of their time, token, label, and pose and size (N, 10)."""
        metadata = self._get(self.log.get_box_detections_se3_metadata)
        modality = "box_detections_se3"
        frames = {} if metadata is None else {self._stamp(frame, modality): frame for frame in self.frames.tolist()}
        stamps = sorted(stamp for stamp in frames if stamp >= 0)
        columns: list[int] = []
        tokens: list[str] = []
        labels: list[Any] = []
        boxes: list[list[float]] = []
        for column, stamp in enumerate(stamps):
            found = [self._column(frames[stamp], name, modality) for name in ("track_token", "label", "bounding_box_se3")]
            tokens += [str(token) for token in found[0]]
            labels += [self._get(metadata.box_detection_label_class, label) for label in found[1]]
            boxes += found[2]
            columns += [column] * len(found[0])
        times = self._seconds(np.array(stamps or [self.start]))
        return times, np.array(columns, int), tokens, labels, np.array(boxes, float).reshape(-1, 10)

    # --- map and lights

    def _map(self, location: str, path: np.ndarray, required: bool) -> SceneMap | None:
        found, log = self._get(self.log.get_map_api), self.log.get_log_metadata()
        if found is None:
            # nuScenes' logs do not say that they have one; the maps beside theirs do.
            others = self.part.root / "maps" / log.dataset
            if required and (log.map_metadata is not None or others.is_dir()):
                raise DataError(f"{others / f'{log.dataset}_{log.location}.arrow'}: no such map; convert the maps, too")
            return None
        if not found.get_available_map_layers():
            if required:
                raise DataError(f"the map of {location} below {self.part.root} is empty: its conversion failed; convert it again")
            return None
        return self._get(map_around, found, location, path)

    def _lights(self) -> Iterator[tuple[float, dict[int, str]]]:
        """Time and status by lane for every frame that tells."""
        if self._get(self.log.get_traffic_light_detections_metadata) is None:
            return
        for frame, time in zip(self.frames.tolist(), self.time.tolist(), strict=True):
            found = self._get(self.log.get_traffic_light_detections_at_iteration, frame)
            if found is not None:
                yield time, {light.lane_id: light.status.name for light in found}

    # --- sensors

    def _cameras(self) -> dict[Any, Any]:
        """py123d's cameras and their metadata in ring order: clockwise, the first left of the front."""
        found = self._get(self.log.get_camera_metadatas)

        def clockwise(item: tuple[Any, Any]) -> float:
            ahead = pose_from_quaternion(np.zeros(3), item[1].camera_to_imu_se3.array[3:])[:2, 2]
            return float((np.pi / 2 - np.arctan2(ahead[1], ahead[0])) % (2 * np.pi))

        return dict(sorted(found.items(), key=clockwise))

    def _camera_names(self) -> tuple[str, ...]:
        """The data set's own, those of py123d where they are no names of files or two are alike."""
        own = [metadata.camera_name for metadata in self.cameras.values()]
        usable = len(set(own)) == len(own) and all(name and name.replace("-", "_").isidentifier() for name in own)
        return tuple(own) if usable else tuple(camera.name for camera in self.cameras)

    def _sensors(self) -> tuple[LogSensors, CameraRig, LidarPattern]:
        names, lenses = self._camera_names(), tuple(Lens.of(metadata) for metadata in self.cameras.values())
        sizes = tuple((int(metadata.height), int(metadata.width)) for metadata in self.cameras.values())
        mounts = np.array([metadata.camera_to_imu_se3.array for metadata in self.cameras.values()]).reshape(-1, 7)
        ego_from_camera = invert(self._imu_from_ego) @ self._pose(mounts, "the cameras' mountings")
        frames, there = self.frames[self.keyframes], self.seen[self.keyframes]
        time = np.repeat(self.time[self.keyframes, None], len(names), 1)
        poses = self._ego_at(time.ravel()).reshape(*time.shape, 4, 4) @ ego_from_camera
        apart = [self._in_files("camera", camera) for camera in self.cameras]
        files = [[f"{self.part.name}/{name} of frame {frame}" for name in names] for frame in frames]
        for k, frame in enumerate(frames.tolist()):
            for view, camera in enumerate(self.cameras):
                if there[k, view]:
                    time[k, view] = self._seconds(np.array(self._stamp(frame, "camera", camera)))
                    pose = self._column(frame, "camera_to_global_se3", "camera", camera)
                    poses[k, view] = self._pose(np.array(pose, float), "the cameras' poses")
                    files[k][view] = self._file(frame, apart[view], "camera", camera) or files[k][view]
        intrinsics = np.array([lens.intrinsics for lens in lenses]).reshape(-1, 3, 3)
        lidar = self._lidar()
        sensors = LogSensors(
            scene=self.part.name,
            dataroot=str(self.part.root),
            keyframe_time=self.time[self.keyframes],
            camera_names=names,
            image_files=tuple(map(tuple, files)),
            image_size=sizes,
            intrinsics=np.broadcast_to(intrinsics, (len(frames), *intrinsics.shape)),
            global_from_camera=poses,
            camera_time=time,
            log=self.log,
            frames=frames,
            there=there,
            camera_ids=tuple(self.cameras),
            lenses=lenses,
            **{name: value for name, value in lidar.items() if name != "ego_from_lidar"},
        )
        mount = lidar["ego_from_lidar"][:3, 3]
        pattern = (
            NUSCENES_LIDAR
            if lidar["lidar_id"] is None
            else LidarPattern(
                NUSCENES_LIDAR.elevations, NUSCENES_LIDAR.azimuths, pose_from_xy_yaw(mount[0], mount[1], -np.pi / 2, mount[2])
            )
        )
        return sensors, CameraRig.stored(names, intrinsics, ego_from_camera, sizes or ((0, 0),)), pattern

    def _in_files(self, *modality: Any) -> bool:
        """Whether a log has names of files where the data of a modality would be."""
        key = self._get(self.log.get_modality_metadata, *modality).modality_key
        return str(_table(self.part.folder / f"{key}.arrow").schema.field(f"{key}.data").type) == "string"

    def _file(self, frame: int, apart: bool, *modality: Any) -> str:
        """The path of the file that a modality's data is kept in, "" where it is not ``apart`` from the log.

        Files lie below a folder that an environment variable of py123d names; without it the path says so.
        """
        from py123d.common.runtime import get_dataset_paths

        name = self._column(frame, "data", *modality) if apart else None
        if name is None:
            return ""
        dataset = self.log.get_log_metadata().dataset
        return str(Path(get_dataset_paths().get_sensor_root(dataset) or f"/$(sensor root of {dataset})", name))

    def _lidar(self) -> dict[str, Any]:
        """The fields of ``LogSensors`` that are about its LiDAR, and where that is mounted."""
        from py123d.datatypes.sensors import LidarID

        found = self._get(self.log.get_lidar_metadatas)
        chosen = LidarID.LIDAR_TOP if LidarID.LIDAR_TOP in found else next(iter(found), None)
        imu_from_lidar, swept, time, apart = np.eye(4), [], np.zeros(0), False
        if chosen is not None:
            imu_from_lidar = self._pose(found[chosen].lidar_to_imu_se3.array, "the LiDAR's mounting")
            merged = self._get(self.log.get_modality_metadata, "lidar", LidarID.LIDAR_MERGED) is not None
            modality = "lidar", LidarID.LIDAR_MERGED if merged else chosen
            apart = self._in_files(*modality)
            turns = {
                f: (self._column(f, "timestamp_us", *modality), self._column(f, "end_timestamp_us", *modality))
                for f in self.frames
            }
            swept = [frame for frame, (start, _) in turns.items() if start is not None]
            # Points are in the frame that the IMU has at one instant of the turn: that of the log's frame, if it is in it.
            begin, end = self._seconds(np.array([turns[frame] for frame in swept], float).reshape(-1, 2)).T
            time = np.clip(self.time[np.searchsorted(self.frames, swept)], begin, np.fmax(begin, end))
        ego_from_lidar = invert(self._imu_from_ego) @ imu_from_lidar
        nearest = np.full(len(self.keyframes), -1)
        if len(time):
            away = np.abs(time - self.time[self.keyframes, None])
            nearest = np.where(away.min(1) < KEYFRAMES / 2, away.argmin(1), -1)
        return {
            "lidar_id": chosen,
            "sweep_frames": np.array(swept, int),
            "lidar_from_imu": invert(imu_from_lidar),
            "lidar_files": tuple(self._file(f, apart, *modality) or f"{self.part.name}/LiDAR of frame {f}" for f in swept),
            "global_from_lidar": self._ego_at(time) @ ego_from_lidar,
            "lidar_time": time,
            "lidar_keyframe": nearest,
            "ego_from_lidar": ego_from_lidar,
        }


def keyframes(time: np.ndarray, complete: np.ndarray) -> np.ndarray:
    """Indices of frames at times (F,) that are ``KEYFRAMES`` apart or a little more, those that are complete (F,) bool before
    others."""
    apart = KEYFRAMES - _JITTER
    chosen: list[int] = []
    for i in range(len(time)):
        if chosen and time[i] - time[chosen[-1]] < apart:
            continue
        soon = time < time[i] + apart
        if complete[i] or not (complete[i:] & soon[i:]).any():
            chosen.append(i)
    return np.array(chosen, int)
