"""``evaluate`` and ``validate`` as a user runs them."""

from __future__ import annotations

import json
import shutil

import pytest

from dist4d_env.__main__ import VERBS, main
from dist4d_env.envs.config import check_size
from dist4d_env.errors import ConfigError
from dist4d_env.models.pretrained import SHIPPED
from dist4d_env.planners.constant_velocity import ConstantVelocity
from dist4d_env.planners.contract import PlannerNeeds


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert "options" in capsys.readouterr().out


def test_evaluate_drives_stores_and_scores_again(town_dataroot, tmp_path, capsys):
    place = ["--dataroot", str(town_dataroot), "--scenes", "town-val-0000"]
    out = ["--episodes", "2", "--horizon", "2", "--report", "--out", str(tmp_path / "first")]
    assert main(["evaluate", *place, *out]) == 0
    printed = capsys.readouterr().out
    assert "2 episodes; ended by: horizon 2" in printed and "pdms v1" in printed
    results = json.loads((tmp_path / "first" / "results.json").read_text())
    assert [episode["seed"] for episode in results["episodes"]] == [0, 1]
    assert len(list((tmp_path / "first" / "reports").glob("*.html"))) == 2
    assert main(["evaluate", str(tmp_path / "first"), "--out", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again["episodes"] == results["episodes"] and again["metrics"] == results["metrics"]


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--planner", "nope"], "planner 'nope' is unknown"),
        (["--planner", "no_such_module:P"], "cannot be imported"),
        (["--planner", "dist4d_env.planners.contract:Plan"], "cannot be made: it needs trajectory"),
        (["--planner", "collections:OrderedDict"], "has no requires, reset, plan"),
        (["--scenes", "moon"], "moon"),
        (["--workers", "-1"], "--workers -1: give 0 or more"),
        (["--two-stage", "--seed", "-1"], "--seed -1: give 0 or more"),
        (
            ["--suite", "moon"],
            "suite 'moon' is neither a file nor one of the package's: nuscenes, safety_critical, town_test, town_val",
        ),
        (["nowhere"], "no stored episodes"),
        (["--seeds", "3"], "--seeds says nothing without --suite: leave it out"),
        (["--workers", "4"], "--workers 4: only a --suite is driven over several processes"),
        (["--suite", "town_val", "--episodes", "7"], "--episodes says nothing with --suite"),
        (["--suite", "town_val", "--report"], "--report says nothing with --suite"),
        (["--allow", "a:B"], "--allow says nothing without --suite"),
        (["somewhere", "--planner", "idm"], "--planner says nothing with a FOLDER"),
        (["somewhere", "--version", "v1.0"], "--version says nothing with a FOLDER"),
        (["somewhere", "--ray"], "--ray says nothing with a FOLDER of episodes"),
        (["--two-stage", "--only", "x"], "--only says nothing with --two-stage"),
        (["--realism", "2", "--form", "faithful"], "--form says nothing with --realism"),
        (["--size", "96"], "image size '96' is not of the form HEIGHTxWIDTH"),
        (["--suite", "town_val", "--size", "96"], "image size '96' is not of the form HEIGHTxWIDTH"),
    ],
)
def test_evaluate_names_what_is_wrong(arguments, says, town_dataroot, tmp_path, capsys):
    assert main(["evaluate", "--dataroot", str(town_dataroot), "--out", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and len(error.splitlines()) == 1


def test_pictures_of_any_size_reach_the_planner(town_dataroot, tmp_path):
    out = ["--world", "replay", "--size", "96x160", "--horizon", "1", "--workers", "0", "--out", str(tmp_path)]
    place = ["--dataroot", str(town_dataroot), "--scenes", "town-val-0000", "--planner", f"{__name__}:Looking"]
    assert main(["evaluate", *place, *out]) == 0
    log = json.loads(next((tmp_path / "episodes").glob("*.json")).read_text())
    assert log["outcome"] == "horizon" and log["settings"]["size"] == "96x160"


class Looking(ConstantVelocity):
    """Refuses pictures of another size than 96 x 160."""

    requires = PlannerNeeds(cameras=True)

    def plan(self, observation):
        assert observation.observation["CAM_FRONT"].shape == (96, 160, 3)
        return super().plan(observation)


@pytest.mark.parametrize("verb", ["demo", "evaluate", "suite", "two-stage"])
def test_sizes_that_cannot_be_drawn_are_refused_before_any_data_is_opened(verb, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dist4d_env.data.open.open_dataset", lambda *arguments, **keywords: pytest.fail("data was opened"))
    more = {"suite": ["--suite", "town_val"], "two-stage": ["--two-stage"]}.get(verb, [])
    for size in ("100x200", "32x48"):
        given = ["--world", "dist4d", "--size", size, "--out", str(tmp_path), *more]
        assert main(["demo" if verb == "demo" else "evaluate", *given]) == 2
        assert "cannot be drawn with weights='tiny'" in capsys.readouterr().err


def test_sizes_that_weights_are_made_for_can_be_drawn(tmp_path):
    """Of whatever multiple, as the environment has it."""
    shutil.copytree(SHIPPED / "tiny", tmp_path / "mine")
    config = tmp_path / "mine" / "dist_t" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "image_size": [72, 120]}))
    check_size("dist4d", str(tmp_path / "mine"), (72, 120))
    check_size("dist4d", "splat", (72, 120))
    check_size("replay", "tiny", (72, 120))
    with pytest.raises(ConfigError, match="multiples of 16"):
        check_size("dist4d", str(tmp_path / "mine"), (72, 128))


