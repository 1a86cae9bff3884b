"""The suites that come with the repository: what they promise, and that every scenario of the town can be played."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dist4d_env.data.open import open_dataset
from dist4d_env.planners.log_follower import LogFollower
from dist4d_env.scenes.edits_apply import apply_all
from dist4d_env.scenes.scenario import DIFFICULTIES
from dist4d_env.scenes.suites import Suite, read_suite
from dist4d_env.town.writer import write_dataset
from scenarios.describe import table
from scenarios.making import COMMENT, SCALES
from scenarios.measures import Window, edited_tracks, overlapping
from scenarios.playing import drive, make_env

FOLDER = Path(__file__).resolve().parents[2] / "dist4d_env" / "suites"
NAMES = ("town_val", "town_test", "nuscenes", "safety_critical")


def suite(name: str) -> Suite:
    return read_suite(FOLDER / f"{name}.yaml")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tables and maps of the built-in val town, for whose scenes the suites are written."""
    return str(write_dataset(tmp_path_factory.mktemp("suites") / "town", "val", on_demand=True))


@pytest.mark.parametrize("name", NAMES)
def test_difficulties_follow_from_what_was_measured(name: str) -> None:
    measured = json.loads((FOLDER / f"{name}_measured.json").read_text())
    scenarios = suite(name).scenarios
    assert set(measured) == {scenario.name for scenario in scenarios}
    for scenario in scenarios:
        about = measured[scenario.name]
        scale = SCALES[scenario.family]
        assert about["unit"] == scale.unit
        near = {scale.difficulty(about["measured"] + shift) for shift in (-0.006, 0.0, 0.006)}  # two decimals are kept
        assert scenario.difficulty in near
        assert "horizon" in about["outcomes"].values()


@pytest.mark.parametrize("name", NAMES)
def test_files_begin_as_their_generator_writes_them(name: str) -> None:
    lines = COMMENT.format(suite=name).splitlines()
    assert (FOLDER / f"{name}.yaml").read_text().splitlines()[: len(lines)] == [f"# {line}" for line in lines]


@pytest.mark.parametrize(("name", "scenes"), [("town_val", 8), ("town_test", 24)])
def test_the_town_suites_are_large_and_graded(name: str, scenes: int) -> None:
    scenarios = suite(name).scenarios
    families = Counter(scenario.family for scenario in scenarios)
    assert len(scenarios) >= 60 and len(families) >= 8
    for family in families:
        assert {s.difficulty for s in scenarios if s.family == family} == set(DIFFICULTIES)
    assert len({scenario.scene for scenario in scenarios}) == scenes
    assert all(8.0 <= (scenario.horizon or 0) <= 12.0 for scenario in scenarios)


def test_the_safety_critical_suite_has_the_three_families() -> None:
    assert {s.family for s in suite("safety_critical").scenarios} == {"stationary", "frontal", "side"}
    assert {s.family for s in suite("nuscenes").scenarios} == {"recorded", "perturbed_start"}


@pytest.mark.medium
@pytest.mark.parametrize("name", ["town_val", "safety_critical"])
def test_every_scenario_fits_its_scene(town: str, name: str) -> None:
    """Edits apply, meet nobody else's path, and nothing touches the ego at the start."""
    dataset = open_dataset(town)
    for scenario in suite(name).scenarios:
        scene = apply_all(scenario.edits, dataset.load(scenario.scene), scenario.start)
        window = Window.of(scene, scenario.start, scenario.horizon or 0.0)
        assert overlapping(scene, window) is None, scenario.name
        assert not scenario.edits or len(edited_tracks(scene)), scenario.name


@pytest.mark.medium
def test_one_scenario_of_each_family_plays_as_it_was_measured(town: str) -> None:
    measured = json.loads((FOLDER / "town_val_measured.json").read_text())
    env = make_env(town, None)
    seen = set()
    for scenario in suite("town_val").scenarios:
        if scenario.family not in seen:
            seen.add(scenario.family)
            outcome = drive(env, scenario, LogFollower())
            assert not outcome.bad_start and outcome.ended_by == measured[scenario.name]["outcomes"]["log"], scenario.name
    env.close()


def test_the_real_drives_are_played_without_a_collision(nuscenes_real: Path) -> None:
    env = make_env(str(nuscenes_real), None, "all")
    replayed = [s for s in suite("nuscenes").scenarios if s.family == "recorded" and s.traffic == "replay"]
    assert len(replayed) == 5
    for scenario in replayed:
        outcome = drive(env, scenario, LogFollower())
        assert outcome.ended_by == "horizon" and not outcome.bad_start, scenario.name
        assert np.isfinite(outcome.trace.ego).all()
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_tables_of_the_suites(name: str) -> None:
    assert table(FOLDER / f"{name}.yaml") in (FOLDER.parents[1] / "docs" / "scenarios.md").read_text()
