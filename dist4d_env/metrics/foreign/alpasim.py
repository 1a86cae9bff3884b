"""AlpaSim's scorers: contacts of rounded footprints, leaving the road, and progress along the recorded path."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import shapely

from dist4d_env.geometry import deterministic
from dist4d_env.metrics.driving.areas import AGAINST, ego_corners
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.driving.road import NO_MAP
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult, Plans
from dist4d_env.metrics.foreign.ads import polyline

SHRINK, ROUNDNESS = 0.02, 0.5
"""Every footprint is this much smaller, and its corners are rounded with this share of half its shorter side."""
EDGE = 1e-3  # m between footprint and road edge
SATURATION, SHORT = 0.8, 5.0
"""The share of the recorded path that is full progress, and the metres below which any progress is."""
KINDS = ("collision_front", "collision_rear", "collision_lateral")
"""Contacts of the straight part of the ego's front, of its rear, and all others."""
DECAY = 0.1  # per pose, in the mean over a plan


def rounded_footprints(center: np.ndarray, yaw: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(M,) polygons of boxes with centres (M, 2), yaw (M,) and size (M, 2): length, width; shrunk, with rounded corners."""
    extent = size * (1 - SHRINK)
    radius = ROUNDNESS * extent.min(-1) / 2
    cores = shapely.polygons(_corners(center, yaw, extent - 2 * radius[:, None]))
    return shapely.buffer(cores, radius)


def _corners(center: np.ndarray, yaw: np.ndarray, extent: np.ndarray) -> np.ndarray:
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
    local = signs * extent[:, None]
    cos, sin = deterministic.cos(yaw)[:, None], deterministic.sin(yaw)[:, None]
    turned = np.stack([cos * local[..., 0] - sin * local[..., 1], sin * local[..., 0] + cos * local[..., 1]], -1)
    return center[:, None] + turned


def _bumpers(trace: EpisodeTrace, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The straight parts of the ego's front and rear sides at some steps."""
    length, width = (1 - SHRINK) * trace.vehicle.length, (1 - SHRINK) * trace.vehicle.width
    straight = replace(trace.vehicle, length=length, width=width - ROUNDNESS * min(length, width))
    corners = ego_corners(trace.ego[step], straight)
    return shapely.linestrings(corners[:, [0, 3]]), shapely.linestrings(corners[:, [1, 2]])


def alpasim_contacts(trace: EpisodeTrace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every step and agent or object that touch, in order of time: steps (M,), tracks (M,), index into KINDS (M,)."""
    radius = (np.hypot(trace.vehicle.length, trace.vehicle.width) + np.hypot(trace.size[:, 0], trace.size[:, 1])) / 2
    away = np.linalg.norm(trace.position[..., :2] - trace.center[:, None], axis=-1)
    step, track = np.nonzero(trace.valid & (away <= radius))
    if not len(step):
        return step, track, step
    own = _ego_footprints(trace)
    other = rounded_footprints(trace.position[step, track, :2], trace.yaw[step, track], trace.size[track, :2])
    touch = shapely.intersects(own[step], other)
    step, track, other = step[touch], track[touch], other[touch]
    front, rear = (shapely.intersects(bumper, other) for bumper in _bumpers(trace, step))
    return step, track, np.where(front, 0, np.where(rear, 1, 2))


def alpasim_collisions(trace: EpisodeTrace) -> dict[str, np.ndarray]:
    """(T,) bool for each of KINDS. The original keeps only the last contact of a step; here every one counts."""
    step, _, kind = alpasim_contacts(trace)
    return {name: np.bincount(step[kind == i], minlength=len(trace.time)) > 0 for i, name in enumerate(KINDS)}


def _ego_footprints(trace: EpisodeTrace) -> np.ndarray:
    size = np.tile([trace.vehicle.length, trace.vehicle.width], (len(trace.time), 1))
    return rounded_footprints(trace.center, trace.ego[:, 2], size)


def alpasim_offroad(trace: EpisodeTrace) -> np.ndarray:
    """(T,) whether the footprint is not within the lanes under it and touches the edge of the drivable area.

    As in the original, an ego that stands wholly beside the road touches no edge and is not off it.
    """
    assert trace.map is not None
    footprints = _ego_footprints(trace)
    lanes = list(trace.map.lanes.values())
    held = trace.map.trees["lane"].query(footprints, predicate="intersects")
    offroad = np.zeros(len(trace.time), bool)
    edge = shapely.boundary(trace.map.drivable)
    for step, footprint in enumerate(footprints):
        under = [lanes[i].polygon for i in held[1][held[0] == step]]
        if not any(lane.contains(footprint) for lane in under) and not shapely.union_all(under).contains(footprint):
            offroad[step] = edge.distance(footprint) < EDGE
    return offroad


def alpasim_wrong_lane(trace: EpisodeTrace) -> np.ndarray:
    """(T,) whether some lane under the box centre runs against the ego (by more than 120 degrees)."""
    wrong = np.zeros(len(trace.time), bool)
    for step, lanes in enumerate(trace.lanes):
        for lane in lanes:
            nearest = np.argmin(((lane.centerline[:, :2] - trace.center[step]) ** 2).sum(1))
            turn = trace.ego[step, 2] - lane.centerline[nearest, 2]
            wrong[step] |= abs((turn + np.pi) % (2 * np.pi) - np.pi) > AGAINST
    return wrong


def plan_deviation(trace: EpisodeTrace, plans: Plans) -> float | None:
    """Metres between consecutive plans where they overlap in time, sooner poses weighing more; None without such plans."""
    start = trace.ego[plans.step]
    cos, sin = deterministic.cos(start[:, 2, None]), deterministic.sin(start[:, 2, None])
    x, y = plans.poses[..., 0], plans.poses[..., 1]
    placed = np.stack([start[:, 0, None] + cos * x - sin * y, start[:, 1, None] + sin * x + cos * y], -1)
    placed = np.concatenate([start[:, None, :2], placed], 1)
    due = np.arange(placed.shape[1]) * plans.dt
    means = []
    for i, later in enumerate(np.diff(trace.time[plans.step]), 1):
        common = due[1:][due[1:] + later <= due[-1] + 1e-9]
        if len(common):
            before = np.column_stack([np.interp(common + later, due, placed[i - 1, :, axis]) for axis in (0, 1)])
            away = np.linalg.norm(placed[i, 1 : len(common) + 1] - before, axis=-1)
            means.append(np.average(away, weights=deterministic.exp(-DECAY * np.arange(len(away)))))
    return float(np.mean(means)) if means else None


def alpasim_scores(trace: EpisodeTrace, human: EpisodeTrace | None = None, plans: Plans | None = None) -> dict[str, Any]:
    """Every sub-score of an episode with a map. Steps after the first collision or leaving of the road do not count.

    human: the recorded drive, whose whole path is the reference; without it what the log drove in the time of the episode.
    Returns the maxima over time of the collisions, offroad and wrong_lane (0 or 1), collision_at_fault (front or lateral),
    progress (the last), progress_rel (the least, relative to the log at the same time), distances in metres, plan_deviation and
    "step", that of the first collision or leaving.
    """
    series: dict[str, np.ndarray] = alpasim_collisions(trace)
    series["collision_any"] = np.any(list(series.values()), axis=0)
    series["collision_at_fault"] = series["collision_front"] | series["collision_lateral"]
    series |= {"offroad": alpasim_offroad(trace), "wrong_lane": alpasim_wrong_lane(trace)}
    ends = series["collision_any"] | series["offroad"]
    count = int(ends.argmax()) + 1 if ends.any() else len(ends)
    scores: dict[str, Any] = {name: float(values[:count].any()) for name, values in series.items()}
    center = trace.center[:count]
    logged = ego_centers(trace.expert, trace.vehicle)
    recorded = logged if human is None else human.center
    path = polyline(recorded) or shapely.Point(recorded[0])
    along, ahead = np.ones(count), np.ones(count)  # nothing is left to do where the recorded ego stands
    if path.length > 0:
        along, ahead = (shapely.line_locate_point(path, shapely.points(points)) for points in (center, logged[:count]))
    relative = along[2:] / np.maximum(ahead[2:], 1e-6)
    return scores | {
        "step": count - 1 if ends.any() else None,
        "gt_distance": float(path.length),
        "progress": float(along[-1] / path.length) if path.length > 0 else 1.0,
        "progress_rel": float(np.clip(relative, 0.0, 1.0).min(initial=1.0)),
        "dist_to_gt_trajectory": float(shapely.distance(path, shapely.points(center)).max()),
        "dist_to_gt_location": float(np.linalg.norm(center - logged[:count], axis=-1).max()),
        "plan_deviation": plan_deviation(trace, plans) if plans is not None else None,
    }


def alpasim_scene_score(trace: EpisodeTrace, human: EpisodeTrace | None = None, plans: Plans | None = None) -> MetricResult:
    """0 after an at-fault collision or leaving the road, else 1 for a recorded path below 5 m, else ``min(progress / 0.8, 1)``
    (AlpaSim's scene score of 2025, before it also asked for a corridor). details: ``alpasim_scores``, the failed parts and the
    first contact. Not valid without a map."""
    if trace.map is None or "drivable_area" in trace.map.missing or not trace.map.lanes:
        return MetricResult(0.0, False, NO_MAP)
    scores = alpasim_scores(trace, human, plans)
    failed = [name for name in ("collision_at_fault", "offroad") if scores[name]]
    step, track, kind = alpasim_contacts(trace)
    hits = [{"step": int(s), "track": int(t), "kind": KINDS[k]} for s, t, k in zip(step, track, kind, strict=True)]
    value = 1.0 if scores["gt_distance"] < SHORT else min(float(np.clip(scores["progress"], 0.0, 1.0)) / SATURATION, 1.0)
    details = {"name": "alpasim_scene_score", "form": "faithful", "failed": failed, "first_contact": hits[0] if hits else None}
    details["parts"] = scores
    return MetricResult(0.0 if failed else value, True, details)
