"""Poses of ego and actors and times of exposure of a town scene at any instant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dist4d_env.geometry.boxes import Boxes
from dist4d_env.geometry.transforms import poses_from_position_yaw, wrap_angle, yaw_of
from dist4d_env.town.model import TownScene

KEYFRAME_RATE = 2
SWEEP_PERIOD = 0.1
EARLIER = {
    "CAM_FRONT_LEFT": 0.042, "CAM_FRONT": 0.035, "CAM_FRONT_RIGHT": 0.027,
    "CAM_BACK_RIGHT": 0.020, "CAM_BACK": 0.010, "CAM_BACK_LEFT": 0.002,
    "CAM_LEFT": 0.047, "CAM_RIGHT": 0.023,
}  # fmt: skip
"""Seconds by which each camera is exposed before the LiDAR's stamp: the turning beam passes it earlier, as in nuScenes."""


def ego_pose_at(scene: TownScene, time: np.ndarray | float) -> np.ndarray:
    """global_from_ego (..., 4, 4) at any times (...): linear between ticks, and beyond the ends at the last tick's rate."""
    time = np.asarray(time, float)
    yaw = np.unwrap(yaw_of(scene.ego_pose))
    rows = np.concatenate([scene.ego_pose[:, :3, 3], yaw[:, None]], 1)
    index = np.clip(np.searchsorted(scene.time, time, side="right") - 1, 0, len(scene.time) - 2)
    share = (time - scene.time[index]) / (scene.time[index + 1] - scene.time[index])
    row = rows[index] + share[..., None] * (rows[index + 1] - rows[index])
    return poses_from_position_yaw(row[..., :3], wrap_angle(row[..., 3]))


def boxes_at(scene: TownScene, time: float) -> Boxes:
    """The recorded actors at one time; before the first tick (a camera looks a little earlier) at their first velocity."""
    from dist4d_env.town.render import scene_boxes

    boxes = scene_boxes(scene, max(time, float(scene.time[0])))
    if time >= scene.time[0]:
        return boxes
    step = np.concatenate([boxes.velocity * (time - scene.time[0]), np.zeros((len(boxes), 1))], 1)
    return replace(boxes, position=boxes.position + step)
