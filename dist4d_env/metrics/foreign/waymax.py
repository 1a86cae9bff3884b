"""Waymax's metrics: a value and whether it is valid at every step, and one number for the episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from dist4d_env.metrics.driving.areas import ego_corners, off_drivable
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.scenes.scene import TICK

WRONG_WAY = 3.5  # m from every path that may be driven
OFF_ROUTE, FARTHER = 5.0, 2.0  # m from the route, and m farther from it than from another path
MAX_ACCELERATION, MAX_CURVATURE, SLACK = 10.4, 0.3, 1e-3  # m/s^2, 1/m
SLOW = 0.6  # m/s; below, curvature is not looked at
_ALONG, _BESIDE = np.pi / 4, 10.0  # rad and m: lanes beside the start that run the same way may be driven, too
AGGREGATION = {
    "overlap": "max",
    "offroad": "max",
    "wrong_way": "max",
    "off_route": "max",
    "kinematic_infeasibility": "max",
    "progression": "last",
    "log_divergence": "mean",
}


@dataclass(frozen=True)
class Series:
    """value, valid: (T,) per step."""

    value: np.ndarray
    valid: np.ndarray


def overlap(trace: EpisodeTrace) -> Series:
    """1 where the ego's box overlaps any valid object's."""
    return _always(trace.contact.any(1).astype(float))


def offroad(trace: EpisodeTrace) -> Series:
    """1 where a corner is off the road. The signed distance to the nearest road edge is that to the drivable area's here."""
    if trace.map is None or "drivable_area" in trace.map.missing:
        return _never(trace)
    return _always(off_drivable(trace.map, ego_corners(trace.ego, trace.vehicle)).astype(float))


def wrong_way(trace: EpisodeTrace) -> Series:
    """Metres from the box centre to the nearest point of a path that the ego may drive from where it started, where they are 3.5
    or more, else 0."""
    on_route, others = _paths(trace)
    if trace.map is None or not trace.map.lanes:
        return _never(trace)
    distance = np.minimum(_distance(on_route, trace.center), _distance(others, trace.center))
    return _always(np.where(distance < WRONG_WAY, 0.0, distance))


def off_route(trace: EpisodeTrace) -> Series:
    """Metres to the route where they are more than 5, or more than 2 beyond those to another path, else 0."""
    on_route, others = _paths(trace)
    away, other = _distance(on_route, trace.center), _distance(others, trace.center)
    return _always(np.where((away > OFF_ROUTE) | (away - other > FARTHER), away, 0.0))


def progression(trace: EpisodeTrace) -> Series:
    """The ego's share of the way of box centres along the route, from the log's at the first step to the log's last."""
    if trace.route.log_length is None:
        return _never(trace)
    start, end = float(trace.expert_position[0]), trace.route.log_length + trace.vehicle.rear_axle_to_center
    if end - start < 1e-6:
        return _always(np.ones(len(trace.time)))
    return _always((trace.route_position - start) / (end - start))


def kinematic_infeasibility(trace: EpisodeTrace) -> Series:
    """1 where getting to this step took more than 10.4 m/s^2 or a curvature of more than 0.3 1/m (the inverse bicycle)."""
    speed, yaw = np.abs(trace.ego[:, 3]), trace.ego[:, 2]
    acceleration = np.diff(speed) / TICK
    turn = (np.diff(yaw) + np.pi) % (2 * np.pi) - np.pi
    moving = (speed[:-1] >= SLOW) & (speed[1:] >= SLOW)
    curvature = np.where(moving, turn / np.where(moving, speed[:-1] * TICK + acceleration * TICK**2 / 2, 1.0), 0.0)
    broken = (np.abs(acceleration) > MAX_ACCELERATION + SLACK) | (np.abs(curvature) > MAX_CURVATURE + SLACK)
    return Series(np.concatenate([[0.0], broken]), np.arange(len(speed)) > 0)


def log_divergence(trace: EpisodeTrace) -> Series:
    """Metres between the box centres of ego and logged ego."""
    return _always(np.linalg.norm(trace.center - ego_centers(trace.expert, trace.vehicle), axis=-1))


METRICS = {
    "overlap": overlap,
    "offroad": offroad,
    "wrong_way": wrong_way,
    "off_route": off_route,
    "progression": progression,
    "kinematic_infeasibility": kinematic_infeasibility,
    "log_divergence": log_divergence,
}


def waymax_metric(trace: EpisodeTrace, name: str) -> MetricResult:
    """One of METRICS over the episode: the largest value, or the last (progression), or the mean (log_divergence).

    details: name, aggregation, the step of the largest value above 0, the track that overlaps there. Not valid where no step is.
    """
    series = METRICS[name](trace)
    details: dict[str, Any] = {"name": f"waymax_{name}", "aggregation": AGGREGATION[name]}
    if not series.valid.any():
        return MetricResult(0.0, False, {**details, "reason": "the scene has no map or route that this could be told from"})
    values = series.value[series.valid]
    value = {"max": values.max, "mean": values.mean, "last": lambda: values[-1]}[AGGREGATION[name]]()
    worst = int(np.where(series.valid, series.value, -np.inf).argmax())
    details["step"] = worst if series.value[worst] > 0 else None
    if name == "overlap" and details["step"] is not None:
        details["track"] = int(trace.contact[worst].argmax())
    return MetricResult(float(value), True, details)


def waymax_reward(trace: EpisodeTrace, weights: Mapping[str, float] | None = None) -> np.ndarray:
    """(T,) the weighted sum of metrics per step, {overlap: -1, offroad: -1} by default; what is not valid adds 0."""
    weights = {"overlap": -1.0, "offroad": -1.0} if weights is None else weights
    series = {name: METRICS[name](trace) for name in weights}
    return np.sum([weights[name] * np.where(s.valid, s.value, 0.0) for name, s in series.items()], axis=0)


def _always(value: np.ndarray) -> Series:
    return Series(value, np.isfinite(value))


def _never(trace: EpisodeTrace) -> Series:
    return Series(np.zeros(len(trace.time)), np.zeros(len(trace.time), bool))


def _distance(points: np.ndarray, query: np.ndarray) -> np.ndarray:
    return cKDTree(points).query(query)[0] if len(points) else np.full(len(query), np.inf)


def _paths(trace: EpisodeTrace) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 2), (Q, 2) of the route and its lanes, and of the other lanes that lead on from where the log started."""
    if trace.map is None:
        return trace.route.points, np.zeros((0, 2))
    lanes = trace.map.lanes
    on_route = [lanes[token].centerline[:, :2] for token in trace.route.lanes if token in lanes]
    others = [lanes[token].centerline[:, :2] for token in sorted(_reachable(trace.map, trace.expert[0]) - set(trace.route.lanes))]
    return np.concatenate([trace.route.points, *on_route]), np.concatenate([np.zeros((0, 2)), *others])


def _reachable(scene_map: SceneMap, pose: np.ndarray) -> set[str]:
    """Tokens of the lanes beside a pose (3,) that run its way, and of all that they lead to."""
    x, y, yaw = pose.tolist()
    found: set[str] = set()
    for token, lane in scene_map.lanes.items():
        away = np.hypot(lane.centerline[:, 0] - x, lane.centerline[:, 1] - y)
        turn = (lane.centerline[away.argmin(), 2] - yaw + np.pi) % (2 * np.pi) - np.pi
        if away.min() <= _BESIDE and abs(turn) < _ALONG:
            found.add(token)
    ahead = list(found)
    while ahead:
        following = set(scene_map.lanes[ahead.pop()].successors) & scene_map.lanes.keys() - found
        found |= following
        ahead += following
    return found
