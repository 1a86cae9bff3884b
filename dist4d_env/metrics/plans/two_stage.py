"""NAVSIM v2's two stages: how scores of plans, and of plans from where these lead, become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

VARIANCE = 0.1
"""m^2, of the Gaussian that weighs the starts of the second stage."""
Columns = Mapping[str, float]
"""A score and its sub-scores by name; nan for what there is no data for."""


@dataclass(frozen=True)
class Stages:
    """One frame. first: columns of its plan; end: (2,) where that plan, as planned, is after 4 s; second, starts: columns of the
    plans of the second stage and (J, 2) where they begin. Metres, global."""

    first: Columns
    end: np.ndarray
    second: Sequence[Columns]
    starts: np.ndarray


@dataclass(frozen=True)
class Aggregate:
    """Columns of both stages together, and of each alone."""

    both: dict[str, float]
    first: dict[str, float]
    second: dict[str, float]


def start_weights(end: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(J,) weights, summing to 1, of starts (J, 2) of the second stage for a first plan that ends at (2,):
    ``exp(-distance^2 / (2 VARIANCE))`` over their sum, and all the same where that is 0."""
    weights = np.exp(-((starts - end) ** 2).sum(1) / (2 * VARIANCE))
    total = weights.sum()
    return np.full(len(weights), 1 / len(weights)) if np.isclose(total, 0.0) else weights / total


def aggregate(groups: Sequence[tuple[Stages, Stages]]) -> Aggregate:
    """Columns over groups, each a frame and the one half a second before (Cao et al. 2025, as its program computes them).

    Column by column, sub-scores like the score itself: of a frame the first stage's value times the weighted mean of the second
    stage's, of a group the mean of its two frames, then the mean over groups; first and second are means over all frames. A
    column that is nan anywhere within a group is so for that group, which its mean leaves out.
    """
    names = list(groups[0][0].first)
    first = np.array([[[frame.first[name] for name in names] for frame in group] for group in groups])  # (G, 2, C)
    second = np.array([[_second(frame, names) for frame in group] for group in groups])
    means = [_mean((first * second).mean(1)), _mean(first.reshape(-1, len(names))), _mean(second.reshape(-1, len(names)))]
    return Aggregate(*(dict(zip(names, mean.tolist(), strict=True)) for mean in means))


def _second(frame: Stages, names: Sequence[str]) -> np.ndarray:
    values = np.array([[columns[name] for name in names] for columns in frame.second])
    return np.asarray(start_weights(frame.end, frame.starts) @ values)


def _mean(values: np.ndarray) -> np.ndarray:
    """(C,) means of (N, C) over what is not nan."""
    known = ~np.isnan(values)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, values, 0.0).sum(0) / np.maximum(count, 1), np.nan)
