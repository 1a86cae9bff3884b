"""A saved drive: it can be scored, driven again bit for bit, and what has been changed shows."""

from __future__ import annotations

import errno
import json
from concurrent.futures import ThreadPoolExecutor

import av
import gymnasium as gym
import numpy as np
import pytest

from dist4d_env.__main__ import main
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.episode_log import load_episode
from dist4d_env.evaluation.scores import results_of
from dist4d_env.play.recording import Recording, film, save
from dist4d_env.play.worlds import Look
from dist4d_env.scenes.scenario import read_scenario
from tests.play.test_session import ahead_of, drive


@pytest.fixture(scope="module")
def saved(drives, tmp_path_factory):
    """A drive with everything in it: swaps, an insertion, a planner, going back."""
    session = drives.make()
    session.begin("town-val-0000")
    session.paint()
    drive(session, 3, 0.4)
    drive(session, 2, 0.4, paint=False)
    session.show(Look("oracle"))
    session.insert("traffic_cone", *ahead_of(session, 18.0, 3.2))
    session.paint()
    drive(session, 2, 0.2, 0.1)
    session.go_to(6)
    session.show(Look("splat"))
    session.hand_over("lane")
    drive(session, 6)
    session.take_back()
    drive(session, 1, -0.5)
    place = save(session, tmp_path_factory.mktemp("saved"))
    yield session, place
    session.close()


