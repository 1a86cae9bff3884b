"""A scene made by formula: the analytic street with a log, tracks and a sensor log that ray-casts its keyframes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.scenes.route import Route
from dist4d_env.scenes.scene import EgoLog, Scene, Tracks
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldStart
from tests.geometry.analytic import BASE, make_boxes, make_rig, render

SPEED = 6.0
DURATION = 4.0


def ego_pose(time: float, lateral: float = 0.0) -> np.ndarray:
    """global_from_ego of the log, or beside it."""
    pose = pose_from_xy_yaw(SPEED * time, lateral, 0.0)
    pose[:3, 3] += BASE
    return pose


@dataclass(frozen=True)
class StreetSensors:
    """Ray-casts keyframes on demand; those in ``without`` have no images."""

    rig: CameraRig
    keyframe_time: np.ndarray
    tracks: Tracks
    without: tuple[int, ...] = ()

    def has_images(self, keyframe: int) -> bool:
        return keyframe not in self.without

    def has_depth(self, keyframe: int) -> bool:
        return keyframe not in self.without

    def cameras(self, keyframe: int) -> tuple[np.ndarray, np.ndarray]:
        time = float(self.keyframe_time[keyframe])
        return ego_pose(time) @ self.rig.ego_from_camera, np.full(6, time)

    def rgbd(self, keyframe: int, height: int, width: int) -> RGBDFrame:

        time = float(self.keyframe_time[keyframe])
        pose = ego_pose(time)
        pose[:3, 3] -= BASE
        return render(self.rig.at_size(height, width), pose, self.tracks.boxes(time), time)


def make_tracks() -> Tracks:
    time = np.arange(0, DURATION + 1e-9, 0.1)
    cars = make_boxes((0, 14, -3, 0.0), (1, 15, 3, 0.2), (2, -10, -3, 0.0))
    position = np.repeat(cars.position[:, None], len(time), 1)
    velocity = np.zeros((3, len(time), 2))
    velocity[0, :, 0], velocity[2, :, 0] = 5.0, 7.0
    position[:, :, :2] += velocity * time[None, :, None]
    return Tracks(
        ("a", "b", "c"), ("vehicle.car",) * 3, cars.category, cars.size, time, position,
        np.repeat(cars.yaw[:, None], len(time), 1), velocity, np.ones((3, len(time)), bool),
    )  # fmt: skip


def make_scene(without: tuple[int, ...] = (), name: str = "street") -> Scene:
    tracks = make_tracks()
    rig = make_rig()
    poses = np.stack([ego_pose(t) for t in tracks.time])
    count = len(tracks.time)
    ego = EgoLog(tracks.time, poses, np.full(count, SPEED), np.zeros(count), np.zeros(count))
    sensors = StreetSensors(rig, np.arange(0, DURATION + 1e-9, 0.5), tracks, without)
    route = Route(poses[:, :2, 3], SPEED * tracks.time, ())
    return Scene(
        name, f"{name}-{without}", "nowhere", "", "by-formula", "v0", rig, ego, tracks, map=None, route=route, sensors=sensors
    )


def make_start(scene: Scene, start_time: float = 0.0, seed: int = 0) -> WorldStart:
    return WorldStart(scene, scene.rig, start_time, seed)


def scene_at(
    scene: Scene, time: float, lateral: float = 0.0, boxes: Boxes | None = None, dt: float = 0.5, ahead: int = 4
) -> SceneAt:
    """The truth at a time, the ego ``lateral`` metres beside the log and expected to go straight on."""
    later = np.array([time + dt * (k + 1) for k in range(ahead) if time + dt * (k + 1) <= scene.duration + 1e-9])
    return SceneAt(
        time,
        ego_pose(time, lateral),
        scene.boxes(time) if boxes is None else boxes,
        later,
        np.array([ego_pose(t, lateral) for t in later]).reshape(-1, 4, 4),
        tuple(scene.boxes(t) for t in later),
    )


def truth(scene: Scene, now: SceneAt) -> RGBDFrame:
    """What the cameras would see."""
    pose = now.global_from_ego.copy()
    pose[:3, 3] -= BASE
    return render(scene.rig, pose, now.boxes, now.time)
