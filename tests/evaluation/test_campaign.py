"""Campaigns: every episode once, in any number of processes, across kills, and never mixed with others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dist4d_env.__main__ import main
from dist4d_env.errors import ConfigError, DataError, WeightsError
from dist4d_env.evaluation import campaign as engine
from dist4d_env.evaluation.campaign import Campaign, run
from dist4d_env.evaluation.drive import EpisodeTask
from dist4d_env.evaluation.episode_log import load_episode
from dist4d_env.evaluation.executors import Processes, serial
from dist4d_env.evaluation.results import score_folder, write_results
from dist4d_env.planners.contract import Plan, PlannerNeeds
from dist4d_env.planners.lane_follower import LaneFollower
from dist4d_env.scenes.edits import Insert, Remove
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite, write_suite

pytestmark = pytest.mark.medium


ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = (
    Scenario("town-val-0000", name="as-logged", family="nominal", difficulty="easy", horizon=2.0),
    Scenario(
        "town-val-0001", name="wall-of-trucks", family="blocked", difficulty="extreme", horizon=5.0,
        edits=(Remove("all"), Insert(category="truck", ahead=34.0)),
    ),
)  # fmt: skip


class Blind:
    """Goes on at 8 m/s whatever comes."""

    requires = PlannerNeeds()

    def reset(self, context, seed):
        pass

    def plan(self, observation):
        return Plan(np.column_stack([4.0 * np.arange(1, 9), np.zeros(8), np.zeros(8)]))


class Fragile(Blind):
    """Gives up in every second decision."""

    def plan(self, observation):
        if observation.time > 0.4:
            raise RuntimeError("no idea")
        return super().plan(observation)


class Seeing(LaneFollower):
    requires = PlannerNeeds(cameras=True)


class Dreaming(LaneFollower):
    requires = PlannerNeeds(imagination=True)


BLIND, FRAGILE = f"{__name__}:Blind", f"{__name__}:Fragile"


@pytest.fixture(scope="module")
def suite(town_dataroot) -> Suite:
    return Suite("trial", str(town_dataroot), None, SCENARIOS)


@pytest.fixture(scope="module")
def driven(suite, tmp_path_factory) -> Path:
    """A campaign of three planners, two scenarios, two seeds."""
    folder = tmp_path_factory.mktemp("campaign")
    assert run(Campaign(("lane", BLIND, FRAGILE), suite, seeds=2), folder, serial) == 12
    return folder


def arrays(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted((folder / "episodes").glob("*.npz")):
        with np.load(path) as stored:
            found |= {f"{path.stem}/{key}": stored[key] for key in stored.files}
    return found


def same_episodes(a: Path, b: Path) -> None:
    mine, theirs = arrays(a), arrays(b)
    assert mine.keys() == theirs.keys()
    assert [key for key in mine if not np.array_equal(mine[key], theirs[key])] == []


def test_every_episode_is_there_once(driven):
    names = sorted(path.stem for path in (driven / "episodes").glob("*.json"))
    assert len(names) == 12 and "lane__wall-of-trucks__seed1" in names
    log = load_episode(driven / "episodes" / "lane__wall-of-trucks__seed1.json")
    assert (log.planner, log.seed, log.scenario["name"], log.scenario["family"]) == ("lane", 1, "wall-of-trucks", "blocked")
    assert log.scenario["edits"] == [{"remove": {"target": "all"}}, {"insert": {"category": "truck", "ahead": 34.0}}]
    assert list(log.plans.step[:2]) == [0, 5] and log.plans.poses.shape[1:] == (8, 3)
    assert run(Campaign(("lane", BLIND, FRAGILE), Suite("trial", str(log.dataroot), None, SCENARIOS), 2), driven, serial) == 0


def test_inserted_agents_come_back_with_the_log(driven):
    """The truck stands in the stored trace though the recorded scene knows none."""
    trace = load_episode(driven / "episodes" / "lane__wall-of-trucks__seed0.json").trace
    assert trace.valid[0].sum() == 1 and trace.valid[:, -1].all()


def test_processes_drive_the_same_episodes(suite, driven, tmp_path):
    campaign = Campaign(("lane", BLIND), suite, seeds=2)
    assert run(campaign, tmp_path / "two", Processes(2)) == 8
    assert run(campaign, tmp_path / "one", serial) == 8
    same_episodes(tmp_path / "two", tmp_path / "one")
    board = [write_results(tmp_path / name).as_json() for name in ("two", "one")]
    assert board[0] == board[1]


def test_seeds_start_a_little_apart_and_alike_for_every_planner(driven):
    def start(planner: str, seed: int) -> np.ndarray:
        return load_episode(next((driven / "episodes").glob(f"{planner}__as-logged__seed{seed}.json"))).trace.ego[0]

    written, moved = start("lane", 0), start("lane", 1)
    assert 0 < np.hypot(*(written - moved)[:2]) <= 0.15 and 0 < abs(written - moved)[2] <= np.radians(1.0) + 1e-9
    assert np.array_equal(moved, start("*Blind", 1))


def test_more_may_join_but_nothing_may_differ(suite, tmp_path):
    first = Campaign(("lane",), suite, only=("as-*",))
    assert run(first, tmp_path, serial) == 1
    assert run(Campaign(("lane", BLIND), suite, seeds=2), tmp_path, serial) == 7, "the one that is there stays"
    with pytest.raises(ConfigError, match="with traffic='replay', this run has 'idm'"):
        run(replace_campaign(first, traffic="idm"), tmp_path, serial)
    other = Suite("trial", suite.dataroot, None, (replace(SCENARIOS[0], horizon=1.0),))
    with pytest.raises(ConfigError, match="another scenario by the name of as-logged"):
        run(Campaign(("lane",), other), tmp_path, serial)


def replace_campaign(campaign: Campaign, **changes) -> Campaign:
    return Campaign(campaign.planners, campaign.suite, only=campaign.only, **changes)


def test_what_was_stopped_goes_on(suite, driven, tmp_path):
    """An executor that gives up after three episodes, and half a file from a kill: the next run completes what is missing."""

    def failing(work, tasks):
        for task in tasks[:3]:
            yield work(task)
        raise KeyboardInterrupt

    campaign = Campaign(("lane", BLIND, FRAGILE), suite, seeds=2)
    with pytest.raises(KeyboardInterrupt):
        run(campaign, tmp_path, failing)
    leftover = tmp_path / "episodes" / ".lane__as-logged__seed9.123.npz"
    leftover.write_bytes(b"half")
    lonely = next((tmp_path / "episodes").glob("*.json"))
    lonely.unlink()  # killed between the two files of an episode
    assert run(campaign, tmp_path, serial) == 10
    assert not leftover.exists()
    same_episodes(tmp_path, driven)


def test_a_killed_run_goes_on(suite, tmp_path):
    """SIGKILL in the middle of it, workers and all; the same command completes it, to the same bits as one that ran through."""
    write_suite(tmp_path / "suite.yaml", suite)
    command = ["evaluate", "--planner", "lane", "log", "--suite", str(tmp_path / "suite.yaml"), "--seeds", "2"]
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-m", "dist4d_env", *command, "--out", str(out)], cwd=ROOT,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    while not list(out.glob("episodes/*.json")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    there = {path: path.stat().st_mtime_ns for path in out.glob("episodes/*.json")}
    assert there and len(there) <= 8
    assert main([*command, "--workers", "0", "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in there} == there, "what was there has not been driven again"
    assert main([*command, "--workers", "0", "--out", str(tmp_path / "whole")]) == 0
    same_episodes(out, tmp_path / "whole")


def test_ctrl_c_stops_cleanly(suite, tmp_path):
    """Status 130, one line, no half file, no worker left behind."""
    write_suite(tmp_path / "suite.yaml", suite)
    command = ["evaluate", "--planner", "lane", "log", "--suite", str(tmp_path / "suite.yaml"), "--seeds", "200"]
    command = [sys.executable, "-m", "dist4d_env", *command, "--workers", "2", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells ignore it in what they run in the background
    )  # fmt: skip
    while not list(tmp_path.glob("out/episodes/*.json")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, error = process.communicate()
    assert process.returncode == 130 and "Traceback" not in error and error.strip().endswith("stopped from the keyboard")
    assert not list(tmp_path.glob("out/episodes/.*"))
    with pytest.raises(ProcessLookupError):  # the last helper process goes a moment after its parent
        for _ in range(30_000):
            os.killpg(process.pid, 0)
            time.sleep(0.02)


def test_results_of_failing_planners_are_counted_not_averaged(driven):
    board = write_results(driven)
    rows = {row.planner: row for row in board.standings}
    assert list(rows)[-1] == FRAGILE, "without a value it is last"
    fragile, blind = rows[FRAGILE], rows[BLIND]
    assert fragile.errors == 4 and fragile.metrics["pdms_v1"].count == 0 and fragile.invalid("pdms_v1") == 0
    assert blind.failures["collision"] == 2 and blind.families["blocked"]["pdms_v1"].mean == 0.0
    assert list(blind.difficulties) == ["easy", "extreme"]
    hit = next(one.score for one in score_folder(driven) if one.score.planner == BLIND and one.score.failures)
    assert hit.failures[0].text == "drove into a standing truck" and hit.failures[0].time == pytest.approx(hit.seconds, abs=0.5)
    found = {(c.first, c.second): c for c in board.comparisons["pdms_v1"]}
    assert found["lane", BLIND].won >= 0.5 and found["lane", FRAGILE].difference.count == 0
    stored = json.loads((driven / "results.json").read_text())
    assert len(stored["episodes"]) == 12 and stored["settings"]["suite"] == "trial"
    assert "| lane |" in (driven / "leaderboard.md").read_text()


def test_a_folder_is_scored_again_without_driving(driven, tmp_path, monkeypatch, capsys):
    first = write_results(driven).as_json()
    monkeypatch.setattr(engine, "drive", None)
    assert main(["evaluate", str(driven), "--workers", "0", "--out", str(tmp_path)]) == 0
    again = json.loads((tmp_path / "results.json").read_text())
    assert {key: again[key] for key in first} == json.loads(json.dumps(first))
    assert "report:" in capsys.readouterr().out and (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    "changes, error, says",
    [
        ({"planners": ("nobody",)}, ConfigError, "planner 'nobody' is unknown"),
        ({"planners": ()}, ConfigError, "no planner"),
        ({"planners": ("lane", "lane")}, ConfigError, "lane is named twice"),
        ({"planners": (f"{__name__}:Seeing",)}, ConfigError, "needs pictures"),
        ({"planners": (f"{__name__}:Dreaming",)}, ConfigError, "needs pictures"),
        ({"seeds": 0}, ConfigError, "seeds=0"),
        ({"world": "dream"}, ConfigError, "world 'dream' is unknown"),
        ({"only": ("moon*",)}, ConfigError, "its families are blocked, nominal"),
        ({"weights": "nowhere", "world": "dist4d"}, WeightsError, "nowhere"),
    ],
)
def test_bad_input_is_one_error_before_anything_runs(changes, error, says, suite, tmp_path):
    arguments = {"planners": ("lane",), "suite": suite, **changes}
    with pytest.raises(error, match=says):
        run(Campaign(**arguments), tmp_path / "out", lambda work, tasks: pytest.fail("something was driven"))
    assert not (tmp_path / "out").exists()


def test_scenes_and_worlds_that_do_not_fit_are_said_before_anything_runs(suite, tmp_path, nuscenes_real):
    def nothing(work, tasks):
        pytest.fail("something was driven")

    with pytest.raises(DataError, match=r"plays as-logged in town-val-0000, which .* does not hold"):
        run(Campaign(("lane",), suite, dataroot=str(nuscenes_real), version="v1.0-mini"), tmp_path / "a", nothing)
    real = Suite("real", str(nuscenes_real), None, (Scenario("scene-0061", name="r", horizon=2.0),))
    with pytest.raises(DataError, match="oracle' knows the built-in town only"):
        run(Campaign(("lane",), real, world="oracle"), tmp_path / "b", nothing)
    late = Suite("late", suite.dataroot, None, (replace(SCENARIOS[0], start=400.0),))
    with pytest.raises(ConfigError, match=r"scenario as-logged: .*400"):
        run(Campaign(("lane",), late), tmp_path / "c", nothing)


def test_broken_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="no stored episodes"):
        write_results_of_nothing(tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(DataError, match="not a campaign's settings"):
        write_results(tmp_path)


def write_results_of_nothing(folder: Path) -> None:
    score_folder(folder)


def test_tasks_are_values_that_travel(suite, tmp_path):
    """What an executor on another machine needs: tasks and work can be pickled and name themselves."""
    import pickle

    campaign = Campaign(("lane",), suite)
    tasks = campaign.tasks(campaign.env_settings(campaign.open_data()), tmp_path)
    assert pickle.loads(pickle.dumps(tasks)) == tasks and isinstance(tasks[0], EpisodeTask)
    assert [task.name for task in tasks] == ["lane__as-logged__seed0", "lane__wall-of-trucks__seed0"]
