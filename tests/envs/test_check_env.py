"""Gymnasium's and Stable-Baselines3's own checkers, without a warning."""

from __future__ import annotations

import warnings
from itertools import combinations

import pytest
from gymnasium.utils.env_checker import check_env

from .worlds import WORLDS, name_of

VECTORS = ("ego", "route", "agents", "bev")
VECTOR_SUBSETS = [subset for count in range(1, 5) for subset in combinations(VECTORS, count)]
PICTURE_SUBSETS = [("cameras",), ("depth",), ("cameras", "depth"), ("cameras", "depth", *VECTORS)]
ACTIONS = ("controls", "trajectory", "discrete")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", VECTOR_SUBSETS, ids="+".join)
def test_gymnasium_accepts_vectors(make_env, observation, action):
    env = make_env(observation=observation, action=action)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=len(observation) < len(VECTORS))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", PICTURE_SUBSETS, ids="+".join)
@pytest.mark.medium
def test_gymnasium_accepts_pictures(make_env, observation, action):
    env = make_env("replay", observation=observation, action=action)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("settings", WORLDS, ids=name_of)
@pytest.mark.medium
def test_gymnasium_accepts_every_world(make_env, settings):
    env = make_env(**settings, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@pytest.mark.parametrize("action", ["controls", "discrete"])
@pytest.mark.parametrize("observation", [("cameras",), ("cameras", "ego"), ("cameras", "ego", "bev")], ids="+".join)
def test_stable_baselines_accepts_pictures_and_vectors(make_env, observation, action):
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    env = make_env("replay", observation=observation, action=action)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_check_env(env.unwrapped)


def test_stable_baselines_only_remarks_on_matrices(make_env):
    """route and agents are (N, columns); SB3 flattens them and says so. Nothing else is remarked on."""
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    env = make_env("replay", observation=("cameras", *VECTORS))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sb3_check_env(env.unwrapped)
    remarks = [str(warning.message) for warning in caught]
    assert len(remarks) == 2
    assert all("route has an unconventional shape" in r or "agents has an unconventional shape" in r for r in remarks)
