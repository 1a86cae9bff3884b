"""Campaigns: every episode once, in any number of processes, across kills, and never mixed with others."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import planning
from dist4d_env.__main__ import main
from dist4d_env.data.nuscenes import NuScenesDataset
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError, WeightsError
from dist4d_env.evaluation import campaign as engine
from dist4d_env.evaluation import cli, results
from dist4d_env.evaluation.campaign import Campaign, run
from dist4d_env.evaluation.drive import EnvSettings, EpisodeTask, file_name
from dist4d_env.evaluation.episode_log import PLANNER_ERROR, load_episode
from dist4d_env.evaluation.executors import Processes, serial
from dist4d_env.evaluation.fingerprint import scene_fingerprint
from dist4d_env.evaluation.planner_process import Made
from dist4d_env.evaluation.results import score_folder, write_results
from dist4d_env.evaluation.runner import RunOptions
from dist4d_env.planners.contract import PLAN_LIMIT, PlannerNeeds
from dist4d_env.scenes.edits import Insert, Remove
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite, write_suite

from . import simple_planners

pytestmark = pytest.mark.medium


ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = (
    Scenario("town-val-0000", name="as-logged", family="nominal", difficulty="easy", horizon=2.0),
    Scenario(
        "town-val-0001", name="wall-of-trucks", family="blocked", difficulty="extreme", horizon=5.0,
        edits=(Remove("all"), Insert(category="truck", ahead=34.0)),
    ),
)  # fmt: skip


class Elsewhere:
    """Data in a folder that no reader recognises: a file in it says where."""

    def __init__(self, dataroot, version=None):
        self._there = NuScenesDataset((Path(dataroot) / "where").read_text(), version)
        self.dataroot, self.version = dataroot, self._there.version
        self.names, self.splits, self.scene_names = self._there.names, self._there.splits, self._there.scene_names

    def load(self, name, require_map=True):
        return replace(self._there.load(name, require_map), dataroot=self.dataroot)


PLANNERS = simple_planners.__name__
BLIND, FRAGILE = f"{PLANNERS}:Blind", f"{PLANNERS}:Fragile"


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
        return load_episode(next((driven / "episodes").glob(f"{planner}*__as-logged__seed{seed}.json"))).trace.ego[0]

    written, moved = start("lane", 0), start("lane", 1)
    assert 0 < np.hypot(*(written - moved)[:2]) <= 0.15 and 0 < abs(written - moved)[2] <= np.radians(1.0) + 1e-9
    assert np.array_equal(moved, start("*Blind", 1))


def test_more_may_join_but_nothing_may_differ(suite, tmp_path):
    first = Campaign(("lane",), suite, only=("as-*",))
    assert run(first, tmp_path, serial) == 1
    assert run(Campaign(("lane", BLIND), suite, seeds=2), tmp_path, serial) == 7, "the one that is there stays"
    with pytest.raises(ConfigError, match="with traffic='replay', this run has 'idm'"):
        run(replace_campaign(first, traffic="idm"), tmp_path, serial)
    with pytest.raises(ConfigError, match="with size=None, this run has '96x160'"):
        run(replace_campaign(first, size="96x160"), tmp_path, serial)
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


def test_results_of_failing_planners_are_zeros_of_the_ranking(driven):
    board = write_results(driven)
    rows = {row.planner: row for row in board.standings}
    assert list(rows)[-1] == FRAGILE, "it never arrives"
    fragile, blind = rows[FRAGILE], rows[BLIND]
    ranked = fragile.metrics["pdms_v1"]
    assert (fragile.errors, ranked.mean, ranked.count, fragile.invalid("pdms_v1")) == (4, 0.0, 4, 0)
    assert fragile.survivors["pdms_v1"].count == 0 and fragile.metrics["nuplan_cls_nr"].count == 4
    assert "nuplan_cls_r" not in fragile.metrics, "nothing is counted that the traffic does not have"
    assert blind.failures["collision"] == 2 and blind.families["blocked"]["pdms_v1"].mean == 0.0
    assert list(blind.difficulties) == ["easy", "extreme"]
    hit = next(one.score for one in score_folder(driven) if one.score.planner == BLIND and one.score.failures)
    assert hit.failures[0].text == "drove into a standing truck" and hit.failures[0].time == pytest.approx(hit.seconds, abs=0.5)
    found = {(c.first, c.second): c for c in board.comparisons["pdms_v1"]}
    assert found["lane", BLIND].won >= 0.5 and found["lane", FRAGILE].difference.count == 4
    stored = json.loads((driven / "results.json").read_text())
    assert len(stored["episodes"]) == 12 and stored["settings"]["suite"] == "trial"
    assert "| lane |" in (driven / "leaderboard.md").read_text()


def test_why_planners_failed_is_said_on_the_terminal(driven, tmp_path, capsys):
    assert main(["evaluate", str(driven), "--workers", "0", "--out", str(tmp_path)]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "failed in" in line]
    why = r"as-logged, seed 0: at 0\.5 s: RuntimeError: no idea, at simple_planners\.py:\d+ in plan"
    assert len(told) == 1 and re.fullmatch(f"{FRAGILE} failed in 4 of 4 episodes, first in {why}", told[0])


def test_a_folder_is_scored_again_without_driving(driven, tmp_path, monkeypatch, capsys):
    first = write_results(driven).as_json()
    monkeypatch.setattr(engine, "drive", None)
    assert main(["evaluate", str(driven), "--workers", "0", "--out", str(tmp_path)]) == 0
    again = json.loads((tmp_path / "results.json").read_text())
    assert {key: again[key] for key in first} == json.loads(json.dumps(first))
    assert "report:" in capsys.readouterr().out and (tmp_path / "report.html").is_file()


def test_results_are_never_those_of_other_episodes(suite, driven, tmp_path, monkeypatch, capsys):
    """Neither is anything driven nor a file touched."""
    monkeypatch.setattr(engine, "drive", None)
    monkeypatch.setattr(cli, "drive", None)
    alone, campaign = tmp_path / "alone", tmp_path / "campaign"
    shutil.copytree(driven / "episodes", alone / "episodes")
    shutil.copytree(driven, campaign)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    for arguments, says in (
        (["--out", str(campaign), "--dataroot", suite.dataroot], "holds a campaign, driven with --suite"),
        ([str(alone), "--out", str(campaign)], "holds a campaign, driven with --suite"),
        ([str(driven), "--out", str(campaign)], "holds a campaign, driven with --suite"),
        ([str(driven), "--out", str(alone)], "holds other episodes"),
    ):
        assert main(["evaluate", *arguments]) == 2
        error = capsys.readouterr().err
        assert says in error and "choose another --out" in error
    with pytest.raises(ConfigError, match="holds 12 episodes driven without a suite: choose another --out"):
        run(Campaign(("lane",), suite), alone, lambda work, tasks: pytest.fail("something was driven"), again=True)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == {path: when for path, when in before.items() if path.name != ".lock"}


@pytest.mark.parametrize(
    "changes, error, says",
    [
        ({"planners": ("nobody",)}, ConfigError, "planner 'nobody' is unknown"),
        ({"planners": ()}, ConfigError, "no planner"),
        ({"planners": ("lane", "lane")}, ConfigError, "lane is named twice"),
        ({"planners": (f"{PLANNERS}:Seeing",)}, ConfigError, "needs pictures"),
        ({"planners": (f"{PLANNERS}:Dreaming",)}, ConfigError, "needs pictures"),
        (
            {"planners": ("lane", f"{PLANNERS}:Broken")},
            ConfigError,
            r"Broken' cannot be made \(KeyError: 'no weights', at simple_planners",
        ),
        ({"dataset": "waymo"}, ConfigError, "dataset 'waymo' is unknown"),
        ({"reset_limit": 0.0}, ConfigError, "reset_limit=0.0"),
        ({"seeds": 0}, ConfigError, "seeds=0"),
        ({"world": "dream"}, ConfigError, "world 'dream' is unknown"),
        ({"world": "dist4d", "size": "100x200"}, ConfigError, r"size=\(100, 200\) cannot be drawn .* multiples of 16"),
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
    last = open_dataset(suite.dataroot).load("town-val-0000").duration  # from 1.0 s: episodes begin on the next tick
    beside = replace(SCENARIOS[0], start=1.03, edits=(Remove("all"), Insert(ahead=34.0, at=last - 1.0)))
    with pytest.raises(ConfigError, match=r"scenario as-logged: .* is past the end"):
        run(Campaign(("lane",), Suite("beside", suite.dataroot, None, (beside,))), tmp_path / "d", nothing)


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
    campaign = Campaign(("lane",), suite)
    made = {"lane": Made(PlannerNeeds(privileged=True), "abc")}
    data = {"town-val-0000": "def", "town-val-0001": "ghi"}
    tasks = campaign.tasks(campaign.env_settings(campaign.open_data()), tmp_path, made, data)
    assert pickle.loads(pickle.dumps(tasks)) == tasks and isinstance(tasks[0], EpisodeTask)
    assert [task.name for task in tasks] == ["lane__as-logged__seed0", "lane__wall-of-trucks__seed0"]


def test_who_hangs_costs_its_own_episodes_alone(suite, tmp_path):
    """The other planner's episodes are as they would be alone, in processes and here, and a rerun meets no wall."""
    campaign = Campaign((f"{PLANNERS}:Stuck", "lane"), suite, plan_limit=3.0)
    assert run(campaign, tmp_path, Processes(2)) == 4 and run(campaign, tmp_path, Processes(2)) == 0
    logs = [load_episode(path) for path in sorted((tmp_path / "episodes").glob("*.json"))]
    assert [log.outcome == PLANNER_ERROR for log in logs] == [True, True, False, False]
    assert logs[0].error == "at 0.0 s: late: no answer within 3 s, its process was stopped"


