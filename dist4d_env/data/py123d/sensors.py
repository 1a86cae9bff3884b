"""Images and LiDAR of a 123D log, read from its memory-mapped tables, or from the files that these name."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.data.images import read_image, resample_area
from dist4d_env.data.py123d.lenses import Lens
from dist4d_env.data.sensors import FileSensorLog
from dist4d_env.errors import DataError
from dist4d_env.scenes.scene import LidarSweep


@dataclass(frozen=True)
class LogSensors(FileSensorLog):
    """Implements ``SensorLog`` on a log.

    log: py123d's scene of the whole log; frames: (K,) its iterations at keyframes; there: (K, V) whether the log has an image;
    camera_ids: V; lenses: V; image_files: an absolute path where an image is in a file of its own, else a name. lidar_id: of
    the LiDAR, None where there is none; sweep_frames: (L,) iterations of its sweeps; lidar_from_imu: (4, 4), from the frame that
    points are stored in; lidar_files: as for images; lidar_keyframe: -1 where a keyframe has no sweep near it.
    """

    log: Any
    frames: np.ndarray
    there: np.ndarray
    camera_ids: tuple[Any, ...]
    lenses: tuple[Lens, ...]
    lidar_id: Any
    sweep_frames: np.ndarray
    lidar_from_imu: np.ndarray

    def has_images(self, keyframe: int) -> bool:
        return bool(self.camera_names) and super().has_images(keyframe)

    def has_image(self, keyframe: int, view: int) -> bool:
        path = self.image_path(keyframe, view)
        return bool(self.there[keyframe, view]) and (not _apart(self.image_files[keyframe][view]) or isfile(path))

    def depth_name(self, keyframe: int, view: int) -> Path:
        stamp = round(float(self.camera_time[self._checked(keyframe), view]) * 1e6)
        return Path(self.camera_names[view], f"{self.scene}__{self.camera_names[view]}__{stamp}.png")

    def image(self, keyframe: int, view: int, height: int, width: int) -> np.ndarray:
        path, lens, stored = self.image_path(keyframe, view), self.lenses[view], self.image_size[view]
        frame, camera = int(self.frames[keyframe]), self.camera_ids[view]
        if not lens.bent:
            if _apart(self.image_files[keyframe][view]):
                return read_image(path, stored, height, width)
            content = self._read(path, self.log.get_modality_column_at_iteration, frame, "data", "camera", camera)
            if isinstance(content, bytes):
                return read_image(path, stored, height, width, content)
        pixels = self._read(path, self.log.get_camera_at_iteration, frame, camera).rgb_image
        if pixels.shape[:2] != stored:
            raise DataError(f"{path}: the image is {pixels.shape[:2]}, its log says {stored}; convert the log again")
        return resample_area(lens.straighten(pixels), stored, height, width)

    def has_lidar(self, keyframe: int) -> bool:
        row = int(self.lidar_keyframe[self._checked(keyframe)])
        return row >= 0 and self._has_sweep(row)

    def _has_sweep(self, row: int) -> bool:
        return not _apart(self.lidar_files[row]) or isfile(self.lidar_files[row])

    def lidar(self, keyframe: int) -> LidarSweep:
        if not self.has_lidar(keyframe):
            raise DataError(f"{self.scene}: keyframe {keyframe} has no LiDAR in {self.dataroot}; use another one")
        return super().lidar(keyframe)

    def sweeps(self, keyframe: int, before: int, after: int) -> tuple[LidarSweep, ...]:
        return super().sweeps(keyframe, before, after) if self.has_lidar(keyframe) else ()

    def _read_lidar(self, row: int) -> LidarSweep:
        path, frame = Path(self.dataroot, self.lidar_files[row]), int(self.sweep_frames[row])
        from py123d.datatypes.sensors import LidarID

        found = self._read(path, self.log.get_lidar_at_iteration, frame, self.lidar_id, missing=True)
        if found is None:  # several sensors in one cloud that does not tell which point is whose
            found = self._read(path, self.log.get_lidar_at_iteration, frame, LidarID.LIDAR_MERGED)
        points = np.asarray(found.xyz, float) @ self.lidar_from_imu[:3, :3].T + self.lidar_from_imu[:3, 3]
        if not np.isfinite(points).all():
            raise DataError(f"{path}: a LiDAR point is not finite; convert the log again")
        intensity = np.zeros(len(points)) if found.intensity is None else found.intensity
        cloud = np.column_stack([points, intensity]).astype(np.float32)
        return LidarSweep(cloud, self.global_from_lidar[row], float(self.lidar_time[row]))

    def _read(self, path: Path, read: Any, *where: Any, missing: bool = False) -> Any:
        """What py123d gives. Raises DataError where it fails, with whatever its own code runs into, or gives nothing."""
        try:
            found = read(*where)
        except Exception as error:
            words = f"{type(error).__name__}: {error}"[:120]
            raise DataError(f"{path}: cannot be read ({words}); fetch the sensor files, or convert the log again") from error
        if found is None and not missing:
            raise DataError(f"{path}: the log holds none; convert it again, or use another keyframe")
        return found


def _apart(name: str) -> bool:
    """Whether a name is the path of a file apart from the log."""
    return Path(name).is_absolute()
