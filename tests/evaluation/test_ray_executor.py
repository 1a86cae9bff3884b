"""Campaigns over Ray: the same episodes as in one process, and the errors as they were raised."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ray")
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.campaign import Campaign, run
from dist4d_env.evaluation.executors import executor
from dist4d_env.evaluation.results import write_results
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite
from tests.raying import fail, linger, small_ray


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
    assert run(campaign, tmp_path / "ray", execute=executor(2, "ray")) == 8
    assert run(campaign, tmp_path / "ray", execute=executor(2, "ray")) == 0
    assert run(campaign, tmp_path / "here", execute=executor(0)) == 8
    for path in sorted((tmp_path / "here" / "episodes").glob("*.npz")):
        with np.load(path) as here, np.load(tmp_path / "ray" / "episodes" / path.name) as there:
            assert here.files == there.files
            for name in here.files:
                if "timing" not in name:
                    assert np.array_equal(here[name], there[name]), (path.name, name)
    boards = [write_results(tmp_path / "here", execute=executor(0)), write_results(tmp_path / "ray", execute=executor(2, "ray"))]
    assert boards[0].markdown() == boards[1].markdown()


def test_errors_are_those_of_the_work(cluster):
    with pytest.raises(ConfigError, match=r"^task 2 cannot be done$"):
        list(executor(2, "ray")(fail, [0, 1, 2, 3]))
    assert sorted(executor(2, "ray")(fail, [0, 1, 3])) == [0, 1, 3]


def test_who_stops_looking_waits_for_nobody(cluster):
    results = executor(2, "ray")(linger, [0.0, 600.0])
    assert next(results) == 0.0
    results.close()
