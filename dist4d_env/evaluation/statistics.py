"""Means over episodes with the uncertainty that a handful of episodes leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % confidence interval over ``count`` episodes; ``left_out``: episodes without a valid value."""

    mean: float
    low: float
    high: float
    count: int
    left_out: int = 0

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] (n={self.count})" if self.count else "no valid value"


def bootstrap_mean(values: Sequence[float | None], seed: int = 0, resamples: int = 10_000, level: float = 0.95) -> Estimate:
    """Mean and percentile bootstrap interval of the finite values; None and nan are left out and counted, never read as zero.

    A single value has the interval [itself, itself]: one episode says nothing about spread.
    """
    known = np.array([value for value in values if value is not None and np.isfinite(value)], float)
    left_out = len(values) - len(known)
    if not len(known):
        return Estimate(float("nan"), float("nan"), float("nan"), 0, left_out)
    random = np.random.default_rng(seed)
    picks = random.integers(len(known), size=(resamples, len(known)))
    means = known[picks].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(known.mean()), float(low), float(high), len(known), left_out)
