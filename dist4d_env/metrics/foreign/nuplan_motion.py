"""nuPlan's statistics of the ego's motion: smoothed accelerations, jerks and yaw motion, and how far it is from the expert."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.signal import savgol_filter

from dist4d_env.metrics.driving.comfort import LIMITS

_SMOOTH, _DERIVE, _YAW = 8, 15, 5
"""Savitzky-Golay windows in steps: accelerations, jerks, yaw (whose window nuPlan states as 15 and never passes on)."""
HEADING_WEIGHT = 2.5  # m per radian


def motion_signals(time: np.ndarray, acceleration: np.ndarray, heading: np.ndarray) -> dict[str, np.ndarray]:
    """nuPlan's signals over times (T,) in seconds, T > 3, of accelerations (T, 2), forward and left, at the box centre and
    headings (T,).

    Returns (T,) arrays: acceleration (the magnitude), lon_acceleration, lat_acceleration, jerk (the rate of the magnitude),
    lon_jerk, lat_jerk, yaw_rate, yaw_acceleration. Windows shrink to the length of what there is.
    """
    step = float(np.diff(time).mean())
    inputs = {"": np.hypot(acceleration[:, 0], acceleration[:, 1]), "lon_": acceleration[:, 0], "lat_": acceleration[:, 1]}
    smooth = {name: np.round(savgol_filter(a, min(_SMOOTH, len(a)), 2), 8) for name, a in inputs.items()}
    signals = {f"{name}acceleration": a for name, a in smooth.items()}
    signals |= {f"{name}jerk": savgol_filter(a, min(_DERIVE, len(a)), 2, deriv=1, delta=step) for name, a in smooth.items()}
    yaw, window = np.unwrap(heading), min(_YAW, len(heading))
    signals["yaw_rate"] = savgol_filter(yaw, window, 2, deriv=1, delta=step)
    signals["yaw_acceleration"] = savgol_filter(yaw, window, 3, deriv=2, delta=step)
    return {name: np.round(signal, 8) for name, signal in signals.items()}


def is_comfortable(signals: Mapping[str, np.ndarray]) -> bool:
    """Whether all six signals that nuPlan bounds stay strictly within their bounds."""
    bounds = {
        "lon_acceleration": (LIMITS.min_acceleration, LIMITS.max_acceleration),
        "lat_acceleration": (-LIMITS.lateral_acceleration, LIMITS.lateral_acceleration),
        "jerk": (-LIMITS.jerk, LIMITS.jerk),
        "lon_jerk": (-LIMITS.longitudinal_jerk, LIMITS.longitudinal_jerk),
        "yaw_rate": (-LIMITS.yaw_rate, LIMITS.yaw_rate),
        "yaw_acceleration": (-LIMITS.yaw_acceleration, LIMITS.yaw_acceleration),
    }
    return all(bool(((low < signals[name]) & (signals[name] < high)).all()) for name, (low, high) in bounds.items())


def pose_errors(poses: np.ndarray, expert: np.ndarray, heading_weight: float = 0.0) -> np.ndarray:
    """(...) metres between box centres of two sets of poses (..., 3) x, y, heading, plus ``heading_weight`` metres per radian
    between the headings (nuPlan's L2 error with yaw takes HEADING_WEIGHT)."""
    away = np.hypot(poses[..., 0] - expert[..., 0], poses[..., 1] - expert[..., 1])
    return away + heading_weight * heading_errors(poses, expert) if heading_weight else away


def heading_errors(poses: np.ndarray, expert: np.ndarray) -> np.ndarray:
    """(...) radians in [0, pi] between the headings of two sets of poses (..., 3)."""
    return np.abs((poses[..., 2] - expert[..., 2] + np.pi) % (2 * np.pi) - np.pi)