def test_evaluate_refuses_unknown_worlds(capsys):
    assert main(["evaluate", "--world", "moon"]) == 2
    assert "world 'moon' is unknown" in capsys.readouterr().err


def test_validate_says_what_can_be_used(town_dataroot, capsys):
    assert main(["validate", "--dataroot", str(town_dataroot), "--images"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("2 scenes")
    assert lines[2].split()[:7] == ["town-val-0000", "6.0", lines[2].split()[2], "13", "13", "13", "13"]
    assert lines[2].endswith("all worlds")


def test_validate_without_lidar_does_not_advise_to_prepare(town_dataroot, tmp_path, capsys):
    bare = tmp_path / "town"
    shutil.copytree(town_dataroot, bare)
    for folder in ("samples/LIDAR_TOP", "sweeps", "depth"):
        shutil.rmtree(bare / folder, ignore_errors=True)
    assert main(["validate", "--dataroot", str(bare)]) == 0
    printed = capsys.readouterr().out
    assert "no LiDAR to make it from" in printed and "prepare" not in printed
    assert main(["validate", "--dataroot", str(bare), "--keyframes", "4"]) == 2
    assert capsys.readouterr().err.endswith("--keyframes 4 says how worlds are compared: give --worlds, too\n")


def test_validate_says_when_depth_is_not_where_it_is_said_to_be(town_dataroot, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIST4D_DEPTH", str(tmp_path / "misspelt"))
    assert main(["validate", "--dataroot", str(town_dataroot)]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(f"$DIST4D_DEPTH is {tmp_path / 'misspelt'}, which has no {town_dataroot.name}-")
    assert f"depth is looked for in {town_dataroot / 'depth'} and " in said


def test_validate_of_a_real_data_set_tells_what_is_missing(nuscenes_real, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["validate", "--dataroot", str(nuscenes_real), "--scenes", "scene-0061", "scene-0103"]) == 0
    printed = capsys.readouterr().out
    assert "no images: fetch the camera files  (scene-0103)" in printed
    assert "the map has no" in printed


def test_validate_finds_broken_files(town_dataroot, tmp_path, capsys):
    broken = tmp_path / "town"
    shutil.copytree(town_dataroot, broken)
    image = next((broken / "samples" / "CAM_FRONT").glob("*.jpg"))
    image.write_bytes(image.read_bytes()[:200])
    assert main(["validate", "--dataroot", str(broken)]) == 0, "unopened, nobody knows"
    capsys.readouterr()
    assert main(["validate", "--dataroot", str(broken), "--images"]) == 1
    printed = capsys.readouterr().out
    assert "BROKEN" in printed and image.name in printed
