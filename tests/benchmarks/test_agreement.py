"""Orders with ties, the cluster bootstrap and AUROC against hand-made examples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from benchmarks.agreement import Clusters, auroc, best_threshold, better, kendall, rank_correlations, spearman
from dist4d_env.evaluation.statistics import FEWEST


def order(means: list[float]) -> np.ndarray:
    """Who is better than whom without any doubt."""
    return np.sign(np.subtract.outer(means, means)).astype(int)


def test_orders_without_doubt_are_the_usual_correlations() -> None:
    first, second = [0.1, 0.9, 0.4, 0.6, 0.2], [0.3, 0.8, 0.2, 0.7, 0.6]
    assert spearman(order(first), order(second)) == pytest.approx(spearmanr(first, second).statistic)
    assert kendall(order(first), order(second)) == pytest.approx(kendalltau(first, second).statistic)
    tied = [0.1, 0.4, 0.4, 0.6, 0.2]
    assert spearman(order(tied), order(second)) == pytest.approx(spearmanr(tied, second).statistic)
    assert kendall(order(tied), order(second)) == pytest.approx(kendalltau(tied, second).statistic)
    assert rank_correlations(np.array([first, tied]), np.array([second, second])) == pytest.approx(
        [spearmanr(first, second).statistic, spearmanr(tied, second).statistic]
    )
    assert np.isnan(spearman(order([1.0, 1.0]), order([1.0, 2.0]))) and np.isnan(kendall(order([1.0, 1.0]), order([1.0, 2.0])))


def test_planners_whose_paired_interval_holds_zero_are_tied() -> None:
    scenes = [f"scene-{number}" for number in range(20) for _ in range(3)]
    random = np.random.default_rng(0)
    street = np.repeat(random.normal(0, 0.3, 20), 3)  # what streets have in common cancels in pairs
    good, same = 0.6 + street, 0.6 + street + random.normal(0, 0.05, 60)
    bad = 0.5 + street + random.normal(0, 0.05, 60)
    sign = better(np.stack([good, same, bad]), Clusters(scenes))
    assert sign.tolist() == [[0, 0, 1], [0, 0, 1], [-1, -1, 0]]
    few = [number < 3 * (FEWEST - 1) for number in range(60)]
    assert not better(np.stack([good, bad])[:, few], Clusters(scenes[: 3 * (FEWEST - 1)])).any(), "so few streets decide nothing"
    single = Clusters(scenes).mean(good)
    assert single.low < bad.mean() < single.high  # by its own interval nobody would be better


def test_whole_scenes_are_drawn() -> None:
    """Repeating a scene's episode a hundred times tells nothing new, and both scenes weigh as their episodes do."""
    few, many = Clusters(["a", "b", "c"]), Clusters(["a"] * 100 + ["b"] * 100 + ["c"] * 100)
    once, often = few.mean([0.0, 0.5, 1.0]), many.mean(np.repeat([0.0, 0.5, 1.0], 100))
    assert (once.mean, once.low, once.high) == (often.mean, often.low, often.high) == (0.5, 0.0, 1.0)
    assert np.unique(few.means(np.array([0.0, 0.0, 3.0]))).tolist() == [0.0, 1.0, 2.0, 3.0]
    assert Clusters(["a", "a"]).mean([0.0, 1.0]).low == 0.5  # one scene has no spread
    left = few.mean([0.25, np.nan, np.nan])
    assert (left.mean, left.low, left.high, left.count, left.left_out) == (0.25, 0.25, 0.25, 1, 2)
    assert few.mean([np.nan] * 3).count == 0


def test_auroc_of_a_handmade_example() -> None:
    score = np.array([0.9, 0.8, 0.8, 0.3, 0.1])
    event = np.array([True, True, False, False, True])
    # pairs of an event and none: (.9, .8) (.9, .3) (.8, .8)/2 (.8, .3) (.1, .8)x (.1, .3)x
    assert auroc(score, event) == pytest.approx(3.5 / 6)
    assert auroc(-score, event) == pytest.approx(2.5 / 6)
    twice = np.array([2.0, 1.0, 1.0, 1.0, 1.0])
    assert auroc(score, event, twice) == pytest.approx(auroc(np.append(score, 0.9), np.append(event, True)))
    assert np.isnan(auroc(score, np.ones(5, bool)))
    assert best_threshold(score, event) == pytest.approx(0.85)
    interval = Clusters([1, 2, 3, 4, 5]).statistic(lambda weight: auroc(score, event, weight))
    assert interval.mean == pytest.approx(3.5 / 6) and interval.low < 0.5 < interval.high
