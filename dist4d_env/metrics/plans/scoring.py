"""Scores of plans, simulated for 4 s, as NAVSIM defines them: PDMS (v1.1) and EPDMS (v2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.metrics.driving.comfort import WINDOWS, smoothed_signals
from dist4d_env.metrics.driving.forms import is_faithful
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.driving.time_to_collision import LEADS
from dist4d_env.metrics.driving.trace import require_finite
from dist4d_env.metrics.plans.scene import PlanScene
from dist4d_env.metrics.plans.subscores import (
    Evidence,
    infractions,
    knows_direction,
    plan_comfort,
    plan_drivable_area,
    plan_driving_direction,
    plan_history_comfort,
    plan_lane_keeping,
    plan_no_at_fault_collision,
    plan_progress,
    plan_time_to_collision,
    plan_traffic_lights,
    relative_progress,
)

MULTIPLIERS: Mapping[str, tuple[str, ...]] = {
    "v1": ("no_at_fault_collision", "drivable_area_compliance"),
    "v2": ("no_at_fault_collision", "drivable_area_compliance", "driving_direction_compliance", "traffic_light_compliance"),
}
WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "v1": {"ego_progress": 5.0, "time_to_collision": 5.0, "comfort": 2.0},
    "v2": {"ego_progress": 5.0, "time_to_collision": 5.0, "lane_keeping": 2.0, "history_comfort": 2.0},
}
"""v2's extended comfort needs two plans (``extended_comfort``)."""


@dataclass(frozen=True)
class PlanScores:
    """score (B,); parts: sub-scores (B,) by name, those of MULTIPLIERS and WEIGHTS and v1's unweighed driving direction; valid
    (B,): whether the scene has what every weighed part needs (a map with a drivable area and lanes, for the faithful v2 lanes on
    the route); evidence: arrays (B, ...) that
    ``details`` reads: steps of infractions, -1 for none, and their causes; ``rows`` of traffic."""

    version: str
    form: str
    score: np.ndarray
    parts: Mapping[str, np.ndarray]
    valid: np.ndarray
    evidence: Mapping[str, np.ndarray]

    def details(self, plan: int) -> dict[str, Any]:
        """Every sub-score of one plan and, for each infraction, its step and object (None for none)."""
        found: dict[str, Any] = {"version": self.version, "form": self.form, "score": float(self.score[plan])}
        found |= {name: None if np.isnan(values[plan]) else float(values[plan]) for name, values in self.parts.items()}
        return found | infractions({name: values[plan] for name, values in self.evidence.items()})


def score_plans(
    ego: np.ndarray, scene: PlanScene, version: str = "v1", form: str = "faithful", reference: float | None = None
) -> PlanScores:
    """Scores simulated plans, ego rows (B, S, 7) at 10 Hz from now on (S = 41 for 4 s), against a scene.

    v1: NC x DAC x (5 EP + 5 TTC + 2 C) / 12 (Dauner et al. 2024); v2: NC x DAC x DDC x TLC x (5 EP + 5 TTC + 2 LK + 2 HC) / 14
    (Cao et al. 2025), EPDMS without extended comfort, which compares two plans, and, in a scene without traffic lights, without
    these (TLC is nan). reference: metres of the reference plan's progress, already times its NC and DAC (v2: and DDC and TLC);
    None: the best of the batch is it. Rows are 0.1 s apart: poses of another rate are not resampled, ``simulate_plans`` makes
    such rows of them.

    The faithful form reproduces NAVSIM with its known defects; the corrected one mends them:

    - a collision is judged by the velocity that the track was first seen with; corrected: by the one it then has;
    - an ego that reverses is taken to lead with its front and, for time to collision, to move along its heading; corrected: with
      its rear, along its velocity;
    - what touches the ego in the first row counts (v2's simulation has removed it before: ``PlanScene.cleared``), so does a
      corner that starts off the road; corrected: neither (``first_instant``);
    - comfort ignores the centripetal acceleration; corrected: lateral acceleration is speed times yaw rate;
    - v1's comfort smooths over the whole plan (windows 41 and 41); corrected: v2's windows 8 and 15;
    - time to collision takes bearings from where the ego is now, so that a car closing in from behind is "ahead"; corrected: from
      the projected ego;
    - the driving direction counts every metre outside the route's lanes, off the road too, which DAC punishes already;
      in v1 in intersections, too; corrected: metres in lanes that all run against the heading, never in an intersection;
    - v2's comfort leaves out the last tick before the present; corrected: it does not.

    Kept in both: yaw motion is smoothed over five steps whatever the window, and the tracker's overshoot is scored with the plan.
    Lane keeping looks at the centrelines of the lanes the route runs over, or at the route where there are none. History
    comfort looks at ``scene.history`` and the plan; without a history it is 1 in the faithful form, as the original has it, and
    the plan's own in the corrected one. There is no traffic past the scene's last row. Raises ConfigError for an
    unknown version or form, for an ego that is not finite or of another shape, and for a reference that is not finite.
    """
    faithful = is_faithful(form)
    _check(ego, version, reference)
    center = ego_centers(ego, scene.vehicle)
    evidence: Evidence = {"rows": np.full(len(ego), len(scene.position))}
    parts: Evidence = {"no_at_fault_collision": plan_no_at_fault_collision(ego, center, scene, faithful, evidence)}
    parts["drivable_area_compliance"] = plan_drivable_area(ego, scene, faithful, evidence)
    parts["driving_direction_compliance"] = plan_driving_direction(ego, center, scene, version, faithful, evidence)
    last = ego.shape[1] - 1 if version == "v1" else ego.shape[1] - 1 - LEADS[-1]
    parts["time_to_collision"] = plan_time_to_collision(ego, scene, last, faithful, evidence)
    evidence["progress"] = plan_progress(center, scene.route, scene.near)
    if version == "v2":
        parts["traffic_light_compliance"] = plan_traffic_lights(ego, scene, evidence)
    multiplier = np.nanprod([parts[name] for name in MULTIPLIERS[version]], axis=0)
    parts["ego_progress"] = relative_progress(evidence["progress"], multiplier, reference, version)
    if version == "v1":
        windows = WINDOWS["v1" if faithful else "v2"]
        parts["comfort"] = plan_comfort(ego, smoothed_signals(ego, 0.0, windows, faithful), evidence)
    else:
        parts["lane_keeping"] = plan_lane_keeping(center, scene, evidence)
        parts["history_comfort"] = plan_history_comfort(ego, scene, faithful, evidence)
    weights = WEIGHTS[version]
    weighted = sum(weight * parts[name] for name, weight in weights.items()) / sum(weights.values())
    known = scene.map is not None and "drivable_area" not in scene.map.missing
    known = known and knows_direction(scene, faithful and "driving_direction_compliance" in MULTIPLIERS[version])
    return PlanScores(version, form, multiplier * weighted, parts, np.full(len(ego), known), evidence)


def _check(ego: np.ndarray, version: str, reference: float | None) -> None:
    if version not in WEIGHTS:
        raise ConfigError(f"version={version!r} is unknown; choose one of {', '.join(WEIGHTS)}")
    least = LEADS[-1] + 2
    if ego.ndim != 3 or not len(ego) or ego.shape[1] < least or ego.shape[2] != 7:
        raise ConfigError(f"plans are scored as ego rows (B, S, 7), at least one plan of {least} ticks, not {ego.shape}")
    require_finite("plans are scored", ego=ego, reference=None if reference is None else np.array(reference))
