"""A logged scene as plain values: ego log, tracks, cameras, map, and lazy access to the sensor files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.lidar import NUSCENES_LIDAR, LidarPattern
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.scenes.interpolation import interpolate_poses
from dist4d_env.scenes.lights import NO_LIGHTS, TrafficLights
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.scenes.route import Route

TICK = 0.1
"""Seconds between rows of the ego log and of the tracks."""
_ON_TICK = 1e-4  # share of a tick within which a time counts as the tick itself


@dataclass(frozen=True)
class EgoLog:
    """The recorded ego at 10 Hz.

    time: (T,) seconds since the first keyframe, starting at 0; global_from_ego: (T, 4, 4); speed: (T,) m/s along the heading;
    acceleration: (T,) m/s^2; yaw_rate: (T,) rad/s.
    """

    time: np.ndarray
    global_from_ego: np.ndarray
    speed: np.ndarray
    acceleration: np.ndarray
    yaw_rate: np.ndarray


@dataclass(frozen=True)
class Tracks:
    """Every annotated object at 10 Hz; row index is the object's identity (``Boxes.token``).

    instance: the data set's name of each object; name: its category there; category: (N,) int8 into CATEGORIES; size: (N, 3)
    length, width, height; time: (T,); position: (N, T, 3) centres, global; yaw: (N, T); velocity: (N, T, 2);
    valid: (N, T) bool, true between two keyframes that both annotate the object (and at those keyframes); part_of: by the row
    of an object that is a part of another one, as a door is of its car, that one's row: they look alike.
    """

    instance: tuple[str, ...]
    name: tuple[str, ...]
    category: np.ndarray
    size: np.ndarray
    time: np.ndarray
    position: np.ndarray
    yaw: np.ndarray
    velocity: np.ndarray
    valid: np.ndarray
    part_of: Mapping[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.instance)

    def moves(self, index: int) -> bool:
        """Whether an object is ever over a metre from where it is at another time."""
        path = self.position[index, self.valid[index], :2]  # empty where an edit removes the object
        return bool(len(path) and np.ptp(path, axis=0).max() > 1.0)

    def boxes(self, time: float) -> Boxes:
        """The objects valid at a time in [0, duration]; between two ticks an object must be valid at both."""
        row = min(max(time / TICK, 0.0), len(self.time) - 1.0)
        before = int(row + _ON_TICK)
        share = row - before
        if share < _ON_TICK or before + 1 >= len(self.time):
            token = np.flatnonzero(self.valid[:, before])
            position, yaw, velocity = self.position[token, before], self.yaw[token, before], self.velocity[token, before]
        else:
            token = np.flatnonzero(self.valid[:, before] & self.valid[:, before + 1])
            pair = (token, slice(before, before + 2))
            position, velocity = _blend(self.position[pair], share), _blend(self.velocity[pair], share)
            first, second = self.yaw[pair].T
            yaw = first + share * ((second - first + np.pi) % (2 * np.pi) - np.pi)
        return Boxes(token, self.category[token], position, self.size[token], yaw, velocity)


def _blend(pair: np.ndarray, share: float) -> np.ndarray:
    return (1 - share) * pair[:, 0] + share * pair[:, 1]


@dataclass(frozen=True)
class LidarSweep:
    """points: (P, 4) float32 x, y, z, intensity in the sensor frame; global_from_lidar: (4, 4); time: seconds."""

    points: np.ndarray
    global_from_lidar: np.ndarray
    time: float


class SensorLog(Protocol):
    """Lazy access to the files of one scene. Errors are ``DataError`` and name the file and the remedy."""

    @property
    def keyframe_time(self) -> np.ndarray:
        """(K,) seconds of the samples."""
        ...

    def has_images(self, keyframe: int) -> bool: ...
    def has_depth(self, keyframe: int) -> bool: ...
    def has_lidar(self, keyframe: int) -> bool: ...
    def rgb(self, keyframe: int, height: int, width: int) -> np.ndarray:
        """(V, height, width, 3) uint8 in the rig's order, area-resampled through ``ImageTransform.cover``."""
        ...

    def cameras(self, keyframe: int) -> tuple[np.ndarray, np.ndarray]:
        """global_from_camera (V, 4, 4) and time (V,), each camera with its own stamp and ego pose."""
        ...

    def rgbd(self, keyframe: int, height: int, width: int) -> RGBDFrame:
        """Images with curated depth (nearest-sampled, never interpolated), and masks of the car's own body if there are any."""
        ...

    def lidar(self, keyframe: int) -> LidarSweep: ...
    def sweeps(self, keyframe: int, before: int, after: int) -> Sequence[LidarSweep]:
        """The LiDAR sweeps (key frames and sweeps whose files exist) from ``before`` earlier to ``after`` later ones."""
        ...


@dataclass(frozen=True)
class Scene:
    """One logged scene. ``rig`` is at the stored image size; ``map`` is None where the data set has no map.

    recorded_tracks: the tracks of the log where a scenario's edits have changed ``tracks``, None where they have not. Rows of
    recorded objects stay what they are; what was inserted has rows beyond them. dataset: a name or ``"module:Class"`` by which
    ``open_dataset`` opens the scene's data set again, None where it cannot. lidar: the beams that LiDAR observations are made of;
    those of nuScenes' sensor where the data set has none. lights: the traffic lights, none where the data set has none.
    """

    name: str
    token: str
    location: str
    description: str
    dataroot: str
    version: str
    rig: CameraRig
    ego: EgoLog
    tracks: Tracks
    map: SceneMap | None
    route: Route
    sensors: SensorLog
    recorded_tracks: Tracks | None = None
    dataset: str | None = None
    lidar: LidarPattern = NUSCENES_LIDAR
    lights: TrafficLights = NO_LIGHTS

    @property
    def recorded(self) -> Scene:
        """The scene without edits: what its images show."""
        return self if self.recorded_tracks is None else replace(self, tracks=self.recorded_tracks, recorded_tracks=None)

    @property
    def edited(self) -> np.ndarray:
        """(N,) bool, objects that are not as they were recorded: moved, taken away or put there by a scenario."""
        now, before = self.tracks, self.recorded.tracks
        changed = np.ones(len(now), bool)
        if now is before:
            return ~changed
        count = len(before)
        same = (now.position[:count] == before.position).all((1, 2)) & (now.yaw[:count] == before.yaw).all(1)
        changed[:count] = ~(same & (now.valid[:count] == before.valid).all(1))
        return changed

    @property
    def duration(self) -> float:
        """Seconds from the first to the last logged row."""
        return float(self.ego.time[-1])

    def ego_pose(self, time: float) -> np.ndarray:
        """global_from_ego (4, 4) of the log at any time in [0, duration], rotations spherically interpolated."""
        return interpolate_poses(self.ego.time, self.ego.global_from_ego, np.array([time]))[0]

    def boxes(self, time: float) -> Boxes:
        """The annotated objects valid at any time in [0, duration], interpolated between ticks."""
        return self.tracks.boxes(time)

    def light_states(self, time: float) -> np.ndarray:
        """(G,) the states of the traffic lights at any time, int8 into ``lights.STATES``."""
        return self.lights.rows(np.array([int(np.floor(time / TICK + _ON_TICK))]))[:, 0]