WEIGHED = """
import numpy as np
from pathlib import Path
from dist4d_env.planners.contract import Plan, PlannerNeeds
from weighed_parts import METRES

class Weighed:
    requires = PlannerNeeds()

    def __init__(self):
        self.speed = float(np.load(Path(__file__).with_name("weights.npy")))

    def reset(self, context, seed):
        pass

    def plan(self, observation):
        return Plan(np.column_stack([METRES * self.speed * np.arange(1, 9), np.zeros(8), np.zeros(8)]))
"""


def test_a_resume_never_mixes(suite, tmp_path, monkeypatch):
    """Source, weights and parts of a planner, and the package's code: each difference is said, --again drives anew."""
    source, parts, weights = (tmp_path / name for name in ("weighed.py", "weighed_parts.py", "weights.npy"))
    source.write_text(WEIGHED)
    parts.write_text("METRES = 0.5\n")
    np.save(weights, 6.0)
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "out"
    campaign = Campaign(("weighed:Weighed", "lane"), suite, only=("as-*",))
    assert run(campaign, out, serial) == 2 and run(campaign, out, serial) == 0
    [episode] = (out / "episodes").glob("weighed-Weighed*__as-logged__seed0.json")
    stored = load_episode(episode)
    assert set(stored.fingerprint) == {"code", "planner", "data"}
    for change in (
        lambda: source.write_text(WEIGHED + "# a word\n"),
        lambda: parts.write_text("METRES = 0.4\n"),
        lambda: np.save(weights, 5.0),
    ):
        change()
        with pytest.raises(ConfigError, match=r"1 episode driven before the planner weighed:Weighed changed: give --again"):
            run(campaign, out, serial)
        assert run(campaign, out, serial, again=True) == 1
    moved = load_episode(episode)
    assert moved.plans.poses[0, 0, 0] == pytest.approx(0.4 * 5.0) and stored.plans.poses[0, 0, 0] == pytest.approx(3.0)
    monkeypatch.setattr(engine, "code_fingerprint", lambda *names: "another")
    with pytest.raises(
        ConfigError, match=r"2 episodes driven before dist4d_env .* changed: give --again .* or choose another --out"
    ):
        run(campaign, out, serial)
    with pytest.raises(
        ConfigError, match=r"1 episode .* such as lane__as-logged__seed0, were driven by other code or on other data"
    ):
        run(Campaign(("weighed:Weighed",), suite, only=("as-*",)), out, serial, again=True)


