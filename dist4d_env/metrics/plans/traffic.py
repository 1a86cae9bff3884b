"""Plans among others: at-fault collisions and time to collision."""

from __future__ import annotations

import numpy as np

from dist4d_env.metrics.driving.areas import out_of_lane
from dist4d_env.metrics.driving.collision import IS_STATIC, at_fault, classify
from dist4d_env.metrics.driving.contacts import contacts, first_of_each
from dist4d_env.metrics.driving.time_to_collision import meetings
from dist4d_env.metrics.plans.evidence import Evidence, note_first
from dist4d_env.metrics.plans.scene import PlanScene


def plan_no_at_fault_collision(ego: np.ndarray, center: np.ndarray, scene: PlanScene, evidence: Evidence) -> np.ndarray:
    """(B,) NC: 1, or 1/2 (a static object) or 0 (a road user) where the ego touched something at its own fault.

    The first contact with each track decides about it: at fault, or the track is excused from then on.
    """
    own = np.array([scene.vehicle.length, scene.vehicle.width])
    there = scene.position, scene.yaw, scene.size, scene.valid
    plan, step, track = contacts(center, ego[..., 2], own, *there)
    first = first_of_each(plan, track, step)
    plan, step, track = plan[first], step[first], track[first]
    here, category = ego[plan, step], scene.category[track]
    box = scene.position[step, track], scene.yaw[step, track], scene.size[track], scene.velocity[step, track]
    kind = classify(here, scene.vehicle, *box, category)
    out = np.zeros(len(plan), bool)
    out[kind == 4] = out_of_lane(scene.map, here[kind == 4], scene.vehicle)
    fault = at_fault(kind, out)
    value = np.ones(len(ego))
    np.minimum.at(value, plan[fault], np.where(IS_STATIC[category[fault]], 0.5, 0.0))
    note_first(evidence, "fault", scene, plan[fault], step[fault], track[fault], kind=kind[fault])
    return value


def plan_time_to_collision(ego: np.ndarray, scene: PlanScene, last: int, faithful: bool, evidence: Evidence) -> np.ndarray:
    """(B,) TTC over the steps up to ``last``: 0 after a meeting of the projected ego (``time_to_collision.meetings``), else 1."""
    there = scene.position, scene.yaw, scene.size, scene.valid
    plan, step, lead, track = meetings(ego, scene.vehicle, scene.map, last, faithful, *there)
    note_first(evidence, "meeting", scene, plan, step, track, lead=lead)
    return np.where(evidence["meeting_step"] >= 0, 0.0, 1.0)
