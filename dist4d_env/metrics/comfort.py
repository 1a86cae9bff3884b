"""Comfort: six bounds on smoothed accelerations, jerks and yaw motion, from nuPlan's study of human driving."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.signal import savgol_filter

from dist4d_env.metrics.trace import EpisodeTrace, MetricResult
from dist4d_env.scenes.scene import TICK


@dataclass(frozen=True)
class ComfortLimits:
    """Bounds that a comfortable ride stays strictly within: m/s^2, m/s^3, rad/s, rad/s^2."""

    min_acceleration: float = -4.05
    max_acceleration: float = 2.40
    lateral_acceleration: float = 4.89
    jerk: float = 8.37
    longitudinal_jerk: float = 4.13
    yaw_acceleration: float = 1.93
    yaw_rate: float = 0.95


LIMITS = ComfortLimits()
TERMS = ("acceleration", "lateral_acceleration", "jerk", "longitudinal_jerk", "yaw_acceleration", "yaw_rate")
WINDOWS = {"v1": (41, 41), "v2": (8, 15)}
"""Savitzky-Golay windows in ticks: for accelerations and for their derivatives (NAVSIM v1 smooths over its whole 4 s)."""
_YAW_WINDOW = 5
SHORTEST = 6
"""Ticks that the filters need."""


def comfort_signals(trace: EpisodeTrace, version: str = "v2", faithful: bool = False) -> np.ndarray:
    """(6, T) the smoothed signals in the order of TERMS.

    v1 takes accelerations at the rear axle, v2 (and nuPlan) at the box centre. faithful: leave the centripetal acceleration out
    as NAVSIM does, whose bicycle model reports none; otherwise it is speed times yaw rate. "jerk" is the rate of the magnitude
    of the acceleration.
    """
    smooth, derive = WINDOWS[version]
    speed, acceleration, yaw_rate = trace.ego[:, 3], trace.ego[:, 4], trace.ego[:, 6]
    lateral = np.zeros_like(speed) if faithful else speed * yaw_rate
    if version != "v1":
        arm = trace.vehicle.rear_axle_to_center
        yaw_acceleration = np.zeros_like(speed) if faithful else np.gradient(yaw_rate, TICK)
        acceleration, lateral = acceleration - yaw_rate**2 * arm, lateral + yaw_acceleration * arm
    yaw = np.unwrap(trace.ego[:, 2])
    along = _filter(acceleration, smooth, 2)
    signals = [
        along,
        _filter(lateral, smooth, 2),
        _filter(_filter(np.hypot(acceleration, lateral), smooth, 2), derive, 2, 1),
        _filter(along, derive, 2, 1),
        _filter(yaw, _YAW_WINDOW, 3, 2),
        _filter(yaw, _YAW_WINDOW, 2, 1),
    ]
    return np.round(np.stack(signals), 8)


def _filter(signal: np.ndarray, window: int, order: int, derivative: int = 0) -> np.ndarray:
    """The Savitzky-Golay filter of scipy, which is linear: its coefficients are worked out once."""
    window = min(window, len(signal))
    kernel, head, tail = _coefficients(window, order, derivative)
    smooth = np.convolve(signal, kernel)[window : window + len(signal)]
    smooth[: len(head)] = (head * signal[:window]).sum(1)
    smooth[len(signal) - len(tail) :] = (tail * signal[len(signal) - window :]).sum(1)
    return smooth


@lru_cache(maxsize=256)
def _coefficients(window: int, order: int, derivative: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """kernel (2 * window + 1,) of the inner steps; head, tail (window // 2, window): the outer steps from the outer windows."""
    response = savgol_filter(np.eye(4 * window), window, order, deriv=derivative, delta=TICK, axis=0)  # (step, signal)
    inner = response[2 * window, window : 3 * window + 1]
    half = window // 2
    return inner[::-1].copy(), response[:half, :window].copy(), response[len(response) - half :, 3 * window :].copy()


def within_limits(signals: np.ndarray) -> np.ndarray:
    """(6, T) bool: which signals, in the order of TERMS, keep their bounds at which step."""
    low = np.array([
        LIMITS.min_acceleration, -LIMITS.lateral_acceleration, -LIMITS.jerk,
        -LIMITS.longitudinal_jerk, -LIMITS.yaw_acceleration, -LIMITS.yaw_rate,
    ])
    high = np.append(LIMITS.max_acceleration, -low[1:])
    return (signals > low[:, None]) & (signals < high[:, None])


def comfort(trace: EpisodeTrace, version: str = "v2", faithful: bool = False) -> MetricResult:
    """1 if all six bounds hold at every step, else 0. details: per term whether it held, its extremes and its first bad step."""
    if len(trace.time) < SHORTEST:
        return MetricResult(0.0, False, {"reason": f"an episode of fewer than {SHORTEST} ticks cannot be smoothed"})
    signals = comfort_signals(trace, version, faithful)
    held = within_limits(signals)
    details = {
        term: {
            "held": bool(held[i].all()),
            "min": float(signals[i].min()),
            "max": float(signals[i].max()),
            "step": None if held[i].all() else int(np.argmin(held[i])),
        }
        for i, term in enumerate(TERMS)
    }
    return MetricResult(float(held.all()), True, {"version": version, "faithful": faithful, **details})
