"""When episodes begin and end: whole decisions within the log, ``max_episode_steps``, and scenes that cannot be played."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from dist4d_env.data.open import open_dataset
from dist4d_env.envs.ending import intended_end
from dist4d_env.envs.starts import check_start, draw_start, on_grid
from dist4d_env.errors import DataError
from dist4d_env.scenes.scenario import Scenario

from .worlds import EVERY_WORLD, assert_same

STILL = np.array([0.0, 0.0], np.float32)


def until_over(env: gym.Env) -> tuple[int, dict]:
    """Rolls on until the episode is over: the number of decisions and the last info."""
    for count in range(1, 500):
        *_, terminated, truncated, info = env.step(STILL)
        if terminated or truncated:
            return count, info
    raise AssertionError("the episode does not end")


@pytest.mark.parametrize("decision_dt", [0.1, 0.2, 0.3, 0.4, 0.5, 0.7])
def test_the_last_decision_lies_within_the_log(make_env, decision_dt):
    env = make_env(decision_dt=decision_dt, horizon=500.0, termination=(), observation=("agents",))
    scene = open_dataset(env.unwrapped.config.dataroot).load(env.unwrapped.scene_names[0])
    env.reset(options={"scene": scene.name, "start": 0.2})
    count, info = until_over(env)
    assert info["time"] <= scene.duration + 1e-6 < info["time"] + decision_dt
    assert count == int((scene.duration - 0.2) / decision_dt + 1e-6) and info["ended_by"] == "horizon"
    assert info["metrics"]["final"]["pdms_v1"]["valid"]


def test_intended_end():
    assert intended_end(0.0, 10.0, 3.8, 0.5) == 3.5 and intended_end(0.8, 10.0, 3.8, 0.5) == pytest.approx(3.8)
    assert intended_end(0.0, 2.0, 3.8, 0.5) == 2.0 and intended_end(1.0, 2.0, 9.0, 0.5, decisions=3) == 2.5
    for horizon, dt in ((10.0, 0.5), (2.0, 0.1), (0.3, 0.1), (3.0, 0.3), (3 * 0.1, 0.1)):  # whole decisions stay as they are
        assert intended_end(0.0, horizon, 20.0, dt) == horizon
    assert intended_end(1.0, 1.25, 20.0, 0.5) == 2.5 and intended_end(1.0, 1.25, 2.3, 0.5) == 2.0


def test_a_horizon_is_rounded_up_to_whole_decisions(make_env):
    env = make_env(horizon=1.25, termination=(), observation=("ego",))
    for seed in range(8):
        seen, info = env.reset(seed=seed)
        assert seen["ego"][9] == 1.5
        count, last = until_over(env)
        assert count == 3 and last["time"] == pytest.approx(env.unwrapped.episode.end_time) == pytest.approx(info["time"] + 1.5)
    env.reset(options={"scenario": Scenario("town-val-0000", horizon=0.6)})
    assert until_over(env)[0] == 2 and env.unwrapped.observation()["ego"][9] == 0.0


def test_max_episode_steps_ends_an_episode_with_its_metrics(make_env):
    settings = make_env(horizon=10.0).unwrapped.spec.kwargs
    alone = gym.make("DiST4D-nuScenes-v0", max_episode_steps=3, **settings)
    alone.reset(seed=1)
    infos = [alone.step(STILL) for _ in range(3)]
    assert [info["ended_by"] for *_, info in infos] == [None, None, "horizon"] and infos[-1][3]
    final = infos[-1][-1]["metrics"]["final"]
    assert final["pdms_v1"]["valid"] and final["ego_progress"]["valid"]
    vector = gym.make_vec("DiST4D-nuScenes-v0", 2, "vector_entry_point", max_episode_steps=3, **settings)
    vector.reset(seed=1)
    for _ in range(3):
        *_, truncated, info = vector.step(np.zeros((2, 2), np.float32))
    assert truncated.all() and list(info["ended_by"]) == ["horizon", "horizon"]
    for name, result in final.items():
        assert info["metrics"]["final"][name]["value"][0] == result["value"]
    vector.close()
    limited = gym.wrappers.TimeLimit(gym.make("DiST4D-nuScenes-v0", **settings), 2)
    limited.reset(seed=1)
    limited.step(STILL)
    assert limited.step(STILL)[-1]["ended_by"] == "horizon"


@pytest.fixture(scope="module")
def jittered_root(town_dataroot, tmp_path_factory):
    """The test town with keyframes up to 48 ms beside the 0.1 s grid, as real ones are."""
    root = tmp_path_factory.mktemp("jittered") / "town"
    shutil.copytree(town_dataroot, root)
    [tables] = root.glob("v1.0-*")
    random = np.random.default_rng(0)
    samples = json.loads((tables / "sample.json").read_text())
    shift = {sample["token"]: 0 if not sample["prev"] else int(random.integers(-48_000, 48_001)) for sample in samples}
    for name in ("sample", "sample_data", "ego_pose"):
        rows = json.loads((tables / f"{name}.json").read_text())
        if name == "sample_data":
            of_pose = {row["ego_pose_token"]: shift[row["sample_token"]] for row in rows if row["is_key_frame"]}
        for row in rows:
            key = {"sample": row["token"], "sample_data": row.get("sample_token")}.get(name)
            row["timestamp"] += of_pose.get(row["token"], 0) if name == "ego_pose" else shift[key]
        (tables / f"{name}.json").write_text(json.dumps(rows))
    return root


@pytest.fixture(scope="module")
def two_scenes(town_dataroot, tmp_path_factory):
    """The test town without the pictures of one scene; its folder, and the names of the whole scene and the bare one."""
    root = tmp_path_factory.mktemp("bare") / "town"
    shutil.copytree(town_dataroot, root)
    dataset = open_dataset(root)
    whole, bare = dataset.names()
    scene = dataset.load(bare)
    for keyframe in range(len(scene.sensors.keyframe_time)):
        for path in pictures(scene, keyframe):
            path.unlink()
    return root, whole, bare


def pictures(scene, keyframe):
    """The files of a keyframe's images."""
    return [scene.sensors.image_path(keyframe, view) for view in range(len(scene.sensors.camera_names))]


