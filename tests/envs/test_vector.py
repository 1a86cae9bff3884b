"""N episodes in one environment: each as it is alone, all of them in one call of the world."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from dist4d_env.errors import ActionError, ConfigError

from .worlds import WORLDS, assert_same, name_of

COUNT = 3


@pytest.fixture
def make_together(town_dataroot):
    made = []

    def make(count=COUNT, world="none", **keywords):
        groups = ("ego", "agents") if world == "none" else ("cameras", "depth", "ego")
        settings = {"dataroot": str(town_dataroot), "horizon": 1.0, "observation": groups, **keywords}
        made.append(gym.make_vec("DiST4D-nuScenes-v0", count, vectorization_mode="vector_entry_point", world=world, **settings))
        return made[-1]

    yield make
    for envs in made:
        envs.close()


def member(batch, index):
    return {key: value[index] for key, value in batch.items()}


@pytest.mark.parametrize("settings", WORLDS, ids=name_of)
def test_each_member_plays_as_it_does_alone(make_together, make_env, settings):
    """Through the end of the episodes and into the next ones."""
    together = make_together(2, **settings)
    observations, infos = together.reset(seed=5)
    random = np.random.default_rng(0)
    actions = random.uniform(-0.3, 0.3, (4, 2, 2)).astype(np.float32)
    outcomes = [together.step(action) for action in actions]
    for index in range(2):
        groups = ("ego", "agents") if settings["world"] == "none" else ("cameras", "depth", "ego")
        alone = make_env(**settings, observation=groups, horizon=1.0)
        observation, info = alone.reset(seed=5 + index)
        assert_same(member(observations, index), observation)
        assert infos["scene"][index] == info["scene"]
        over = False
        for step, (seen, rewards, terminated, truncated, infos_now) in enumerate(outcomes):
            if over:
                (observation, info), reward, ends = alone.reset(), 0.0, (False, False)
            else:
                observation, reward, *ends, info = alone.step(actions[step, index])
            assert_same(member(seen, index), observation)
            assert rewards[index] == reward and (terminated[index], truncated[index]) == tuple(ends)
            assert infos_now["time"][index] == info["time"]
            assert tuple(infos_now["world"]["source"][index]) == info["world"]["source"]
            over = any(ends)
        assert any(outcome[3][index] or outcome[2][index] for outcome in outcomes)


def test_the_world_is_asked_once_for_all(make_together):
    together = make_together()
    world = together.envs[0].open_world()
    calls = []
    original = world.step
    world.step = lambda states, scenes: (calls.append(len(states)), original(states, scenes))[1]
    together.reset(seed=0)
    for _ in range(4):
        together.step(np.zeros((COUNT, 2), np.float32))
    assert calls == [COUNT] * 5


@pytest.mark.parametrize("action", ["controls", "trajectory", "discrete"])
def test_spaces_and_declarations(make_together, action):
    together = make_together(action=action, observation=("ego", "route", "agents", "bev"))
    observations, _ = together.reset(seed=0)
    assert observations in together.observation_space
    together.action_space.seed(0)
    actions = together.action_space.sample()
    observations, rewards, terminated, truncated, infos = together.step(actions)
    assert observations in together.observation_space
    assert (rewards.shape, rewards.dtype, terminated.dtype, truncated.dtype) == ((COUNT,), np.float64, np.bool_, np.bool_)
    assert together.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert infos["scene"].shape == (COUNT,) and infos["_scene"].all()


def test_is_what_make_vec_makes_by_itself(town_dataroot):
    together = gym.make_vec("DiST4D-nuScenes-v0", 2, dataroot=str(town_dataroot), world="none", observation=("ego",))
    assert type(together.unwrapped).__name__ == "DiST4DVectorEnv"
    together.close()


def test_render_shows_every_member(make_together):
    together = make_together(2, render_mode="rgb_array")
    together.reset(seed=0)
    first, second = together.render()
    assert first.shape == second.shape and first.dtype == np.uint8


def test_bad_input(make_together, town_dataroot):
    with pytest.raises(ConfigError, match="num_envs=0"):
        make_together(0)
    with pytest.raises(ConfigError, match=r"human.*rgb_array"):
        make_together(render_mode="human")
    together = make_together()
    with pytest.raises(ResetNeeded):
        together.step(np.zeros((COUNT, 2), np.float32))
    with pytest.raises(ConfigError, match="2 seeds for 3"):
        together.reset(seed=[1, 2])
    together.reset(seed=[1, 2, 3])
    with pytest.raises(ActionError, match="3 environments"):
        together.step(np.zeros((2, 2), np.float32))
    before = [env.snapshot().episode for env in together.envs]
    with pytest.raises(ActionError):
        together.step(np.array([[0, 0], [0, 0], [np.nan, 0]], np.float32))
    assert all(env.snapshot().episode is kept for env, kept in zip(together.envs, before, strict=True))
