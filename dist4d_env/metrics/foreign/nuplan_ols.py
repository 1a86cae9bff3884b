"""nuPlan's open-loop score: planned against recorded poses at 1 Hz, up to 3, 5 and 8 seconds ahead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult, Plans
from dist4d_env.metrics.foreign.nuplan_motion import heading_errors, pose_errors

HORIZONS = (3, 5, 8)  # s
MISS_DISTANCE = (6.0, 8.0, 16.0)  # m, per horizon
MISS_RATE = 0.3
DISTANCE, HEADING = 8.0, 0.8
"""Metres and radians at which the scores of displacements and headings reach 0."""
_TICKS = 10  # between comparisons: 1 Hz


@dataclass(frozen=True)
class OpenLoopErrors:
    """Per horizon and frame (H, F): average, final and largest displacement in metres, average and final heading error in rad."""

    horizons: tuple[int, ...]
    average: np.ndarray
    final: np.ndarray
    largest: np.ndarray
    average_heading: np.ndarray
    final_heading: np.ndarray

    @property
    def miss_rates(self) -> np.ndarray:
        """(H,) share of frames whose largest displacement exceeds 6, 8, 16 m."""
        allowed = [MISS_DISTANCE[HORIZONS.index(h)] for h in self.horizons]
        return (self.largest > np.array(allowed)[:, None]).mean(1)


def open_loop_errors(planned: np.ndarray, expert: np.ndarray) -> OpenLoopErrors:
    """Errors of planned against recorded box centres (F, S, 3) x, y, heading at 1, 2, ..., S seconds after each of F frames.

    Of the horizons 3, 5 and 8 s those that S reaches.
    """
    away, turn = pose_errors(planned, expert), heading_errors(planned, expert)
    horizons = tuple(h for h in HORIZONS if h <= planned.shape[1])
    return OpenLoopErrors(
        horizons,
        average=np.array([away[:, :h].mean(1) for h in horizons]),
        final=np.array([away[:, h - 1] for h in horizons]),
        largest=np.array([away[:, :h].max(1) for h in horizons]),
        average_heading=np.array([turn[:, :h].mean(1) for h in horizons]),
        final_heading=np.array([turn[:, h - 1] for h in horizons]),
    )


def open_loop_scores(errors: OpenLoopErrors) -> dict[str, float]:
    """The factor and the four scores of the sum: miss_rate 1 or 0, the others ``max(0, 1 - mean error / bound)``."""
    bounded = {
        "average_displacement": (errors.average, DISTANCE),
        "final_displacement": (errors.final, DISTANCE),
        "average_heading": (errors.average_heading, HEADING),
        "final_heading": (errors.final_heading, HEADING),
    }
    scores = {name: max(0.0, 1.0 - float(error.mean()) / bound) for name, (error, bound) in bounded.items()}
    return {"miss_rate": float((errors.miss_rates <= MISS_RATE).all()), **scores}


def nuplan_ols(trace: EpisodeTrace, plans: Plans) -> MetricResult:
    """MR x (ADE + FDE + 2 AHE + 2 FHE) / 6 of an episode's plans against the log (nuPlan challenge 2023).

    Plans issued at whole seconds of the episode count, as far as the log goes on for as long as they reach; in a closed loop the
    ego is not where the log was, which this score then measures too. details: the parts, the horizons that the plans reach (all
    of 3, 5, 8 s in the original) and the number of frames. Not valid where the plans do not reach all three.
    """
    seconds = int(plans.poses.shape[1] * plans.dt + 1e-6)
    reach = max((h for h in HORIZONS if h <= seconds), default=0)
    frames = [i for i, tick in enumerate(plans.step.tolist()) if tick % _TICKS == 0 and tick + reach * _TICKS < len(trace.time)]
    if not reach or not frames:
        return MetricResult(0.0, False, {"reason": "no plan of 3 s or more begins at a full second and ends within the episode"})
    ahead = np.arange(1, reach + 1)
    planned = _at(plans, ahead)[frames]
    here = trace.ego[plans.step[frames]]
    driven = np.stack([_centers(_placed(pose, rows), trace) for pose, rows in zip(here, planned, strict=True)])
    expert = np.stack([_centers(trace.expert[tick + ahead * _TICKS], trace) for tick in plans.step[frames].tolist()])
    errors = open_loop_errors(driven, expert)
    scores = open_loop_scores(errors)
    weighted = scores["average_displacement"] + scores["final_displacement"]
    weighted = (weighted + 2 * scores["average_heading"] + 2 * scores["final_heading"]) / 6
    details = {"name": "nuplan_ols", "horizons": list(errors.horizons), "frames": len(frames), "parts": scores}
    if reach < HORIZONS[-1]:
        details["reason"] = f"the plans reach {seconds} s, the score wants {HORIZONS[-1]} s"
    return MetricResult(scores["miss_rate"] * weighted, reach == HORIZONS[-1], details)


def _at(plans: Plans, seconds: np.ndarray) -> np.ndarray:
    """(K, S, 3) the plans at full seconds, linear between their poses, in the ego frame."""
    at = np.arange(plans.poses.shape[1] + 1) * plans.dt
    poses = np.concatenate([np.zeros((len(plans.poses), 1, 3)), plans.poses], 1)
    poses[..., 2] = np.unwrap(poses[..., 2], axis=1)
    row = np.minimum(np.searchsorted(at, seconds + 1e-9, side="right") - 1, len(at) - 2)
    share = ((seconds - at[row]) / plans.dt)[None, :, None]
    return (1 - share) * poses[:, row] + share * poses[:, row + 1]


def _placed(ego: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Poses (S, 3) of an ego's frame in the global frame."""
    cos, sin = deterministic.cos(ego[2]), deterministic.sin(ego[2])
    x, y = cos * poses[:, 0] - sin * poses[:, 1], sin * poses[:, 0] + cos * poses[:, 1]
    return np.column_stack([ego[0] + x, ego[1] + y, ego[2] + poses[:, 2]])


def _centers(poses: np.ndarray, trace: EpisodeTrace) -> np.ndarray:
    return np.column_stack([ego_centers(poses, trace.vehicle), poses[:, 2]])
