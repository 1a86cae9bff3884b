"""DriveArena's arena driving score (ADS): mean score of an episode's plans times route completion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.areas import ego_corners
from dist4d_env.metrics.driving.comfort import LIMITS
from dist4d_env.metrics.driving.forms import Form, is_faithful
from dist4d_env.metrics.driving.progress import SHORT, route_completion
from dist4d_env.metrics.driving.rectangles import ego_centers, overlap
from dist4d_env.metrics.driving.road import NO_MAP
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult, Plans
from dist4d_env.scenes.scene import TICK

WEIGHTS: Mapping[str, float] = {"time_to_collision": 5.0, "comfort": 2.0, "ego_progress": 5.0}
LEADS = (0.0, 0.5, 1.0)
"""Seconds that a plan is shifted along its own velocity: 0 for the collision itself, the others for the time to it."""
_CAR = CATEGORIES.index("car")
_STANDS = 1.0  # m; a shorter plan keeps the heading it starts with


@dataclass(frozen=True)
class PlacedPlans:
    """Plans in the global frame. tick: (K,); poses: (K, P + 1, 3) rear-axle x, y, heading, the pose at the tick first; dt: s."""

    tick: np.ndarray
    poses: np.ndarray
    dt: float

    @classmethod
    def of(cls, trace: EpisodeTrace, plans: Plans) -> PlacedPlans:
        """The plans of an episode, each placed where its ego was."""
        start = trace.ego[plans.step][:, None]
        cos, sin = deterministic.cos(start[..., 2]), deterministic.sin(start[..., 2])
        x, y, turn = np.moveaxis(plans.poses, -1, 0)
        ahead = np.stack([start[..., 0] + cos * x - sin * y, start[..., 1] + sin * x + cos * y, start[..., 2] + turn], -1)
        poses = np.concatenate([start[..., :3], ahead], 1)
        short = np.linalg.norm(poses[:, -1, :2] - poses[:, 0, :2], axis=-1) < _STANDS
        poses[short, :, 2] = poses[short, :1, 2]
        return cls(plans.step, poses, plans.dt)

    def ticks(self, trace: EpisodeTrace) -> np.ndarray:
        """(K, P + 1) the tick at which each pose is due, -1 past the end of the episode."""
        due = self.tick[:, None] + np.round(np.arange(self.poses.shape[1]) * self.dt / TICK).astype(int)
        return np.where(due < len(trace.at_ticks().time), due, -1)


def planned_contacts(
    trace: EpisodeTrace, plans: PlacedPlans, lead: float, counts: np.ndarray, vehicle: VehicleParameters
) -> np.ndarray:
    """(K, P + 1, N) which tracks the planned boxes meet when they are due, each box shifted on by ``lead`` seconds of the plan's
    velocity there (finite differences). counts: (N,) which tracks count; poses due after the episode meet nothing."""
    center = ego_centers(plans.poses, vehicle)
    velocity = np.diff(center, axis=1) / plans.dt
    center = center + lead * np.concatenate([velocity[:, :1], velocity], 1)
    due = plans.ticks(trace)
    radius = (np.hypot(vehicle.length, vehicle.width) + np.hypot(trace.size[:, 0], trace.size[:, 1])) / 2
    away = np.linalg.norm(trace.position[due, :, :2] - center[:, :, None], axis=-1)
    hits = (due >= 0)[..., None] & trace.valid[due] & counts & (away <= radius)
    plan, pose, track = np.nonzero(hits)
    if len(plan):
        at = due[plan, pose], track
        own = np.array([vehicle.length, vehicle.width])
        hits[plan, pose, track] = overlap(
            center[plan, pose], plans.poses[plan, pose, 2], own, trace.position[at][:, :2], trace.yaw[at], trace.size[track, :2]
        )
    return hits


def plan_comfort(plans: PlacedPlans, lateral: bool, max_acceleration: float = LIMITS.max_acceleration) -> np.ndarray:
    """(K,) whether finite differences of each plan keep the bounds of acceleration, jerk (8.37 m/s^3) and yaw motion.

    lateral: whether speed times yaw rate counts, which both originals take to be 0.
    """
    speed = np.linalg.norm(np.diff(plans.poses[..., :2], axis=1), axis=-1) / plans.dt
    turn = np.diff(plans.poses[..., 2], axis=1)
    rate = ((turn + np.pi) % (2 * np.pi) - np.pi) / plans.dt
    along = np.diff(speed, axis=1) / plans.dt
    kept = ((along <= max_acceleration) & (along >= LIMITS.min_acceleration)).all(1)
    kept &= (np.abs(np.diff(along, axis=1) / plans.dt) <= LIMITS.jerk).all(1)
    kept &= (np.abs(rate) <= LIMITS.yaw_rate).all(1)
    kept &= (np.abs(np.diff(rate, axis=1) / plans.dt) <= LIMITS.yaw_acceleration).all(1)
    if lateral:
        kept &= (np.abs(speed * rate) <= LIMITS.lateral_acceleration).all(1)
    return kept


def drivable_shares(trace: EpisodeTrace, plans: PlacedPlans, form: Form) -> np.ndarray:
    """(K, P + 1) share of each planned footprint on the drivable area: of cells of half a metre, or exactly (corrected)."""
    assert trace.map is not None
    corners = ego_corners(plans.poses, trace.vehicle)
    if form == "corrected":
        boxes, shares = shapely.polygons(corners), np.ones(corners.shape[:2])
        outside = ~shapely.contains_properly(trace.map.drivable, boxes)
        shares[outside] = shapely.area(shapely.intersection(boxes[outside], trace.map.drivable)) / shapely.area(boxes[outside])
        return shares
    return np.array([_raster_shares(trace, start, row) for start, row in zip(plans.poses[:, 0], corners, strict=True)])


def _raster_shares(trace: EpisodeTrace, start: np.ndarray, corners: np.ndarray) -> list[float]:
    """Shares for footprints (P, 4, 2) of one plan: corners cut down to cells, then the cells strictly within count."""
    assert trace.map is not None
    x, y, yaw = start.tolist()
    mask = trace.map.bev(pose_from_xy_yaw(x, y, yaw))[0].T[:, ::-1]  # row: 50 m left to 50 m right, column: behind to ahead
    cos, sin = deterministic.cos(yaw), deterministic.sin(yaw)
    local = (corners - (x, y)) @ np.array([[cos, -sin], [sin, cos]])
    cells = np.trunc(np.stack([(local[..., 0] + 50) * 2, (50 - local[..., 1]) * 2], -1))
    shares = []
    for corner in cells:
        (left, low), (right, high) = corner.min(0).astype(int), corner.max(0).astype(int)
        columns, rows = np.meshgrid(np.arange(max(left, 0), min(right, 199) + 1), np.arange(max(low, 0), min(high, 199) + 1))
        held = shapely.contains_xy(shapely.Polygon(corner), columns.ravel(), rows.ravel())
        shares.append(float(mask[rows.ravel()[held], columns.ravel()[held]].mean()) if held.any() else 1.0)
    return shares


def area_score(shares: np.ndarray, none: float, half: float) -> np.ndarray:
    """(K,) 0 where a share (K, P + 1) falls below ``none``, else 1/2 where one falls below ``half``, else 1."""
    worst = shares.min(1)
    return np.where(worst < none, 0.0, np.where(worst < half, 0.5, 1.0))


def polyline(points: np.ndarray) -> shapely.LineString | None:
    """The line through points (P, 2) without repeats, on which projections fail; None where they are all one place."""
    moved = np.hypot(*np.diff(points, axis=0).T) > 1e-9
    kept = points[np.concatenate([[True], moved])]
    return shapely.LineString(kept) if len(kept) > 1 else None


def planned_progress(trace: EpisodeTrace, plans: PlacedPlans) -> np.ndarray:
    """(K,) length of each plan's projection on the recorded path of the same time over that path's length; 1 where both are
    below 5 m."""
    due = plans.ticks(trace)
    scores = np.ones(len(plans.poses))
    for row, (poses, at) in enumerate(zip(plans.poses, due, strict=True)):
        logged = trace.expert[at[at >= 0], :2]
        reference, own = polyline(np.concatenate([poses[:1, :2], logged[1:]])), poses[: len(logged), :2]
        planned = float(np.hypot(*np.diff(own, axis=0).T).sum())
        if reference is not None and max(planned, reference.length) >= SHORT:
            along = shapely.line_locate_point(reference, shapely.points(own))
            points = shapely.get_coordinates(shapely.line_interpolate_point(reference, along))
            scores[row] = np.hypot(*np.diff(points, axis=0).T).sum() / reference.length
    return scores


def scored_plans(
    placed: PlacedPlans, parts: Mapping[str, np.ndarray], weights: Mapping[str, float], hits: np.ndarray
) -> tuple[float, dict[str, Any]]:
    """Mean over plans of NC x DAC x the weighted mean of parts (K,), and its details: number of plans, mean of each part, and
    tick, pose and track of the first planned collision of hits (K, P + 1, N), None for none."""
    weighted = sum(weight * parts[name] for name, weight in weights.items()) / sum(weights.values())
    value = parts["no_collision"] * parts["drivable_area_compliance"] * weighted
    means = {name: float(part.mean()) for name, part in {**parts, "pdms": value}.items()}
    found = np.argwhere(hits)
    first = {"step": int(placed.tick[found[0, 0]]), "pose": int(found[0, 1]), "track": int(found[0, 2])} if len(found) else None
    return float(value.mean()), {"plans": len(value), "parts": means, "first_contact": first}


def ads(trace: EpisodeTrace, plans: Plans, form: Form = "faithful", reference: float | None = None) -> MetricResult:
    """RC x mean over plans of NC x DAC x (5 TTC + 2 C + 5 EP) / 12 (DriveArena, 2024).

    NC and TTC compare with the episode's agents when the poses are due, EP with the recorded drive. faithful: only cars count,
    footprints are rastered, lateral acceleration is 0 and the upper bound of the longitudinal is the lateral one. corrected:
    every agent that was not put where the ego was (``first_instant``), exact areas, lateral acceleration counted, 2.40 m/s^2.
    RC: ``route_completion`` of the ``reference`` metres, by default of all that is left of the recorded drive. details: RC, the
    mean of each part, the first planned collision. Not valid without a map, plans or a route left to drive.
    """
    is_faithful(form)
    if trace.map is None or "drivable_area" in trace.map.missing:
        return MetricResult(0.0, False, NO_MAP)
    if not len(plans.step):
        return MetricResult(0.0, False, {"reason": "there are no plans to score"})
    placed = PlacedPlans.of(trace, plans)
    corrected = form == "corrected"
    counts = ~trace.spared if corrected else trace.category == _CAR
    hits = [planned_contacts(trace, placed, lead, counts, trace.vehicle) for lead in LEADS]
    parts = {
        "no_collision": 1.0 - hits[0].any((1, 2)),
        "drivable_area_compliance": area_score(drivable_shares(trace, placed, form), 0.2, 0.5),
        "time_to_collision": 1.0 - (hits[1] | hits[2]).any((1, 2)),
        "comfort": plan_comfort(placed, corrected, LIMITS.max_acceleration if corrected else LIMITS.lateral_acceleration) * 1.0,
        "ego_progress": planned_progress(trace, placed),
    }
    value, details = scored_plans(placed, parts, WEIGHTS, hits[0])
    completion = route_completion(trace, reference)
    details |= {"name": "drivearena_ads", "form": form, "route_completion": completion.value}
    if not completion.valid:
        details["reason"] = completion.details["reason"]
    return MetricResult(completion.value * value, completion.valid, details)
