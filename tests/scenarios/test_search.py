"""The search: it finds mild failures, its files replay them, it goes on where it stopped, and equal runs are equal."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.planners.log_follower import LogFollower
from dist4d_env.scenes.scenario import Scenario, read_scenario
from scenarios.adversary import FAILED, Budget, Problem, Trial, search
from scenarios.playing import drive, make_env
from scenarios.search import _write, main
from scenarios.spaces import SPACES

SCENE = "town-val-0000"
QUICK = Budget(population=8, generations=2)


@pytest.fixture(scope="module")
def env(town_dataroot: Path):
    made = make_env(str(town_dataroot), None, termination=FAILED)
    yield made
    made.close()


@pytest.fixture(scope="module")
def scene(town_dataroot: Path):
    return open_dataset(town_dataroot).load(SCENE)


def command(town_dataroot: Path, out: Path, *more: str) -> list[str]:
    return [
        "--planner", "log", "--family", "stalled", "--dataroot", str(town_dataroot), "--scenes", SCENE, "--starts", "0.5",
        "--horizon", "5", "--population", "8", "--generations", "2", "--out", str(out), *more,
    ]  # fmt: skip


def test_a_failure_is_written_and_replays(env, town_dataroot: Path, tmp_path: Path, capsys) -> None:
    assert main(command(town_dataroot, tmp_path)) == 0
    report = json.loads((tmp_path / "search.json").read_text())
    (found,) = report["searches"].values()
    assert found["failed"] and found["ended_by"] == "collision" and found["hit"] == "car"
    assert f"collision after {found['seconds']:.1f} s" in capsys.readouterr().out
    scenario = read_scenario(tmp_path / found["scenario"])
    again = drive(env, scenario, LogFollower())
    assert again.ended_by == found["ended_by"] and again.seconds == pytest.approx(found["seconds"], abs=1e-3)


def test_a_search_goes_on_where_it_stopped(town_dataroot: Path, tmp_path: Path, monkeypatch) -> None:
    assert main(command(town_dataroot, tmp_path)) == 0
    before = (tmp_path / "search.json").read_text()
    monkeypatch.setattr("scenarios.search.search", lambda *_: pytest.fail("searched again what was done"))
    assert main(command(town_dataroot, tmp_path)) == 0
    assert (tmp_path / "search.json").read_text() == before


def test_equal_searches_find_the_same_and_more_finds_nothing_harsher(env, scene) -> None:
    first, second = (search(env, LogFollower(), Problem("stalled", scene, 0.5, 5.0, 1), QUICK) for _ in range(2))
    assert first is not None and second is not None and first.scenario == second.scenario
    longer = search(env, LogFollower(), Problem("stalled", scene, 0.5, 5.0, 1), Budget(population=8, generations=4))
    assert longer is not None and longer.severity <= first.severity


def test_a_planner_that_comes_through_everything_has_no_failure(env, scene) -> None:
    class Parked:
        """Never moves, so that nothing is its fault."""

        requires = LogFollower.requires

        def reset(self, context, seed):
            pass

        def plan(self, observation):
            from dist4d_env.planners.contract import Plan

            return Plan(np.zeros((8, 3)))

    trials = []
    assert search(env, Parked(), Problem("jaywalk", scene, 0.5, 5.0, 0), QUICK, trials.append) is None
    assert len(trials) == QUICK.population * QUICK.generations


class Brittle(LogFollower):
    """Raises where somebody stands in the way."""

    def plan(self, observation):
        agents = observation.observation["agents"]
        near = (agents[:, 8] > 0) & (agents[:, 0] > 0) & (agents[:, 0] < 30) & (np.abs(agents[:, 1]) < 1.5)
        if (near & (np.hypot(agents[:, 5], agents[:, 6]) < 0.1)).any():
            raise ValueError("more than I can take")
        return super().plan(observation)


class Broken(LogFollower):
    """Returns no plan."""

    def plan(self, observation):
        return None


def test_a_planner_that_breaks_is_counted_apart(town_dataroot: Path, tmp_path: Path, capsys) -> None:
    planner = f"{__name__}:Brittle"
    assert main([*command(town_dataroot, tmp_path), "--planner", planner]) == 0
    report = json.loads((tmp_path / "search.json").read_text())
    (found,) = report["searches"].values()
    assert found["planner_errors"] > 0 and "ValueError: more than I can take" in found["planner_error"]["error"]
    assert f"the planner itself failed in {found['planner_errors']}" in capsys.readouterr().out
    scenario = read_scenario(tmp_path / found["planner_error"]["scenario"])
    assert scenario.edits and f"breaks-{planner.replace(':', '-')}" in scenario.name
    if found["failed"]:
        assert found["scenario"] != found["planner_error"]["scenario"]


def test_planners_in_folders_far_away_have_files_and_names_of_their_own(scene, tmp_path: Path) -> None:
    trial = Trial(1.0, 1.0, Scenario(SCENE, 0.5, name="stalled-in-the-lane-town-val-0000"), None)
    files, names = set(), set()
    for planner in ("idm", "a/b", "a.b", "a:b", f"runs/{'deep/' * 80}policy", f"runs/{'deep/' * 80}other"):
        given = Namespace(planner=planner, out=tmp_path, traffic="replay")
        file = _write(trial, "fails", "", given, Problem("stalled", scene, 0.5, 5.0, 0))
        files.add(file)
        names.add(read_scenario(tmp_path / file).name)
    assert len(files) == len(names) == 6 and f"idm-stalled-{SCENE}-0.5s.yaml" in files


def test_a_planner_that_breaks_from_the_start_is_one_sentence(town_dataroot: Path, tmp_path: Path, capsys) -> None:
    assert main([*command(town_dataroot, tmp_path), "--planner", f"{__name__}:Broken"]) == 1
    assert "error: the planner itself fails in town-val-0000 as recorded, from 0.5 s on" in capsys.readouterr().err


@pytest.mark.parametrize("family", list(SPACES))
def test_every_family_has_edits_that_can_be_played(env, scene, family: str) -> None:
    trials = []
    try:
        search(env, LogFollower(), Problem(family, scene, 0.5, 5.0, 0), Budget(population=12, generations=1), trials.append)
    finally:
        played = [trial for trial in trials if trial.outcome is not None]
    if family == "crossing" and not played:
        pytest.skip("no lane crosses the short test scene's route")
    assert played and all(trial.severity <= 6.0 for trial in played)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", "9"], "choose another --out"),
        (["--population", "2"], "population must be at least 4"),
        (["--planner", "nobody"], "planner 'nobody' is unknown"),
        (["--planner", "imagine"], "planner 'imagine' needs pictures, and the search drives without any"),
        (["--scenes", "town-val-0077"], "town-val-0077"),
    ],
)
def test_bad_input_is_one_sentence(town_dataroot: Path, tmp_path: Path, capsys, more: list[str], said: str) -> None:
    (tmp_path / "search.json").write_text(json.dumps({"settings": {"planner": "log", "seed": 0}, "searches": {}}))
    assert main([*command(town_dataroot, tmp_path), *more]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and "Traceback" not in error


def test_budgets_are_checked() -> None:
    with pytest.raises(ConfigError, match="elite"):
        Budget(elite=0.9)
