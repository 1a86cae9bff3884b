"""Minari records episodes with their infos and gives them back."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401  (registers the environment)
from dist4d_env.envs.wrappers import StackCameras, UniformInfo


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
@pytest.mark.parametrize("world", ["none", "replay"])
def test_episodes_are_recorded_with_their_infos(keywords, tmp_path, monkeypatch, world, data_format):
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = gym.make("DiST4D-nuScenes-v0", **{**keywords, "world": world})
    if world == "replay" and data_format == "hdf5":  # which takes no key with a slash
        env = StackCameras(env)
    collector = minari.DataCollector(UniformInfo(env), record_infos=True, data_format=data_format)
    seen, told = [], []
    for seed in range(2):
        seen.append([collector.reset(seed=seed)[0]])
        over = False
        while not over:
            observation, _, terminated, truncated, info = collector.step(np.array([0.2, 0.0], np.float32))
            seen[-1].append(observation)
            over = terminated or truncated
        told.append(info)
    scores = {"ref_min_score": 0.0, "ref_max_score": 1.0}
    collector.create_dataset("driving/test-v0", algorithm_name="constant", eval_env="DiST4D-nuScenes-v0", **scores)
    stored = minari.load_dataset("driving/test-v0")
    assert stored.total_episodes == 2
    for index, episode in enumerate(stored.iterate_episodes()):
        assert np.array_equal(episode.observations["ego"], np.stack([each["ego"] for each in seen[index]]))
        if world == "replay" and data_format == "arrow":
            assert episode.observations["CAM_FRONT/depth"].shape[1:] == (64, 112, 1)
        cause = episode.infos["ended_by"][-1]
        assert (cause.decode() if isinstance(cause, bytes) else cause) == told[index]["ended_by"] != ""
        assert len(episode.infos["time"]) == len(seen[index]) and not np.any(episode.infos["clipped"])
        if data_format == "hdf5":
            assert episode.infos["metrics"]["final"]["progress"]["valid"].tolist() == [False] * (len(seen[index]) - 1) + [True]
    assert isinstance(stored.recover_environment().unwrapped, type(env.unwrapped))
    collector.close()
