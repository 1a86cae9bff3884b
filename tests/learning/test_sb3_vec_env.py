"""The adapter is what Stable-Baselines3 makes of the same single environments itself."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from stable_baselines3.common.vec_env import DummyVecEnv

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.errors import ConfigError
from dist4d_env.learning.sb3_vec_env import SB3VecEnv, ViewVecEnv
from dist4d_env.learning.views import View

COUNT = 3


@pytest.fixture
def settings(town_dataroot):
    return {"dataroot": str(town_dataroot), "world": "none", "horizon": 2.0, "observation": ("ego", "route", "agents")}


@pytest.fixture
def make(settings):
    made = []

    def make_adapter(infos="all", **keywords):
        venv = gym.make_vec("DiST4D-nuScenes-v0", COUNT, vectorization_mode="vector_entry_point", **{**settings, **keywords})
        made.append(SB3VecEnv(venv, infos))
        return made[-1]

    yield make_adapter
    for envs in made:
        envs.close()


def test_it_plays_as_stable_baselines_own_adapter_does(make, settings):
    """Observations, rewards, dones, last observations and truncations, through several episodes of different lengths."""
    ours = make()
    theirs = DummyVecEnv([lambda: gym.make("DiST4D-nuScenes-v0", **settings) for _ in range(COUNT)])
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    ours.seed(4)
    theirs.seed(4)
    assert data_equivalence(ours.reset(), dict(theirs.reset()))
    ended = set()
    random = np.random.default_rng(0)
    for _ in range(14):
        actions = random.uniform([0.2, -0.1], [1.0, 0.6], (COUNT, 2)).astype(np.float32)
        seen, rewards, dones, infos = ours.step(actions)
        seen_there, rewards_there, dones_there, infos_there = theirs.step(actions)
        assert data_equivalence(seen, dict(seen_there))
        assert np.array_equal(rewards, rewards_there) and np.array_equal(dones, dones_there)
        for info, there in zip(infos, infos_there, strict=True):
            assert info["TimeLimit.truncated"] == there["TimeLimit.truncated"]
            assert ("terminal_observation" in info) == ("terminal_observation" in there)
            if "terminal_observation" in info:
                assert data_equivalence(info["terminal_observation"], there["terminal_observation"])
                assert info["metrics"]["final"]["pdms_v1"]["valid"] == there["metrics"]["final"]["pdms_v1"]["valid"]
                ended.add((info["ended_by"], info["TimeLimit.truncated"]))
            assert info["scene"] == there["scene"] and info["time"] == there["time"]
            assert info["reward_terms"] == pytest.approx(there["reward_terms"])
            assert set(info) == set(there)
        for index in range(COUNT):
            assert ours.reset_infos[index]["scene"] == theirs.reset_infos[index]["scene"]
    assert ("horizon", True) in ended and len(ended) > 1


def test_infos_of_episodes_that_end_can_be_had_alone(make):
    envs = make(infos="ended")
    envs.seed(0)
    envs.reset()
    for _ in range(4):
        _, _, dones, infos = envs.step(np.zeros((COUNT, 2), np.float32))
        for done, info in zip(dones, infos, strict=True):
            assert ("scene" in info) == bool(done) and "TimeLimit.truncated" in info
    assert dones.all()


def test_what_is_handed_out_is_not_written_into_later(make):
    envs = make()
    envs.seed(0)
    first = envs.reset()
    kept = {key: rows.copy() for key, rows in first.items()}
    for _ in range(5):
        envs.step(np.full((COUNT, 2), 0.5, np.float32))
    assert data_equivalence(first, kept)


def test_single_environments_can_be_reached(make):
    envs = make(render_mode="rgb_array")
    envs.seed(0)
    envs.reset()
    assert envs.get_attr("render_mode") == ["rgb_array"] * COUNT and envs.get_attr("config", [1])[0].world == "none"
    assert [snapshot.episode is not None for snapshot in envs.env_method("snapshot")] == [True] * COUNT
    with pytest.raises(AttributeError):
        envs.get_attr("no_such_thing")
    assert envs.env_is_wrapped(gym.Wrapper) == [False] * COUNT
    assert envs.render("rgb_array").dtype == np.uint8


def test_options_go_to_all(make):
    envs = make()
    scene = envs.get_attr("scene_names")[0][0]
    envs.set_options({"scene": scene, "start": 1.0})
    envs.reset()
    assert [info["time"] for info in envs.reset_infos] == [1.0] * COUNT
    envs.set_options([{"start": 0.0}, {"start": 1.0}, {"start": 0.0}])
    with pytest.raises(ConfigError, match="share"):
        envs.reset()


def test_other_resets_are_refused(settings):
    envs = gym.vector.SyncVectorEnv(
        [lambda: gym.make("DiST4D-nuScenes-v0", **settings)], autoreset_mode=gym.vector.AutoresetMode.SAME_STEP
    )
    with pytest.raises(ConfigError, match="NEXT_STEP"):
        SB3VecEnv(envs)
    envs.close()
    with pytest.raises(ConfigError, match="infos"):
        SB3VecEnv(gym.make_vec("DiST4D-nuScenes-v0", 1, vectorization_mode="vector_entry_point", **settings), infos="none")


def test_through_a_view_last_observations_are_features_too(make):
    envs = ViewVecEnv(make(action="trajectory", infos="ended"), View())
    envs.seed(0)
    seen = envs.reset()
    for _ in range(4):
        assert all(envs.observation_space.contains({key: rows[i] for key, rows in seen.items()}) for i in range(COUNT))
        seen, _, dones, infos = envs.step(np.zeros((COUNT, 2), np.float32))
    assert dones.all() and all(envs.observation_space.contains(info["terminal_observation"]) for info in infos)


def test_episodes_begin_at_given_starts(make, settings):
    """Each at its own start, again after its end; the same from the same seed."""
    from dist4d_env.data.open import open_dataset
    from dist4d_env.learning.disturbed_starts import Disturbance, DisturbedStarts

    dataset = open_dataset(settings["dataroot"], None, "val")
    given = []

    def drawn(seed):
        starts = DisturbedStarts(dataset, tuple(dataset.scene_names("val")), seed, Disturbance(share=0.7))
        return lambda: (given.append(starts()), given[-1])[1]

    seen = []
    for _ in range(2):
        given.clear()
        envs = make(infos="ended")
        envs = SB3VecEnv(envs.venv, "ended", starts=drawn(1))
        envs.seed(0)
        seen.append([envs.reset()])
        assert len(given) == COUNT
        for index, options in enumerate(given[:COUNT]):
            scenario = options["scenario"]
            assert envs.reset_infos[index]["scene"] == scenario.scene and envs.reset_infos[index]["time"] == scenario.start
            if scenario.ego_speed is not None:
                assert seen[-1][0]["ego"][index, 0] == pytest.approx(scenario.ego_speed, abs=1e-5)
        for _ in range(6):
            seen[-1].append(envs.step(np.zeros((COUNT, 2), np.float32))[0])
        assert len(given) > COUNT
    assert all(data_equivalence(first, second) for first, second in zip(*seen, strict=True))
    drawn_speeds = [options["scenario"].ego_speed is None for options in given]
    assert any(drawn_speeds) and not all(drawn_speeds)
