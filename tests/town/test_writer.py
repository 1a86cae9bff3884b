"""Writing: the same bits however many workers, whole or not at all, once for all who ask, one clear error for bad options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dist4d_env.__main__ import main
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.town.cache import default_dataroot, split_of, town_folder
from dist4d_env.town.generate import VERSION
from dist4d_env.town.writer import write_dataset
from town.conftest import SIZE

ASK = (
    "from dist4d_env import progress; from dist4d_env.town.cache import ensure_town; progress.SOON = 0.01; "
    "print(ensure_town('test', (16, 28), count=1, duration=0.5))"
)


@pytest.mark.medium
def test_two_workers_write_what_one_writes(written: Path, tmp_path: Path) -> None:
    """Scene 0 beside another scene, in helper processes, without sweeps, shorter: the same files and rows as alone."""
    place = write_dataset(tmp_path / "two", "val", 2, SIZE, duration=0.5, workers=2, progress=False)
    scenes = json.loads((place / "town.json").read_text())["scenes"]
    assert list(scenes) == ["town-val-0000", "town-val-0001"]
    files = [path.relative_to(place) for path in place.rglob("town-val-0000*") if "traffic_lights" not in path.parts]
    assert len(files) == 2 * (6 + 6 + 1)  # two keyframes: images, depth, LiDAR
    for path in files:
        assert (place / path).read_bytes() == (written / path).read_bytes(), path
    for table in ("sample", "sample_annotation", "ego_pose", "sample_data"):
        alone = {row["token"]: row for row in json.loads((written / "v1.0-town" / f"{table}.json").read_text())}
        mine = [row for row in json.loads((place / "v1.0-town" / f"{table}.json").read_text()) if row["token"] in alone]
        assert len(mine) >= 2
        for row in mine:
            for key in set(row) - {"prev", "next"}:  # those depend on how much is stored
                assert row[key] == alone[row["token"]][key]
    assert open_dataset(place).scene_names("val") == ["town-val-0000", "town-val-0001"]


def ask(cache: Path) -> subprocess.Popen[str]:
    """Another process that wants the same small town from the user's cache folder."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", ASK], env=environment, stdout=-1, stderr=-1, text=True)


@pytest.mark.medium
def test_the_cache_survives_a_killed_process_and_makes_a_town_once_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = town_folder("test", (16, 28), count=1, duration=0.5)
    assert tmp_path in folder.parents and f"v{VERSION}-test-16x28-seed0" in folder.name
    killed = ask(tmp_path)
    partial = folder.parent / f".{folder.name}.partial"
    while not partial.exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert partial.is_dir() and not folder.exists()

    both = [ask(tmp_path) for _ in range(2)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [out.strip().splitlines()[-1] for out, _ in said] == [str(folder)] * 2
    assert sum("keyframe" in err for _, err in said) == 1  # one progress bar: the other waited
    assert len(open_dataset(folder).load("town-test-0000").sensors.keyframe_time) == 2
    assert not partial.exists()


def test_every_option_of_the_cache_has_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = {
        town_folder(), town_folder("train"), town_folder(size=(64, 112)), town_folder(seed=1), town_folder(count=1),
        town_folder(duration=2.0),
    }  # fmt: skip
    assert len(folders) == 6


def test_a_failed_call_leaves_nothing_that_counts(tmp_path: Path) -> None:
    """The disk refuses: here a file lies where the rows of finished scenes go."""
    out = tmp_path / "town"
    with pytest.raises(ConfigError):
        write_dataset(out, "val", 1, SIZE, duration=0.3)
    partial = tmp_path / ".town.partial"
    plan = {
        "generator_version": VERSION, "seed": 0, "jobs": [("val", 0)],
        "options": {"size": SIZE, "sweeps": False, "duration": 0.5, "semantics": False, "pictures": True, "rate": 2,
                    "on_demand": False, "looks": "plain", "cameras": 6},
    }  # fmt: skip
    partial.mkdir()
    (partial / ".plan").write_text(json.dumps(plan, sort_keys=True))
    (partial / ".rows").write_text("")
    with pytest.raises(OSError, match="rows"):
        write_dataset(out, "val", 1, SIZE, duration=0.5, progress=False)
    assert not out.exists()
    with pytest.raises(DataError, match="town"):
        open_dataset(out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "big"], "'big' is not of the form HEIGHTxWIDTH"),
        (["--size", "8x14"], "8 x 14 cannot be rendered: choose sides between 16 and 1600"),
        (["--scenes", "0"], "at least one scene"),
        (["--scenes", "129"], "the town's split 'val' has at most 128 scenes, not 129"),
        (["--scenes", "129", "--split", "all"], "the town's split 'val' has at most 128 scenes, not 129"),
        (["--duration", "0.7"], "cannot last 0.7 s: choose a multiple of 0.5 s up to 60 s"),
        (["--no-pictures", "--semantics"], "class images are pictures"),
        (["--looks", "wild", "--cameras", "9"], "9 cameras are not possible: wild rigs have 1 to 8"),
        (["--seed", "-1"], "--seed -1: give 0 or more"),
        (["--workers", "0"], "--workers 0: give 1 or more"),
        (["--cameras", "4"], "4 cameras are not possible: wild rigs have 1 to 8, plain ones 6"),
    ],
)
def test_bad_options_are_one_clear_error(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["town", "--out", str(tmp_path / "town"), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "town").exists()


def test_an_existing_folder_an_unknown_split_and_the_cache_with_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    assert main(["town", "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} already exists: choose another folder" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "precious"
    with pytest.raises(SystemExit) as stop:
        main(["town", "--split", "mini", "--out", str(tmp_path / "new")])
    assert stop.value.code == 2 and "mini" in capsys.readouterr().err
    assert main(["town", "--size", "64x112"]) == 2
    assert "name a folder with --out" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no split 'mini'"):
        write_dataset(tmp_path / "new", "mini")


@pytest.mark.parametrize(
    ("scenes", "split"),
    [
        ("val", "val"),
        ("train", "train"),
        ("town-test-0003", "test"),
        (("town-train-0001", "train"), "train"),
        ("all", "val"),
        ("x", "val"),
    ],
)
def test_scene_names_tell_which_split_to_make(scenes, split):
    assert split_of(scenes) == split


def test_a_cached_town_holds_one_split():
    with pytest.raises(ConfigError, match="train, val cannot be mixed"):
        split_of(("train", "town-val-0000"))


def test_scenes_beyond_the_usual_ones_make_a_larger_town(monkeypatch):
    asked = []
    monkeypatch.setattr("dist4d_env.town.cache.ensure_town", lambda *given, count=None: asked.append(count))
    for scenes in ("val", "town-test-0007", ("town-test-0002", "town-test-0008"), "town-test-0023", "town-train-0511"):
        default_dataroot(scenes)
    assert asked == [None, None, 16, 24, 512]


def test_scenes_that_no_town_holds_are_refused_before_one_is_made(monkeypatch):
    monkeypatch.setattr("dist4d_env.town.cache.ensure_town", lambda *given, count=None: pytest.fail("made a town"))
    with pytest.raises(ConfigError, match="split 'val' of the town has scenes 0 to 127, not 128"):
        default_dataroot(("town-val-0000", "town-val-0128"))
