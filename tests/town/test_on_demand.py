"""The cached town draws a scene's pictures when they are first asked for: the same files as written at once, whole, once."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.__main__ import main
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.town import cache, dataset, workers, writer
from dist4d_env.town.dataset import TownDataset, draw_missing
from dist4d_env.town.writer import write_dataset

OPTIONS = {"size": (32, 48), "duration": 1.5, "progress": False}
LOOK = (
    "import sys; from dist4d_env import progress; from dist4d_env.data.open import open_dataset; progress.SOON = 0.01; "
    "open_dataset(sys.argv[1]).load('town-val-0001').sensors.rgb(0, 32, 48)"
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes without pictures, never looked at."""
    return write_dataset(tmp_path_factory.mktemp("bare") / "town", "val", 2, **OPTIONS, on_demand=True)


@pytest.fixture
def root(bare: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bare, tmp_path / "town"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first scene with its pictures, written at once."""
    return write_dataset(tmp_path_factory.mktemp("whole") / "town", "val", 1, **OPTIONS)


def pictures(root: Path) -> dict[str, bytes]:
    """What lies where the sensor files belong."""
    folders = [root / name for name in ("samples", "sweeps", "depth", "semantics")]
    return {str(f.relative_to(root)): f.read_bytes() for folder in folders for f in folder.rglob("*") if f.is_file()}


@pytest.mark.medium
@pytest.mark.parametrize("cores", [1, 3])
def test_a_look_draws_that_scene_alone_as_it_would_have_been_written(
    root: Path, whole: Path, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "cores", lambda: cores)
    monkeypatch.setattr(workers, "cores", lambda: cores)
    opened = open_dataset(root)
    scene = opened.load("town-val-0000")
    assert isinstance(opened, TownDataset) and opened.load("town-val-0000") is scene
    assert all(scene.sensors.has_images(k) and scene.sensors.has_depth(k) and scene.sensors.has_lidar(k) for k in range(4))
    assert not pictures(root)
    pickle.loads(pickle.dumps(scene)).sensors.rgbd(1, 32, 48)
    assert pictures(root) == pictures(whole)
    stamps = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert len(scene.sensors.lidar(2).points) and len(scene.sensors.sweeps(1, 1, 1)) == 3
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == stamps


@pytest.mark.parametrize("look", ["lidar", "sweeps", "image_path", "depth"])
def test_every_kind_of_file_is_there_when_it_is_asked_for(
    root: Path, whole: Path, look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(folder: Path, names: tuple[str, ...]) -> None:
        assert names == ("town-val-0000",)
        for name in ("samples", "depth"):
            shutil.copytree(whole / name, folder / name, dirs_exist_ok=True)

    monkeypatch.setattr(dataset, "draw_missing", draw)
    sensors = open_dataset(root).load("town-val-0000").sensors
    with pytest.raises(DataError, match="no keyframe 4"):
        sensors.has_images(4)
    asked = {"lidar": (0,), "sweeps": (0, 0, 1), "image_path": (0, 1), "depth": (0, 32, 48)}[look]
    found = getattr(sensors, look)(*asked)
    assert found.is_file() if look == "image_path" else len(found) if look in ("sweeps", "depth") else len(found.points)


@pytest.mark.parametrize(("world", "drawn"), [("none", 0), ("oracle", 0), ("replay", 1), ("splat", 1)])
def test_worlds_draw_no_scene_but_the_one_that_they_show_recorded_pictures_of(
    root: Path, world: str, drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (dataset, workers):
        monkeypatch.setattr(module, "cores", lambda: 1)  # each process would build the streets for itself
    env = gym.make("DiST4D-nuScenes-v0", dataroot=root, world=world, size=(64, 112), horizon=1.0)
    env.reset(seed=0, options={"scene": "town-val-0001"})
    env.step(env.action_space.sample())
    env.close()
    assert sorted(path.name for path in (root / ".pictures").glob("town*")) == ["town-val-0001"] * drawn
    assert all("town-val-0001" in name for name in pictures(root)) and bool(pictures(root)) == bool(drawn)


def look(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", LOOK, str(root)], stdout=-1, stderr=-1, text=True)


@pytest.mark.medium
def test_a_killed_process_leaves_no_half_scene_and_two_at_once_draw_it_once(root: Path) -> None:
    killed = look(root)
    while not list((root / ".pictures").glob(".partial/samples/*/*")) and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert not pictures(root) and not list((root / ".pictures").glob("town*"))
    both = [look(root) for _ in range(2)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("keyframe" in err for _, err in said) == 1  # one progress bar: the other waited
    assert len(pictures(root)) == 4 * 13 and os.listdir(root / ".pictures").count("town-val-0001") == 1


def test_a_disk_that_refuses_and_another_generator_are_one_clear_error(root: Path) -> None:
    sensors = open_dataset(root).load("town-val-0000").sensors
    (root / ".pictures" / ".partial").write_text("in the way")
    with pytest.raises(DataError, match="pictures of town-val-0000 could not be drawn in") as refused:
        sensors.rgb(0, 32, 48)
    assert len(str(refused.value)) < 300 + len(str(root)) and not (root / ".pictures" / "town-val-0000").exists()
    (root / ".pictures" / ".partial").unlink()
    record = json.loads((root / "town.json").read_text())
    (root / "town.json").write_text(json.dumps({**record, "generator_version": -1}))
    with pytest.raises(DataError, match="version -1 of the town generator"):
        sensors.rgb(0, 32, 48)
    (root / "town.json").write_text(json.dumps({key: value for key, value in record.items() if key != "size"}))
    with pytest.raises(DataError, match=r"town\.json cannot be read"):
        sensors.rgb(0, 32, 48)


@pytest.mark.medium
def test_the_built_in_town_is_made_without_pictures_and_the_command_draws_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writer, "DEFAULT_COUNT", {"val": 2})
    monkeypatch.setattr(cache.ensure_town, "__defaults__", ("val", (32, 48), 0, None, 1.0))
    monkeypatch.setattr(cache.town_folder, "__defaults__", ("val", (32, 48), 0, None, 1.0))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NUSCENES", raising=False)
    env = gym.make("DiST4D-nuScenes-v0", world="none", decision_dt=0.1, horizon=0.5)
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"ego", "route", "agents"} and np.isfinite(observation["ego"]).all()
    folder = Path(env.unwrapped.dataset.dataroot)
    env.close()
    assert tmp_path in folder.parents and not pictures(folder)
    assert main(["town"]) == 0 and capsys.readouterr().out.strip() == f"town: {folder}"
    assert len(pictures(folder)) == 2 * 3 * 13
    assert sorted(path.name for path in (folder / ".pictures").glob("town*")) == ["town-val-0000", "town-val-0001"]
    draw_missing(folder)  # nothing is left to draw
