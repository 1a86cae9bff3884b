"""HUGSIM's HD-score: mean score of an episode's plans, without progress, times completion of the recorded path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import shapely

from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.areas import ego_corners
from dist4d_env.metrics.driving.forms import Form, is_faithful
from dist4d_env.metrics.driving.road import NO_MAP
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult, Plans
from dist4d_env.metrics.foreign.ads import LEADS, PlacedPlans, area_score, plan_comfort, planned_contacts, scored_plans

WEIGHTS: Mapping[str, float] = {"time_to_collision": 5.0, "comfort": 2.0}
LENGTH, WIDTH = 3.0, 1.6
"""The ego of the original, a small box."""
ENOUGH = 0.9  # of the log's poses
_CAR = CATEGORIES.index("car")


def ground_shares(trace: EpisodeTrace, plans: PlacedPlans, vehicle: VehicleParameters) -> np.ndarray:
    """(K, P + 1) share of the quarters (2 x 2) of each planned footprint that hold some drivable ground."""
    assert trace.map is not None
    front_left, rear_left, rear_right, front_right = np.moveaxis(ego_corners(plans.poses, vehicle), -2, 0)
    left, right = (front_left + rear_left) / 2, (front_right + rear_right) / 2
    front, rear, middle = (front_left + front_right) / 2, (rear_left + rear_right) / 2, (left + right) / 2
    quarters = [
        (front_left, left, middle, front),
        (left, rear_left, rear, middle),
        (middle, rear, rear_right, right),
        (front, middle, right, front_right),
    ]
    held = [shapely.intersects(trace.map.drivable, shapely.polygons(np.stack(quarter, -2))) for quarter in quarters]
    return np.mean(held, axis=0)


def log_completion(trace: EpisodeTrace, human: EpisodeTrace | None = None) -> float | None:
    """min(1, (index of the nearest logged pose + 1) / (0.9 N)), the most over the episode.

    The logged poses are the human drive's; without one the rest of the log's path counts, by metres from the episode's start.
    None for a path without an end, or where the episode starts there.
    """
    if human is not None:
        logged = human.ego[:, :2]
        nearest = ((trace.ego[:, None, :2] - logged) ** 2).sum(-1).argmin(1)
        return min(1.0, float(nearest.max() + 1) / (ENOUGH * len(logged)))
    start = float(trace.route_position[0])
    left = 0.0 if trace.route.log_length is None else trace.route.log_length - start
    return None if left <= 0 else float(np.clip((trace.route_position.max() - start) / (ENOUGH * left), 0.0, 1.0))


def hd_score(trace: EpisodeTrace, plans: Plans, human: EpisodeTrace | None = None, form: Form = "faithful") -> MetricResult:
    """RC x mean over plans of NC x DAC x (5 TTC + 2 C) / 7 (HUGSIM, 2024).

    faithful: a small ego of 3.0 x 1.6 m, only cars count, lateral acceleration is 0. corrected: the true footprint, every agent
    that was not put where the ego was (``first_instant``), lateral acceleration counted. The original also takes points of its
    background within the ego for collisions, which a vector map does not have: details["unavailable"] says so. details: RC, the
    mean of each part, the first planned collision. Not valid without a map, plans or a log's path.
    """
    is_faithful(form)
    if trace.map is None or "drivable_area" in trace.map.missing:
        return MetricResult(0.0, False, NO_MAP)
    if not len(plans.step):
        return MetricResult(0.0, False, {"reason": "there are no plans to score"})
    completion = log_completion(trace, human)
    if completion is None:
        reason = "there is no logged path ahead: the route was not made from a log, or the log ends at the start"
        return MetricResult(0.0, False, {"reason": reason})
    placed, corrected = PlacedPlans.of(trace, plans), form == "corrected"
    vehicle = trace.vehicle if corrected else replace(trace.vehicle, length=LENGTH, width=WIDTH)
    counts = ~trace.spared if corrected else trace.category == _CAR
    hits = [planned_contacts(trace, placed, lead, counts, vehicle) for lead in LEADS]
    parts = {
        "no_collision": 1.0 - hits[0].any((1, 2)),
        "drivable_area_compliance": area_score(ground_shares(trace, placed, vehicle), 0.3, 0.5),
        "time_to_collision": 1.0 - (hits[1] | hits[2]).any((1, 2)),
        "comfort": plan_comfort(placed, corrected) * 1.0,
    }
    value, details = scored_plans(placed, parts, WEIGHTS, hits[0])
    details |= {"name": "hugsim_hd_score", "form": form, "route_completion": completion}
    details["unavailable"] = ["collisions with the background"]
    return MetricResult(completion * value, True, details)
