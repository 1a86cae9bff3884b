"""Bootstrap estimates of means over episodes, and paired comparisons of planners."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=tuple[Hashable, ...])
LEVEL = 0.95
TIE = 1e-6
"""Differences up to this are no difference."""
FEWEST = 6
"""Scenarios (or keyframes) below which no difference is clear: five of one sign come about by chance in 1 of 16 cases (the sign
test, two-sided). Seeds of one scenario are no further ones."""


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


def bootstrap_mean(values: Sequence[float | None], seed: int = 0, resamples: int = 10_000, level: float = LEVEL) -> Estimate:
    """Mean and percentile bootstrap interval of the finite values; None and nan are left out and counted, never read as zero.

    Episodes count as independent; ``Resampler`` takes scenes and seeds into account. A single value has the interval
    [itself, itself]: one episode has no spread.
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


class Resampler:
    """A hierarchical bootstrap over episodes that are nested, such as scene, then scenario, then seed.

    Each resample draws as many groups of the outermost level as there are, with replacement; within every drawn group as many of
    the next level; and so on down to episodes. What scenes have in common thus widens the interval as it should, and repeated
    seeds cannot narrow it below what so few scenes allow.
    """

    def __init__(self, keys: Sequence[tuple[Hashable, ...]], seed: int = 0, resamples: int = 4000) -> None:
        """keys: of each episode, its groups from the outermost inwards, all of one length."""
        self._weight = np.zeros((resamples, len(keys)), np.int32)
        if keys:
            self._draw(np.random.default_rng(seed), np.arange(len(keys)), np.ones(resamples, np.int64), list(keys))

    def _draw(
        self, random: np.random.Generator, episodes: np.ndarray, times: np.ndarray, keys: list[tuple[Hashable, ...]]
    ) -> None:
        """Weights the ``episodes`` of a group drawn ``times`` (R,) times: independent draws add up to one multinomial."""
        groups: dict[Hashable, list[int]] = {}
        for place, key in enumerate(keys):
            groups.setdefault(key[0] if key else place, []).append(place)
        drawn = random.multinomial(times * len(groups), np.full(len(groups), 1 / len(groups)))
        for column, places in zip(drawn.T, groups.values(), strict=True):
            if len(places) == 1:
                self._weight[:, episodes[places[0]]] = column
            else:
                self._draw(random, episodes[places], column, [keys[place][1:] for place in places])

    def mean(self, values: Sequence[float | None], level: float = LEVEL) -> Estimate:
        """The mean over the episodes with a value (None and nan have none) and its percentile interval."""
        given = np.array([np.nan if value is None else value for value in values], float)
        known = np.isfinite(given)
        count = int(known.sum())
        if not count:
            return Estimate(float("nan"), float("nan"), float("nan"), 0, len(given))
        total, share = self._weight @ np.where(known, given, 0.0), self._weight @ known.astype(float)
        low, high = np.quantile(total[share > 0] / share[share > 0], [(1 - level) / 2, (1 + level) / 2])
        return Estimate(float(given[known].mean()), float(low), float(high), count, len(given) - count)


@dataclass(frozen=True)
class Comparison:
    """Two planners on the same episodes: the mean of first minus second, and in which share the first won, tied and lost.

    difference.left_out: shared episodes in which one of the two has no valid value; places: different scenarios, whatever the
    seed, in which both have one.
    """

    first: str
    second: str
    difference: Estimate
    won: float
    tied: float
    lost: float
    places: int

    @property
    def clear(self) -> bool:
        """Whether the interval of the difference leaves zero out, of at least ``FEWEST`` places."""
        return self.places >= FEWEST and (self.difference.low > 0 or self.difference.high < 0)


def compare(
    first: tuple[str, Mapping[Key, float | None]],
    second: tuple[str, Mapping[Key, float | None]],
    seed: int = 0,
    resamples: int = 4000,
) -> Comparison:
    """A paired comparison. Each side: a name, and the value of each episode by its nested key (see ``Resampler``).

    Only episodes that both drove count; those in which one has no value are left out and counted.
    """
    (name, mine), (other, theirs) = first, second
    keys = [key for key in mine if key in theirs]
    pairs = [(mine[key], theirs[key]) for key in keys]
    change = np.array([np.nan if a is None or b is None else a - b for a, b in pairs], float)
    difference = Resampler(keys, seed, resamples).mean(change.tolist())
    known = change[np.isfinite(change)]
    parts = known > TIE, abs(known) <= TIE, known < -TIE
    won, tied, lost = (float(part.mean()) if len(known) else float("nan") for part in parts)
    places = {key[:2] for key, value in zip(keys, change, strict=True) if np.isfinite(value)}
    return Comparison(name, other, difference, won, tied, lost, len(places))
