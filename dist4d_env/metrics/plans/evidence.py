"""What broke a plan's sub-scores: the step and the object of every infraction, as arrays over the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.metrics.driving.collision import KINDS
from dist4d_env.metrics.driving.comfort import TERMS
from dist4d_env.metrics.driving.contacts import first_of_each
from dist4d_env.metrics.plans.scene import PlanScene

Evidence = dict[str, np.ndarray]
"""Arrays (B, ...) by name. Steps are ticks from now, -1 where nothing happened."""


def first_step(broken: np.ndarray) -> np.ndarray:
    """(...) the first step of (..., S) that is, -1 for none."""
    return np.where(broken.any(-1), broken.argmax(-1), -1)


def note_first(
    evidence: Evidence,
    cause: str,
    scene: PlanScene,
    plan: np.ndarray,
    step: np.ndarray,
    track: np.ndarray,
    **more: np.ndarray,
) -> None:
    """Notes for every plan the earliest of some events: step, track, category and more, -1 where there is none."""
    rows = first_of_each(plan, np.zeros_like(plan), step, track)
    identity = track if scene.track is None else scene.track[track]
    columns = {"step": step, "track": identity, "category": scene.category[track], **more}
    count = len(evidence["rows"])
    for name, values in columns.items():
        noted = np.full(count, -1)
        noted[plan[rows]] = values[rows]
        evidence[f"{cause}_{name}"] = noted


def told(seen: Mapping[str, Any]) -> dict[str, Any]:
    """One plan's row of the evidence in words: per rule None or the step and, where there is one, the object."""
    found: dict[str, Any] = {"progress": float(seen["progress"]), "collision": None, "meeting": None}
    if seen["fault_step"] >= 0:
        found["collision"] = _object(seen, "fault") | {"kind": KINDS[seen["fault_kind"]]}
    if seen["meeting_step"] >= 0:
        found["meeting"] = _object(seen, "meeting") | {"lead": float(seen["meeting_lead"]) / 10}
    steps = {"off_road": "off_road_step", "against_traffic": "against_step", "off_lane": "lane_step"}
    for name, column in steps.items():
        if column in seen:
            found[name] = {"step": int(seen[column])} if seen[column] >= 0 else None
    rough = {term: {"step": int(step)} for term, step in zip(TERMS, seen["rough_step"], strict=True) if step >= 0}
    return found | {"discomfort": rough or None}


def _object(seen: Mapping[str, Any], cause: str) -> dict[str, Any]:
    names = {name: int(seen[f"{cause}_{name}"]) for name in ("step", "track")}
    return names | {"category": CATEGORIES[seen[f"{cause}_category"]]}
