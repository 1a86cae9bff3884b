"""The planning benchmark from the command line: drives, resumes, stores what tables show, and finds worlds that agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import planning, planning_worlds
from dist4d_env.errors import DataError
from dist4d_env.planners.contract import Plan, PlannerNeeds

ROOT = Path(__file__).resolve().parents[2]


class Dazzled:
    """Drives as fast as the front picture is bright: what it sees decides."""

    requires = PlannerNeeds(cameras=True)

    def reset(self, context, seed):
        pass

    def plan(self, observation):
        speed = observation.observation["CAM_FRONT"].mean() / 20
        return Plan(np.column_stack([speed * 0.5 * np.arange(1, 9), np.zeros(8), np.zeros(8)]))


def test_stores_what_tables_show(suite, tmp_path):
    options = planning.Options(("log", "lane"), suite, tmp_path / "run", workers=0, seeds=2, store=tmp_path / "planning.json")
    planning.main(options)
    found = json.loads((tmp_path / "planning.json").read_text())
    assert found["suite"] == "two" and found["scenarios"] == 2 and found["ranked_by"] == "pdms_v1" in found["scores"]
    rows = {row["planner"]: row for row in found["standings"]}
    assert rows["log"]["episodes"] == 4 and rows["log"]["metrics"]["pdms_v1"]["count"] == 4
    assert set(rows["lane"]["families"]) == {"nominal", "late"} and set(rows["lane"]["difficulties"]) == {"easy", "hard"}
    assert len(found["comparisons"]["pdms_v1"]) == 1 and "machine" in found and "episodes" not in found
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.medium
def test_worlds_are_told_apart_by_those_who_look(suite, tmp_path):
    """The lane follower drives the same in every world; who looks at the pictures does not."""
    planners = ("lane", f"{__name__}:Dazzled")
    for world in ("oracle", "replay"):
        planning.main(planning.Options(planners, suite, tmp_path / world, world=world, workers=0))
    folders = (str(tmp_path / "oracle"), str(tmp_path / "replay"))
    found = planning_worlds.main(planning_worlds.Options(folders, tmp_path / "worlds.json"))["planners"]
    assert (found["lane"]["episodes"], found["lane"]["same"]) == (2, 2)
    assert (found[planners[1]]["episodes"], found[planners[1]]["same"]) == (2, 0)
    assert found["lane"]["pdms_v1"]["oracle"] == found["lane"]["pdms_v1"]["replay"]
    assert all(cell["low"] <= cell["mean"] <= cell["high"] for cell in found["lane"]["pdms_v1"].values())
    with pytest.raises(DataError, match="two or more different worlds"):
        planning_worlds.main(planning_worlds.Options((folders[0], folders[0])))


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--planner", "nobody"], "planner 'nobody' is unknown"),
        (["--suite", "nowhere.yaml"], "nowhere.yaml"),
        (["--workers", "-1"], "workers=-1"),
    ],
)
def test_bad_input_is_one_line_and_status_two(arguments, says, suite, tmp_path):
    command = {"--planner": "lane", "--suite": str(suite), "--out": str(tmp_path / "out")}
    command |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    words = [word for pair in command.items() for word in pair]
    done = subprocess.run([sys.executable, "-m", "benchmarks.planning", *words], capture_output=True, text=True, cwd=ROOT)
    said = [line for line in done.stderr.splitlines() if not line.startswith("making planners")]  # a busy machine's progress
    assert done.returncode == 2 and len(said) == 1 and says in said[0]
    assert not (tmp_path / "out").exists()
