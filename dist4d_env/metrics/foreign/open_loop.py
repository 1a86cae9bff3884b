"""nuScenes open-loop planning: L2 and collision rate at 1, 2 and 3 s under the protocols in use, which do not compare.

"uniad" reports the value at t, counts collisions with vehicles and all samples. "stp3" (also VAD's) reports the mean up to t,
counts pedestrians, too, and only samples with a whole future.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, ON_WHEELS
from dist4d_env.metrics.driving.forms import Form, is_faithful
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult, Plans, require_agents, require_finite
from dist4d_env.metrics.foreign.open_loop_hits import exact_hits, grid_hits, headings, occupancy
from dist4d_env.scenes.scene import TICK

Protocol = Literal["uniad", "stp3"]
STEPS, STEP, SECONDS = 6, 0.5, (1, 2, 3)
CLASSES: Mapping[str, tuple[str, ...]] = {"uniad": ON_WHEELS, "stp3": (*ON_WHEELS, "pedestrian")}
LIDAR_AHEAD = 0.943713
"""Metres from the rear axle, the package's ego origin, forward to the LiDAR, the origin of the open-loop frame."""


@dataclass(frozen=True)
class FutureBoxes:
    """Agents 0.5, 1, ..., 3 s after each of S samples, in the sample's frame (x forward, y left, origin at its LiDAR).

    position: (S, 6, N, 2); yaw: (S, 6, N); size: (S, N, 2) length, width; category: (S, N) into CATEGORIES; valid: (S, 6, N).
    """

    position: np.ndarray
    yaw: np.ndarray
    size: np.ndarray
    category: np.ndarray
    valid: np.ndarray

    def __post_init__(self) -> None:
        for position, yaw, size, valid in zip(self.position, self.yaw, self.size, self.valid, strict=True):
            require_agents("the boxes of a sample", valid, size, position=position, yaw=yaw)


@dataclass(frozen=True)
class OpenLoopSamples:
    """The inputs of ``open_loop``: predicted, truth (S, 6, 3); agents; mask (S, 6)."""

    predicted: np.ndarray
    truth: np.ndarray
    agents: FutureBoxes
    mask: np.ndarray


@dataclass(frozen=True)
class OpenLoopScore:
    """l2 (metres), collision (share): (3,) at 1, 2, 3 s; l2_steps, collision_steps: (6,) per step; samples: how many count."""

    protocol: Protocol
    form: Form
    samples: int
    l2: np.ndarray
    collision: np.ndarray
    l2_steps: np.ndarray
    collision_steps: np.ndarray


def nuscenes_open_loop(
    trace: EpisodeTrace, plans: Plans | None, protocol: Protocol = "uniad", form: Form = "faithful"
) -> MetricResult:
    """L2 in metres, mean over 1, 2 and 3 s, between an episode's plans and what the recorded ego drove after the same instants.

    In a closed loop the ego is not where the recorded one was, which this score then measures too; on ``recording.log_trace``
    it is the benchmark's own. details: form, samples, l2 and collision rate per second and their means (None where no sample
    counts). Not valid without plans of 3 s and samples that count under the protocol.
    """
    if plans is None or not len(plans.step):
        return MetricResult(0.0, False, {"reason": "the episode holds no plans"})
    if plans.poses.shape[1] * plans.dt < STEPS * STEP - 1e-9:
        reason = f"plans of {plans.poses.shape[1] * plans.dt:g} s do not reach the {STEPS * STEP:g} s of the open-loop scores"
        return MetricResult(0.0, False, {"reason": reason})
    samples = open_loop_samples(trace, plans)
    score = open_loop(samples.predicted, samples.truth, samples.agents, protocol, form, samples.mask)
    details: dict[str, object] = {"name": f"nuscenes_open_loop_{protocol}", "form": form, "samples": score.samples}
    for kind, values in (("l2", score.l2), ("collision", score.collision)):
        columns = {**{f"{second}s": values[i] for i, second in enumerate(SECONDS)}, "mean": values.mean()}
        details[kind] = {label: float(value) if np.isfinite(value) else None for label, value in columns.items()}
    if not np.isfinite(score.l2).all():
        return MetricResult(0.0, False, details | {"reason": "no sample counts under this protocol"})
    return MetricResult(float(score.l2.mean()), True, details)


def open_loop_samples(trace: EpisodeTrace, plans: Plans, lidar_ahead: float = LIDAR_AHEAD) -> OpenLoopSamples:
    """One sample per plan of an episode, in the frame of the ego that it was issued to, moved from rear axle to LiDAR.

    The truth is the recorded ego's drive, the agents are the episode's; a step past its end has no truth. Raises ConfigError for
    plans that do not reach 3 s.
    """
    ahead = STEP * np.arange(1, STEPS + 1)
    if plans.poses.shape[1] * plans.dt < ahead[-1] - 1e-9:
        raise ConfigError(f"plans of {plans.poses.shape[1] * plans.dt:g} s do not reach {ahead[-1]:g} s")
    tick = plans.step[:, None] + np.round(ahead / TICK).astype(int)
    mask = tick < len(trace.at_ticks().time)
    tick = np.minimum(tick, len(trace.time) - 1)
    origin = trace.ego[plans.step, None, :3]
    poses = np.concatenate([trace.position[tick, :, :2], trace.yaw[tick, :, None]], -1)  # (S, 6, N, 3)
    agents = _seen_from(poses, origin[:, None])
    count, tracks = len(plans.step), len(trace.size)
    boxes = FutureBoxes(
        position=agents[..., :2] - (lidar_ahead, 0.0),
        yaw=agents[..., 2],
        size=np.broadcast_to(trace.size[:, :2], (count, tracks, 2)),
        category=np.broadcast_to(trace.category, (count, tracks)),
        valid=trace.valid[tick] & mask[..., None],
    )
    predicted = _lidar_path(_at(plans, ahead), lidar_ahead)
    return OpenLoopSamples(predicted, _lidar_path(_seen_from(trace.expert[tick], origin), lidar_ahead), boxes, mask)


