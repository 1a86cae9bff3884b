"""What the comparison of traffic models measures: the built-in town, with its traffic there, one data set at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import realism, traffic_fit
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.simulation.simulator import Simulator
from dist4d_env.town.writer import write_dataset


class Enough(Exception):
    """Raised where a test has seen what it came for."""


@pytest.fixture
def built_in(town_dataroot: Path, tmp_path: Path, monkeypatch) -> Path:
    """The folder that stands for the built-in town, while $NUSCENES names another one."""
    monkeypatch.setattr("dist4d_env.town.cache.ensure_town", lambda *_, **__: town_dataroot)
    monkeypatch.setenv("NUSCENES", str(tmp_path))
    return town_dataroot


def test_the_town_is_the_built_in_one(built_in: Path, monkeypatch) -> None:
    def seen(sets, options, finished):
        assert [scene.dataroot for scene in sets["town"]] == [str(built_in)]
        raise Enough

    monkeypatch.setattr(realism, "score", seen)
    with pytest.raises(Enough):
        realism.main(realism.Options(scenes=1))


def test_traffic_is_fitted_to_the_built_in_town(built_in: Path) -> None:
    with pytest.raises(DataError, match=f"'train' holds no scene of .*{built_in.name}"):  # as its stand-in has val scenes alone
        traffic_fit.main(traffic_fit.Options())


def test_results_of_one_data_set_are_not_taken_for_those_of_another(built_in: Path, tmp_path: Path, monkeypatch) -> None:
    found, second = [], write_dataset(tmp_path / "second", ("train", "val"), 1, duration=1.0, pictures=False, progress=False)

    def seen(sets, options, finished):
        found.append(dict(finished.done))
        finished.add("other/replay/town-val-0000/1", {})
        raise Enough

    monkeypatch.setattr(realism, "score", seen)
    for other, ends in ((None, Enough), (second, ConfigError), (None, Enough)):
        with pytest.raises(ends):
            realism.main(realism.Options(other=other, out=tmp_path / "realism.json"))
    assert [len(done) for done in found] == [0, 1], "what was found on one is there for it alone"


def test_speed_is_measured_while_traffic_is_there(town_dataroot: Path, monkeypatch) -> None:
    town, there = open_dataset(town_dataroot), []
    step = Simulator.step

    def watched(simulator, state, actions):
        after, ticks = step(simulator, state, actions)
        there.append((float(after.time.max()), int(after.agents.valid.sum())))
        return after, ticks

    monkeypatch.setattr(Simulator, "step", watched)
    scenes = [town.load(name) for name in town.scene_names("val")]
    took = realism.seconds(scenes, realism.Options(traffic=("replay", "lanes"), turns=3), 2)
    assert min(took.values()) > 0 and len(there) > 2 * 3 * 5
    assert all(time <= min(scene.duration for scene in scenes) + 1e-6 and agents for time, agents in there)
