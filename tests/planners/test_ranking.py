"""The benchmark of rankings: what counts as falling, and that it runs and resumes."""

from __future__ import annotations

import json

import pytest

from benchmarks.ranking import Options, fall, main
from dist4d_env.errors import ConfigError
from dist4d_env.registry import EXPERT_ERRORS


def test_fall_is_one_where_every_step_costs():
    assert fall((0, 1, 2, 3), [0.9, 0.8, 0.5, 0.1]) == pytest.approx(1.0)
    assert fall((0, 1, 2, 3), [0.1, 0.5, 0.8, 0.9]) == pytest.approx(-1.0)
    assert fall((0, 1, 2, 3), [0.9, 0.5, 0.8, 0.1]) == pytest.approx(0.8)


def test_a_score_that_sees_nothing_ranks_nothing():
    assert fall((0, 1, 2), [0.7, 0.7, 0.7 + 1e-13]) == 0.0


def test_it_runs_on_a_small_town(town_dataroot, tmp_path):
    out = tmp_path / "ranking.json"
    result = main(Options(dataroot=town_dataroot, starts=(0.0,), horizon=4.0, quick=True, out=out))
    assert json.loads(out.read_text())["kinds"].keys() == EXPERT_ERRORS.keys()
    for kind, values in EXPERT_ERRORS.items():
        assert result["strengths"][kind] == (0.0, *values[-2:])
        means = result["kinds"][kind]["means"]
        assert all(score[0] > score[-1] for score in means.values() if kind in ("bias", "delay")), (kind, means)
    assert not list(tmp_path.glob("*.jsonl")), "the partial results of a finished run are gone"


def test_impossible_options_are_refused():
    with pytest.raises(ConfigError):
        Options(starts=())
    with pytest.raises(ConfigError):
        Options(draws=0)
