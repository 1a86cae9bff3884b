"""Sub-scores of simulated plans (collisions, road rules, comfort, progress) and the first infraction of each.

All take a batch of plans: ego rows (B, S, 7), box centres (B, S, 2), against one ``PlanScene``. What broke a plan is written into
``Evidence``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.metrics.driving.areas import ego_corners, out_of_lane
from dist4d_env.metrics.driving.collision import IS_STATIC, KINDS, at_fault, classify
from dist4d_env.metrics.driving.comfort import TERMS, WINDOWS, smoothed_signals, within_limits
from dist4d_env.metrics.driving.first_instant import put_there
from dist4d_env.metrics.driving.progress import SHORT
from dist4d_env.metrics.driving.rectangles import contacts, first_of_each
from dist4d_env.metrics.driving.red_lights import ego_fronts, run_at_red
from dist4d_env.metrics.driving.road import (
    PATIENCE,
    TOLERANCE,
    against_traffic,
    driven_within_a_second,
    graded,
    outside_steps,
    patience_ended,
)
from dist4d_env.metrics.driving.time_to_collision import meetings
from dist4d_env.metrics.plans.scene import PlanScene
from dist4d_env.scenes.route import Route

Evidence = dict[str, np.ndarray]
"""Arrays (B, ...) by name. Steps are ticks from now, -1 where nothing happened."""
_MARGIN = 30.0  # m of the route beyond what a plan could reach at most


def plan_no_at_fault_collision(
    ego: np.ndarray, center: np.ndarray, scene: PlanScene, faithful: bool, evidence: Evidence
) -> np.ndarray:
    """(B,) NC: 1, or 1/2 (a static object) or 0 (a road user) where the ego touched something at its own fault.

    The first contact with each track decides about it: at fault, or the track is excused from then on. faithful: it is judged by
    the velocity that the track has in the first row in which it exists; else by the present one, and a track whose first contact
    is in that row is excused (``first_instant``).
    """
    own = np.array([scene.vehicle.length, scene.vehicle.width])
    agents = scene.position, scene.yaw, scene.size, scene.valid
    plan, step, track = contacts(center, ego[..., 2], own, *agents)
    first = first_of_each(plan, track, step)
    if not faithful:
        first = first[~put_there(step[first], scene.valid[:, track[first]].T)]
    plan, step, track = plan[first], step[first], track[first]
    here, category = ego[plan, step], scene.category[track]
    velocity = scene.velocity[scene.valid.argmax(0)[track] if faithful else step, track]
    box = scene.position[step, track], scene.yaw[step, track], scene.size[track], velocity
    kind = classify(here, scene.vehicle, *box, category, faithful)
    out = np.zeros(len(plan), bool)
    out[kind == 4] = out_of_lane(scene.map, here[kind == 4], scene.vehicle)
    fault = at_fault(kind, out)
    value = np.ones(len(ego))
    np.minimum.at(value, plan[fault], np.where(IS_STATIC[category[fault]], 0.5, 0.0))
    note_first(evidence, "fault", scene, plan[fault], step[fault], track[fault], kind=kind[fault])
    return value


def plan_time_to_collision(ego: np.ndarray, scene: PlanScene, last: int, faithful: bool, evidence: Evidence) -> np.ndarray:
    """(B,) TTC over the steps up to ``last``: 0 where the projected ego meets a track (``meetings``), else 1."""
    agents = scene.position, scene.yaw, scene.size, scene.valid
    plan, step, lead, track = meetings(ego, scene.vehicle, scene.map, last, faithful, *agents)
    note_first(evidence, "meeting", scene, plan, step, track, lead=lead)
    return np.where(evidence["meeting_step"] >= 0, 0.0, 1.0)


def plan_drivable_area(ego: np.ndarray, scene: PlanScene, faithful: bool, evidence: Evidence) -> np.ndarray:
    """(B,) DAC: 0 if a corner of the footprint is off the drivable area at any step, without tolerance, else 1; not faithful: a
    corner that starts there counts from where it first is on the road (``first_instant``)."""
    if scene.map is None or "drivable_area" in scene.map.missing:
        return np.ones(len(ego))
    outside = outside_steps(scene.map, ego_corners(ego, scene.vehicle), faithful)
    evidence["off_road_step"] = first_step(outside)
    return 1.0 - outside.any(1)


def plan_driving_direction(
    ego: np.ndarray, center: np.ndarray, scene: PlanScene, version: str, faithful: bool, evidence: Evidence
) -> np.ndarray:
    """(B,) DDC: 1, 1/2 or 0 by the metres driven within a second against the traffic (``against_traffic``). Where the map cannot
    tell (``knows_direction``) it is nan in v1, whose score it is no part of, and 1 in v2, whose score then is not valid."""
    if scene.map is None or not knows_direction(scene, faithful):
        return np.full(len(ego), np.nan if version == "v1" else 1.0)
    everywhere = faithful and version == "v1"
    against = against_traffic(scene.map, scene.route, scene.on_route, center, ego[..., 2], faithful, everywhere)
    metres = driven_within_a_second(center, against)
    worst = metres.max(1)
    value = graded(worst)
    evidence["against_metres"] = worst
    evidence["against_step"] = np.where(value < 1, metres.argmax(1), -1)
    return value


def knows_direction(scene: PlanScene, faithful: bool) -> bool:
    """Whether the map has lanes that tell the driving direction; faithful: and the route runs over some of them."""
    return scene.map is not None and bool(scene.map.lanes) and (not faithful or bool(scene.on_route))


def plan_traffic_lights(ego: np.ndarray, scene: PlanScene, evidence: Evidence) -> np.ndarray:
    """(B,) TLC: 0 where the front goes over a stop line at red (``run_at_red``), else 1; nan in a scene without lights."""
    if not len(scene.lights):
        return np.full(len(ego), np.nan)
    front, moves = ego_fronts(ego, scene.vehicle), ego.shape[1] - 1
    start, end = (front[:, rows].reshape(-1, 2) for rows in (slice(None, -1), slice(1, None)))
    move, _ = run_at_red(start, end, np.tile(np.arange(moves), len(ego)), scene.lights)
    run = np.zeros((len(ego), moves + 1), bool)
    run[move // moves, move % moves + 1] = True
    evidence["red_light_step"] = first_step(run)
    return 1.0 - run.any(1)


def plan_lane_keeping(center: np.ndarray, scene: PlanScene, evidence: Evidence) -> np.ndarray:
    """(B,) LK: 0 if the centre is more than 0.5 m off the centreline for 20 consecutive steps, intersections skipped, else 1."""
    off = scene.area.offset(center) > TOLERANCE
    crossing = np.zeros(off.shape, bool)
    # Few plans are off the centreline for long enough that intersections matter.
    asked = off.sum(1) >= PATIENCE
    if scene.map is not None:
        crossing[asked] = scene.map.in_intersection(center[asked])
    evidence["lane_step"] = np.full(len(center), -1)
    evidence["lane_step"][asked] = patience_ended(off[asked], crossing[asked])
    return np.where(evidence["lane_step"] >= 0, 0.0, 1.0)


def plan_history_comfort(ego: np.ndarray, scene: PlanScene, faithful: bool, evidence: Evidence) -> np.ndarray:
    """(B,) HC: v2's comfort over the driving before (``scene.history``) and the plans (B, S, 7) together. Without a history the
    faithful form gives 1 and the corrected one scores the plans alone. faithful: the last row before the present is left out and
    nothing fills the gap, as in the original, which takes a steady sharp turn for a jerk of the wheel."""
    past = np.zeros((0, 7)) if scene.history is None else scene.history
    if faithful:
        past = past[:-1]
    rows = np.concatenate([np.broadcast_to(past, (len(ego), *past.shape)), ego], 1)
    signals = smoothed_signals(rows, scene.vehicle.rear_axle_to_center, WINDOWS["v2"], faithful)
    value = plan_comfort(ego, signals, evidence)
    return np.ones(len(ego)) if faithful and not len(past) else value


def plan_comfort(ego: np.ndarray, signals: np.ndarray, evidence: Evidence) -> np.ndarray:
    """(B,) 1 if signals (B, 6, H + S), the H before the plan included, keep all six bounds. A breach in the past is step 0."""
    held = within_limits(signals)  # (B, 6, H + S)
    evidence["comfort_held"] = held.all(-1)
    breached = first_step(~held)
    evidence["rough_step"] = np.where(breached >= 0, np.maximum(breached - (held.shape[-1] - ego.shape[1]), 0), -1)
    return held.all((1, 2)).astype(float)


def plan_progress(center: np.ndarray, route: Route, near: float | None = None) -> np.ndarray:
    """(B,) metres, not negative, along the route between the first and the last of box centres (B, S, 2).

    Only the part of the route that a plan can reach from its start counts, so that a route which passes the same place twice is
    not taken for its second pass. near: an arc length around which the starts are, for the same reason.
    """
    start = np.full(len(center), -np.inf if near is None else near)
    start = project(route, center[:, 0], start - _MARGIN, np.where(np.isinf(start), np.inf, start + _MARGIN))
    driven = np.linalg.norm(np.diff(center, axis=1), axis=-1).sum(1) + _MARGIN
    end = project(route, center[:, -1], start - driven, start + driven)
    return np.maximum(end - start, 0.0)


def project(route: Route, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(M,) arc lengths of the nearest points of the route to points (M, 2), between arc lengths low and high (M,)."""
    # Corners of the route one beyond the limits, so that the segments which hold the limits belong to it.
    first = np.maximum(np.searchsorted(route.arc_length, low) - 1, 0)
    last = np.minimum(np.searchsorted(route.arc_length, high), len(route.points) - 1)
    first = np.minimum(first, len(route.points) - 2)
    window = slice(int(first.min()), int(max(last.max(), first.max() + 1)) + 1)
    corner = np.arange(window.start, window.stop)
    dx, dy = (points[:, axis, None] - route.points[window, axis] for axis in (0, 1))
    outside = (corner < first[:, None]) | (corner > np.maximum(last, first + 1)[:, None])
    nearest = corner[np.argmin(np.where(outside, np.inf, dx * dx + dy * dy), axis=1)]
    # The nearest point of the polyline lies on one of the two segments that share its nearest corner.
    s, distance = [], []
    for segment in (np.maximum(nearest - 1, 0), np.minimum(nearest, len(route.points) - 2)):
        begin, length = route.points[segment], route.arc_length[segment + 1] - route.arc_length[segment]
        unit = (route.points[segment + 1] - begin) / length[:, None]
        away = points - begin
        along = np.clip((away * unit).sum(1), 0.0, length)
        s.append(route.arc_length[segment] + along)
        distance.append(np.hypot(*(away - along[:, None] * unit).T))
    return np.where(distance[0] <= distance[1], s[0], s[1])


