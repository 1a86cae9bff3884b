"""Means and intervals; what has no value is counted, never read as zero."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.evaluation.episode_log import PLANNER_ERROR
from dist4d_env.evaluation.statistics import bootstrap_mean
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
