"""Means and intervals; what has no value is counted, never read as zero."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.evaluation.episode_log import PLANNER_ERROR
from dist4d_env.evaluation.statistics import Resampler, bootstrap_mean, compare
from dist4d_env.evaluation.summary import Summary, score, write_summary


def test_interval_agrees_with_the_normal_one():
    """Of many values the bootstrap's interval is that of the central limit theorem."""
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    estimate = bootstrap_mean(values.tolist())
    half = 1.96 * values.std() / 20
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.high - estimate.mean == pytest.approx(half, rel=0.1)
    assert estimate.mean - estimate.low == pytest.approx(half, rel=0.1)


def test_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = [
        (e := bootstrap_mean(random.exponential(1.0, 40).tolist(), resamples=500)).low <= 1.0 <= e.high for _ in range(200)
    ]
    assert 0.85 < np.mean(covered) < 1.0


def test_what_is_missing_is_left_out():
    estimate = bootstrap_mean([1.0, None, 0.5, math.nan])
    assert (estimate.mean, estimate.count, estimate.left_out) == (0.75, 2, 2)
    nothing = bootstrap_mean([None, None])
    assert math.isnan(nothing.mean) and nothing.count == 0 and str(nothing) == "no valid value"


def test_one_value_has_no_spread():
    estimate = bootstrap_mean([0.7])
    assert (estimate.low, estimate.mean, estimate.high, estimate.count) == (0.7, 0.7, 0.7, 1)


def test_same_seed_same_interval():
    values = [0.1, 0.9, 0.4, 0.8]
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)


def test_planner_failures_are_counted_not_averaged(log, tmp_path):
    good = score(log)
    bad = score(replace(log, outcome=PLANNER_ERROR, error="at 0.5 s: ValueError: no idea", seed=1))
    assert all(value is None for value in bad.metrics.values())
    summary = Summary.of([good, bad])
    assert summary.outcomes == {"horizon": 1, PLANNER_ERROR: 1}
    progress = summary.metrics["progress"]
    assert (progress.mean, progress.count, progress.left_out) == (good.metrics["progress"], 1, 1)
    assert summary.metrics["total_reward"].mean == pytest.approx(good.total_reward)
    table = summary.table()
    assert "failed in 1 of 2 episodes" in table and "ValueError: no idea" in table
    write_summary(tmp_path / "results.json", summary, {"planner": "lane"})
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["settings"] == {"planner": "lane"} and stored["episodes"][1]["metrics"]["progress"] is None
    assert stored["metrics"]["progress"]["count"] == 1


def test_metrics_valid_nowhere_are_said_to_be(log):
    episode = replace(score(log), metrics={"speed_limit_compliance": None})
    summary = Summary.of([episode])
    assert "n/a" in summary.table()
    assert summary.as_json()["metrics"]["speed_limit_compliance"]["mean"] is None


def nested(scenes: int, scenarios: int, seeds: int) -> list[tuple[int, int, int]]:
    return [(i, j, k) for i in range(scenes) for j in range(scenarios) for k in range(seeds)]


def test_without_groups_the_hierarchical_bootstrap_is_the_plain_one():
    values = np.random.default_rng(2).normal(1.0, 3.0, 60).tolist()
    plain, grouped = bootstrap_mean(values), Resampler([(i,) for i in range(60)], resamples=10_000).mean(values)
    assert (grouped.mean, grouped.count) == (pytest.approx(plain.mean), 60)
    assert grouped.low == pytest.approx(plain.low, abs=0.06) and grouped.high == pytest.approx(plain.high, abs=0.06)


def test_repeated_seeds_do_not_make_an_interval_narrower():
    """Ten seeds that drive alike say no more than one."""
    keys, effect = nested(12, 1, 10), np.random.default_rng(3).normal(0.0, 1.0, 12)
    values = [float(effect[scene]) for scene, _, _ in keys]
    honest, naive = Resampler(keys).mean(values), bootstrap_mean(values)
    once = bootstrap_mean(effect.tolist())
    assert honest.high - honest.low == pytest.approx(once.high - once.low, rel=0.1)
    assert naive.high - naive.low < 0.5 * (honest.high - honest.low)


def test_nested_intervals_cover_the_truth_as_often_as_they_say():
    """Scenes, scenarios and seeds all vary; the interval of the mean holds the true one about as often as promised."""
    random, keys, covered = np.random.default_rng(4), nested(15, 3, 2), []
    scene, scenario, _ = np.array(keys).T
    for _ in range(150):
        values = random.normal(0, 1, 15)[scene] + random.normal(0, 0.5, 45)[3 * scene + scenario] + random.normal(0, 0.3, 90)
        estimate = Resampler(keys, resamples=400).mean(values.tolist())
        covered.append(estimate.low <= 0.0 <= estimate.high)
    assert 0.87 < np.mean(covered) < 0.995


def test_hierarchical_means_leave_out_what_is_missing():
    estimate = Resampler(nested(3, 1, 2)).mean([1.0, None, 0.0, math.nan, 0.5, 0.5])
    assert (estimate.mean, estimate.count, estimate.left_out) == (0.5, 4, 2)
    assert Resampler(nested(2, 1, 1)).mean([None, None]).count == 0
    assert Resampler(nested(3, 2, 2), seed=5).mean(range(12)) == Resampler(nested(3, 2, 2), seed=5).mean(range(12))


def test_paired_comparison_sees_what_single_intervals_cannot():
    """A small steady lead shows in the differences, though scenes differ much more among each other."""
    keys, base = nested(20, 1, 1), np.random.default_rng(6).uniform(0, 1, 20)
    better = {key: base[key[0]] + 0.05 for key in keys}
    worse: dict = {key: base[key[0]] for key in keys}
    found = compare(("a", better), ("b", worse))
    assert found.clear and found.difference.mean == pytest.approx(0.05) and (found.won, found.tied, found.lost) == (1, 0, 0)
    single = [Resampler(keys).mean(list(side.values())) for side in (better, worse)]
    assert single[0].low < single[1].high, "which their own intervals hide"


def test_comparison_counts_pairs_and_ties():
    a = {(0, 0): 1.0, (1, 0): 0.5, (2, 0): None, (3, 0): 0.2, (4, 0): 0.9}
    b = {(0, 0): 0.5, (1, 0): 0.5, (2, 0): 0.5, (3, 0): 0.6, (9, 0): 0.9}
    found = compare(("a", a), ("b", b))
    assert (found.difference.count, found.difference.left_out) == (3, 1) and found.difference.mean == pytest.approx(0.1 / 3)
    assert [found.won, found.tied, found.lost] == pytest.approx([1 / 3] * 3) and not found.clear
    few, many = ({(k, 0): 1.0 for k in range(count)} for count in (5, 6))
    assert [compare(("a", one), ("b", dict.fromkeys(one, 0.0))).clear for one in (few, many)] == [False, True]
    assert compare(("a", a), ("b", {})).difference.count == 0
    nothing = compare(("a", a), ("b", dict.fromkeys(a)))
    assert (nothing.difference.count, nothing.difference.left_out, nothing.places) == (0, 5, 0)


def test_seeds_of_a_scenario_are_no_further_scenarios():
    """Two streets, whichever sign both show, say as little with three seeds each."""
    ahead = {(scene, "way", seed): 0.1 + 0.4 * scene for scene in range(2) for seed in range(3)}
    found = compare(("a", ahead), ("b", dict.fromkeys(ahead, 0.0)))
    assert found.difference.low > 0 and (found.difference.count, found.places, found.clear) == (6, 2, False)
