"""Gymnasium's wrappers around single and vector environments, and what else is done with environments."""

from __future__ import annotations

import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.wrappers import vector as vector_wrappers

import dist4d_env  # noqa: F401  (registers the environment)
from tests.envs.worlds import assert_same

SINGLE = {
    "Autoreset": wrappers.Autoreset,
    "ClipAction": wrappers.ClipAction,
    "ClipReward": lambda env: wrappers.ClipReward(env, -1, 1),
    "FilterObservation": lambda env: wrappers.FilterObservation(env, ["ego", "route"]),
    "FlattenObservation": wrappers.FlattenObservation,
    "FrameStackObservation": lambda env: wrappers.FrameStackObservation(env, 3),
    "DelayObservation": lambda env: wrappers.DelayObservation(wrappers.FlattenObservation(env), 1),
    "NormalizeObservation": lambda env: wrappers.NormalizeObservation(wrappers.FlattenObservation(env)),
    "NormalizeReward": wrappers.NormalizeReward,
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "RescaleAction": lambda env: wrappers.RescaleAction(env, np.float32(-2), np.float32(2)),
    "RescaleObservation": lambda env: wrappers.RescaleObservation(
        wrappers.FlattenObservation(env), np.float32(-1), np.float32(1)
    ),
    "StickyAction": lambda env: wrappers.StickyAction(env, 0.25),
    "TimeAwareObservation": lambda env: wrappers.TimeAwareObservation(wrappers.TimeLimit(env, 3)),
    "TimeLimit": lambda env: wrappers.TimeLimit(env, 3),
}


@pytest.mark.parametrize("name", SINGLE)
def test_single_environments(keywords, name):
    env = SINGLE[name](gym.make("DiST4D-nuScenes-v0", **keywords))
    env.action_space.seed(0)
    observation, info = env.reset(seed=0)
    for _ in range(6):
        assert env.observation_space.contains(observation) or name in ("NormalizeObservation", "RescaleObservation")
        json.dumps(info, default=lambda value: value.tolist())  # RecordEpisodeStatistics adds numbers of numpy
        observation, _, terminated, truncated, info = env.step(env.action_space.sample())
        if (terminated or truncated) and name != "Autoreset":
            break
    env.close()


TOGETHER = {
    "ClipReward": lambda env: vector_wrappers.ClipReward(env, -1, 1),
    "DictInfoToList": vector_wrappers.DictInfoToList,
    "FlattenObservation": vector_wrappers.FlattenObservation,
    "NormalizeReward": vector_wrappers.NormalizeReward,
    "RecordEpisodeStatistics": vector_wrappers.RecordEpisodeStatistics,
}


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
@pytest.mark.parametrize("name", TOGETHER)
def test_vector_environments(keywords, name, mode):
    if name == "FlattenObservation" and mode == "SAME_STEP":
        pytest.skip("Gymnasium's own wrappers of vectors of observations do not take SAME_STEP")
    settings = {**keywords, "num_envs": 2, "vectorization_mode": "vector_entry_point", "autoreset_mode": mode}
    env = TOGETHER[name](gym.make_vec("DiST4D-nuScenes-v0", **settings))
    env.reset(seed=0)
    for _ in range(8):
        *_, terminated, truncated, _ = env.step(np.zeros((2, 2), np.float32))
        ended = terminated | truncated
        if mode == "DISABLED" and ended.any():
            env.reset(options={"reset_mask": ended})
    env.close()


def test_videos(keywords, tmp_path):
    env = gym.make("DiST4D-nuScenes-v0", render_mode="rgb_array", **keywords)
    recorder = wrappers.RecordVideo(env, str(tmp_path), episode_trigger=lambda episode: True)
    recorder.reset(seed=0)
    while not any(recorder.step(np.array([0.2, 0.0], np.float32))[2:4]):
        pass
    recorder.close()
    videos = list(tmp_path.glob("*.mp4"))
    assert len(videos) == 1 and videos[0].stat().st_size > 1000


def test_videos_of_the_vector_environment(keywords, tmp_path):
    together = gym.make_vec(
        "DiST4D-nuScenes-v0", num_envs=2, vectorization_mode="vector_entry_point", render_mode="rgb_array", **keywords
    )
    recorder = vector_wrappers.RecordVideo(together, str(tmp_path), video_length=3)
    recorder.reset(seed=0)
    for _ in range(4):
        recorder.step(np.zeros((2, 2), np.float32))
    recorder.close()
    assert list(tmp_path.glob("*.mp4"))


@pytest.mark.parametrize("world", ["none", "replay"])
def test_wrapped_environments_pickle_and_go_on(keywords, world):
    import cloudpickle

    env = wrappers.RecordEpisodeStatistics(gym.make("DiST4D-nuScenes-v0", **{**keywords, "world": world}))
    env.reset(seed=0)
    env.step(np.array([0.2, 0.0], np.float32))
    twins = [pickle.loads(pickle.dumps(env)), cloudpickle.loads(cloudpickle.dumps(env))]
    expected = env.step(np.array([0.1, 0.1], np.float32))
    for twin in twins:
        assert_same(twin.step(np.array([0.1, 0.1], np.float32))[:4], expected[:4])
