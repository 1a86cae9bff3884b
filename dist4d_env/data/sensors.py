"""The sensor files of a scene: images, curated depth and LiDAR, opened only when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from os.path import isfile  # False for whatever cannot be looked at, where Path.is_file may raise
from pathlib import Path

import numpy as np

from dist4d_env.data.body_masks import find_mask, read_mask
from dist4d_env.data.depth_files import depth_roots, read_depth
from dist4d_env.data.images import read_image, resample_nearest
from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import covering_intrinsics
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.scenes.scene import LidarSweep

FARTHEST_RETURNS = 1000.0
"""Metres within which half of a LiDAR's returns are: none reaches as far, but one in millimetres does."""


@dataclass(frozen=True)
class FileSensorLog:
    """Implements ``SensorLog`` on files. Values only, so it pickles.

    keyframe_time: (K,); camera_names: V; image_files: K rows of V paths below dataroot; image_size: (V, 2) stored rows, columns;
    intrinsics: (K, V, 3, 3) for the stored sizes; global_from_camera: (K, V, 4, 4) and camera_time: (K, V), each camera at its
    own stamp; lidar_files, global_from_lidar (L, 4, 4), lidar_time (L,): key frames and sweeps in order of time; lidar_keyframe:
    (K,) key frames' rows.
    """

    scene: str
    dataroot: str
    keyframe_time: np.ndarray
    camera_names: tuple[str, ...]
    image_files: tuple[tuple[str, ...], ...]
    image_size: tuple[tuple[int, int], ...]
    intrinsics: np.ndarray
    global_from_camera: np.ndarray
    camera_time: np.ndarray
    lidar_files: tuple[str, ...]
    global_from_lidar: np.ndarray
    lidar_time: np.ndarray
    lidar_keyframe: np.ndarray

    def has_images(self, keyframe: int) -> bool:
        """Whether every camera's image of a keyframe exists."""
        return all(self.has_image(keyframe, view) for view in range(len(self.camera_names)))

    def has_image(self, keyframe: int, view: int) -> bool:
        """Whether the image of one camera exists."""
        return isfile(Path(self.dataroot, self.image_files[self._checked(keyframe)][view]))

    def has_depth(self, keyframe: int) -> bool:
        """Whether curated depth exists for every camera of a keyframe."""
        roots = depth_roots(self.dataroot)
        names = [self.depth_name(keyframe, view) for view in range(len(self.camera_names))]
        return all(any(isfile(root / name) for root in roots) for name in names)

    def has_lidar(self, keyframe: int) -> bool:
        """Whether the LiDAR file of a keyframe exists."""
        return self._has_sweep(int(self.lidar_keyframe[self._checked(keyframe)]))

    def _has_sweep(self, row: int) -> bool:
        return isfile(Path(self.dataroot, self.lidar_files[row]))

    def stamps(self) -> Iterator[tuple[str, int, int]]:
        """Name, size in bytes and date in ns of each image, depth image and mask of the car's body that is there: another where a
        file has changed."""
        keyframes = range(len(self.keyframe_time))
        for view, channel in enumerate(self.camera_names):
            each = ((self.image_path(keyframe, view), self.find_depth(keyframe, view)) for keyframe in keyframes)
            for path in (find_mask(self.dataroot, self.scene, channel), *chain.from_iterable(each)):
                if path is not None and isfile(path):
                    about = path.stat()
                    yield path.name, about.st_size, about.st_mtime_ns

    def image_path(self, keyframe: int, view: int) -> Path:
        """Where the image of a camera (index into ``camera_names``) belongs, whether or not it exists."""
        return Path(self.dataroot, self.image_files[self._checked(keyframe)][view])

    def depth_name(self, keyframe: int, view: int) -> Path:
        """The place of a camera's curated depth below any depth root."""
        return Path(self.camera_names[view], f"{self.image_path(keyframe, view).stem}.png")

    def find_depth(self, keyframe: int, view: int) -> Path | None:
        """The curated depth file of a camera, from the first depth root that has it."""
        name = self.depth_name(keyframe, view)
        return next((root / name for root in depth_roots(self.dataroot) if isfile(root / name)), None)

    def rgb(self, keyframe: int, height: int, width: int) -> np.ndarray:
        """(V, height, width, 3) uint8 in the rig's order, area-resampled through ``ImageTransform.cover``."""
        self._require_images(keyframe)
        return np.stack([self.image(keyframe, view, height, width) for view in range(len(self.camera_names))])

    def image(self, keyframe: int, view: int, height: int, width: int) -> np.ndarray:
        """(height, width, 3) uint8 of one camera."""
        return read_image(self.image_path(keyframe, view), self.image_size[view], height, width)

    def cameras(self, keyframe: int) -> tuple[np.ndarray, np.ndarray]:
        """global_from_camera (V, 4, 4) and time (V,), each camera with its own stamp and ego pose."""
        keyframe = self._checked(keyframe)
        return self.global_from_camera[keyframe], self.camera_time[keyframe]

    def depth(self, keyframe: int, height: int, width: int) -> np.ndarray:
        """(V, height, width) float32 curated depth in metres, nearest-sampled."""
        return np.stack([self.depth_of(keyframe, view, height, width) for view in range(len(self.camera_names))])

    def body(self, height: int, width: int, root: Path | None = None) -> np.ndarray | None:
        """(V, height, width) bool, what the cameras see of their own car, nearest-sampled; None where no mask shows any.

        root: of depth, as of ``find_mask``.
        """
        masks = np.zeros((len(self.camera_names), height, width), bool)
        for view, (channel, size) in enumerate(zip(self.camera_names, self.image_size, strict=True)):
            path = find_mask(self.dataroot, self.scene, channel, root)
            if path is not None:
                changed = path.stat()
                masks[view] = _body(path, (changed.st_mtime_ns, changed.st_size), size, height, width)
        return masks if masks.any() else None

    def rgbd(self, keyframe: int, height: int, width: int) -> RGBDFrame:
        """Images with curated depth and masks of the car's own body (nearest-sampled, never interpolated)."""
        poses, time = self.cameras(keyframe)
        return RGBDFrame(
            rgb=self.rgb(keyframe, height, width),
            depth=self.depth(keyframe, height, width),
            intrinsics=covering_intrinsics(self.intrinsics[keyframe], self.image_size, (height, width)),
            global_from_camera=poses,
            time=time,
            body=self.body(height, width),
        )

    def lidar(self, keyframe: int) -> LidarSweep:
        """The LiDAR points of a keyframe."""
        return self._read_lidar(int(self.lidar_keyframe[self._checked(keyframe)]))

    def sweeps(self, keyframe: int, before: int, after: int) -> tuple[LidarSweep, ...]:
        """The LiDAR sweeps (key frames and sweeps whose files exist) from ``before`` earlier to ``after`` later ones."""
        return tuple(map(self._read_lidar, self.sweep_rows(keyframe, before, after)))

    def sweep_rows(self, keyframe: int, before: int, after: int) -> list[int]:
        """The rows of ``sweeps`` among ``lidar_files``."""
        here = int(self.lidar_keyframe[self._checked(keyframe)])
        rows = range(max(here - before, 0), min(here + after, len(self.lidar_files) - 1) + 1)
        return [row for row in rows if self._has_sweep(row)]

    def _checked(self, keyframe: int) -> int:
        if not 0 <= keyframe < len(self.keyframe_time):
            raise DataError(f"{self.scene}: no keyframe {keyframe}; there are 0 to {len(self.keyframe_time) - 1}")
        return keyframe

    def _require_images(self, keyframe: int) -> None:
        if self.has_images(keyframe):
            return
        names = enumerate(self.image_files[keyframe])
        missing = next((name for view, name in names if not self.has_image(keyframe, view)), "of any camera")
        with_images = [k for k in range(len(self.keyframe_time)) if self.has_images(k)]
        others = f"keyframes with images: {_ranges(with_images)}" if with_images else "no keyframe of it has images"
        raise DataError(
            f"{self.scene}: keyframe {keyframe} has no image {missing} in {self.dataroot}; fetch its sensor files ({others})"
        )

    def depth_of(self, keyframe: int, view: int, height: int, width: int) -> np.ndarray:
        """(height, width) float32 curated depth of one camera in metres, nearest-sampled."""
        path = self.find_depth(self._checked(keyframe), view)
        if path is None:
            name, places = self.depth_name(keyframe, view), ", ".join(str(root) for root in depth_roots(self.dataroot))
            raise DataError(
                f"{self.scene}: no curated depth {name} of keyframe {keyframe} in {places}; make it with "
                f"`python -m dist4d_env prepare --dataroot {self.dataroot} --scenes {self.scene}`"
            )
        return resample_nearest(read_depth(path, self.image_size[view]), self.image_size[view], height, width)

    def _read_lidar(self, row: int) -> LidarSweep:
        path = Path(self.dataroot, self.lidar_files[row])
        try:
            values = np.fromfile(path, np.float32)
        except OSError as error:
            raise DataError(f"{path}: no such LiDAR file; fetch the sensor files of {self.scene}") from error
        if len(values) == 0 or len(values) % 5 or path.stat().st_size % 4:
            raise DataError(f"{path}: not whole rows of x, y, z, intensity, ring in 32-bit floats; fetch the file again")
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0]) // 5
            raise DataError(f"{path}: point {row} is not finite; fetch the file again")
        points = values.reshape(-1, 5)[:, :4].copy()
        away = float(np.median(np.linalg.norm(points[:, :3], axis=1)))
        if away > FARTHEST_RETURNS:
            raise DataError(f"{path}: half of its points are over {away:.0f} m away; x, y and z are metres, not millimetres")
        return LidarSweep(points, self.global_from_lidar[row], float(self.lidar_time[row]))


@lru_cache(maxsize=256)
def _body(path: Path, changed: tuple[int, int], stored: tuple[int, int], height: int, width: int) -> np.ndarray:
    """A mask of the body at a size: every keyframe asks for it. changed: time and size, so that a new file is read."""
    return resample_nearest(read_mask(path, stored), stored, height, width)


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] as "0-2, 5"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
