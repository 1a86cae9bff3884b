"""Time to collision: contacts of the ego projected at constant velocity."""

from __future__ import annotations

import math

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving import running_kernels as kernels
from dist4d_env.metrics.driving.areas import out_of_lane
from dist4d_env.metrics.driving.collision import BEHIND, bearing
from dist4d_env.metrics.driving.first_instant import put_there
from dist4d_env.metrics.driving.forms import is_faithful
from dist4d_env.metrics.driving.rectangles import contacts, ego_centers, first_of_each
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
from dist4d_env.scenes.maps import SceneMap
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.ego import YAW, cosines, sines
from dist4d_env.simulation.kernels import contiguous

LEADS = (0, 3, 6, 9)
"""Ticks that the ego is projected ahead."""
_AHEAD = math.radians(30)
_STANDING = 0.005  # m/s
HORIZON = 10.0  # s, the largest projected time that is reported


def meetings(
    ego: np.ndarray,
    vehicle: VehicleParameters,
    scene_map: SceneMap | None,
    last: int,
    faithful: bool,
    position: np.ndarray,
    yaw: np.ndarray,
    size: np.ndarray,
    valid: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Trajectory, step, lead in ticks and track (K,) of the meetings ahead that count against egos (B, S, 7), in order of time.

    At each step up to ``last`` with the ego in motion its footprint is shifted along its velocity by 0, 0.3, 0.6 and 0.9 s and
    compared with the tracks (position (T, N, 2), yaw (T, N), size (N, 2), valid (T, N)) as they are that much later. The first
    meeting with each track decides: it counts if the track is ahead (within 30 degrees of the direction of motion, as seen from
    the projected ego), or, while the ego stands across lanes, off the road or in an intersection, if it is not behind (beyond
    150 degrees); else the track is excused for good. Tracks that were put where the ego was do not count (``first_instant``).

    faithful, as in NAVSIM: also an ego that reverses is shifted along its heading, the bearing is off that heading and taken from
    the present ego, so that a car closing in from behind is ahead, and all tracks count.
    """
    center, own = ego_centers(ego, vehicle), np.array([vehicle.length, vehicle.width])
    speed = np.abs(ego[..., 3]) if faithful else ego[..., 3]
    velocity = np.stack([deterministic.cos(ego[..., 2]), deterministic.sin(ego[..., 2])], -1) * speed[..., None]
    spared, found = np.zeros((len(ego), valid.shape[1]), bool), []
    for lead in LEADS:
        steps, later = slice(None if lead == 0 else last + 1), slice(lead, None)
        there = center[:, steps] + velocity[:, steps] * (lead * TICK), ego[:, steps, 2]
        hits = contacts(*there, own, position[later], yaw[later], size, valid[later])
        found.append((*hits, np.full(len(hits[0]), lead)))
        if lead == 0 and not faithful:
            of, when, what = hits
            first = put_there(when, valid[:, what].T)
            spared[of[first], what[first]] = True
    plan, step, track, lead_of = (np.concatenate(column) for column in zip(*found, strict=True))
    counts = (np.abs(ego[plan, step, 3]) >= _STANDING) & (step <= last) & ~spared[plan, track]
    plan, step, track, lead_of = plan[counts], step[counts], track[counts], lead_of[counts]
    first = first_of_each(plan, track, step, lead_of)
    plan, step, track, lead_of = plan[first], step[first], track[first], lead_of[first]

    here = ego[plan, step]
    seen_from = here.copy()
    if not faithful:
        seen_from[:, :2] += velocity[plan, step] * (lead_of * TICK)[:, None]
    angle = bearing(seen_from, position[step + lead_of, track], faithful)
    counts = angle < _AHEAD
    beside = ~counts & (angle <= BEHIND)
    if scene_map is not None and beside.any():
        exposed = out_of_lane(scene_map, here[beside], vehicle)
        exposed[~exposed] = scene_map.in_intersection(here[beside][~exposed, :2])
        counts[beside] = exposed
    order = np.lexsort((track[counts], lead_of[counts], step[counts], plan[counts]))
    return plan[counts][order], step[counts][order], lead_of[counts][order], track[counts][order]


def time_to_collision(trace: EpisodeTrace, form: str = "corrected") -> MetricResult:
    """1 if the projected ego meets nothing within 0.9 s (``meetings``), else 0: NAVSIM's TTC over the steps whose future is
    recorded, as its v2 counts them. form: "faithful" takes bearings as NAVSIM does. details: step, track, category and lead in
    seconds of the first meeting."""
    last = len(trace.at_ticks().time) - 1 - LEADS[-1]
    if last < 0:
        return MetricResult(1.0, False, {"reason": f"an episode of fewer than {LEADS[-1] + 1} ticks has no recorded future"})
    there = trace.position[..., :2], trace.yaw, trace.size[:, :2], trace.valid
    _, steps, leads, tracks = meetings(trace.ego[None], trace.vehicle, trace.map, last, is_faithful(form), *there)
    if not len(steps):
        return MetricResult(1.0, True, {})
    step, lead, track = int(steps[0]), int(leads[0]), int(tracks[0])
    category = CATEGORIES[trace.category[track]]
    return MetricResult(0.0, True, {"step": step, "track": track, "category": category, "lead": lead * 0.1})


def time_to_contact(
    ego: np.ndarray, agents: AgentArrays, scene: np.ndarray, footprints: np.ndarray, vehicle: VehicleParameters
) -> np.ndarray:
    """(B,) seconds until egos (B, 7) touch an agent (B, M) that is not behind them, as they move, at everybody's present
    velocity, exactly; at most HORIZON. scene: (B,) rows of footprints (S, 2, M), lengths and widths in metres of the tracks."""
    yaw = contiguous(ego[:, YAW])
    return kernels.time_to_contact(
        contiguous(ego),
        np.stack([cosines(yaw), sines(yaw)], -1),
        deterministic.cos(yaw),
        deterministic.sin(yaw),
        np.array([vehicle.length, vehicle.width]),
        vehicle.rear_axle_to_center,
        contiguous(agents.values),
        contiguous(agents.valid),
        deterministic.cos(agents.yaw),
        deterministic.sin(agents.yaw),
        contiguous(scene),
        footprints,
        math.cos(BEHIND),
        HORIZON,
    )