def test_everything_is_there(saved):
    session, place = saved
    files = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    assert files == ["drive.json", "drive.mp4", "episodes/drive.json", "episodes/drive.npz", "scenario.yaml"]
    with av.open(str(place / "drive.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == len(session.path) == 14 and frames[0].std() > 20
    looks = {moment.shown.look.world for moment in session.path if moment.shown is not None}
    assert looks == {"splat", "oracle"}
    assert [edit.category for edit in read_scenario(place / "scenario.yaml").edits] == ["traffic_cone"]


def test_it_can_be_scored(saved, capsys, tmp_path):
    session, place = saved
    log = load_episode(place / "episodes" / "drive.json")
    assert log.planner == "hand+lane" and log.outcome == "horizon" and len(log.steps) == 14 and log.settings["world"] == "splat"
    assert np.array_equal(log.trace.ego[-1], session.now.snapshot.episode.state.ego[0])
    assert results_of(log)["pdms_v1"].valid
    assert main(["evaluate", str(place), "--out", str(tmp_path)]) == 0
    assert "pdms" in capsys.readouterr().out.lower()


def test_its_scenario_and_actions_drive_the_environment_there(saved, town_dataroot):
    session, place = saved
    ticks = Recording.read(place).ticks
    common = {"dataroot": str(town_dataroot), "scenes": "val", "world": "none", "decision_dt": 0.1}
    scenario = read_scenario(place / "scenario.yaml")
    envs = {kind: gym.make("DiST4D-nuScenes-v0", action=kind, **common) for kind in ("controls", "trajectory")}
    for env in envs.values():
        env.reset(seed=0, options={"scenario": scenario})
    now = envs["controls"].unwrapped.snapshot()
    for tick in ticks[1:]:
        env = envs[tick.decision.kind].unwrapped
        env.restore(now)
        env.step(tick.decision.action)
        now = env.snapshot()
    assert np.array_equal(now.episode.state.ego, session.now.snapshot.episode.state.ego)
    assert np.array_equal(now.episode.state.agents.values, session.now.snapshot.episode.state.agents.values)
    for env in envs.values():
        env.close()


def test_the_command_drives_it_again(saved, capsys):
    _, place = saved
    (place / "drive.mp4").unlink()
    assert main(["play", "--again", str(place)]) == 0
    assert "14 instants and 13 pictures are as recorded, bit for bit" in capsys.readouterr().out
    assert (place / "drive.mp4").is_file()


def test_what_was_inserted_at_the_last_tick_is_there_again(session, tmp_path):
    drive(session, 4)
    session.insert("car", *ahead_of(session, 15.0, 0.3))
    place = save(session, tmp_path)
    recording = Recording.read(place)
    assert recording.ticks[-1].inserted == 1 and recording.scenario.horizon == recording.scenario.edits[0].at == 0.4
    film(place)


def changed(place, folder, change):
    """A copy of a saved drive whose drive.json has been changed."""
    folder.mkdir()
    (folder / "scenario.yaml").write_text((place / "scenario.yaml").read_text())
    content = json.loads((place / "drive.json").read_text())
    change(content)
    (folder / "drive.json").write_text(json.dumps(content))
    return folder


def test_what_differs_is_found_and_no_video_is_left(saved, tmp_path):
    _, place = saved

    def another_action(content):
        content["ticks"][2]["action"][0] += 1e-9

    def another_picture(content):
        content["ticks"][1]["shown"]["digest"] = "00000000"

    for name, change, words in (("a", another_action, "tick 2 the episode"), ("b", another_picture, "tick 1 the picture")):
        folder = changed(place, tmp_path / name, change)
        with pytest.raises(DataError, match=words):
            film(folder)
        assert not (folder / "drive.mp4").exists()


def name_world(content):
    content["settings"]["look"]["world"] = "brought_along:Thing"


def name_picture(content):
    content["ticks"][1]["shown"]["look"]["world"] = "brought_along:Thing"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (name_world, "world"), (name_picture, "world"),
        (lambda content: content["settings"].update(traffic="brought_along:Thing"), "traffic"),
        (lambda content: content["settings"].update(dataset="brought_along:Thing"), "dataset"),
    ],
)  # fmt: skip
def test_no_saved_drive_has_a_module_imported_by_itself(saved, tmp_path, change, kind, capsys):
    folder = changed(saved[1], tmp_path / "sent", change)
    assert main(["play", "--again", str(folder)]) == 2
    error = capsys.readouterr().err.strip()
    assert f"drive.json: {kind} 'brought_along:Thing' is a module's" in error and "--allow" in error and "\n" not in error
    assert len(error) - len(str(folder)) < 300
    if kind == "traffic":  # the scenario's is driven in
        return
    asked = ["--allow"] if kind == "dataset" else ["--world"]
    assert main(["play", "--again", str(folder), *asked, "brought_along:Thing"]) == 2
    assert "No module named 'brought_along'" in capsys.readouterr().err, "now it is looked for"


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("ticks"), lambda content: content.update(format=99), lambda content: content.update(ticks=[]),
        lambda content: content["ticks"][1].update(kind="magic"), lambda content: content["ticks"][1].update(action=["x"]),
        lambda content: content["settings"].pop("look"), lambda content: content["ticks"][0].update(inserted=5),
        lambda content: content.update(settings=None),
    ],
)  # fmt: skip
def test_a_broken_file_is_one_line(saved, tmp_path, change, capsys):
    folder = changed(saved[1], tmp_path / "broken", change)
    assert main(["play", "--again", str(folder)]) == 2
    error = capsys.readouterr().err.strip()
    assert "drive.json" in error and "\n" not in error and len(error) < 400


def test_two_who_save_at_once_have_two_drives(drives, tmp_path):
    sessions = [drives.make() for _ in range(2)]
    for session in sessions:
        session.begin("town-val-0000")
        drive(session, 3)
    with ThreadPoolExecutor(2) as threads:
        places = set(threads.map(lambda session: save(session, tmp_path), sessions))
    assert {place.name for place in places} == {"town-val-0000-001", "town-val-0000-002"}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(place.name for place in places)
    for session in sessions:
        session.close()


def test_what_cannot_be_written_to_is_one_line_and_leaves_nothing(session, tmp_path, monkeypatch):
    drive(session, 3)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be saved there") as raised:
        save(session, tmp_path / "file")
    assert str(tmp_path / "file") in str(raised.value)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dist4d_env.play.recording.save_episode", full)
    with pytest.raises(ConfigError, match="No space left"):
        save(session, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_nothing_to_save_and_nothing_saved(session, tmp_path, capsys):
    with pytest.raises(ConfigError, match="drive first"):
        save(session, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert main(["play", "--again", str(tmp_path)]) == 2
    assert "\n" not in capsys.readouterr().err.strip()
