"""nuScenes open-loop planning: L2 and collision rate at 1, 2 and 3 s under the protocols in use, which do not compare.

"uniad" reports the value at t, counts collisions with vehicles and all samples. "stp3" (also VAD's) reports the mean up to t,
counts pedestrians, too, and only samples with a whole future. "bev_planner" is "stp3" on a finer grid with an ego that turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.metrics.driving.forms import Form, is_faithful
from dist4d_env.metrics.driving.trace import MetricResult
from dist4d_env.metrics.foreign.open_loop_hits import (
    COARSE,
    FINE,
    LIDAR_AHEAD,
    exact_hits,
    fine_hits,
    grid_hits,
    headings,
    occupancy,
)

Protocol = Literal["uniad", "stp3", "bev_planner"]
STEPS, SECONDS = 6, (1, 2, 3)
VEHICLES = ("car", "truck", "bus", "trailer", "construction_vehicle", "motorcycle", "bicycle")
CLASSES: Mapping[str, tuple[str, ...]] = {
    "uniad": VEHICLES,
    "stp3": (*VEHICLES, "pedestrian"),
    "bev_planner": (*VEHICLES, "pedestrian"),
}


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

    def results(self) -> dict[str, MetricResult]:
        """By name: open_loop_PROTOCOL_l2_1s, ..., open_loop_PROTOCOL_collision_mean. Not valid without samples."""
        details = {"protocol": self.protocol, "form": self.form, "samples": self.samples}
        found = {}
        for kind, values in (("l2", self.l2), ("collision", self.collision)):
            named = {f"{second}s": float(value) for second, value in zip(SECONDS, values, strict=True)}
            for label, value in {**named, "mean": float(values.mean())}.items():
                known = bool(np.isfinite(value))
                reason = {} if known else {"reason": "no sample counts under this protocol"}
                name = f"open_loop_{self.protocol}_{kind}_{label}"
                found[name] = MetricResult(value if known else 0.0, known, details | reason)
        return found


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
    point looks up a place 25 m away and is not offered. Raises ConfigError for arrays of other shapes, protocols or forms.
    """
    is_faithful(form)
    if protocol not in CLASSES:
        raise ConfigError(f"protocol must be one of {', '.join(CLASSES)}, not {protocol!r}")
    if predicted.shape[:2] != truth.shape[:2] or predicted.ndim != 3 or predicted.shape[1] != STEPS:
        raise ConfigError(f"predicted and truth must be (S, {STEPS}, 2 or 3), not {predicted.shape} and {truth.shape}")
    known = np.ones(truth.shape[:2], bool) if mask is None else np.asarray(mask, bool)
    whole = np.ones(len(known), bool) if protocol == "uniad" else known.all(1)
    predicted, truth, known = predicted[whole], truth[whole], known[whole]
    boxes = FutureBoxes(*(array[whole] for array in (agents.position, agents.yaw, agents.size, agents.category, agents.valid)))
    away = np.where(known, np.linalg.norm(predicted[..., :2] - truth[..., :2], axis=-1), 0.0)
    hit, free = _hits(predicted, boxes, protocol, form), ~_hits(truth, boxes, protocol, form)
    compared, judged = np.ones_like(known), np.ones_like(known)
    if form == "corrected":
        compared, judged, free = known, known & free, known & free
    l2, l2_steps = _means(away, compared, protocol)
    collision, collision_steps = _means((hit & free).astype(float), judged, protocol)
    return OpenLoopScore(protocol, form, len(known), l2, collision, l2_steps, collision_steps)


def _hits(paths: np.ndarray, boxes: FutureBoxes, protocol: Protocol, form: Form) -> np.ndarray:
    """(S, 6) which planned boxes hit something that the protocol counts."""
    counts = boxes.valid & np.isin(boxes.category, [CATEGORIES.index(name) for name in CLASSES[protocol]])[:, None]
    hits = np.zeros(paths.shape[:2], bool)
    for i, path in enumerate(paths):
        if form == "corrected":
            hits[i] = exact_hits(headings(path), boxes.position[i], boxes.yaw[i], boxes.size[i], counts[i])
            continue
        agents = [(boxes.position[i, k][c], boxes.yaw[i, k][c], boxes.size[i][c]) for k, c in enumerate(counts[i])]
        if protocol == "bev_planner":
            drawn = [occupancy(where + np.array([LIDAR_AHEAD, 0.0]), yaw, size, FINE) for where, yaw, size in agents]
            hits[i] = fine_hits(_rear_axle(path), np.stack(drawn))
        else:
            hits[i] = grid_hits(path[:, :2], np.stack([occupancy(*there, COARSE) for there in agents]))
    return hits


def _rear_axle(path: np.ndarray) -> np.ndarray:
    """(6, 2) where the rear axle is, seen from where it was, when the LiDAR follows a path seen from where it was."""
    heading = headings(path)[:, 2]
    return path[:, :2] - LIDAR_AHEAD * np.stack([deterministic.cos(heading) - 1.0, deterministic.sin(heading)], -1)


def _means(values: np.ndarray, counted: np.ndarray, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """(3,) what the protocol reports for values (S, 6) of which those counted (S, 6) do, and (6,) the mean of each step."""
    total, count = np.where(counted, values, 0.0).sum(0), counted.sum(0)
    steps = np.array([2 * second for second in SECONDS])
    with np.errstate(invalid="ignore"):
        each = total / count
        if protocol == "uniad":
            return each[steps - 1], each
        return np.cumsum(total)[steps - 1] / np.cumsum(count)[steps - 1], each
