"""Some of N episodes begin again at once while the others wait: what libraries with same-step resets need."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from dist4d_env.errors import ConfigError

from .worlds import assert_same

STILL = np.zeros((3, 2), np.float32)


@pytest.fixture
def together(town_dataroot):
    envs = gym.make_vec(
        "DiST4D-nuScenes-v0",
        3,
        vectorization_mode="vector_entry_point",
        dataroot=str(town_dataroot),
        world="none",
        horizon=1.0,
        observation=("ego", "agents"),
    )
    yield envs
    envs.close()


def member(batch, index):
    return {key: value[index] for key, value in batch.items()}


def test_the_chosen_begin_again_and_the_others_stay(together, make_env):
    together.reset(seed=5)
    before, *_ = together.step(STILL)
    observations, infos = together.reset(options={"reset_mask": np.array([False, True, False])})
    for index in (0, 2):
        assert_same(member(observations, index), member(before, index))
    assert infos["_scene"].tolist() == [False, True, False]
    alone = make_env(observation=("ego", "agents"), horizon=1.0)
    alone.reset(seed=6)
    observation, info = alone.reset()  # its second episode, as it is alone
    assert_same(member(observations, 1), observation)
    assert infos["time"][1] == info["time"]
    _, _, _, truncated, _ = together.step(STILL)
    assert truncated.tolist() == [True, False, True]  # one decision behind the others


def test_an_episode_begun_by_mask_is_not_begun_again_by_the_next_step(together):
    together.reset(seed=0)
    together.step(STILL)
    _, _, _, truncated, _ = together.step(STILL)
    assert truncated.all()
    _, infos = together.reset(options={"reset_mask": np.array([True, False, False])})
    _, _, _, _, after = together.step(STILL)
    assert after["time"][0] == pytest.approx(infos["time"][0] + 0.5)


@pytest.mark.parametrize("mask", [np.zeros(3, bool), np.ones(2, bool), np.ones(3), [1, 0, 1]])
def test_a_mask_that_makes_no_sense(together, mask):
    together.reset(seed=0)
    with pytest.raises(ConfigError, match="reset_mask"):
        together.reset(options={"reset_mask": mask})


def test_all_must_have_begun_once(together):
    with pytest.raises(ResetNeeded, match="reset_mask"):
        together.reset(options={"reset_mask": np.ones(3, bool)})