def relative_progress(raw: np.ndarray, multiplier: np.ndarray, reference: float | None, version: str) -> np.ndarray:
    """(B,) EP in [0, 1] from metres (B,) and the product of the version's multipliers (B,): NC x DAC, in v2 x DDC x TLC.

    Progress is multiplied by that product; the best of the batch, or of the reference's metres (multiplied already) and each plan
    alone, is 1. v1 compares the product, v2 the plan's own metres. Where nobody gets farther than 5 m it is 1 (in v1 0 for plans
    whose multiplier is 0).
    """
    weighed = raw * multiplier
    best = np.full(len(raw), weighed.max(initial=0.0)) if reference is None else np.maximum(weighed, reference)
    short = best <= SHORT
    best = np.where(short, 1.0, best)
    if version == "v1":
        return np.where(short, (multiplier > 0).astype(float), weighed / best)
    return np.where(short, 1.0, np.clip(raw / best, 0.0, 1.0))


def first_step(broken: np.ndarray) -> np.ndarray:
    """(...) the first true step of (..., S), -1 for none."""
    return np.where(broken.any(-1), broken.argmax(-1), -1)


def note_first(
    evidence: Evidence, cause: str, scene: PlanScene, plan: np.ndarray, step: np.ndarray, track: np.ndarray, **more: np.ndarray
) -> None:
    """Writes every plan's earliest of some events (K,) into the evidence: step, track, category and more, -1 for none."""
    rows = first_of_each(plan, np.zeros_like(plan), step, track)
    identity = track if scene.track is None else scene.track[track]
    columns = {"step": step, "track": identity, "category": scene.category[track], **more}
    count = len(evidence["rows"])
    for name, values in columns.items():
        noted = np.full(count, -1)
        noted[plan[rows]] = values[rows]
        evidence[f"{cause}_{name}"] = noted


def infractions(row: Mapping[str, Any]) -> dict[str, Any]:
    """One plan's row of the evidence by rule: None or the step and, where there is one, the object of its first infraction."""
    found: dict[str, Any] = {"progress": float(row["progress"]), "collision": None, "meeting": None}
    if row["fault_step"] >= 0:
        found["collision"] = _object(row, "fault") | {"kind": KINDS[row["fault_kind"]]}
    if row["meeting_step"] >= 0:
        found["meeting"] = _object(row, "meeting") | {"lead": float(row["meeting_lead"]) / 10}
    steps = {
        "off_road": "off_road_step",
        "against_traffic": "against_step",
        "off_lane": "lane_step",
        "red_light": "red_light_step",
    }
    for name, column in steps.items():
        if column in row:
            found[name] = {"step": int(row[column])} if row[column] >= 0 else None
    rough = {term: {"step": int(step)} for term, step in zip(TERMS, row["rough_step"], strict=True) if step >= 0}
    return found | {"discomfort": rough or None}


def _object(row: Mapping[str, Any], cause: str) -> dict[str, Any]:
    names = {name: int(row[f"{cause}_{name}"]) for name in ("step", "track")}
    return names | {"category": CATEGORIES[row[f"{cause}_category"]]}
