"""How far plans get along a route."""

from __future__ import annotations

import numpy as np

from dist4d_env.metrics.driving.progress import SHORT
from dist4d_env.scenes.route import Route

_MARGIN = 30.0  # m of the route beyond what a plan could reach at most


def plan_progress(center: np.ndarray, route: Route, near: float | None = None) -> np.ndarray:
    """(B,) metres, not negative, along the route between the first and the last of box centres (B, S, 2).

    Only the part of the route that a plan can reach from its start is looked at, so that a route which comes by again cannot
    give away its second pass. near: an arc length around which the starts are, for the same reason.
    """
    start = np.full(len(center), -np.inf if near is None else near)
    start = project(route, center[:, 0], start - _MARGIN, np.where(np.isinf(start), np.inf, start + _MARGIN))
    driven = np.linalg.norm(np.diff(center, axis=1), axis=-1).sum(1) + _MARGIN
    end = project(route, center[:, -1], start - driven, start + driven)
    return np.maximum(end - start, 0.0)


def project(route: Route, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(M,) arc lengths of the nearest points of the route to points (M, 2), looked for between arc lengths low and high (M,)."""
    # Corners of the route one beyond the limits, so that the pieces which hold the limits belong to it.
    first = np.maximum(np.searchsorted(route.arc_length, low) - 1, 0)
    last = np.minimum(np.searchsorted(route.arc_length, high), len(route.points) - 1)
    first = np.minimum(first, len(route.points) - 2)
    window = slice(int(first.min()), int(max(last.max(), first.max() + 1)) + 1)
    corner = np.arange(window.start, window.stop)
    dx, dy = (points[:, axis, None] - route.points[window, axis] for axis in (0, 1))
    outside = (corner < first[:, None]) | (corner > np.maximum(last, first + 1)[:, None])
    nearest = corner[np.argmin(np.where(outside, np.inf, dx * dx + dy * dy), axis=1)]
    # The nearest point of the polyline lies on one of the two pieces that meet at its nearest corner.
    s, distance = [], []
    for piece in (np.maximum(nearest - 1, 0), np.minimum(nearest, len(route.points) - 2)):
        begin, length = route.points[piece], route.arc_length[piece + 1] - route.arc_length[piece]
        unit = (route.points[piece + 1] - begin) / length[:, None]
        away = points - begin
        along = np.clip((away * unit).sum(1), 0.0, length)
        s.append(route.arc_length[piece] + along)
        distance.append(np.hypot(*(away - along[:, None] * unit).T))
    return np.where(distance[0] <= distance[1], s[0], s[1])


def relative_progress(raw: np.ndarray, multiplier: np.ndarray, reference: float | None, version: str) -> np.ndarray:
    """(B,) EP in [0, 1] from metres (B,) and NC x DAC (B,).

    Progress is weighed with the multiplier; the best of the batch, or of the reference's metres (weighed already) and each plan
    alone, is 1. v1 compares the weighed progress, v2 the plan's own as it is. Where nobody gets farther than 5 m it is 1 (in v1
    0 for plans whose multiplier is 0).
    """
    weighed = raw * multiplier
    best = np.full(len(raw), weighed.max(initial=0.0)) if reference is None else np.maximum(weighed, reference)
    short = best <= SHORT
    best = np.where(short, 1.0, best)
    if version == "v1":
        return np.where(short, (multiplier > 0).astype(float), weighed / best)
    return np.where(short, 1.0, np.clip(raw / best, 0.0, 1.0))