def test_a_resume_never_mixes_data(suite, tmp_path, town_dataroot):
    """Tables that have changed in place are said, at the scenes that they change; a copy of the same tables is the same data."""
    place = Path(shutil.copytree(town_dataroot, tmp_path / "data"))
    campaign, out = Campaign(("lane",), replace(suite, dataroot=str(place))), tmp_path / "out"
    assert run(campaign, out, serial) == 2
    table = next(place.glob("*/sample_annotation.json"))
    table.write_text(table.read_text())
    assert run(campaign, out, serial) == 0, "another date, the same content"
    rows = json.loads(table.read_text())
    scene = open_dataset(str(place)).load(suite.scenarios[0].scene, require_map=False)
    sizes = [row["size"] for row in rows if row["instance_token"] == scene.tracks.instance[0]]
    for size in sizes:
        size[0] += 0.1
    table.write_text(json.dumps(rows))
    with pytest.raises(
        ConfigError, match=rf"1 episode driven before the data of {suite.scenarios[0].scene} changed: give --again"
    ):
        run(campaign, out, serial)
    assert sizes and run(campaign, out, serial, again=True) == 1 and run(campaign, out, serial) == 0


def test_sensor_files_count_where_the_world_looks_at_them(town_dataroot, tmp_path):
    place = Path(shutil.copytree(town_dataroot, tmp_path / "data"))
    scene = open_dataset(str(place)).load("town-val-0000")
    before = [scene_fingerprint(scene, pictures) for pictures in (False, True)]
    assert before == [scene_fingerprint(pickle.loads(pickle.dumps(scene)), pictures) for pictures in (False, True)]
    depth = scene.sensors.find_depth(1, 2)
    depth.write_bytes(depth.read_bytes() + b" ")
    after = [scene_fingerprint(scene, pictures) for pictures in (False, True)]
    assert after[0] == before[0] and after[1] != before[1]
    assert scene_fingerprint(replace(scene, route=replace(scene.route, log_length=1.0))) != before[0]


