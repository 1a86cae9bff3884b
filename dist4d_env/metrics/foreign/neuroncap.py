"""NeuroNCAP score: five stars without a collision, fewer the higher the impact speed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, ON_WHEELS
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.forms import Form, is_faithful
from dist4d_env.metrics.driving.rectangles import contact_interval, contacts, ego_centers
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult, require_finite

LENGTH, WIDTH, REAR_AXLE_TO_CENTER = 4.018, 1.85, 0.5
"""The ego of the original, whose centre lies too near its rear axle."""
_COUNTS = np.array([name in ON_WHEELS for name in CATEGORIES])
"""Categories that count; pedestrians, cones and barriers do not."""
BEST, TOUCHED = 5.0, 4.0


def neuroncap_score(trace: EpisodeTrace, reference_speed: float | None = None, form: Form = "faithful") -> MetricResult:
    """5 without a collision with a vehicle, else ``4 max(0, 1 - impact / reference)`` (Ljungbergh et al. 2024).

    impact: the relative speed at the first contact in m/s; reference_speed: the one that doing nothing would have had,
    ``untouched_impact_speed`` of the start by default. Where doing nothing meets nobody every impact is a worse one: 0. faithful:
    the original's box, centred 0.5 m ahead of the rear axle. corrected: the true footprint, and vehicles that were put where the
    ego was (``first_instant``) do not count. details: impact, reference, step and track.
    Raises ConfigError for a reference speed that is not finite.
    """
    is_faithful(form)
    require_finite("neuroncap", reference_speed=None if reference_speed is None else np.array(reference_speed))
    hit = first_impact(trace, form)
    details = {"name": "neuroncap", "form": form, "step": None, "track": None, "impact": None, "reference": reference_speed}
    if hit is None:
        return MetricResult(BEST, True, details)
    step, track, impact = hit
    reference = untouched_impact_speed(trace, form) if reference_speed is None else reference_speed
    details |= {"step": step, "track": track, "impact": impact, "reference": reference}
    if reference is None or reference <= 0:
        return MetricResult(0.0, True, details)
    return MetricResult(TOUCHED * max(0.0, 1.0 - impact / reference), True, details)


def first_impact(trace: EpisodeTrace, form: Form = "faithful") -> tuple[int, int, float] | None:
    """Step, track and relative speed in m/s of the first contact with a vehicle; None where there is none."""
    vehicle, counts = _vehicle(trace, form), _counted(trace, form)
    center, own = ego_centers(trace.ego, vehicle), np.array([vehicle.length, vehicle.width])
    agents = trace.position[..., :2], trace.yaw, trace.size[:, :2], trace.valid & counts
    _, steps, tracks = contacts(center[None], trace.ego[None, :, 2], own, *agents)
    if not len(steps):
        return None
    step, track = int(steps[0]), int(tracks[0])
    velocity = trace.ego[step, 3] * np.array([deterministic.cos(trace.ego[step, 2]), deterministic.sin(trace.ego[step, 2])])
    return step, track, float(np.linalg.norm(velocity - trace.velocity[step, track]))


def untouched_impact_speed(trace: EpisodeTrace, form: Form = "faithful") -> float | None:
    """Relative speed in m/s at which the ego, had it gone on as at the first step, first meets a vehicle going on as it is at the
    first step that it exists at; None where they never meet."""
    vehicle = _vehicle(trace, form)
    counts = _counted(trace, form) & trace.valid.any(0)
    if not counts.any():
        return None
    tracks = np.flatnonzero(counts)
    since = trace.valid[:, tracks].argmax(0)
    ego = trace.ego[0]
    velocity = ego[3] * np.array([deterministic.cos(ego[2]), deterministic.sin(ego[2])])
    elapsed = (trace.time[since] - trace.time[0])[:, None]
    other = trace.velocity[since, tracks]
    first, last = contact_interval(
        ego_centers(ego, vehicle),
        float(ego[2]),
        np.array([vehicle.length, vehicle.width]),
        velocity,
        trace.position[since, tracks, :2] - other * elapsed,
        trace.yaw[since, tracks],
        trace.size[tracks, :2],
        other,
    )
    meets = (first <= last) & (last >= elapsed[:, 0])
    if not meets.any():
        return None
    when = np.where(meets, np.maximum(first, elapsed[:, 0]), np.inf)
    return float(np.linalg.norm(velocity - other[when.argmin()]))


def _vehicle(trace: EpisodeTrace, form: Form) -> VehicleParameters:
    if form == "corrected":
        return trace.vehicle
    return replace(trace.vehicle, length=LENGTH, width=WIDTH, rear_axle_to_center=REAR_AXLE_TO_CENTER)


def _counted(trace: EpisodeTrace, form: Form) -> np.ndarray:
    """(N,) which tracks count."""
    counts = _COUNTS[trace.category]
    return counts if form == "faithful" else counts & ~trace.spared
