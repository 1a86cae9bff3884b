"""When an episode ends, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from dist4d_env.worlds.contract import WorldInfo

BROKEN = "broken"
"""The source of frames that aren't finite or whose trust isn't."""
CAUSES = {"collision": "at_fault_collision", "off_road": "off_road", "wrong_way": "wrong_way", "red_light": "red_light"}
"""What may terminate an episode, and the running value that says so."""


def whole_horizon(horizon: float, decision_dt: float) -> float:
    """A horizon in seconds rounded up to whole decisions; one of whole decisions stays as it is, bit for bit."""
    whole = math.ceil(horizon / decision_dt - 1e-6) * decision_dt
    return whole if whole > horizon + 1e-6 else horizon


def intended_end(start: float, horizon: float, duration: float, decision_dt: float, decisions: int | None = None) -> float:
    """Seconds since the scene's first keyframe up to which an episode is meant to last: its horizon, rounded up to whole
    decisions, but only those within the log, and not more than ``decisions``."""
    whole = math.floor((duration - start) / decision_dt + 1e-6)
    most = whole if decisions is None else min(whole, decisions)
    return min(start + whole_horizon(horizon, decision_dt), duration, start + most * decision_dt)


def termination_causes(values: Mapping[str, np.ndarray], chosen: tuple[str, ...]) -> list[str | None]:
    """(N,) the first of the chosen causes that holds, None where the episode goes on. What is not known (nan) ends nothing."""
    causes: list[str | None] = [None] * len(values["off_road"])
    for cause in reversed(chosen):
        for row in np.flatnonzero(values[CAUSES[cause]] == 1.0).tolist():
            causes[row] = cause
    return causes


def truncation_cause(time: float, end_time: float, world: WorldInfo, trust_floor: float) -> str | None:
    """ "broken_frame" when what the world made isn't finite, "horizon" once the time is up, "trust" when the world's frame is
    believed less than the floor, None otherwise."""
    if BROKEN in world.source:
        return "broken_frame"
    if time > end_time - 1e-6:
        return "horizon"
    return "trust" if world.trust < trust_floor else None