def test_a_run_that_goes_on_scores_only_what_is_new(suite, tmp_path, monkeypatch):
    scored = []
    score_it = results.score_stored
    monkeypatch.setattr(results, "score_stored", lambda task: scored.append(task.path.stem) or score_it(task))
    run(Campaign(("lane",), suite), tmp_path, serial)
    first = write_results(tmp_path, afresh=False).as_json()
    assert len(scored) == 2
    assert write_results(tmp_path, afresh=False).as_json() == first and len(scored) == 2
    run(Campaign(("lane", BLIND), suite), tmp_path, serial)
    write_results(tmp_path, afresh=False)
    assert len(scored) == 4, "two new ones"
    kept = json.loads((tmp_path / "results.json").read_text())
    write_results(tmp_path)
    assert len(scored) == 8 and json.loads((tmp_path / "results.json").read_text()) == kept
    assert write_results(tmp_path, form="faithful", afresh=False) and len(scored) == 12, "another form is another score"
    drawing = tmp_path / "replays.py"
    drawing.write_text("# draws otherwise")
    monkeypatch.setattr(results.drawings, "__file__", str(drawing))
    assert write_results(tmp_path, form="faithful", afresh=False) and len(scored) == 16, "and so is another drawing"


def test_plans_as_bare_arrays_are_plans(suite, tmp_path):
    """What drives the same scores the same."""
    run(Campaign((BLIND, f"{PLANNERS}:Bare"), suite), tmp_path, serial)
    plan, bare = write_results(tmp_path).standings
    assert plan.metrics == bare.metrics and plan.metrics["hd_score"].count == 2


def test_a_reader_from_outside_reaches_every_part(suite, tmp_path):
    """--dataset: campaign, workers, stored episodes and report read a folder that no reader recognises."""
    place = tmp_path / "data"
    place.mkdir()
    (place / "where").write_text(suite.dataroot)
    write_suite(tmp_path / "suite.yaml", replace(suite, dataroot=str(place)))
    command = ["evaluate", "--suite", str(tmp_path / "suite.yaml"), "--planner", "lane", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    reader = f"{__name__}:Elsewhere"
    assert main([*command, "--dataset", reader]) == 0
    assert load_episode(next((tmp_path / "out" / "episodes").glob("*.json")), allow=[reader]).dataroot == str(place)
    again = ["evaluate", str(tmp_path / "out"), "--workers", "0"]
    assert main(again) == 2, "no file has a module imported by itself"
    assert main([*again, "--allow", reader]) == 0
    with pytest.raises(ConfigError, match=r"is a campaign with dataroot="):
        run(Campaign(("lane",), suite), tmp_path / "out", serial)


def test_the_limit_of_a_plan_is_one_number():
    defaults = [kind.__dataclass_fields__["plan_limit"].default
                for kind in (RunOptions, Campaign, EpisodeTask, cli.Options, planning.Options)]  # fmt: skip
    assert defaults == [PLAN_LIMIT] * 5


def test_other_names_are_other_files() -> None:
    names = ("a b", "a-b", "a/b", "a__b", "a", "b__a", "é" * 100, "é" * 99, "pdm_closed", "my.module:Class")
    tasks = [
        EpisodeTask(p, Scenario("s", name=n), 0, EnvSettings("", "", ()), Path(), PlannerNeeds()) for p in names for n in names
    ]
    files = {task.name for task in tasks}
    assert len(files) == len(tasks) and max(len(name.encode()) for name in files) < 200
    assert file_name("cut_in-1") == "cut_in-1"
