"""A town scene's exact labels made as wrong as a real data set's: depth, poses of remembered frames, annotated boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.scenes.scene import LidarSweep, Scene, SensorLog, Tracks
from dist4d_env.training.depth_noise import with_depth_noise


@dataclass(frozen=True)
class NoisySensors:
    """A sensor log whose depth or whose poses are wrong, the same way each time; everything else is the log's own.

    depth: relative standard deviation; global_from_ego: (K, 4, 4) true ego poses of the keyframes; drift: (K, 4, 4) errors in the
    ego's frame.
    """

    exact: SensorLog
    seed: int
    depth: float
    global_from_ego: np.ndarray
    drift: np.ndarray

    @property
    def keyframe_time(self) -> np.ndarray:
        return self.exact.keyframe_time

    def has_images(self, keyframe: int) -> bool:
        return self.exact.has_images(keyframe)

    def has_depth(self, keyframe: int) -> bool:
        return self.exact.has_depth(keyframe)

    def has_lidar(self, keyframe: int) -> bool:
        return self.exact.has_lidar(keyframe)

    def rgb(self, keyframe: int, height: int, width: int) -> np.ndarray:
        return self.exact.rgb(keyframe, height, width)

    def cameras(self, keyframe: int) -> tuple[np.ndarray, np.ndarray]:
        poses, time = self.exact.cameras(keyframe)
        ego = self.global_from_ego[keyframe]
        return ego @ self.drift[keyframe] @ np.linalg.inv(ego) @ poses, time

    def rgbd(self, keyframe: int, height: int, width: int) -> RGBDFrame:
        frame = replace(self.exact.rgbd(keyframe, height, width), global_from_camera=self.cameras(keyframe)[0])
        if not self.depth:
            return frame
        return with_depth_noise(frame, self.depth, np.random.default_rng([self.seed, keyframe]))

    def lidar(self, keyframe: int) -> LidarSweep:
        return self.exact.lidar(keyframe)

    def sweeps(self, keyframe: int, before: int, after: int) -> Sequence[LidarSweep]:
        return self.exact.sweeps(keyframe, before, after)


def with_noisy_sensors(scene: Scene, seed: int, depth: float = 0.0, pose: float = 0.0, angle: float = 0.0) -> Scene:
    """The scene as it would be known with these errors: relative depth, metres and radians of each keyframe's ego pose."""
    generator = np.random.default_rng([seed, *scene.name.encode()])
    times = np.asarray(scene.sensors.keyframe_time, float)
    off = generator.standard_normal((len(times), 3)) * [pose, pose, angle]
    drift = np.stack([pose_from_xy_yaw(*row) for row in off])
    ego = np.stack([scene.ego_pose(min(max(time, 0.0), scene.duration)) for time in times])
    # Remembered frames are cached by the scene's token: another token keeps noisy frames apart from exact ones.
    token = f"{scene.token}/sensors/{seed}/{depth:g}/{pose:g}/{angle:g}"
    return replace(scene, token=token, sensors=NoisySensors(scene.sensors, seed, depth, ego, drift))


def with_noisy_boxes(scene: Scene, seed: int, position: float, angle: float, missing: float) -> Scene:
    """The scene as annotators with errors would have labelled its keyframes; between keyframes boxes are interpolated.

    position: metres along x and along y; angle: radians of yaw; missing: share of the annotations that do not exist: the
    object is then away between the keyframes before and after, as in the data set's reader.
    """
    generator = np.random.default_rng([seed, *scene.name.encode()])
    tracks, times = scene.tracks, np.asarray(scene.sensors.keyframe_time, float)
    off = generator.standard_normal((len(tracks), len(times), 3)) * [position, position, angle]
    lost = generator.random((len(tracks), len(times))) < missing
    moved = np.zeros((len(tracks), len(tracks.time), 3))
    for n, axis in np.ndindex(len(tracks), 3):
        moved[n, :, axis] = np.interp(tracks.time, times, off[n, :, axis])
    valid = tracks.valid.copy()
    for k in range(len(times)):
        before, after = times[max(k - 1, 0)], times[min(k + 1, len(times) - 1)]
        around = (tracks.time > before + 1e-6) & (tracks.time < after - 1e-6) | (np.abs(tracks.time - times[k]) < 1e-6)
        valid &= ~(lost[:, k, None] & around)
    centre = tracks.position.copy()
    centre[..., :2] += moved[..., :2]
    noisy: Tracks = replace(tracks, position=centre, yaw=tracks.yaw + moved[..., 2], valid=valid)
    return replace(scene, token=f"{scene.token}/boxes/{seed}/{position:g}/{angle:g}/{missing:g}", tracks=noisy)