@EVERY_WORLD
def test_a_drawn_keyframe_is_known_where_it_lies_beside_the_grid(make_env, jittered_root, settings):
    env = make_env(dataroot=str(jittered_root), **settings)
    for seed in range(6):
        _, info = env.reset(seed=seed)
        times = env.unwrapped.scene.sensors.keyframe_time
        before = times[times <= info["time"] + 1e-6]
        assert 0 <= info["time"] - before[-1] < 0.1 + 1e-6
        if settings["world"] not in ("none", "oracle"):
            memory = env.unwrapped.episode.world.memory
            assert any(abs(frame.time - before[-1]) < 1e-6 for frame in memory.frames)
    env.step(STILL)


def test_starts_are_moved_on_to_the_grid(tiny_scene):
    assert on_grid(1.0) == 1.0 and on_grid(1.0000001) == 1.0 and on_grid(1.012) == pytest.approx(1.1)
    times = np.array([0.0, 0.548, 0.952])
    scene = replace(tiny_scene, sensors=replace(tiny_scene.sensors, keyframe_time=times))
    drawn = {draw_start(scene, False, 0.2, 0.1, np.random.default_rng(seed)) for seed in range(20)}
    assert all(min(abs(start - on_grid(time)) for time in times) < 1e-9 for start in drawn)
    assert check_start(scene, False, 0.548, 0.1) == pytest.approx(0.6)


def test_scenes_without_pictures_are_not_drawn(two_scenes, make_env):
    root, whole, bare = two_scenes
    env = make_env("replay", dataroot=str(root), scenes="all", horizon=1.0)
    with pytest.warns(UserWarning, match=f"{bare}.*not drawn") as said:
        scenes = {env.reset(seed=seed)[1]["scene"] for seed in range(12)}
    assert scenes == {whole} and len(said) == 1
    fresh = make_env("replay", dataroot=str(root), scenes="all", horizon=1.0)
    assert_same(fresh.reset(seed=3), env.reset(seed=3))  # whatever was known of the scenes
    assert {make_env(dataroot=str(root), scenes="all").reset(seed=seed)[1]["scene"] for seed in range(12)} == {whole, bare}
    with pytest.raises(DataError, match=bare):
        make_env("replay", dataroot=str(root), scenes=bare).reset()


def test_where_no_scene_can_be_played_every_reset_says_so_until_one_can(town_dataroot, tmp_path, make_env):
    root = tmp_path / "town"
    shutil.copytree(town_dataroot, root)
    (root / "samples").rename(root / "away")
    env = make_env("replay", dataroot=str(root), scenes="all")
    for seed in range(2):
        with pytest.warns(UserWarning, match="not drawn"), pytest.raises(DataError, match=r"no keyframe .* has images"):
            env.reset(seed=seed)
    (root / "away").rename(root / "samples")
    env.reset(seed=2)


def test_scenes_whose_first_pictures_are_too_late_are_not_drawn(town_dataroot, tmp_path, make_env):
    root = tmp_path / "town"
    shutil.copytree(town_dataroot, root)
    dataset = open_dataset(root)
    whole, late = dataset.names()
    scene = dataset.load(late)
    for keyframe in np.flatnonzero(scene.sensors.keyframe_time < scene.duration - 0.9):
        for path in pictures(scene, keyframe):
            path.unlink()
    env = make_env("replay", dataroot=str(root), scenes="all")
    with pytest.warns(UserWarning, match=f"{late}: its first keyframe with images .* not drawn"):
        assert {env.reset(seed=seed)[1]["scene"] for seed in range(8)} == {whole}
    with pytest.raises(DataError, match=f"{late}: its first keyframe with images"):
        env.reset(options={"scene": late})
    env.reset(options={"scene": late, "start": 0.0})
