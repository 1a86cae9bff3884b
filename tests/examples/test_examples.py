"""The examples of docs/extending.md: a world and a traffic model from outside, in single and vector environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.worlds.contract import world_traits
from examples.cautious_traffic import CautiousTraffic
from examples.fog_world import COLOUR, FogWorld, in_fog
from tests.envs.worlds import assert_same

ID, SEEDS = "DiST4D-nuScenes-v0", (3, 4, 5)
ACTIONS = np.array([[0.3, 0.1], [0.2, -0.2], [-0.5, 0.0], [0.1, 0.05]], np.float32)
FOG = ["examples.fog_world:FogWorld", lambda: FogWorld("splat", visibility=(20.0, 40.0))]
CAUTIOUS = ["examples.cautious_traffic:CautiousTraffic", lambda: CautiousTraffic(reach=40.0, beside=5.0)]


def alone(keywords: dict[str, Any], seed: int) -> list[Any]:
    """An episode in an environment of its own, taken back to its middle once."""
    env = gym.make(ID, **keywords).unwrapped
    happened = [env.reset(seed=seed)[0]]
    snapshot = None
    for number, action in enumerate(ACTIONS):
        if number == 2:
            snapshot = env.snapshot()  # type: ignore[attr-defined]
            env.step(np.array([1.0, 1.0], np.float32))
            env.restore(snapshot)  # type: ignore[attr-defined]
        happened.append(env.step(action)[:4])
    return happened


def together(keywords: dict[str, Any]) -> list[list[Any]]:
    """The episodes of all seeds in one batch."""
    envs = gym.make_vec(ID, len(SEEDS), vectorization_mode="vector_entry_point", **keywords)
    first, _ = envs.reset(seed=list(SEEDS))
    happened = [[{key: value[row] for key, value in first.items()}] for row in range(len(SEEDS))]
    for action in ACTIONS:
        observations, rewards, terminated, truncated, _ = envs.step(np.tile(action, (len(SEEDS), 1)))
        for row, episode in enumerate(happened):
            now = {key: value[row] for key, value in observations.items()}
            episode.append((now, float(rewards[row]), bool(terminated[row]), bool(truncated[row])))
    return happened


@pytest.mark.parametrize("given", FOG, ids=["by name", "as an object"])
def test_a_world_from_outside_is_the_same_alone_and_in_a_batch(town_dataroot, given) -> None:
    world = given if isinstance(given, str) else given()
    keywords = {"dataroot": str(town_dataroot), "world": world, "observation": ("cameras", "depth", "ego"), "horizon": 4.0}
    for seed, episode in zip(SEEDS, together(keywords), strict=True):
        assert_same(alone(keywords, seed), episode)


def test_fog_hides_what_is_far() -> None:
    depth = np.full((1, 4, 4), 1.0, np.float32)
    depth[0, :2] = FAR
    intrinsics, pose = np.array([[[50.0, 0, 2], [0, 50, 2], [0, 0, 1]]]), np.eye(4)[None]
    frame = in_fog(RGBDFrame(np.zeros((1, 4, 4, 3), np.uint8), depth, intrinsics, pose, np.zeros(1)), 30.0)
    assert np.abs(frame.rgb[0, :2] - COLOUR).max() <= 1 and frame.rgb[0, 2:].max() < 30
    assert world_traits(FogWorld()).needs_images and not world_traits(FogWorld("oracle")).needs_images


@pytest.mark.parametrize("given", CAUTIOUS, ids=["by name", "as an object"])
def test_traffic_from_outside_is_the_same_alone_and_in_a_batch(town_dataroot, given) -> None:
    traffic = given if isinstance(given, str) else given()
    keywords = {"dataroot": str(town_dataroot), "world": "none", "traffic": traffic, "horizon": 4.0}
    for seed, episode in zip(SEEDS, together(keywords), strict=True):
        assert_same(alone(keywords, seed), episode)


def test_agents_stop_for_the_ego_and_otherwise_drive_as_logged(town_dataroot) -> None:
    dataset = open_dataset(town_dataroot)
    scene = dataset.load(dataset.names()[0])
    log, free, stopped = (
        Simulator(SimulatorConfig(traffic=traffic), [scene])
        for traffic in ("replay", CautiousTraffic(reach=0.0), CautiousTraffic(reach=1e4, beside=1e4))
    )
    states = [simulator.reset([0], [1.0]) for simulator in (log, free, stopped)]
    for _ in range(6):
        states = [sim.step(state, np.zeros((1, 2)))[0] for sim, state in zip((log, free, stopped), states, strict=True)]
    logged, same, held = (state.agents for state in states)
    assert np.array_equal(logged.values, same.values) and np.array_equal(logged.valid, same.valid)
    moving = logged.valid & held.valid & (np.hypot(*logged.values[4:]) > 1)
    at_rest = np.hypot(*held.values[4:])[moving] == 0
    assert moving.any() and at_rest.any() and not at_rest.all(), "those that the ego is behind drive on"
    expected = stopped.scenes_at(states[2], 3)[0].anticipated_boxes
    assert len(expected) == 3
