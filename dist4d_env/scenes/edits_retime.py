"""A recorded path driven more slowly than it was."""

from __future__ import annotations

import math

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.scenes.edits_frame import EditFrame
from dist4d_env.scenes.edits_tracks import Motion
from dist4d_env.scenes.scene import TICK, Tracks

_RECOVERY = 1.5  # m/s^2 with which an agent speeds up again
_CREEP = 1.0  # m/s at which one that is late passes a place where the log has it standing


def slowed(
    frame: EditFrame, tracks: Tracks, index: int, at: float, speed: float, deceleration: float, hold: float | None, edit: str
) -> tuple[Motion, int]:
    """The motion of object ``index`` braked from ``at`` seconds after the start on, and the row from which it differs.

    Arguments as in ``Slow``. It keeps its recorded path, never gets ahead of the log, is never faster at a place than the log
    was there, and stays in the scene until it reaches the end of its path. Raises ConfigError if it is not there then.
    """
    first = frame.row_after(at)
    here = np.flatnonzero(tracks.valid[index])
    if not tracks.valid[index, first]:
        raise ConfigError(f"{edit}: {tracks.name[index]} {tracks.instance[index]} is not there {at:g} s after the start")
    xy, yaw = tracks.position[index, here, :2], np.unwrap(tracks.yaw[index, here])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    rows = np.arange(len(tracks.time))
    schedule = np.interp(rows, here, arc)
    pace = np.diff(schedule, append=schedule[-1]) / TICK
    driven = _drive(schedule, pace, first, speed, deceleration, hold)
    valid = tracks.valid[index].copy()
    valid[first:] = (driven[first:] < arc[-1] - 1e-6) | tracks.valid[index, first:]
    distinct = np.concatenate([[True], np.diff(arc) > 1e-9])  # standing rows would make the yaw ambiguous
    path = np.column_stack([np.interp(driven, arc[distinct], column[distinct]) for column in (xy[:, 0], xy[:, 1], yaw)])
    return Motion(path[:, :2], path[:, 2], valid), first


def _drive(
    schedule: np.ndarray, pace: np.ndarray, first: int, speed: float, deceleration: float, hold: float | None
) -> np.ndarray:
    """(T,) arc lengths that follow the schedule until row ``first`` and then the slower profile."""
    driven = schedule.copy()
    s, v = float(schedule[first]), float(pace[first])
    held = 0.0
    for row in range(first, len(schedule) - 1):
        late = float(schedule[row]) - s
        braking = hold is None or held < hold
        if braking:
            held += TICK if v <= speed + 1e-9 else 0.0
        wish = max(v - deceleration * TICK, min(speed, v)) if braking else v + _RECOVERY * TICK
        s_log = float(schedule[row + 1])
        v = min(wish, _pace_at(s, schedule, pace, late))
        v = min(v, (s_log - s) / TICK)
        s += v * TICK
        driven[row + 1] = s
    return driven


def _pace_at(s: float, schedule: np.ndarray, pace: np.ndarray, late: float) -> float:
    """How fast the log was when it passed ``s``; one that is late need not stand where the log stood for a while."""
    row = int(np.searchsorted(schedule, s, side="right")) - 1
    row = min(max(row, 0), len(pace) - 1)
    logged = float(pace[row])
    return max(logged, _CREEP) if late > 0.5 else (logged if late > 1e-6 else math.inf)
