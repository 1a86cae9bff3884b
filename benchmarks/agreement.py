"""Statistics of agreement: orders with ties, a cluster bootstrap over scenes, and whether a number foretells an event."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from scipy.stats import rankdata

from dist4d_env.evaluation.statistics import FEWEST, LEVEL, TIE, Estimate


class Clusters:
    """A cluster bootstrap: each resample draws as many clusters (scenes) as there are, with replacement, whole.

    All statistics of one ``Clusters`` see the same draws, so that differences and orders of means can be resampled, too.
    """

    def __init__(self, clusters: Sequence[Hashable], seed: int = 0, resamples: int = 2000) -> None:
        """clusters: of each of the E values."""
        names = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
        self.number = np.array([names[name] for name in clusters], int)
        count = max(len(names), 1)
        self._drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)

    def means(self, values: np.ndarray) -> np.ndarray:
        """(R,) the mean of values (E,) in each resample; nan is left out."""
        known, clusters = np.isfinite(values), self._drawn.shape[1]
        total = np.bincount(self.number, np.where(known, values, 0.0), clusters)
        with np.errstate(invalid="ignore"):
            return np.asarray((self._drawn @ total) / (self._drawn @ np.bincount(self.number, known, clusters)))

    def mean(self, values: Sequence[float] | np.ndarray) -> Estimate:
        """The mean of values (E,) with its interval; nan is left out and counted."""
        array = np.asarray(values, float)
        known = array[np.isfinite(array)]
        if not len(known):
            return Estimate(float("nan"), float("nan"), float("nan"), 0, len(array))
        return estimate(float(known.mean()), self.means(array), len(known), len(array) - len(known))

    def statistic(self, of: Callable[[np.ndarray], float], draws: int = 300) -> Estimate:
        """Any statistic of weights (E,) of the values, with the interval over the first ``draws`` resamples."""
        count = len(self.number)
        return estimate(of(np.ones(count)), np.array([of(row[self.number].astype(float)) for row in self._drawn[:draws]]), count)


def estimate(value: float, resampled: np.ndarray, count: int, left_out: int = 0) -> Estimate:
    """A value with the percentile interval of its resamples, those that are nan left out."""
    known = resampled[np.isfinite(resampled)]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high), count, left_out)


def better(values: np.ndarray, clusters: Clusters) -> np.ndarray:
    """(P, P) 1 where the first of two planners is better than the second on the same episodes, -1 where it is worse, 0 where the
    interval of their paired difference holds 0, or fewer than ``FEWEST`` clusters decide. values: (P, E)."""
    count = len(values)
    sign = np.zeros((count, count), int)
    if len(np.unique(clusters.number)) < FEWEST:
        return sign
    for first in range(count):
        for second in range(first):
            change = values[first] - values[second]
            if np.nanmax(np.abs(change), initial=0.0) <= TIE:
                continue
            found = clusters.mean(change)
            sign[first, second] = (found.low > 0) - (found.high < 0)
            sign[second, first] = -sign[first, second]
    return sign


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two orders (P, P) as ``better`` gives them; nan where one of them ranks nobody.

    A planner's rank is its wins less its losses, which without ties is the usual rank, and of ties in groups the usual mid-rank.
    """
    a, b = first.sum(1), second.sum(1)
    scale = np.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum() / scale) if scale else float("nan")


def kendall(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's tau-b of two orders (P, P): pairs in the same order less pairs in the other one, by the geometric mean of the
    pairs that each order decides; nan where one of them decides none."""
    scale = np.sqrt(float((first * first).sum()) * float((second * second).sum()))
    return float((first * second).sum() / scale) if scale else float("nan")


def rank_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(R,) Spearman's correlation of means (R, P) with means (R, P); nan where all of one are equal."""
    ranks = [rankdata(np.round(means, 9), axis=1) for means in (first, second)]
    a, b = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return np.asarray((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1)))


def auroc(score: np.ndarray, event: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The chance that the score is higher where the event happens than where it doesn't, equal ones counted half; nan where it
    always or never happens. score, event: (E,), weight: (E,) of each."""
    weight = np.ones(len(score)) if weight is None else weight
    _, place = np.unique(score, return_inverse=True)
    count = place.max(initial=-1) + 1
    with_event, without = (np.bincount(place, weight * chosen, count) for chosen in (event, ~event))
    total = float(with_event.sum() * without.sum())
    below = np.cumsum(without) - without
    return float((with_event * (below + without / 2)).sum() / total) if total else float("nan")


def best_threshold(score: np.ndarray, event: np.ndarray) -> float:
    """The score above which one calls the event, where hits less false alarms are most (Youden's J): between two of the scores
    (E,), so that none of them equals it."""
    values = np.unique(score)
    hits = np.array([np.mean(score[event] >= value) - np.mean(score[~event] >= value) for value in values])
    best = int(np.argmax(hits))
    return float((values[best] + values[max(best - 1, 0)]) / 2) if best else float(np.nextafter(values[0], -np.inf))
