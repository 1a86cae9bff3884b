"""Standings say what was counted: failures apart, metrics over the episodes that have them, order by score."""

from __future__ import annotations

import json
import math

import pytest

from dist4d_env.evaluation.episode_log import PLANNER_ERROR
from dist4d_env.evaluation.failures import Failure
from dist4d_env.evaluation.leaderboard import Leaderboard, nested_key
from dist4d_env.evaluation.statistics import Resampler
from dist4d_env.evaluation.summary import EpisodeScore, Summary


def episode(planner: str, scenario: str, value: float | None, **more) -> EpisodeScore:
    plain = {
        "scene": f"scene-{scenario[0]}", "start": 0.0, "seed": 0, "outcome": "horizon", "error": None, "seconds": 8.0,
        "total_reward": 1.0, "metrics": {"pdms_v1": value}, "family": scenario[0], "difficulty": "easy",
    }  # fmt: skip
    return EpisodeScore(planner=planner, scenario=scenario, **{**plain, **more})


def test_order_counts_and_groups():
    hit = Failure("collision", 3, 0.3, 7, "hit a car with its front")
    board = Leaderboard.of([
        episode("bad", "a1", 0.2, outcome="collision", failures=(hit, hit)), episode("bad", "b1", 0.4, difficulty="hard"),
        episode("good", "a1", 0.9), episode("good", "b1", 0.8, difficulty="hard"),
        episode("broken", "a1", None, outcome=PLANNER_ERROR, error="late", metrics={"pdms_v1": None}),
        episode("broken", "b1", None, metrics={"pdms_v1": None}),
    ])  # fmt: skip
    good, bad, broken = board.standings
    assert [row.planner for row in board.standings] == ["good", "bad", "broken"]
    assert bad.failures == {"collision": 1}, "episodes are counted, not hits"
    assert (broken.errors, broken.invalid("pdms_v1"), broken.metrics["pdms_v1"].count) == (1, 1, 1)
    assert good.families["b"]["pdms_v1"].mean == 0.8 and list(good.difficulties) == ["easy", "hard"]
    json.dumps(board.as_json(), allow_nan=False)
    assert "| broken | 0.000 [0.000, 0.000] |" in board.markdown()


def test_failing_does_not_pay():
    """A planner that gives up wherever it is hard: its ranking, its families and its pairs count that as 0; what it makes of the
    easy rest stands beside it, marked."""
    hard = [f"h{i}" for i in range(13)]
    quitter = [episode("quitter", name, None, outcome=PLANNER_ERROR, error="no", metrics={"pdms_v1": None}) for name in hard]
    quitter += [episode("quitter", f"e{i}", 0.978) for i in range(3)]
    honest = [episode("honest", one.scenario, 0.5) for one in quitter]
    board = Leaderboard.of(quitter + honest)
    first, second = board.standings
    assert (first.planner, second.planner) == ("honest", "quitter")
    assert second.metrics["pdms_v1"].mean == pytest.approx(3 * 0.978 / 16) and second.metrics["pdms_v1"].count == 16
    assert second.survivors["pdms_v1"].mean == pytest.approx(0.978) and second.survivors["pdms_v1"].count == 3
    assert first.survivors == {} and second.families["h"]["pdms_v1"].mean == 0.0 and second.errors == 13
    (pair,) = board.comparisons["pdms_v1"]
    assert pair.difference.count == 16 and pair.difference.mean == pytest.approx(0.5 - 3 * 0.978 / 16)
    row = next(line for line in board.markdown().splitlines() if "quitter" in line)
    assert "0.183 [" in row and "(0.978*)" in row and "counts the others as 0" in board.markdown()
    summary = Summary.of(quitter)
    assert (
        summary.metrics["pdms_v1"].mean == pytest.approx(0.978) and "counted as 0, as rankings do: PDMS 0.183" in summary.table()
    )


def test_equals_are_ordered_by_how_often_they_failed():
    rows = [episode("fails", "a1", None, outcome=PLANNER_ERROR, metrics={"pdms_v1": None}), episode("hits", "a1", 0.0)]
    assert [row.planner for row in Leaderboard.of(rows).standings] == ["hits", "fails"]


def test_who_did_not_drive_every_episode_is_not_ranked():
    """An easy scenario alone is no better standing than all of them."""
    strong = [episode("strong", "a1", 1.0), episode("strong", "b1", 0.5), episode("strong", "c1", 0.5)]
    board = Leaderboard.of([episode("weak", "a1", 0.9), *strong])
    assert [(row.planner, row.missing) for row in board.standings] == [("strong", 0), ("weak", 2)]
    rows = board.markdown().splitlines()
    assert rows[2].endswith("| 3 |") and rows[3].endswith("| 1 (2 fewer than others, not ranked) |")


def test_episodes_of_one_scene_are_not_independent():
    """In a summary as in the tables: of two scenes, one always good and one always bad, nobody knows where the mean lies."""
    some = [episode("p", f"{scene}{number}", value) for scene, value in (("a", 1.0), ("b", 0.0)) for number in range(20)]
    estimate = Summary.of(some).metrics["pdms_v1"]
    assert (estimate.mean, estimate.low, estimate.high, estimate.count) == (0.5, 0.0, 1.0, 40)


def test_metrics_of_some_episodes_only_are_not_missed_in_the_others():
    """CLS-R is a metric of reacting traffic alone: where traffic is replayed it is neither valid nor invalid."""
    replayed = [episode("p", f"a{i}", 0.5, metrics={"pdms_v1": 0.5, "nuplan_cls_nr": 0.25}) for i in range(3)]
    reacting = [episode("p", f"b{i}", 1.0, metrics={"pdms_v1": 1.0, "nuplan_cls_r": 0.75}) for i in range(2)]
    (row,) = Leaderboard.of(replayed + reacting).standings
    assert (row.metrics["nuplan_cls_r"].mean, row.metrics["nuplan_cls_r"].count, row.invalid("nuplan_cls_r")) == (0.75, 2, 0)
    assert (row.metrics["nuplan_cls_nr"].mean, row.metrics["nuplan_cls_nr"].count, row.invalid("nuplan_cls_nr")) == (0.25, 3, 0)
    assert row.families["a"]["nuplan_cls_r"].count == 0


def test_resampling_follows_scene_scenario_and_seed():
    one = episode("p", "a1", 0.5, seed=4)
    assert nested_key(one) == ("scene-a", "a1", 4)
    assert nested_key(episode("p", "a1", 0.5, scene="s")) != nested_key(one)
    assert math.isnan(Resampler([]).mean([]).mean)


def test_pairs_compare_shared_episodes():
    rows = [episode("a", f"x{i}", 0.1 * i + 0.2) for i in range(5)] + [episode("b", f"x{i}", 0.1 * i) for i in range(4)]
    (pair,) = Leaderboard.of(rows).comparisons["pdms_v1"]
    assert (pair.first, pair.second, pair.difference.count) == ("a", "b", 4)
    assert pair.difference.mean == pytest.approx(0.2) and pair.won == 1.0


def test_names_are_text_in_markdown():
    name = "a|b <img src=x> [c](d) **e** _f_ pdm_closed\n| g"
    row = Leaderboard.of([episode(name, "a1", 0.5)]).markdown().splitlines()[2]
    assert row.startswith(r"| a\|b \<img src=x\> \[c\](d) \*\*e\*\* \_f\_ pdm_closed \| g | 0.500")
