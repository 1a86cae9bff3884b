"""Extended comfort: consistency of two plans issued half a second apart."""

from __future__ import annotations

import numpy as np

from dist4d_env.metrics.driving.comfort import WINDOWS, YAW_WINDOW, filtered
from dist4d_env.metrics.driving.forms import is_faithful
from dist4d_env.metrics.driving.issued import drive_issued
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult, Plans
from dist4d_env.scenes.scene import TICK

TERMS = ("acceleration", "jerk", "yaw_rate", "yaw_acceleration")
LIMITS = np.array([0.7, 0.5, 0.1, 0.1])
"""Largest root mean squares of the difference that count as consistent: m/s^2, m/s^3, rad/s, rad/s^2, in the order of TERMS."""
GAP = 5
"""Ticks between the two plans."""
NO_PLANS = {"reason": "the episode holds no plans (a policy that acts by controls makes none)"}


def plan_difference(earlier: np.ndarray, later: np.ndarray, faithful: bool) -> np.ndarray:
    """(B, 4) root mean squares, in the order of TERMS, of the difference of two simulated plans at common steps (B, S, 7).

    The magnitude of the acceleration at the rear axle, its rate, yaw rate and yaw acceleration are smoothed over the common steps
    alone, with v2's windows and polynomials of order 2 throughout. faithful: without the centripetal acceleration.
    """
    early, late = _signals(earlier, faithful), _signals(later, faithful)
    return np.sqrt(((early - late) ** 2).mean(-1))


def _signals(ego: np.ndarray, faithful: bool) -> np.ndarray:
    smooth, derive = WINDOWS["v2"]
    sideways = np.zeros(ego.shape[:-1]) if faithful else ego[..., 3] * ego[..., 6]
    acceleration = filtered(np.hypot(ego[..., 4], sideways), smooth, 2)
    yaw = np.unwrap(ego[..., 2], axis=-1)
    signals = [
        acceleration,
        filtered(acceleration, derive, 2, 1),
        filtered(yaw, YAW_WINDOW, 2, 1),
        filtered(yaw, YAW_WINDOW, 2, 2),
    ]
    return np.stack(signals, -2)


def consecutive_comfort(step: np.ndarray, driven: np.ndarray, form: str = "faithful") -> tuple[np.ndarray, np.ndarray]:
    """(K,) EC of every plan against the one before, nan where there is none, and (K, 4) their ``plan_difference``.

    step: (K,) ticks at which plans were issued, rising; driven: (K, S, 7) their simulation (``drive_issued``). The plan before
    is the last one issued half a second earlier or more; from plans half a second apart 36 of 41 steps are common.
    """
    faithful = is_faithful(form)
    value, apart = np.full(len(step), np.nan), np.full((len(step), len(TERMS)), np.nan)
    before = np.searchsorted(step, step - GAP, side="right") - 1
    gap = np.where(before >= 0, step - step[np.maximum(before, 0)], driven.shape[1])
    for shift in np.unique(gap[gap <= driven.shape[1] - WINDOWS["v2"][1]]).tolist():
        rows = np.flatnonzero(gap == shift)
        common = driven.shape[1] - shift
        apart[rows] = plan_difference(driven[before[rows], shift:], driven[rows, :common], faithful)
        value[rows] = (apart[rows] <= LIMITS).all(1)
    return value, apart


def extended_comfort(trace: EpisodeTrace, plans: Plans | None, form: str = "corrected") -> MetricResult:
    """Share of an episode's plans that agree with the plan before: NAVSIM v2's EC, averaged over decisions.

    details: pairs compared, the pair farthest apart (its step and time, and its differences as shares of the limits). Not valid
    without two plans half a second apart or a little more.
    """
    if plans is None:
        return MetricResult(0.0, False, NO_PLANS)
    value, apart = consecutive_comfort(plans.step, drive_issued(trace, plans), form)
    known = np.flatnonzero(~np.isnan(value))
    if not len(known):
        return MetricResult(0.0, False, {"reason": "no two plans of the episode were issued half a second apart"})
    share = apart[known] / LIMITS
    worst = int(np.argmax(share.max(1)))
    details = {
        "form": form,
        "pairs": len(known),
        "worst": {
            "step": int(plans.step[known[worst]]),
            "time": float(plans.step[known[worst]] * TICK),
            **{term: float(value) for term, value in zip(TERMS, share[worst], strict=True)},
        },
    }
    return MetricResult(float(value[known].mean()), True, details)
