"""Renders one town scene into the sensor files of a data set and returns its table rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from dist4d_env.data.depth_files import write_depth
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import FAR
from dist4d_env.geometry.transforms import apply
from dist4d_env.town.lidar import scan
from dist4d_env.town.model import TownScene
from dist4d_env.town.render import TownRenderer
from dist4d_env.town.sensors import EGO_FROM_LIDAR, town_rig
from dist4d_env.town.tables import LIDAR, Rows, SceneRows, points_in_boxes, visible_share
from dist4d_env.town.timeline import EARLIER, KEYFRAME_RATE, SWEEP_PERIOD, boxes_at, ego_pose_at
from dist4d_env.town.wild.cameras import wild_rig


@dataclass(frozen=True)
class FileOptions:
    """Options of the stored files. size: height, width of the images; sweeps: cameras and LiDAR at 10 Hz between keyframes;
    duration: seconds of each scene; semantics: class images under ``semantics/``; pictures: False for tables and maps alone, in
    which images and LiDAR have their rows but no files: boxes then hold no LiDAR points, and visible is what a camera faces;
    rate: keyframes per second; on_demand: without pictures now, ``TownDataset`` draws them later; looks: one of
    ``model.LOOKS``; cameras: how many a wild rig has."""

    size: tuple[int, int] = (128, 224)
    sweeps: bool = False
    duration: float = 20.0
    semantics: bool = False
    pictures: bool = True
    rate: int = KEYFRAME_RATE
    on_demand: bool = False
    looks: str = "plain"
    cameras: int = 6

    @property
    def keyframes(self) -> np.ndarray:
        """Times of the keyframes (K,), seconds."""
        return np.arange(round(self.duration * self.rate) + 1) / self.rate

    def rig(self, seed: int) -> CameraRig:
        """The cameras of the data set of a seed. Raises ConfigError for a number of cameras that no rig has."""
        return wild_rig(seed, self.cameras, *self.size) if self.looks == "wild" else town_rig(*self.size)


def write_scene(
    root: Path, scene: TownScene, options: FileOptions, progress: Callable[[], object], some: slice = slice(None)
) -> Rows:
    """Writes images, depth and LiDAR of a scene under ``root``, if asked for; calls ``progress`` after every keyframe.

    some: only of these keyframes; the rows are then of no use."""
    rig = options.rig(scene.seed)
    renderer = TownRenderer(scene) if options.pictures else None
    keyframes = options.keyframes
    rows = SceneRows(scene, keyframes, rig)
    for k, time in list(enumerate(keyframes))[some]:
        shots = [_camera(root, renderer, rows, rig, view, float(time), True, options) for view in range(len(rig.names))]
        depth, poses = (np.stack(part) for part in zip(*shots, strict=True))
        boxes = boxes_at(scene, float(time))
        points = _lidar(root, renderer, rows, float(time), True)
        rows.annotate(k, boxes, points_in_boxes(points, boxes), visible_share(boxes, depth, rig, poses))
        if options.sweeps and k + 1 < len(keyframes):
            for between in np.round(np.arange(1, round(1 / (options.rate * SWEEP_PERIOD))) * SWEEP_PERIOD + time, 6):
                for view in range(len(rig.names)):
                    _camera(root, renderer, rows, rig, view, float(between), False, options)
                _lidar(root, renderer, rows, float(between), False)
        progress()
    return rows.finished()


def _camera(
    root: Path,
    renderer: TownRenderer | None,
    rows: SceneRows,
    rig: CameraRig,
    view: int,
    near: float,
    key: bool,
    options: FileOptions,
) -> tuple[np.ndarray, np.ndarray]:
    """One picture at the camera's own time, its row alone without a renderer. Returns its depth (H, W), far without a renderer,
    and global_from_camera (4, 4)."""
    channel = rig.names[view]
    time = near - EARLIER[channel]
    ego = ego_pose_at(rows.scene, time)
    pose = ego @ rig.ego_from_camera[view]
    path = root / rows.add_file(channel, time, near, key, ego)
    if renderer is None:
        return np.full(options.size, FAR, np.float32), pose
    one = slice(view, view + 1)
    alone = replace(rig, names=(channel,), intrinsics=rig.intrinsics[one], ego_from_camera=rig.ego_from_camera[one])
    images = renderer.render(alone, pose[None], boxes_at(rows.scene, time), time)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.ascontiguousarray(images.rgb[0, ..., ::-1]), renderer.jpeg(channel)):
        raise OSError(f"could not write {path}")
    write_depth(root / "depth" / channel / f"{path.stem}.png", images.depth[0])
    if options.semantics:
        target = root / "semantics" / channel / f"{path.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), images.semantics[0])
    return images.depth[0], pose


def _lidar(root: Path, renderer: TownRenderer | None, rows: SceneRows, time: float, key: bool) -> np.ndarray:
    """One sweep, its row alone without a renderer. Returns its points in the global frame (P, 3)."""
    ego = ego_pose_at(rows.scene, time)
    path = root / rows.add_file(LIDAR, time, time, key, ego)
    if renderer is None:
        return np.zeros((0, 3))
    global_from_lidar = ego @ EGO_FROM_LIDAR
    points = scan(renderer, global_from_lidar, boxes_at(rows.scene, time), time)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.ascontiguousarray(points, np.float32).tofile(path)
    return apply(global_from_lidar, points[:, :3].astype(float))
