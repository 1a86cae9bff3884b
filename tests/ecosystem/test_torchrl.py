"""TorchRL drives single environments, several in processes, and the vector environment."""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import pytest

import dist4d_env  # noqa: F401  (registers the environment)


def make(**keywords):
    from torchrl.envs import GymEnv

    return GymEnv("DiST4D-nuScenes-v0", **keywords)


@pytest.mark.parametrize("action", ["controls", "trajectory", "discrete"])
def test_gym_env(keywords, action):
    from torchrl.envs.utils import check_env_specs

    env = make(**keywords, action=action)
    check_env_specs(env)
    assert env.rollout(2)["next", "reward"].shape == (2, 1)


def test_gym_env_finds_out_which_keywords_there_are(keywords):
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'wold'"):
        make(**keywords, wold="none")


def test_gym_env_with_pixels(keywords):
    env = make(**keywords, from_pixels=True, pixels_only=False)
    assert env.rollout(2)["pixels"].shape[-1] == 3


def test_parallel_env(keywords):
    from torchrl.envs import ParallelEnv

    env = ParallelEnv(2, partial(make, **keywords), mp_start_method="spawn")
    try:
        assert env.rollout(2)["next", "reward"].shape == (2, 2, 1)
    finally:
        env.close()


def test_vector_environment(keywords):
    """TorchRL resets ended rows by a mask, which AutoresetMode.DISABLED leaves to it."""
    from torchrl.envs import GymWrapper
    from torchrl.envs.utils import check_env_specs

    together = partial(gym.make_vec, "DiST4D-nuScenes-v0", num_envs=3, vectorization_mode="vector_entry_point", **keywords)
    env = GymWrapper(together(autoreset_mode="DISABLED"))
    check_env_specs(env)
    seen = env.rollout(9, break_when_any_done=False)
    assert seen.shape == (3, 9) and seen["next", "done"].any(1).all(), "episodes end and begin anew"
    with pytest.raises(RuntimeError, match="auto-reset mode"):
        GymWrapper(together())
