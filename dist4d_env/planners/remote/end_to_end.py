"""End-to-end models of the UniAD and VAD kind behind ``planner_server``: inputs as they were trained on them, waypoints as plans.

Copy this file and ``planner_server.py`` into the model's environment: both need numpy and Python 3.8 alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_STANDING = 0.1
"""Metres between two waypoints below which the second has no direction of its own."""


class EndToEnd:
    """Serves a model: ``serve(EndToEnd(model), lidar=True)``, or a class that makes one for each worker.

    model: called with the keywords of ``model_inputs``; returns waypoints (N, 2) in the LiDAR's frame at the time of the images,
    every ``dt`` seconds, as they accumulate (not the steps between them), or (3, N, 2), one path for each command. mean, std:
    of the model's three channels, in its order; rgb: whether that order is RGB, else BGR; divisor: of height and width, to which
    images are padded with zeros below and to the right. The calibration holds for the padded images too.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        rgb: bool = True,
        divisor: int = 32,
        dt: float = 0.5,
    ) -> None:
        self.model, self.rgb, self.divisor, self.dt = model, rgb, divisor, dt
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        self.episodes, self.token = 0, ""

    def reset(self, episode: Mapping[str, np.ndarray]) -> None:
        """An episode begins: models that remember frames forget them when ``scene_token`` changes."""
        self.episodes += 1
        self.token = "{}/{}/{}".format(episode["scene"], episode["seed"], self.episodes)

    def plan(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, float]:
        """Poses (N, 3) in the ego frame and the seconds between them."""
        waypoints = np.asarray(self.model(**self.model_inputs(inputs)), float)
        if waypoints.shape[-1:] != (2,) or waypoints.ndim not in (2, 3) or (waypoints.ndim == 3 and len(waypoints) != 3):
            raise ValueError(f"the model's waypoints are (N, 2), or (3, N, 2) for three commands, not {waypoints.shape}")
        if waypoints.ndim == 3:
            waypoints = waypoints[int(inputs["command"])]
        return plan_of(waypoints, inputs["ego_from_lidar"]), self.dt

    def model_inputs(self, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``img`` (1, V, 3, H, W) float32, normalised and padded; ``img_metas``: a list of one dict with ``lidar2img`` (V, 4, 4),
        ``can_bus`` (18,), ``scene_token``, ``timestamp`` (s) and ``img_shape``; ``points``: a list of one (P, 5) float32 x, y, z
        in the LiDAR's frame, intensity and 0 for the sweep's age, empty where the server does not ask for LiDAR;
        ``ego_fut_cmd`` (1, 3) one-hot right, left, forward."""
        images = np.asarray(inputs["images"])[..., :: 1 if self.rgb else -1]
        views, height, width, _ = images.shape
        shape = (views, -(-height // self.divisor) * self.divisor, -(-width // self.divisor) * self.divisor, 3)
        padded = np.zeros(shape, np.float32)
        padded[:, :height, :width] = (images - self.mean) / self.std
        metas = {
            "lidar2img": inputs["lidar2img"],
            "can_bus": inputs["can_bus"],
            "scene_token": self.token,
            "timestamp": float(inputs["time"]),
            "img_shape": [(height, width, 3)] * views,
        }
        command = np.eye(3, dtype=np.float32)[[int(inputs["command"])]]
        image = np.ascontiguousarray(padded.transpose(0, 3, 1, 2))[None]
        return {"img": image, "img_metas": [metas], "points": [lidar_frame_points(inputs)], "ego_fut_cmd": command}


def lidar_frame_points(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """(P, 5) float32 x, y, z in the LiDAR's frame, intensity and 0: all of one sweep."""
    points = np.asarray(inputs.get("lidar", np.zeros((0, 4))), float)
    lidar_from_ego = np.linalg.inv(inputs["ego_from_lidar"])
    place = points[:, :3] @ lidar_from_ego[:3, :3].T + lidar_from_ego[:3, 3]
    return np.column_stack([place, points[:, 3], np.zeros(len(points))]).astype(np.float32)


def plan_of(waypoints: np.ndarray, ego_from_lidar: np.ndarray) -> np.ndarray:
    """Where a LiDAR will be, (N, 2) in its present frame, as poses (N, 3) of the rear axle in the ego frame.

    Headings are those of the path; the axle follows behind the LiDAR by as much as it is mounted behind it.
    """
    lever = ego_from_lidar[:2, 3]
    path = waypoints @ ego_from_lidar[:2, :2].T + lever
    step = np.diff(np.vstack([lever, path]), axis=0)
    heading = np.arctan2(step[:, 1], step[:, 0])
    for index in np.flatnonzero(np.hypot(step[:, 0], step[:, 1]) < _STANDING):
        heading[index] = heading[index - 1] if index else 0.0
    cos, sin = np.cos(heading), np.sin(heading)
    behind = np.column_stack([cos * lever[0] - sin * lever[1], sin * lever[0] + cos * lever[1]])
    return np.column_stack([path - behind, heading])
