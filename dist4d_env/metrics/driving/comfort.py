"""Comfort: six bounds on smoothed accelerations, jerks and yaw motion, from nuPlan's study of human driving."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult
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
YAW_WINDOW = 5
SHORTEST = 6
"""Ticks that the filters need."""


def smoothed_signals(ego: np.ndarray, arm: float, windows: tuple[int, int], faithful: bool) -> np.ndarray:
    """(..., 6, T) the smoothed signals, in the order of TERMS, of ego rows (..., T, 7).

    arm: metres ahead of the rear axle at which accelerations are taken; windows: as in WINDOWS. faithful: leave the centripetal
    acceleration out as NAVSIM does, whose bicycle model reports none; otherwise it is speed times yaw rate. "jerk" is the rate
    of the magnitude of the acceleration.
    """
    speed, acceleration, yaw_rate = ego[..., 3], ego[..., 4], ego[..., 6]
    lateral = np.zeros_like(speed) if faithful else speed * yaw_rate
    if arm:
        yaw_acceleration = np.zeros_like(speed) if faithful else np.gradient(yaw_rate, TICK, axis=-1)
        acceleration, lateral = acceleration - yaw_rate**2 * arm, lateral + yaw_acceleration * arm
    return smoothed(acceleration, lateral, ego[..., 2], windows)


def smoothed(acceleration: np.ndarray, lateral: np.ndarray, heading: np.ndarray, windows: tuple[int, int]) -> np.ndarray:
    """(..., 6, T) ``smoothed_signals`` from longitudinal and lateral accelerations and headings (..., T), a tick apart."""
    smooth, derive = windows
    yaw = np.unwrap(heading, axis=-1)
    along = filtered(acceleration, smooth, 2)
    signals = [
        along,
        filtered(lateral, smooth, 2),
        filtered(filtered(np.hypot(acceleration, lateral), smooth, 2), derive, 2, 1),
        filtered(along, derive, 2, 1),
        filtered(yaw, YAW_WINDOW, 3, 2),
        filtered(yaw, YAW_WINDOW, 2, 1),
    ]
    return np.round(np.stack(signals, -2), 8)


def comfort_signals(trace: EpisodeTrace, version: str = "v2", faithful: bool = False) -> np.ndarray:
    """(6, T) ``smoothed_signals`` of an episode; v1 takes accelerations at the rear axle, v2 (and nuPlan) at the box centre."""
    arm = 0.0 if version == "v1" else trace.vehicle.rear_axle_to_center
    return smoothed_signals(trace.at_ticks().ego, arm, WINDOWS[version], faithful)


def filtered(signal: np.ndarray, window: int, order: int, derivative: int = 0) -> np.ndarray:
    """The Savitzky-Golay filter of scipy over the last axis of (..., T), with cached weights."""
    steps = signal.shape[-1]
    window = min(window, steps)
    weights, head, tail = _weights(window, order, derivative)
    half = len(head)
    smooth = np.zeros(signal.shape)
    inner = smooth[..., half : steps - half]
    for shift, weight in weights:
        inner += weight * signal[..., half + shift : steps - half + shift]
    smooth[..., :half] = np.einsum("...w,hw->...h", signal[..., :window], head)
    smooth[..., steps - half :] = np.einsum("...w,hw->...h", signal[..., steps - window :], tail)
    return smooth


@lru_cache(maxsize=256)
def _weights(window: int, order: int, derivative: int) -> tuple[list[tuple[int, float]], np.ndarray, np.ndarray]:
    """(shift, weight) of the inner steps; head, tail (window // 2, window): the outer steps from the outer windows."""
    from scipy.signal import savgol_filter  # half of what importing an environment took, and many a process never smooths

    response = savgol_filter(np.eye(4 * window), window, order, deriv=derivative, delta=TICK, axis=0)  # (step, signal)
    half = window // 2
    inner = response[2 * window, 2 * window - half : 2 * window + half + 1].tolist()
    weights = [(shift, weight) for shift, weight in zip(range(-half, half + 1), inner, strict=True) if weight]
    return weights, response[:half, :window].copy(), response[len(response) - half :, 3 * window :].copy()


_LOW = np.array(
    [
        LIMITS.min_acceleration,
        -LIMITS.lateral_acceleration,
        -LIMITS.jerk,
        -LIMITS.longitudinal_jerk,
        -LIMITS.yaw_acceleration,
        -LIMITS.yaw_rate,
    ]
)[:, None]
_HIGH = np.concatenate([[[LIMITS.max_acceleration]], -_LOW[1:]])


def within_limits(signals: np.ndarray) -> np.ndarray:
    """(..., 6, T) bool: which signals, in the order of TERMS, keep their bounds at which step."""
    return (signals > _LOW) & (signals < _HIGH)


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
