"""Bench2Drive's driving score, success, efficiency and comfortness of an episode, taken as one of its routes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely

from dist4d_env.geometry.boxes import CATEGORIES, ON_WHEELS
from dist4d_env.metrics.driving.areas import wrong_way
from dist4d_env.metrics.driving.collision import IS_STATIC
from dist4d_env.metrics.driving.comfort import SHORTEST, filtered, within_limits
from dist4d_env.metrics.driving.forms import Form, is_faithful
from dist4d_env.metrics.driving.progress import SHORT
from dist4d_env.metrics.driving.red_lights import ego_fronts, run_at_red
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.scenes.scene import TICK

PENALTIES: Mapping[str, float] = {"pedestrian": 0.5, "vehicle": 0.6, "static": 0.65, "red_light": 0.7}
"""What the driving score is multiplied with for each infraction."""
ABSENT = ("stop_sign", "scenario_timeout", "yield_to_emergency_vehicle")
"""Infractions of the original that no data set here tells of."""
ARRIVED = 0.99  # share of the route from which on it counts as done
SLOWEST = 0.1  # m/s below which a collision is not the ego's
SAME_PLACE, SAME_TRACK = 5.0, 5.0  # m, s within which contacts are one collision
BESIDE = 0.5  # m beside the road that are tolerated
CHECK_POINTS = 20
FASTEST = 10.0  # times the traffic's speed; check points above are dropped
MOVES = 0.5  # m/s that a vehicle reaches at some time unless it is parked
SEGMENT, WINDOW = 20, 7  # ticks
_WHEELED = np.array([name in ON_WHEELS for name in CATEGORIES])
_WALKER = CATEGORIES.index("pedestrian")


def bench2drive(trace: EpisodeTrace, metres: float, form: Form = "faithful") -> dict[str, MetricResult]:
    """The four scores by name (Jia et al. 2024, v0.0.3), shares where the original has per cent.

    metres: length of the route from the start on, which the recorded ego drives in the time that the episode was meant to last;
    that time is the route's limit. Driving score: share of the route driven, times PENALTIES for each infraction, times the share
    of metres driven on the road and not against it. Success: 1 for a whole route without an infraction. Efficiency: mean over
    route check points of the ego's speed over that of the vehicles that move. Comfortness: share of segments of 2 s in which
    accelerations, jerks and yaw motion keep nuPlan's bounds.

    faithful: takes the yaw rate for the yaw acceleration, counts a check point without traffic as 1, and contacts with what was
    put where the ego was; corrected: none of it. Infractions that there is no data for are left out and named in
    details["not_available"]; efficiency is not valid without a check point, the first two on a route of less than 5 m.
    """
    faithful = is_faithful(form)
    trace = trace.at_ticks()
    driven = np.maximum.accumulate(trace.route_position - trace.route_position[0])
    named = {"name": "bench2drive", "form": form}
    found = {"driving_score": _driving_score(trace, float(driven[-1]), metres, faithful)}
    details = found["driving_score"].details
    whole = details["route_completion"] == 1.0 and not sum(details["infractions"].values()) and not details["outside"]
    found["success"] = MetricResult(float(whole), found["driving_score"].valid, details)
    found["efficiency"] = _efficiency(trace, driven, metres, faithful)
    found["comfort"] = _comfort(trace, faithful)
    return {f"bench2drive_{name}": MetricResult(one.value, one.valid, {**named, **one.details}) for name, one in found.items()}


def _driving_score(trace: EpisodeTrace, driven: float, metres: float, faithful: bool) -> MetricResult:
    share = driven / metres if metres >= SHORT else 0.0
    share = 1.0 if share > ARRIVED else share
    collisions = _collisions(trace, faithful)
    infractions = {kind: sum(one["kind"] == kind for one in collisions) for kind in ("pedestrian", "vehicle", "static")}
    absent = list(ABSENT)
    if len(trace.lights):
        place = ego_fronts(trace.ego, trace.vehicle)
        infractions["red_light"] = len(run_at_red(place[:-1], place[1:], np.arange(len(place) - 1), trace.lights)[0])
    else:
        absent.append("red_light")
    outside = _outside(trace)
    if outside is None:
        absent.append("outside_route_lanes")
    penalty = math.prod(PENALTIES[kind] ** count for kind, count in infractions.items()) * (1.0 - (outside or 0.0))
    details = {
        "route_completion": share,
        "penalty": penalty,
        "infractions": infractions,
        "collisions": collisions,
        "outside": outside,
        "not_available": absent,
    }
    if metres < SHORT:
        details["reason"] = f"the recorded ego makes less than {SHORT} m: there is no route to complete"
    return MetricResult(share * penalty, metres >= SHORT, details)


def _collisions(trace: EpisodeTrace, faithful: bool) -> list[dict[str, Any]]:
    """What the ego ran into while it moved, whoever is to blame. Contacts near the last one, or with the same track soon after,
    are one collision."""
    found: list[dict[str, Any]] = []
    last: tuple[int, int] | None = None  # step and track
    for step, track in np.argwhere(trace.contact & (True if faithful else ~trace.spared)).tolist():
        if last is not None:
            near = np.linalg.norm(trace.ego[step, :2] - trace.ego[last[0], :2]) <= SAME_PLACE
            if near or (track == last[1] and (step - last[0]) * TICK <= SAME_TRACK):
                continue
        if abs(trace.ego[step, 3]) < SLOWEST:
            continue
        category, last = int(trace.category[track]), (step, track)
        kind = "pedestrian" if category == _WALKER else "static" if IS_STATIC[category] else "vehicle"
        found.append({"kind": kind, "step": step, "track": track})
    return found


def _outside(trace: EpisodeTrace) -> float | None:
    """Share of the metres driven on which the ego's centre was beside the road or in lanes against it; None without a map."""
    if trace.map is None or "drivable_area" in trace.map.missing:
        return None
    moved = np.linalg.norm(np.diff(trace.center, axis=0), axis=1)
    off = shapely.distance(trace.map.drivable, shapely.points(trace.center)) > BESIDE
    off |= wrong_way(trace.map, trace.center, trace.ego[:, 2])
    return float((moved * off[1:]).sum() / moved.sum()) if moved.sum() > 0 else 0.0