def open_loop(
    predicted: np.ndarray,
    truth: np.ndarray,
    agents: FutureBoxes,
    protocol: Protocol = "uniad",
    form: Form = "faithful",
    mask: np.ndarray | None = None,
) -> OpenLoopScore:
    """Scores planned against driven paths of the LiDAR (S, 6, 2 or 3: x, y, heading) at 0.5, 1, ..., 3 s.

    mask: (S, 6) where there is a truth, everywhere by default. A collision counts only where the driven box itself hits nothing.

    faithful: boxes on a grid of half a metre, the ego's never turned; under "uniad", steps without a truth add nothing and
    still count. corrected: exact, turned rectangles (where there is no heading it follows the path), and every mean is over what
    was compared: steps with a truth, for collisions those whose truth is free of any. The originals' collision of the centre
    point looks up a place 25 m away and is not offered. Raises ConfigError for arrays of other shapes, protocols or forms, and
    for paths or boxes that are not finite.
    """
    is_faithful(form)
    if protocol not in CLASSES:
        raise ConfigError(f"protocol must be one of {', '.join(CLASSES)}, not {protocol!r}")
    if predicted.shape[:2] != truth.shape[:2] or predicted.ndim != 3 or predicted.shape[1] != STEPS:
        raise ConfigError(f"predicted and truth must be (S, {STEPS}, 2 or 3), not {predicted.shape} and {truth.shape}")
    known = np.ones(truth.shape[:2], bool) if mask is None else np.asarray(mask, bool)
    require_finite("an open-loop score", predicted=predicted, truth=truth[known])
    truth = np.where(np.isfinite(truth), truth, 0.0)  # where it is not known it may be anything
    whole = np.ones(len(known), bool) if protocol == "uniad" else known.all(1)
    predicted, truth, known = predicted[whole], truth[whole], known[whole]
    boxes = FutureBoxes(*(array[whole] for array in (agents.position, agents.yaw, agents.size, agents.category, agents.valid)))
    away = np.where(known, np.linalg.norm(predicted[..., :2] - truth[..., :2], axis=-1), 0.0)
    hit, free = _hits(predicted, boxes, protocol, form), ~_hits(truth, boxes, protocol, form)
    compared, counted = np.ones_like(known), np.ones_like(known)
    if form == "corrected":
        compared, counted, free = known, known & free, known & free
    l2, l2_steps = _means(away, compared, protocol)
    collision, collision_steps = _means((hit & free).astype(float), counted, protocol)
    return OpenLoopScore(protocol, form, len(known), l2, collision, l2_steps, collision_steps)


def _hits(paths: np.ndarray, boxes: FutureBoxes, protocol: Protocol, form: Form) -> np.ndarray:
    """(S, 6) which planned boxes hit something that the protocol counts."""
    counts = boxes.valid & np.isin(boxes.category, [CATEGORIES.index(name) for name in CLASSES[protocol]])[:, None]
    hits = np.zeros(paths.shape[:2], bool)
    for i, path in enumerate(paths):
        if form == "corrected":
            hits[i] = exact_hits(headings(path), boxes.position[i], boxes.yaw[i], boxes.size[i], counts[i])
        else:
            agents = [(boxes.position[i, k][c], boxes.yaw[i, k][c], boxes.size[i][c]) for k, c in enumerate(counts[i])]
            hits[i] = grid_hits(path[:, :2], np.stack([occupancy(*there) for there in agents]))
    return hits


def _means(values: np.ndarray, counted: np.ndarray, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """(3,) the protocol's values at 1, 2, 3 s of values (S, 6) where counted (S, 6), and (6,) the mean of each step."""
    total, count = np.where(counted, values, 0.0).sum(0), counted.sum(0)
    steps = np.array([2 * second for second in SECONDS])
    with np.errstate(invalid="ignore"):
        each = total / count
        if protocol == "uniad":
            return each[steps - 1], each
        return np.cumsum(total)[steps - 1] / np.cumsum(count)[steps - 1], each


def _seen_from(poses: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Poses (..., 3) in the frames of others that they broadcast against."""
    dx, dy, turn = np.moveaxis(poses - origin, -1, 0)
    cos, sin = deterministic.cos(origin[..., 2]), deterministic.sin(origin[..., 2])
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx, (turn + np.pi) % (2 * np.pi) - np.pi], -1)


def _lidar_path(poses: np.ndarray, ahead: float) -> np.ndarray:
    """The LiDAR's poses in its own first frame, from those of the rear axle (..., 3) in its first frame."""
    heading = poses[..., 2]
    moved = poses[..., :2] + ahead * np.stack([deterministic.cos(heading) - 1.0, deterministic.sin(heading)], -1)
    return np.concatenate([moved, poses[..., 2:]], -1)


def _at(plans: Plans, ahead: np.ndarray) -> np.ndarray:
    """(K, 6, 3) plans at times ahead (6,) in seconds, linear between their poses."""
    times = plans.dt * np.arange(plans.poses.shape[1] + 1)
    poses = np.concatenate([np.zeros((len(plans.poses), 1, 3)), plans.poses], 1)
    poses[..., 2] = np.unwrap(poses[..., 2], axis=1)
    row = np.clip(np.searchsorted(times, ahead + 1e-9, side="right") - 1, 0, len(times) - 2)
    share = ((ahead - times[row]) / plans.dt)[:, None]
    return (1 - share) * poses[:, row] + share * poses[:, row + 1]
