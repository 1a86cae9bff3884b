"""``adapt``: what is held out, one command to weights that drive, and runs that are stopped and go on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.__main__ import main
from dist4d_env.data.open import open_dataset
from dist4d_env.data.validate import SceneCheck, check_scene
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation import adaptation
from dist4d_env.evaluation.adaptation import Options
from dist4d_env.evaluation.held_out import hidden_keyframes, keyframe_at, moving_frames
from dist4d_env.models.pretrained import resolve_weights
from dist4d_env.training.samples import SampleSettings
from dist4d_env.worlds.memory import Memory

SIZE = (64, 112)
STEPS = {"codec": 2, "dist_t": 3, "dist_s": 2}
PARTS = ("codec", "composer", "dist_s", "dist_t")


def test_the_last_keyframes_at_which_the_car_moves_are_held_out(town_dataroot):
    dataset = open_dataset(town_dataroot)
    checks = [check_scene(dataset, name) for name in dataset.names()]
    first, apart = adaptation.hold_out(dataset, checks, SIZE)
    assert list(first) == list(dataset.names()) and apart == (1,)
    for name, keyframe in first.items():
        scene = dataset.load(name)
        moving = moving_frames(Memory.from_log(scene, scene.rig.at_size(*SIZE), 0.0, "log"))
        assert len([k for k in moving if k >= keyframe]) == round(adaptation.HELD_OUT * len(moving))
    for scene, memory, place in hidden_keyframes(dataset, checks, 100, SIZE, first):
        assert keyframe_at(memory, place) >= first[scene.name]
    only = {dataset.names()[1]: 0}
    assert {scene.name for scene, _, _ in hidden_keyframes(dataset, checks, 100, SIZE, only)} == set(only)


def test_where_the_car_stands_nothing_can_be_held_out(town_dataroot, monkeypatch):
    dataset = open_dataset(town_dataroot)
    monkeypatch.setattr("dist4d_env.worlds.hidden.LEAST_SPEED", 100.0)
    with pytest.raises(DataError, match=r"nothing can be held out: .*choose other or longer --scenes"):
        adaptation.hold_out(dataset, [check_scene(dataset, dataset.names()[0])], SIZE)


def test_dense_keyframes_are_taken_apart(kitti_real, monkeypatch):
    """The car stands from frame 54 on: what is held out are the last frames before, and nothing later is trained on."""
    dataset = open_dataset(kitti_real)
    scene = dataset.load("scene-9100")
    monkeypatch.setattr(type(scene.sensors), "has_depth", lambda self, keyframe: True)
    first, apart = adaptation.hold_out(dataset, [SceneCheck("scene-9100", depth=77)], SIZE)
    assert apart == (1, 2, 5) and 36 <= first["scene-9100"] <= 44
    memory = Memory.from_log(scene, scene.rig.at_size(*SIZE), 0.0, "log")
    for gap in (1, 2, 5):
        _, left, place = adaptation.thinned((scene, memory, 43), gap)
        away = [keyframe_at(left, k) - 43 for k in range(len(left.frames))]
        assert away[place] == 0 and min(abs(k) for k in away if k) == gap and len(away) == 77 - 2 * (gap - 1)
    _, left, place = adaptation.thinned((scene, memory, 2), 5)
    assert place > 0, "something before it is left"


def options(town_dataroot: Path, out: Path) -> Options:
    return Options(out, dataroot=town_dataroot, minutes=1, batch=1, town=0, keyframes=2, workers=1, seed=3)


def arguments(asked: Options) -> list[str]:
    given = ("out", "dataroot", "minutes", "batch", "town", "keyframes", "workers", "seed")
    return ["adapt", *(word for name in given for word in (f"--{name}", str(getattr(asked, name))))]


def planned(asked: Options) -> Options:
    """A run whose numbers of steps are known, few ones."""
    adaptation.begin(asked)
    adaptation.write_plan(asked, adaptation.read_plan(asked) | {"steps": STEPS})
    return asked


@pytest.fixture(scope="module")
def whole(town_dataroot, tmp_path_factory):
    """A run that nothing stopped: its options and what it printed."""
    asked = planned(options(town_dataroot, tmp_path_factory.mktemp("adapt") / "whole"))
    code = f"import sys; from dist4d_env.__main__ import main; sys.exit(main({arguments(asked)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return asked, done.stdout


def with_samples_of(made: Options, asked: Options) -> None:
    """Gives a run the samples of another one of the same settings, which it would make too (``training/test_prepare.py``)."""
    shutil.copytree(made.work / "samples", asked.work / "samples")


def weights_of(folder: Path) -> dict[str, bytes]:
    return {
        f"{part}/{name}": (folder / part / name).read_bytes() for part in PARTS for name in ("config.json", "model.safetensors")
    }


@pytest.mark.medium
def test_one_command_prints_what_is_gained_and_its_weights_drive(whole, town_dataroot):
    asked, printed = whole
    for line in ('tiny, before: 2 keyframes held out, memory="log"', 'whole, after: 2 keyframes held out, memory="history"'):
        assert line in printed
    for network in ("DiST-T", "DiST-S"):
        assert f"\n{network}: weights " in printed
    assert printed.count(" over tiny, ") == printed.count(" over splat (before ") == 4
    record = json.loads((asked.out / "adapted.json").read_text())
    assert record["steps"] == STEPS and set(record["held_out"]) == {"town-val-0000", "town-val-0001"}
    assert set(record["kept"]) == set(record["gains"]) == {"DiST-T", "DiST-S"}
    assert {"samples", "training codec", "training dist_t", "training dist_s", "choice"} <= set(record["seconds"])
    env = gym.make("DiST4D-nuScenes-v0", dataroot=str(town_dataroot), scenes="val", weights=str(asked.out), horizon=1.0)
    env.reset(seed=0)
    observation, *_, info = env.step(np.zeros(2, np.float32))
    assert observation["CAM_FRONT"].std() > 5 and set(info["world"]["source"]) <= {"dist_t", "dist_s"}
    env.close()


@pytest.mark.medium
def test_a_third_of_the_steps_is_of_the_town_and_it_is_judged_on_other_streets(whole, town_dataroot, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "TOWN_SECONDS", 4.0)  # as many scenes, which are drawn in half the time
    asked = replace(options(town_dataroot, tmp_path / "out"), town=1)
    with_samples_of(whole[0], asked)
    found = adaptation.gather(asked, resolve_weights("tiny"), print)
    own, again, town = found.stores
    assert own is again and town.settings.held_out == () and town.settings.flawed > 0 == own.settings.flawed
    assert dict(own.settings.held_out) == found.held_out and len(own.scenes) == 2
    assert [path.folder.name for path in town.scenes] == ["town-train-0000"]
    assert {scene.name for scene, _, _ in found.town} == {"town-val-0000", "town-val-0001"} and len(found.hidden) == 2
    assert all(scene.dataroot.endswith("town-1") for scene, _, _ in found.town)


LESS = """
from dist4d_env.evaluation import adaptation
drawn_by = adaptation.drawn_by
adaptation.drawn_by = lambda weights, hidden, size: drawn_by(weights, hidden[:1], size)
"""
"""What is printed before and after compares on one keyframe; what is chosen by stays as it is."""


@pytest.mark.medium
def test_a_killed_run_goes_on_to_the_same_weights(whole, tmp_path, monkeypatch):
    kept = planned(options(whole[0].dataroot, tmp_path / "killed"))
    with_samples_of(whole[0], kept)
    monkeypatch.setattr(adaptation, "drawn_by", adaptation.drawn_by)  # put back afterwards
    exec(LESS, {})
    code = f"{LESS}import sys; from dist4d_env.__main__ import main; sys.exit(main({arguments(kept)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = kept.work / "dist_t" / "tensorboard"
    while not log.exists():
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.02)
    os.kill(process.pid, 9)
    process.wait()
    assert not (kept.out / "dist_t").exists(), "nothing half written"
    assert main(arguments(kept)) == 0
    assert weights_of(kept.out) == weights_of(whole[0].out)


@pytest.mark.medium
def test_another_run_does_not_go_on_in_its_folder(whole, capsys):
    asked, _ = whole
    assert main([*arguments(asked)[:-1], "4"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{asked.out} was begun with seed 3, not 4" in error and "choose another --out" in error


@pytest.mark.parametrize(
    "more, says",
    [
        (["--weights", "splat"], 'weights="splat" is no model'),
        (["--weights", "nowhere"], "no weights at nowhere"),
        (["--minutes", "-1"], "--minutes -1.0: give 0 to 525600"),
        (["--minutes", "nan"], "--minutes nan: give 0 to 525600"),
        (["--minutes", "inf"], "--minutes inf: give 0 to 525600"),
        (["--seed", "-1"], "--seed -1: give 0 to "),
        (["--workers", "0"], "--workers 0: give 1 or more"),
        (["--keyframes", "0"], "--keyframes 0: give 1 or more"),
        (["--learning-rate", "0"], "--learning-rate 0.0: give a number above 0"),
        (["--learning-rate", "inf"], "--learning-rate inf: give a number above 0 and at most 1"),
        (["--dataroot", "/nowhere"], "/nowhere"),
        (["--scenes", "nothing"], "nothing"),
    ],
)
def test_bad_options_are_one_line(more, says, town_dataroot, tmp_path, capsys):
    assert main(["adapt", "--dataroot", str(town_dataroot), "--out", str(tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("dist4d_env adapt: ") and says in error and len(error) < 300
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(town_dataroot, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["adapt", "--dataroot", str(town_dataroot), "--out", str(tmp_path)]) == 2
    assert "holds something else: choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_finished_weights_are_told_from_something_else(town_dataroot, tmp_path, capsys):
    (tmp_path / "adapted.json").write_text("{}")
    assert main(["adapt", "--dataroot", str(town_dataroot), "--out", str(tmp_path)]) == 2
    assert "holds finished weights: choose another --out, or delete it" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"options": {}, "steps": {"codec": 0}}'])
def test_a_broken_plan_is_one_line(text, town_dataroot, tmp_path, capsys):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "plan.json").write_text(text)
    assert main(["adapt", "--dataroot", str(town_dataroot), "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert "plan.json: " in error and error.endswith(f"delete {tmp_path / 'work'} and run adapt again") and "\n" not in error


def test_options_may_change_until_something_is_trained(town_dataroot, tmp_path):
    asked = planned(options(town_dataroot, tmp_path / "out"))
    adaptation.begin(asked)
    assert adaptation.read_plan(asked)["steps"] == STEPS
    other = replace(asked, learning_rate=1e-4)
    adaptation.begin(other)
    assert adaptation.read_plan(other)["steps"] == {}
    (asked.work / "codec").mkdir()
    (asked.work / "codec" / "checkpoint.pt").touch()
    with pytest.raises(ConfigError, match=r"begun with learning_rate 0\.0001, not 0\.0004: .*choose another --out, or delete it"):
        adaptation.begin(asked)


def test_samples_of_other_settings_or_files_are_made_anew_until_something_is_trained(town_dataroot, tmp_path, monkeypatch):
    dataset, out = open_dataset(town_dataroot), options(town_dataroot, tmp_path / "out")
    one, two, *_ = dataset.names()
    made = []
    monkeypatch.setattr(
        "dist4d_env.training.prepare.scene_samples", lambda scene, settings: made.append(scene.name) or {"kind": np.zeros(1)}
    )
    settings = SampleSettings(32, 48)

    def make(*names, settings=settings):
        made.clear()
        adaptation.make_samples(out, dataset, names, out.work / "samples", settings)
        assert {path.name for path in (out.work / "samples").glob("[!.]*") if path.is_dir()} == set(names)
        return made

    assert make(one, two) == [one, two] and make(one, two) == []
    assert make(one, settings=replace(settings, seed=1)) == [one]
    assert make(one, two) == [one, two]
    changed = type(dataset.load(one).sensors)
    monkeypatch.setattr(changed, "stamps", lambda self: iter([("depth.png", 1, int(self.scene == two))]))
    assert make(one, two) == [one, two] and make(one, two) == []
    monkeypatch.setattr(changed, "stamps", lambda self: iter([("depth.png", 1, 0)]))
    assert make(one, two) == [two]
    (out.work / "codec").mkdir()
    (out.work / "codec" / "checkpoint.pt").touch()
    monkeypatch.setattr(changed, "stamps", lambda self: iter([("depth.png", 2, 0)]))
    for other in (settings, replace(settings, seed=1)):
        with pytest.raises(ConfigError, match=r"has changed since .* was begun: choose another --out, or delete"):
            make(one, two, settings=other)


def test_a_broken_scene_is_named_once(town_dataroot, monkeypatch):
    dataset = open_dataset(town_dataroot)
    name = dataset.names()[0]
    broken = SceneCheck(name, broken=(f"{name}: map.json: not valid JSON; fetch the metadata again",))
    monkeypatch.setattr(adaptation, "check_scene", lambda dataset, name: broken)
    with pytest.raises(DataError) as told:
        adaptation.usable(dataset, [name], print)
    words = "map.json: not valid JSON; fetch the metadata again; else leave the scene out of --scenes"
    assert str(told.value) == f"scene {name}: {words}"


def test_models_that_are_not_trained_come_along(tmp_path):
    start, out = tmp_path / "start", tmp_path / "out"
    for model in (start / "signals", start / "dist_s", out / "dist_s"):
        model.mkdir(parents=True)
        (model / "config.json").write_text(model.parent.name)
    (start / "samples").mkdir()
    adaptation.carry_along(start, out)
    assert {path.parent.name: path.read_text() for path in out.rglob("config.json")} == {"signals": "start", "dist_s": "out"}
    assert not (out / "samples").exists()


def test_images_without_depth_are_one_line(broken_root, tmp_path, capsys):
    assert main(["adapt", "--dataroot", str(broken_root), "--scenes", "scene-0103", "--out", str(tmp_path / "out")]) == 2
    assert "nothing to compare on" in capsys.readouterr().err.strip().splitlines()[-1]
