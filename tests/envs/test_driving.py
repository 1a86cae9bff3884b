"""What an episode tells and how it ends."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError

from dist4d_env.data.depth_files import depth_roots, write_depth
from dist4d_env.data.nuscenes import RING
from dist4d_env.envs.rewards import DEFAULT_WEIGHTS
from dist4d_env.errors import ConfigError
from dist4d_env.scenes.scenario import Scenario

from .worlds import EVERY_WORLD, actions_of, play

ROLL = np.zeros(2, np.float32)
SOURCES = {"log", "dist_t", "dist_s", "splat", "replay", "oracle"}


@EVERY_WORLD
def test_info_of_every_world(make_env, settings):
    env = make_env(**settings)
    _, info = env.reset(seed=0, options={"start": 0.5})
    keys = {"scene", "time", "metrics", "world", "reward_terms", "clipped", "timing_ms", "ended_by"}
    assert set(info) == keys
    metrics = set(info["metrics"])
    assert info["time"] == pytest.approx(0.5)
    steps = play(env, actions_of(env, 2))
    for index, (observation, reward, *_, info) in enumerate(steps):
        assert observation in env.observation_space
        assert set(info) == keys and set(info["metrics"]) == metrics
        assert json.loads(json.dumps(info)) == info
        assert info["time"] == pytest.approx(0.5 + 0.5 * (index + 1))
        sources = info["world"]["source"]
        assert len(sources) == (0 if settings["world"] == "none" else len(RING)) and set(sources) <= SOURCES
        assert 0 <= info["world"]["trust"] <= 1 and info["world"]["deviation_m"] >= 0
        assert info["world"]["pixels"] == sum(observation[name].size for name in observation if name.endswith("/depth"))
        assert {"simulation", "world", "metrics", "observation"} <= set(info["timing_ms"])
        assert all(value >= 0 for value in info["timing_ms"].values())
        assert reward == pytest.approx(sum(DEFAULT_WEIGHTS[name] * value for name, value in info["reward_terms"].items()))


def test_reward_weights_replace_the_defaults(make_env):
    env = make_env(reward={"progress": 2.0})
    env.reset(seed=0, options={"start": 0.0})
    _, reward, _, _, info = env.step(ROLL)
    assert set(info["reward_terms"]) == set(DEFAULT_WEIGHTS)
    assert reward == pytest.approx(2.0 * info["reward_terms"]["progress"])


def test_ends_at_the_horizon(make_env):
    env = make_env(horizon=1.5, termination=())
    env.reset(seed=0, options={"start": 0.0})
    ends = [(terminated, truncated) for _, _, terminated, truncated, _ in play(env, [ROLL] * 9)]
    assert ends == [(False, False), (False, False), (False, True)]
    info = play_to_the_end(env, ROLL)
    assert info["ended_by"] == "horizon"
    final = info["metrics"]["final"]
    assert final["progress"]["valid"] and final["progress"]["value"] > 0
    assert all(isinstance(entry["valid"], bool) and ("value" in entry) == entry["valid"] for entry in final.values())


def play_to_the_end(env, action):
    env.reset(seed=0, options={"start": 0.0})
    return play(env, [action] * 100)[-1][4]


def test_ends_with_the_log(make_env):
    env = make_env(horizon=100.0, termination=())
    scene_duration = play_to_the_end(env, ROLL)["time"]
    assert scene_duration == pytest.approx(env.unwrapped.scene.duration, abs=0.5)


def test_leaving_the_road_terminates_unless_switched_off(make_env):
    wide_circle = [np.array([1.0, 0.4], np.float32)] + [np.array([1.0, 0.0], np.float32)] * 9  # of about 26 m radius
    settings = {"horizon": 5.0, "reward": {"off_road": -3.0}}
    env = make_env(**settings, termination=("off_road",))
    env.reset(seed=0, options={"start": 0.0})
    *_, (_, reward, terminated, truncated, info) = play(env, wide_circle)
    assert terminated and not truncated and info["ended_by"] == "off_road"
    assert reward == -3.0 and info["metrics"]["off_road"] == 1.0
    free = make_env(**settings, termination=())
    free.reset(seed=0, options={"start": 0.0})
    *_, (_, _, terminated, truncated, info) = play(free, wide_circle)
    assert truncated and not terminated and info["ended_by"] == "horizon"


def test_little_trust_truncates(make_env):
    """The trust of a frame off every recorded path is below one; a floor of one ends the episode there."""
    env = make_env("replay", trust_floor=1.0, horizon=5.0, termination=())
    env.reset(seed=0, options={"start": 0.0})
    *_, (_, _, terminated, truncated, info) = play(env, [np.array([-1.0, 0.5], np.float32)] * 10)
    assert truncated and not terminated
    assert info["ended_by"] == "trust" and info["world"]["trust"] < 1 and info["time"] < 5.0


def test_starts_are_keyframes_from_which_the_horizon_fits(make_env):
    env = make_env(horizon=3.0)
    for seed in range(8):
        _, info = env.reset(seed=seed)
        keyframes = env.unwrapped.scene.sensors.keyframe_time
        assert np.abs(keyframes - info["time"]).min() < 0.051
        assert info["time"] <= env.unwrapped.scene.duration - 3.0 + 1e-6


def test_options_fix_scene_and_start(make_env):
    env = make_env()
    for name in env.unwrapped.scene_names:
        _, info = env.reset(seed=0, options={"scene": name, "start": 1.0})
        assert (info["scene"], info["time"]) == (name, pytest.approx(1.0))


def test_scenario_fixes_the_episode(make_env):
    name = make_env().unwrapped.scene_names[1]
    scenario = Scenario(name, start=1.0, horizon=1.0, traffic="idm", ego_offset=0.5, ego_speed=3.0)
    env = make_env(scenario=scenario)
    observation, info = env.reset(seed=0)
    assert info["scene"] == name and info["time"] == pytest.approx(1.0)
    assert observation["ego"][0] == pytest.approx(3.0)
    assert env.unwrapped.config.traffic == "idm"
    assert play(env, [ROLL] * 9)[-1][4]["time"] == pytest.approx(2.0)
    with pytest.raises(ConfigError, match="scenario"):
        env.reset(options={"start": 0.0})


def test_replayed_log_is_shown_as_logged(make_env):
    """At the start the ego stands on the log, so the world shows what was recorded."""
    env = make_env("replay")
    observation, info = env.reset(seed=0, options={"start": 1.0})
    scene = env.unwrapped.scene
    recorded = scene.sensors.rgb(int(np.argmin(np.abs(scene.sensors.keyframe_time - 1.0))), 64, 112)
    assert info["world"]["source"] == ["log"] * 6
    for index, name in enumerate(RING):
        assert np.array_equal(observation[name], recorded[index])


def test_scene_with_one_pictured_keyframe_starts_there(make_env, nuscenes_real, tmp_path, monkeypatch):
    """scene-0061 has images at its first keyframe only: wherever chance would begin, a world of images begins there."""
    monkeypatch.setenv("DIST4D_DEPTH", str(tmp_path))
    settings = {"dataroot": str(nuscenes_real), "scenes": "scene-0061", "horizon": 2.0}
    drawn = make_env(**settings)
    assert len({drawn.reset(seed=seed)[1]["time"] for seed in range(4)}) > 1
    for files in drawn.unwrapped.scene.sensors.image_files[0]:
        camera, stem = files.split("/")[-2], files.split("/")[-1].rsplit(".", 1)[0]
        write_depth(depth_roots(nuscenes_real)[0] / camera / f"{stem}.png", np.full((45, 80), 20.0, np.float32))
    env = make_env("replay", **settings)
    assert [env.reset(seed=seed)[1]["time"] for seed in range(4)] == [0.0] * 4
    observation, *_, info = env.step(ROLL)
    assert info["world"]["source"] == ["replay"] * 6 and observation["CAM_FRONT"].std() > 10


def test_close_can_be_repeated(make_env):
    env = make_env()
    env.reset(seed=0)
    env.close()
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        env.unwrapped.reset(seed=0)
