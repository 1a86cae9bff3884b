"""Stored episodes that are broken, altered, or of another campaign: refused by name, never scored as they are."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist4d_env.__main__ import main
from dist4d_env.errors import DataError
from dist4d_env.evaluation import cli
from dist4d_env.evaluation.campaign import Campaign, run
from dist4d_env.evaluation.episode_log import EpisodeLog, load_episode, save_episode
from dist4d_env.evaluation.executors import serial
from dist4d_env.evaluation.results import ScoringTask, score_stored, write_results
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite

NAN = float("nan")
ARRAYS: dict[str, tuple[str, Callable[[np.ndarray], Any]]] = {
    "no ego": ("trace/ego", lambda array: None),
    "ego of six columns": ("trace/ego", lambda array: array[:, :6]),
    "ego of fewer rows": ("trace/ego", lambda array: array[:-1]),
    "ego turned": ("trace/ego", lambda array: array.T),
    "ego of truth values": ("trace/ego", lambda array: array != 0),
    "ego of small floats": ("trace/ego", lambda array: array.astype(np.half)),
    "ego nan": ("trace/ego", lambda array: array * NAN),
    "ego light years away": ("trace/ego", lambda array: array * 1e300),
    "recorded ego of fewer rows": ("trace/expert", lambda array: array[:-1]),
    "recorded ego a number": ("trace/expert", lambda array: np.array(3.0)),
    "recorded ego complex": ("trace/expert", lambda array: array.astype(complex)),
    "no times": ("trace/time", lambda array: array[:0]),
    "agents of fewer columns": ("trace/velocity", lambda array: array[..., :1]),
    "agents without steps": ("trace/yaw", lambda array: array[:0]),
    "agents that may exist": ("trace/valid", lambda array: array * 0.5),
    "no categories": ("trace/category", lambda array: array[:0]),
    "unknown categories": ("trace/category", lambda array: array + 99),
    "categories with fractions": ("trace/category", lambda array: array + 0.5),
    "no sizes": ("trace/size", lambda array: array[:0]),
    "endless sizes": ("trace/size", lambda array: array * 1e300),
    "plans at one time": ("plans/step", lambda array: np.array(0)),
    "plans at no time": ("plans/step", lambda array: array * NAN),
    "plans too few": ("plans/step", lambda array: array[:-1]),
    "plans before": ("plans/step", lambda array: array - 9),
    "plans in disorder": ("plans/step", lambda array: array[::-1]),
    "plans complex": ("plans/poses", lambda array: array * 1j),
    "plans as text": ("plans/poses", lambda array: np.array("left")),
}
TEXTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda text: [text],
    "scenario a number": lambda text: text.update(scenario=3),
    "settings a list": lambda text: text.update(settings=[]),
    "steps a text": lambda text: text.update(steps="ten"),
    "a step of None": lambda text: text.update(steps=[None]),
    "reward a text": lambda text: text["steps"][1].update(reward="1"),
    "reward nan": lambda text: text["steps"][1].update(reward=NAN),
    "metrics a number": lambda text: text["steps"][1].update(metrics=3),
    "a metric of 400 digits": lambda text: text["steps"][1]["metrics"].update(route_offset=10**400),
    "source of numbers": lambda text: text["steps"][1].update(source=[1]),
    "outcome None": lambda text: text.update(outcome=None),
    "seed a text": lambda text: text.update(seed="0"),
    "horizon a list": lambda text: text["settings"].update(horizon=[]),
    "horizon of 400 digits": lambda text: text["settings"].update(horizon=10**400),
    "decision_dt 0": lambda text: text.update(decision_dt=0),
    "plans_dt a list": lambda text: text.update(plans_dt=[]),
    "vehicle a text": lambda text: text["vehicle"].update(length="4"),
    "vehicle of nothing": lambda text: text["vehicle"].update(width=0.0),
    "vehicle endless": lambda text: text["vehicle"].update(length=1e308),
    "vehicle nan": lambda text: text["vehicle"].update(rear_axle_to_center=NAN),
    "fingerprint a list": lambda text: text.update(fingerprint=[]),
}


@pytest.fixture
def stored(log: EpisodeLog, tmp_path: Path) -> Path:
    return save_episode(log, tmp_path, "lane")


def refused(path: Path) -> None:
    with pytest.raises(DataError, match="lane") as caught:
        score_stored(ScoringTask(path, None))
    assert len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ARRAYS)
def test_arrays(stored, fault):
    name, change = ARRAYS[fault]
    with np.load(stored.with_suffix(".npz")) as before:
        arrays = {key: before[key] for key in before.files}
    changed = change(arrays.pop(name))
    np.savez(stored.with_suffix(".npz"), **arrays, **({} if changed is None else {name: changed}))
    refused(stored)


@pytest.mark.parametrize("fault", TEXTS)
def test_texts(stored, fault):
    text = json.loads(stored.read_text())
    changed = TEXTS[fault](text)
    stored.write_text(json.dumps(text if changed is None else changed))
    refused(stored)


@pytest.mark.parametrize("place", [0, 40, 0.3, 0.6, 0.9, -30, -3])
def test_damaged_archives(stored, place):
    """Each byte after a place is another, or is gone."""
    path = stored.with_suffix(".npz")
    content = path.read_bytes()
    at = int(place * len(content)) if isinstance(place, float) else place % len(content)
    for damaged in (content[:at], content[:at] + bytes(255 - byte for byte in content[at : at + 50]) + content[at + 50 :]):
        path.write_bytes(damaged)
        refused(stored)


def test_a_new_episode_never_lies_beside_an_old_text(log, stored, monkeypatch):
    """Killed between its two files, an episode is absent."""
    monkeypatch.setattr("dist4d_env.evaluation.episode_log.write_text", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_episode(replace(log, planner="other"), stored.parent, "lane")
    with pytest.raises(DataError, match="no such file"):
        load_episode(stored)


def test_two_drivers_have_no_common_mean(log, tmp_path):
    save_episode(log, tmp_path, "one")
    save_episode(replace(log, planner="other"), tmp_path, "two")
    with pytest.raises(DataError, match="and of planner=other: one mean over both"):
        cli.rescore(tmp_path, None)
    save_episode(replace(log, settings={**log.settings, "traffic": "idm"}), tmp_path, "two")
    with pytest.raises(DataError, match="traffic="):
        cli.rescore(tmp_path, None)
    save_episode(replace(log, decision_dt=1.0), tmp_path, "two")
    with pytest.raises(DataError, match=r"decision_dt=0\.5 and of decision_dt=1\.0"):
        cli.rescore(tmp_path, None)
    save_episode(replace(log, fingerprint={"code": "another"}), tmp_path, "two")
    with pytest.raises(DataError, match="code fingerprint=None and of code fingerprint=another"):
        cli.rescore(tmp_path, None)


def test_scoring_again_tells_what_drove_and_draws_with_the_given_seed(log, tmp_path):
    for seed in range(3):
        save_episode(replace(log, seed=seed, planner="mine:Planner"), tmp_path, str(seed))
    assert main(["evaluate", str(tmp_path), "--seed", "5"]) == 0
    settings = json.loads((tmp_path / "results.json").read_text())["settings"]
    assert settings["planner"] == "mine:Planner" and settings["horizon"] == log.settings["horizon"]
    assert (settings["seed"], settings["form"], settings["folder"]) == (5, "corrected", str(tmp_path))


@pytest.fixture(scope="module")
def campaign(town_dataroot: Path) -> Campaign:
    scenarios = tuple(Scenario("town-val-0000", start, name=f"at-{start:g}", horizon=1.0) for start in (0.0, 1.0))
    return Campaign(("lane",), Suite("small", str(town_dataroot), None, scenarios), seeds=2, apart=False)


@pytest.fixture(scope="module")
def driven(campaign: Campaign, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    assert run(campaign, folder, serial) == 4
    return folder


def rewrite(path: Path, **changes: Any) -> None:
    text = json.loads(path.read_text())
    path.write_text(json.dumps({**text, **changes}))


def renamed(episodes: Path) -> None:
    for ending in (".json", ".npz"):
        shutil.copy(episodes / f"lane__at-0__seed0{ending}", episodes / f"lane__at-0__seed7{ending}")


def of_other_traffic(episodes: Path) -> None:
    path = episodes / "lane__at-0__seed0.json"
    rewrite(path, settings={**json.loads(path.read_text())["settings"], "traffic": "idm"})


MEMBERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "under another name": (renamed, "its name is that of another episode"),
    "of other traffic": (of_other_traffic, "it was driven with traffic='idm', the campaign has 'replay'"),
    "of another rate": (lambda episodes: rewrite(episodes / "lane__at-0__seed0.json", decision_dt=0.1), "decision_dt=0.1"),
    "of another scenario": (
        lambda episodes: rewrite(
            episodes / "lane__at-0__seed0.json", scenario={"name": "at-0", "scene": "town-val-0001", "horizon": 1.0}
        ),
        "it plays another scenario",
    ),
    "begun elsewhere": (
        lambda episodes: rewrite(
            episodes / "lane__at-0__seed0.json", scenario={"name": "at-0", "scene": "town-val-0000", "horizon": 1.0, "start": 3.0}
        ),
        "it plays another scenario",
    ),
    "no text": (lambda episodes: (episodes / "lane__at-0__seed0.json").write_text("[]"), "not a whole episode log"),
}


@pytest.mark.parametrize("fault", MEMBERS)
def test_episodes_from_elsewhere(campaign, driven, tmp_path, fault):
    change, said = MEMBERS[fault]
    folder = Path(shutil.copytree(driven, tmp_path / "copy"))
    change(folder / "episodes")
    with pytest.raises(DataError, match=said):
        write_results(folder)
    with pytest.raises(DataError, match=said):
        run(campaign, folder, serial)


def test_an_episode_that_lost_its_arrays_is_driven_again(campaign, driven, tmp_path):
    folder = Path(shutil.copytree(driven, tmp_path / "copy"))
    (folder / "episodes" / "lane__at-0__seed1.npz").unlink()
    with pytest.raises(DataError, match=r"lane__at-0__seed1.npz: no such file"):
        write_results(folder)
    assert run(campaign, folder, serial) == 1
    assert write_results(folder).standings[0].episodes == 4


READER = "brought_along:Reader"


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that can be imported; the file that it leaves behind where it is."""
    (tmp_path / "modules").mkdir()
    trace = tmp_path / "imported"
    (tmp_path / "modules" / "brought_along.py").write_text(
        f"open({str(trace)!r}, 'w')\nfrom dist4d_env.town.dataset import TownDataset as Reader\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield trace
    sys.modules.pop("brought_along", None)


def naming(episodes: Path) -> None:
    for path in episodes.glob("*.json"):
        rewrite(path, settings={**json.loads(path.read_text())["settings"], "dataset": READER})


@pytest.mark.parametrize("kind", ["loose", "campaign"])
def test_no_episode_has_a_module_imported_by_itself(driven, tmp_path, brought, capsys, kind):
    """A stranger's file may name what is built in or declared by a package, and what the command names."""
    folder = Path(shutil.copytree(driven, tmp_path / "copy"))
    naming(folder / "episodes")
    if kind == "loose":
        folder = folder / "episodes"
    assert main(["evaluate", str(folder)]) == 2
    said = capsys.readouterr().err.strip()
    assert f"dataset '{READER}'" in said and "--allow" in said and "\n" not in said and len(said) - len(str(folder)) < 300
    assert not brought.exists()
    for option in ("--dataset", "--allow"):
        assert main(["evaluate", str(folder), option, READER]) == 0
    assert brought.exists()


def test_no_kept_score_has_a_module_imported_by_itself(driven, tmp_path, brought):
    folder = Path(shutil.copytree(driven, tmp_path / "copy"))
    first = write_results(folder, afresh=False).as_json()
    for path in (folder / "scored").glob("*.json"):
        kept = json.loads(path.read_text())
        path.write_text(json.dumps({**kept, "scored": {**kept["scored"], "dataset": READER}}))
    assert write_results(folder, afresh=False).as_json() == first
    assert not brought.exists(), "scored again instead"


@pytest.mark.parametrize("content", [None, b"", b'{"format": 2'])
def test_what_a_killed_run_was_writing_is_no_episode(campaign, driven, tmp_path, content):
    """Whole or in part under a hidden name: it is neither scored nor in the way of the run that goes on, which removes it."""
    folder = Path(shutil.copytree(driven, tmp_path / "copy"))
    whole = folder / "episodes" / "lane__at-0__seed1.json"
    hidden = whole.with_name(f".{whole.stem}.4711.json")
    hidden.write_bytes(whole.read_bytes() if content is None else content)
    whole.unlink()
    first = write_results(folder).standings[0].episodes
    assert run(campaign, folder, serial) == 1 and not hidden.exists()
    assert (first, write_results(folder).standings[0].episodes) == (3, 4)


@pytest.mark.parametrize("settings", ["[]", "{}", '{"format": 1}', '{"format": 1, "scenarios": [], "common": {}}', "\xff", "NaN"])
def test_broken_settings(campaign, driven, tmp_path, settings):
    folder = Path(shutil.copytree(driven, tmp_path / "copy"))
    (folder / "settings.json").write_text(settings, encoding="latin-1")
    for call in (lambda: write_results(folder), lambda: run(campaign, folder, serial)):
        with pytest.raises(DataError, match=r"settings\.json: not a campaign's settings"):
            call()
