"""Plans on the road: drivable area, driving direction and lane keeping."""

from __future__ import annotations

import numpy as np

from dist4d_env.metrics.driving.areas import ego_corners, off_drivable
from dist4d_env.metrics.driving.driving_direction import against_traffic, driven_within_a_second, graded
from dist4d_env.metrics.driving.lane_keeping import PATIENCE, TOLERANCE, patience_ended
from dist4d_env.metrics.plans.evidence import Evidence, first_step
from dist4d_env.metrics.plans.scene import PlanScene


def plan_drivable_area(ego: np.ndarray, scene: PlanScene, evidence: Evidence) -> np.ndarray:
    """(B,) DAC: 0 if a corner of the footprint leaves the drivable area at any step, without tolerance, else 1."""
    if scene.map is None or "drivable_area" in scene.map.missing:
        return np.ones(len(ego))
    outside = off_drivable(scene.map, ego_corners(ego, scene.vehicle))
    evidence["off_road_step"] = first_step(outside)
    return 1.0 - outside.any(1)


def plan_driving_direction(
    ego: np.ndarray, center: np.ndarray, scene: PlanScene, faithful: bool, evidence: Evidence
) -> np.ndarray:
    """(B,) DDC: 1, 1/2 or 0 by the metres driven within a second against the traffic (``against_traffic``)."""
    if scene.map is None or not scene.map.lanes:
        return np.ones(len(ego))
    against = against_traffic(scene.map, scene.route, scene.on_route, center, ego[..., 2], faithful)
    metres = driven_within_a_second(center, against)
    worst = metres.max(1)
    value = graded(worst)
    evidence["against_metres"] = worst
    evidence["against_step"] = np.where(value < 1, metres.argmax(1), -1)
    return value


def plan_lane_keeping(center: np.ndarray, scene: PlanScene, evidence: Evidence) -> np.ndarray:
    """(B,) LK: 0 if the centre is more than 0.5 m off the middle for 20 steps on end, intersections skipped, else 1."""
    off = scene.area.offset(center) > TOLERANCE
    crossing = np.zeros(off.shape, bool)
    # Few plans are long enough off the middle for it to matter where the intersections are.
    asked = off.sum(1) >= PATIENCE
    if scene.map is not None:
        crossing[asked] = scene.map.in_intersection(center[asked])
    evidence["lane_step"] = np.full(len(center), -1)
    evidence["lane_step"][asked] = patience_ended(off[asked], crossing[asked])
    return np.where(evidence["lane_step"] >= 0, 0.0, 1.0)
