"""The observation "lidar" in every world that shows pictures."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dist4d_env.envs.sensors.lidar import Lidar
from dist4d_env.errors import ConfigError
from dist4d_env.geometry.lidar import depth_ranges
from dist4d_env.geometry.transforms import apply, invert

from .worlds import actions_of, assert_same, play

LIDAR = ("lidar", "ego")
WITH_PICTURES = ({"world": "oracle"}, {"world": "replay"}, {"world": "dist4d", "weights": "tiny"})


def parts(lidar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are valid and those that are padding."""
    count = int(lidar[:, 4].sum())
    return lidar[:count], lidar[count:]


@pytest.mark.parametrize("settings", WITH_PICTURES, ids=lambda s: s["world"])
def test_valid_rows_come_first(make_env, settings):
    env = make_env(**settings, observation=LIDAR)
    observation, _ = env.reset(seed=0)
    assert observation["lidar"].shape == (34_560, 5) and observation in env.observation_space
    points, padding = parts(observation["lidar"])
    assert (points[:, 4] == 1).all() and not padding.any() and 15_000 < len(points) < 34_560
    reach = np.linalg.norm(points[:, :3] - (0.94, 0, 1.84), axis=1)
    assert reach.max() < 80.01 and reach.min() > 0.99
    assert (points[:, 3] > 0).all() if settings["world"] == "oracle" else (points[:, 3] == 0).all()
    assert (np.abs(points[:, 2]) < 0.1).mean() > 0.3, "the ground"


def test_a_world_without_pictures_is_refused(make_env):
    with pytest.raises(ConfigError, match=r"makes no pictures.*'lidar'"):
        make_env("none", observation=LIDAR)


@pytest.mark.parametrize("settings", WITH_PICTURES[:2], ids=lambda s: s["world"])
def test_gymnasium_accepts_it(make_env, settings):
    env = make_env(**settings, observation=LIDAR)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("settings", WITH_PICTURES[:2], ids=lambda s: s["world"])
def test_rows_of_a_vector_environment_are_single_ones_and_snapshots_go_on(make_env, town_dataroot, settings):
    keywords = {"dataroot": str(town_dataroot), "scenes": "val", "horizon": 2.0, "observation": LIDAR, **settings}
    venv = gym.make_vec("DiST4D-nuScenes-v0", num_envs=2, vectorization_mode="vector_entry_point", **keywords)
    together = [venv.reset(seed=3)[0]]
    actions = np.stack(actions_of(venv, 2))
    together += [venv.step(actions[[step, step]])[0] for step in range(2)]
    venv.close()
    for row in range(2):
        env = make_env(**settings, observation=LIDAR)
        outcomes = [env.reset(seed=3 + row)[0], env.step(actions[0])[0]]
        snapshot = env.unwrapped.snapshot()
        outcomes.append(play(env, [actions[1]])[0][0])
        assert_same([{key: value[row] for key, value in each.items()} for each in together], outcomes)
        env.unwrapped.restore(snapshot)
        assert_same(env.step(actions[1])[0], outcomes[2])


def test_points_from_depth_are_those_that_rays_find(make_env):
    """At 64 x 112 on true RGB-D, beam by beam: the bound is a little below the figure that ``Lidar`` states."""
    env = make_env("oracle", observation=LIDAR).unwrapped
    observation, _ = env.reset(seed=0)
    pattern, frame = env.scene.lidar, env.episode.frame
    pose = frame.global_from_camera[0] @ invert(env.scene.rig.ego_from_camera[0])
    ranges = depth_ranges(pattern, frame, pose)
    cast = apply(invert(pattern.ego_from_lidar), parts(observation["lidar"])[0][:, :3].astype(float))
    length = np.linalg.norm(cast, axis=1)
    step = np.round(-np.arctan2(cast[:, 1], cast[:, 0]) / (2 * np.pi / pattern.azimuths)).astype(int) % pattern.azimuths
    ring = np.abs(np.arcsin(cast[:, 2] / length)[:, None] - pattern.elevations).argmin(1)
    true = np.full(len(pattern), np.inf)
    true[step * len(pattern.elevations) + ring] = length
    shown = np.isfinite(ranges)
    near = np.abs(ranges[shown] - np.where(np.isfinite(true), true, 1e9)[shown]) < 0.1 * ranges[shown]
    assert shown.sum() > 0.6 * len(cast) and near.mean() > 0.97


def test_scenes_with_more_beams_are_refused(make_env):
    from dataclasses import replace
    from types import SimpleNamespace

    env = make_env("oracle", observation=LIDAR).unwrapped
    env.reset(seed=0)
    sensor, scene = Lidar(), env.scene
    space = sensor.space(replace(scene, lidar=replace(scene.lidar, azimuths=10)), (64, 112))["lidar"]
    now = SimpleNamespace(rows=[0], scenes=[scene], frames=[None], world=None)
    with pytest.raises(ConfigError, match="34560 beams, but this environment observes 320"):
        sensor.observe(now, {"lidar": np.zeros((1, *space.shape), np.float32)})