def _efficiency(trace: EpisodeTrace, driven: np.ndarray, metres: float, faithful: bool) -> MetricResult:
    """Mean over the check points reached, every twentieth of the route and its end, of the ego's mean speed since the last one
    over the vehicles', in the ticks in which there are any. details: the check points' values."""
    speed = np.hypot(trace.velocity[..., 0], trace.velocity[..., 1])
    moves = _WHEELED[trace.category] & (np.where(trace.valid, speed, 0.0).max(0, initial=0.0) > MOVES)
    there = trace.valid & moves
    some = there.any(1)
    others = np.where(there, speed, 0.0).sum(1) / np.maximum(there.sum(1), 1)
    own = np.abs(trace.ego[:, 3])
    values: list[float | None] = []
    first, before = 0, 0.0
    for step in range(len(driven) if metres >= SHORT else 0):
        ended = step == len(driven) - 1 and driven[step] > 0.95 * metres
        if driven[step] - before > metres / CHECK_POINTS or ended:
            rows = slice(first, step + ended)
            traffic = float(others[rows][some[rows]].sum())
            values.append(float(own[rows][some[rows]].sum()) / traffic if traffic > 0 else 1.0 if faithful else None)
            first, before = step, float(driven[step])
    kept = [value for value in values if value is not None and value <= FASTEST]
    if not kept:
        reason = "no check point of the route was reached among moving vehicles"
        return MetricResult(0.0, False, {"check_points": values, "reason": reason})
    return MetricResult(float(np.mean(kept)), True, {"check_points": values})


def _comfort(trace: EpisodeTrace, faithful: bool) -> MetricResult:
    """Share of comfortable segments of 20 ticks, a shorter rest left out; an episode of up to 20 ticks is one. Accelerations are
    those of the box's centre. details: the segments that are not."""
    if len(trace.time) < SHORTEST:
        return MetricResult(0.0, False, {"reason": f"an episode of fewer than {SHORTEST} ticks cannot be smoothed"})
    speed, acceleration, rate = trace.ego[:, 3], trace.ego[:, 4], trace.ego[:, 6]
    arm = trace.vehicle.rear_axle_to_center
    rows = np.stack([acceleration - rate**2 * arm, speed * rate + np.gradient(rate, TICK) * arm, rate])  # (3, T)
    length = min(SEGMENT, rows.shape[1])
    count = rows.shape[1] // length
    along, lateral, turning = rows[:, : count * length].reshape(3, count, length)
    longitudinal, turn = filtered(along, WINDOW, 2), filtered(turning, WINDOW, 2)
    signals = [
        longitudinal,
        filtered(lateral, WINDOW, 2),
        filtered(filtered(np.hypot(along, lateral), WINDOW, 2), WINDOW, 2, 1),
        filtered(longitudinal, WINDOW, 2, 1),
        turn if faithful else filtered(turn, WINDOW, 2, 1),
        turn,
    ]
    held = within_limits(np.stack(signals, 1)).all((1, 2))
    return MetricResult(float(held.mean()), True, {"segments": count, "uncomfortable": np.flatnonzero(~held).tolist()})
