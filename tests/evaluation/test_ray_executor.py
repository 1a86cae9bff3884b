"""Campaigns over Ray: the same episodes as in one process, and the errors as they were raised."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
import tyro

pytest.importorskip("ray")
from benchmarks import planning
from dist4d_env.__main__ import main
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.campaign import Campaign, run
from dist4d_env.evaluation.executors import WorkerDied, executor
from dist4d_env.evaluation.results import write_results
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite, write_suite
from tests.raying import die, fail, linger, raise_unsendable, small_ray

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def cluster():
    with small_ray():
        yield


@pytest.fixture
def campaign(town_dataroot):
    scenarios = (
        Scenario("town-val-0000", name="as-logged", family="nominal", difficulty="easy", horizon=2.0),
        Scenario(
            "town-val-0001", name="parked", family="blocked", difficulty="hard", horizon=2.0,
            edits=(Insert("car", ahead=30.0),),
        ),
    )  # fmt: skip
    return Campaign(("lane", "log"), Suite("two", str(town_dataroot), None, scenarios), seeds=2)


def test_ray_drives_the_same_episodes(cluster, campaign, tmp_path):
    assert run(campaign, tmp_path / "ray", execute=executor(2, ray=True)) == 8
    assert run(campaign, tmp_path / "ray", execute=executor(2, ray=True)) == 0
    assert run(campaign, tmp_path / "here", execute=executor(0)) == 8
    for path in sorted((tmp_path / "here" / "episodes").glob("*.npz")):
        with np.load(path) as here, np.load(tmp_path / "ray" / "episodes" / path.name) as there:
            assert here.files == there.files
            for name in here.files:
                if "timing" not in name:
                    assert np.array_equal(here[name], there[name]), (path.name, name)
    boards = [
        write_results(tmp_path / "here", execute=executor(0)),
        write_results(tmp_path / "ray", execute=executor(2, ray=True)),
    ]
    assert boards[0].markdown() == boards[1].markdown()


def test_errors_are_those_of_the_work(cluster):
    with pytest.raises(ConfigError, match=r"^task 2 cannot be done$"):
        list(executor(2, ray=True)(fail, [0, 1, 2, 3]))
    assert sorted(executor(2, ray=True)(fail, [0, 1, 3])) == [0, 1, 3]


def test_who_stops_looking_waits_for_nobody(cluster):
    results = executor(2, ray=True)(linger, [0.0, 600.0])
    assert next(results) == 0.0
    results.close()


def test_what_a_killed_worker_was_doing_is_done_again(cluster, campaign, tmp_path, capfd):
    """A worker is killed in each of two episodes of one campaign; nothing is lost, and nothing is there twice."""
    deaths = tmp_path / "deaths"
    deaths.mkdir()

    def dying(work, tasks):
        return executor(2, ray=True)(partial(die, deaths, 2, work), tasks)

    assert run(campaign, tmp_path / "run", execute=dying) == 8
    assert len(list(deaths.iterdir())) == 2 and len(list((tmp_path / "run" / "episodes").glob("*.json"))) == 8
    assert capfd.readouterr().err.count("a Ray worker died (WorkerCrashedError): its task is begun again") == 2


def test_who_dies_every_time_stops_the_run_with_one_line(cluster, campaign, tmp_path):
    """And the same command goes on: only what is missing is driven."""
    deaths = tmp_path / "deaths"
    deaths.mkdir()

    def one_dies(work, tasks):
        done = executor(0)(work, tasks[:3])
        yield from done
        yield from executor(1, ray=True)(partial(die, deaths, 99, work), tasks[3:])

    with pytest.raises(WorkerDied, match=r"died at the same task 3 times .*: run the same command again") as told:
        run(campaign, tmp_path / "run", execute=one_dies)
    assert "\n" not in str(told.value) and len(list(deaths.iterdir())) == 3
    assert run(campaign, tmp_path / "run", execute=executor(1, ray=True)) == 5


def test_other_trouble_of_ray_is_one_line_too(cluster):
    with pytest.raises(WorkerDied, match="Ray could not do a task") as told:
        list(executor(1, ray=True)(raise_unsendable, [1]))
    assert "\n" not in str(told.value)


def test_commands_work_over_ray(campaign, monkeypatch, tmp_path, capsys):
    """A cluster that is not there is named by who would join it: the benchmark, and evaluate."""
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    write_suite(tmp_path / "two.yaml", campaign.suite)
    words = ["--planner", "lane", "--suite", str(tmp_path / "two.yaml"), "--out", str(tmp_path / "out"), "--ray"]
    says = r"Ray cluster of \$RAY_ADDRESS=nonsense cannot be joined .*unset RAY_ADDRESS"
    with pytest.raises(ConfigError, match=says):
        planning.main(tyro.cli(planning.Options, args=words))
    assert main(["evaluate", *words, "--out", str(tmp_path / "other")]) == 2
    assert re.search(says, capsys.readouterr().err.strip().splitlines()[-1])
