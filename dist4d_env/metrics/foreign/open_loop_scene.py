"""Samples for the open-loop scores from a scene and what a planner planned in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.transforms import yaw_of
from dist4d_env.metrics.foreign.open_loop import STEPS, FutureBoxes
from dist4d_env.scenes.scene import Scene

STEP = 0.5  # s
LIDAR_AHEAD = 0.943713
"""Metres from the rear axle, the package's ego origin, forward to the LiDAR, the origin of the open-loop frame."""


@dataclass(frozen=True)
class OpenLoopSamples:
    """What ``open_loop`` takes: predicted, truth (S, 6, 3); agents; mask (S, 6)."""

    predicted: np.ndarray
    truth: np.ndarray
    agents: FutureBoxes
    mask: np.ndarray


def open_loop_samples(
    scene: Scene, time: np.ndarray, plans: np.ndarray, dt: float = STEP, lidar_ahead: float = LIDAR_AHEAD
) -> OpenLoopSamples:
    """One sample per time (S,) of a scene: plans (S, P, 3) hold x, y, heading of the rear axle in the logged ego's frame there,
    at dt, 2 dt, ... s.

    The truth and the agents are the scene's; a step past its end has no truth, and plans must reach 3 s. Raises ConfigError where
    they do not or where a time is outside the scene.
    """
    ahead = STEP * np.arange(1, STEPS + 1)
    if plans.shape[1] * dt < ahead[-1] - 1e-9:
        raise ConfigError(f"plans of {plans.shape[1] * dt:g} s do not reach the {ahead[-1]:g} s of the open-loop scores")
    if len(time) and not (time.min() >= 0 and time.max() <= scene.duration + 1e-6):
        raise ConfigError(f"sample times must be within 0 and {scene.duration:g} s")
    due = time[:, None] + ahead
    mask = due <= scene.duration + 1e-6
    row = np.round(np.clip(np.concatenate([time[:, None], due], 1), 0.0, scene.duration), 6)
    poses = np.array([[_pose(scene, t) for t in times] for times in row]).reshape(len(time), STEPS + 1, 3)
    truth = _lidar(_seen_from(poses[:, 1:], poses[:, :1]), lidar_ahead)
    predicted = _lidar(_at(plans, dt, ahead), lidar_ahead)
    count = len(scene.tracks)
    there, valid = np.zeros((len(time), STEPS, count, 3)), np.zeros((len(time), STEPS, count), bool)
    for sample, step in np.argwhere(mask):
        boxes = scene.boxes(float(row[sample, step + 1]))
        there[sample, step, boxes.token] = np.column_stack([boxes.position[:, :2], boxes.yaw])
        valid[sample, step, boxes.token] = True
    local = _seen_from(there, poses[:, None, :1])
    size = np.broadcast_to(scene.tracks.size[:, :2], (len(time), count, 2))
    category = np.broadcast_to(scene.tracks.category, (len(time), count))
    agents = FutureBoxes(local[..., :2] - (lidar_ahead, 0.0), local[..., 2], size, category, valid)
    return OpenLoopSamples(predicted, truth, agents, mask)


def joined(samples: Sequence[OpenLoopSamples]) -> OpenLoopSamples:
    """The samples of several scenes as one set."""
    most = max(part.agents.category.shape[1] for part in samples)

    def padded(arrays: list[np.ndarray], axis: int) -> np.ndarray:
        return np.concatenate([_pad(array, axis, most) for array in arrays])

    agents = [part.agents for part in samples]
    return OpenLoopSamples(
        np.concatenate([part.predicted for part in samples]),
        np.concatenate([part.truth for part in samples]),
        FutureBoxes(
            padded([a.position for a in agents], 2),
            padded([a.yaw for a in agents], 2),
            padded([a.size for a in agents], 1),
            padded([a.category for a in agents], 1),
            padded([a.valid for a in agents], 2),
        ),
        np.concatenate([part.mask for part in samples]),
    )


def _pad(array: np.ndarray, axis: int, length: int) -> np.ndarray:
    width = [(0, length - array.shape[axis]) if i == axis else (0, 0) for i in range(array.ndim)]
    return np.pad(array, width)


def _pose(scene: Scene, time: float) -> tuple[float, float, float]:
    pose = scene.ego_pose(time)
    return float(pose[0, 3]), float(pose[1, 3]), float(yaw_of(pose))


def _seen_from(poses: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Poses (..., 3) in the frames of others that they broadcast against."""
    dx, dy, turn = np.moveaxis(poses - origin, -1, 0)
    cos, sin = deterministic.cos(origin[..., 2]), deterministic.sin(origin[..., 2])
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx, (turn + np.pi) % (2 * np.pi) - np.pi], -1)


def _lidar(poses: np.ndarray, ahead: float) -> np.ndarray:
    """Where the LiDAR is, seen from where it was, when the rear axle has poses (..., 3) seen from where it was."""
    heading = poses[..., 2]
    moved = poses[..., :2] + ahead * np.stack([deterministic.cos(heading) - 1.0, deterministic.sin(heading)], -1)
    return np.concatenate([moved, poses[..., 2:]], -1)


def _at(plans: np.ndarray, dt: float, ahead: np.ndarray) -> np.ndarray:
    """Plans (S, P, 3) at other times, linear between their poses."""
    times = dt * np.arange(plans.shape[1] + 1)
    poses = np.concatenate([np.zeros((len(plans), 1, 3)), plans], 1)
    poses[..., 2] = np.unwrap(poses[..., 2], axis=1)
    row = np.clip(np.searchsorted(times, ahead + 1e-9, side="right") - 1, 0, len(times) - 2)
    share = ((ahead - times[row]) / dt)[:, None]
    return (1 - share) * poses[:, row] + share * poses[:, row + 1]
