"""Same seed, same episode, bit for bit; and an episode continues the same after a snapshot."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from dist4d_env.errors import ConfigError

from .worlds import WORLDS, actions_of, assert_same, name_of, play

EVERY_GROUP = ("cameras", "depth", "ego", "route", "agents", "bev")


@pytest.mark.parametrize("settings", WORLDS, ids=name_of)
def test_same_seed_same_episode(make_env, settings):
    first, second = make_env(**settings), make_env(**settings)
    assert_same(first.reset(seed=7), second.reset(seed=7))
    assert_same(play(first, actions_of(first, 3)), play(second, actions_of(second, 3)))
    assert_same(first.reset(), second.reset())
    assert_same(first.reset(seed=7), second.reset(seed=7))


def test_seeds_differ(make_env):
    env = make_env(horizon=1.0)
    starts = {(info["scene"], info["time"]) for info in (env.reset(seed=seed)[1] for seed in range(12))}
    assert len(starts) > 3


@pytest.mark.parametrize("settings", WORLDS, ids=name_of)
@pytest.mark.medium
def test_continues_after_restore(make_env, settings):
    env, other = make_env(**settings), make_env(**settings)
    env.reset(seed=3)
    other.reset(seed=4)
    actions = actions_of(env, 4)
    play(env, actions[:1])
    kept = env.unwrapped.snapshot()
    expected = play(env, actions[1:])
    after = env.reset()
    env.unwrapped.restore(kept)
    assert_same(play(env, actions[1:]), expected)
    assert_same(env.reset(), after)
    other.unwrapped.restore(kept)
    assert_same(play(other, actions[1:]), expected)
    assert_same(other.reset(), after)


def test_branches_do_not_touch_each_other(make_env):
    env = make_env(observation=("ego", "route", "agents", "bev"))
    env.reset(seed=1)
    kept = env.unwrapped.snapshot()
    gently = play(env, [np.array([0.0, 0.0], np.float32)] * 2)
    env.unwrapped.restore(kept)
    hard = play(env, [np.array([-1.0, 0.3], np.float32)] * 2)
    assert hard[0][0]["ego"][0] < gently[0][0]["ego"][0]
    env.unwrapped.restore(kept)
    assert_same(play(env, [np.array([0.0, 0.0], np.float32)] * 2), gently)


def test_observations_belong_to_the_caller(make_env):
    """Writing into an observation changes neither a later one nor a snapshot."""
    env = make_env("replay", observation=EVERY_GROUP)
    observation, _ = env.reset(seed=0)
    kept = env.unwrapped.snapshot()
    expected = play(env, actions_of(env, 1))
    for value in observation.values():
        value[...] = 0
    for value in expected[0][0].values():
        assert value.flags.writeable
    env.unwrapped.restore(kept)
    assert_same(play(env, actions_of(env, 1)), expected)


def test_restore_wants_a_snapshot(make_env):
    env = make_env()
    with pytest.raises(ConfigError, match="snapshot"):
        env.unwrapped.restore({"episode": None})


def test_as_one_of_several(make_env, town_dataroot):
    """In a synchronous vector environment every member plays as it does alone."""
    settings = {"dataroot": str(town_dataroot), "world": "none", "observation": ("ego", "agents"), "horizon": 2.0}
    together = gym.make_vec("DiST4D-nuScenes-v0", num_envs=2, vectorization_mode="sync", **settings)
    observations, infos = together.reset(seed=[5, 6])
    alone = make_env(observation=("ego", "agents"))
    for index, seed in enumerate((5, 6)):
        observation, info = alone.reset(seed=seed)
        assert_same({key: value[index] for key, value in observations.items()}, observation)
        assert infos["scene"][index] == info["scene"]
    for _ in range(5):  # through the end of the episodes, which the vector environment restarts by itself
        observations, rewards, *_, infos = together.step(np.zeros((2, 2), np.float32))
    assert np.isfinite(rewards).all() and observations["agents"].shape == (2, 64, 9)
    together.close()
