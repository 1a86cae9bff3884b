"""Simulation of an episode's plans from where each was issued, reference progress and tracking error."""

from __future__ import annotations

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.metrics.driving.trace import EpisodeTrace, Plans
from dist4d_env.scenes.scene import TICK
from dist4d_env.simulation.actions import global_plans
from dist4d_env.simulation.drive import drive_along
from dist4d_env.simulation.tracker import References
from dist4d_env.simulation.vehicle import VehicleDynamics

TICKS = 40
"""Ticks that a plan is followed: 4 s, as in NAVSIM."""


def drive_issued(trace: EpisodeTrace, plans: Plans) -> np.ndarray:
    """(K, 41, 7) ego rows of every plan followed for 4 s by tracker and bicycle from the ego that it was issued to.

    ConfigError where plans do not belong to the trace or are not (K, P, 3); ActionError where they reach less than 0.3 s ahead.
    """
    steps, poses = np.asarray(plans.step), np.asarray(plans.poses, float)
    if poses.ndim != 3 or poses.shape[-1] != 3 or len(poses) != len(steps):
        raise ConfigError(f"an episode's plans are poses (K, P, 3), one set per step (K,), not {poses.shape} for {steps.shape}")
    if not len(steps):
        return np.zeros((0, TICKS + 1, 7))
    if steps.min() < 0 or steps.max() >= len(trace.time):
        last = len(trace.time) - 1
        raise ConfigError(f"plans were issued at ticks {steps.min()} to {steps.max()}, the episode has 0 to {last}")
    start = np.ascontiguousarray(trace.at_ticks().ego[steps])
    references = References.fitted(global_plans(poses, plans.dt, start[:, :3]), np.zeros(len(steps), int))
    return drive_along(start, references, TICKS, trace.vehicle, VehicleDynamics())


def reference_metres(trace: EpisodeTrace, steps: np.ndarray, human: EpisodeTrace | None = None) -> np.ndarray:
    """(K,) metres of the route that the recorded ego covered in the 4 s after each of some steps of an episode.

    human: the recorded drive, which may go on where the episode ended; without it ``trace.expert``. Past the last row of these
    the recorded ego is taken to go on as fast as it went there.
    """
    if human is None:
        s, first = trace.expert_position, 0
    else:
        s, first = human.at_ticks().route_position, round((float(trace.time[0]) - float(human.time[0])) / TICK)
    # Outside the recording the recorded ego stands before its start and drives on after its end.
    now, then = np.clip(steps + first, 0, len(s) - 1), steps + first + TICKS
    beyond = np.maximum(then - np.maximum(len(s) - 1, steps + first), 0) * TICK
    pace = (s[-1] - s[max(len(s) - 6, 0)]) / (TICK * max(min(len(s) - 1, 5), 1))
    return np.maximum(s[np.clip(then, 0, len(s) - 1)] - s[now] + beyond * pace, 0.0)


def tracking_error(trace: EpisodeTrace, plans: Plans, driven: np.ndarray) -> np.ndarray:
    """(K,) mean metres between the plans and the simulated ego (K, 41, 7) over the 4 s, which every score of plans contains."""
    planned = global_plans(np.asarray(plans.poses, float), plans.dt, trace.ego[plans.step][:, :3])
    rows = min(planned.shape[1], driven.shape[1])
    return np.linalg.norm(planned[:, :rows, :2] - driven[:, :rows, :2], axis=-1).mean(1)
