"""The second stage in several worlds: what is kept of a group, what is compared, and a stopped run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import two_stage
from benchmarks.two_stage import Options, compared, row_of
from dist4d_env.errors import DataError
from dist4d_env.evaluation.two_stage import Group
from dist4d_env.metrics.plans.two_stage import Stages


def group(first: float, second: float) -> Group:
    stages = Stages({"score": first}, np.zeros(2), [{"score": second}] * 4, np.zeros((4, 2)))
    return Group("a", 1.0, (stages, stages), ("dist_s", "dist_s"))


def test_differences_are_of_the_same_frames() -> None:
    failed = Group("a", 2.0, None, error="no")
    rows = {world: [row_of(one) for one in groups] for world, groups in {
        "oracle": [group(0.8, 0.5), group(0.5, 1.0)], "dist4d": [group(0.8, 0.25), failed]}.items()}  # fmt: skip
    found = compared(rows)
    assert found["oracle"]["both"]["mean"] == pytest.approx(0.45) and found["oracle"]["both_difference"]["mean"] == 0.0
    made = found["dist4d"]
    assert made["both_difference"]["mean"] == pytest.approx(-0.2) and made["both_distance"]["mean"] == pytest.approx(0.2)
    assert made["second_difference"]["mean"] == pytest.approx(-0.25) and made["first"]["mean"] == pytest.approx(0.8)
    assert made["failed"] == 1 and made["groups"] == 2 and made["both"]["left_out"] == 1 and made["sources"] == {"dist_s": 2}


def test_a_stopped_run_goes_on_and_ends_with_the_same_figures(monkeypatch, tmp_path, town_dataroot) -> None:
    """Frames of two worlds; the stop comes in the second one's."""
    asked: list[str] = []

    def judged(judge, scene, time):
        asked.append(judge.env)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return group(0.8, 0.5 if judge.env == "oracle" else 0.25)

    monkeypatch.setattr(two_stage, "judge_frame", judged)
    monkeypatch.setattr(two_stage, "frames", lambda scene, count: [0.5, 1.0])
    monkeypatch.setattr(two_stage, "_environment", lambda *given: given[-1])
    out = tmp_path / "stages.json"
    options = Options(planners=("log",), worlds=("oracle", "dist4d"), dataroot=town_dataroot, scenes=("town-val-0000",), out=out)
    with pytest.raises(KeyboardInterrupt):
        two_stage.main(options)
    assert json.loads(out.read_text())["frames"] == ["town-val-0000 0.5"]
    result = two_stage.main(options)
    assert asked == ["oracle", "dist4d", "oracle", "oracle", "dist4d"] and len(result["frames"]) == 2
    assert result["planners"]["log"]["dist4d"]["both_difference"]["mean"] == pytest.approx(-0.2)
    assert [path.name for path in tmp_path.iterdir()] == ["stages.json"]


def test_scenes_that_are_too_short_are_one_line(town_dataroot) -> None:
    with pytest.raises(DataError, match="long enough for two stages"):
        two_stage.main(Options(dataroot=town_dataroot))
