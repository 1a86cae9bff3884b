"""Keeping to the middle of a lane."""

from __future__ import annotations

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry import deterministic
from dist4d_env.metrics.driving.drivable_area import NO_MAP
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.metrics.plans.lanes import lanes_on_route, route_area

TOLERANCE = 0.5  # m
PATIENCE = 20  # consecutive ticks


def lane_offsets(trace: EpisodeTrace) -> np.ndarray:
    """(T,) distance of the box centre from the centreline of the lane that fits best, in metres; nan where there is no lane."""
    assert trace.map is not None
    center = trace.center
    x, y, heading = trace.map.lane_points_along(np.column_stack([center, trace.ego[:, 2]])).T
    return np.abs(deterministic.cos(heading) * (center[:, 1] - y) - deterministic.sin(heading) * (center[:, 0] - x))


def patience_ended(off: np.ndarray, skipped: np.ndarray) -> np.ndarray:
    """(...) the step of (..., T) at which, for the first time, 20 steps on end were off, -1 for never; skipped (..., T) steps
    neither count nor interrupt."""
    run, ended = np.zeros(off.shape[:-1], int), np.full(off.shape[:-1], -1)
    for step in range(off.shape[-1]):
        run = np.where(skipped[..., step], run, np.where(off[..., step], run + 1, 0))
        ended = np.where((ended < 0) & (run >= PATIENCE), step, ended)
    return ended


def lane_keeping(trace: EpisodeTrace, middle: str = "lane") -> MetricResult:
    """0 if the centre is more than 0.5 m from a centreline for 20 steps on end, else 1 (NAVSIM v2's LK).

    Steps in intersections neither count nor interrupt. middle: "lane" measures from the centreline of the nearest lane in the
    direction of travel, to which a swift lane change is nothing; "route", as NAVSIM, from those of the lanes that the route runs
    over. details: step at which patience ended, largest offset. Not valid without lanes.
    """
    if middle not in ("lane", "route"):
        raise ConfigError(f"middle={middle!r} is unknown; choose lane or route")
    if trace.map is None or not trace.map.lanes:
        return MetricResult(0.0, False, NO_MAP)
    if middle == "lane":
        offsets = lane_offsets(trace)
    else:
        offsets = route_area(trace.map, lanes_on_route(trace.map, trace.route.lanes), trace.route).offset(trace.center)
    crossing = trace.map.in_intersection(trace.center)
    step = int(patience_ended(~(offsets <= TOLERANCE), crossing))
    ended = step if step >= 0 else None
    largest = float(np.nanmax(np.where(crossing, 0.0, offsets), initial=0.0))
    return MetricResult(float(ended is None), True, {"step": ended, "largest": largest})
