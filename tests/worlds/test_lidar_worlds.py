"""Worlds that measure LiDAR points themselves, in this process and behind a service's queue."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.data.open import open_dataset
from dist4d_env.geometry.lidar import NUSCENES_LIDAR
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import WorldStart, world_traits
from dist4d_env.worlds.oracle import OracleWorld
from dist4d_env.worlds.service.actors import Batching, LidarReply, Served, StepRequest, WorldActor
from dist4d_env.worlds.service.state_parts import pack


@pytest.fixture
def scene(town_dataroot) -> Scene:
    return open_dataset(town_dataroot).load("town-val-0000")


def at(scene: Scene, time: float) -> SceneAt:
    return SceneAt(time, scene.ego_pose(time), scene.boxes(time), np.zeros(0), np.zeros((0, 4, 4)), ())


def test_a_scene_has_its_lidar(scene):
    """The town's is mounted as its tables say, with nuScenes' beams."""
    np.testing.assert_allclose(scene.lidar.ego_from_lidar, NUSCENES_LIDAR.ego_from_lidar, atol=1e-9)
    assert len(scene.lidar) == 34_560


def test_worlds_declare_that_they_measure():
    assert world_traits("oracle").measures_lidar
    assert not any(world_traits(name).measures_lidar for name in ("none", "replay", "dist4d"))


def test_points_follow_the_ego_and_the_agents(scene):
    world = OracleWorld()
    state = world.reset([WorldStart(scene, scene.rig.at_size(16, 28), 0.0, 0)])[0]
    here, later = world.lidar([state, state], [at(scene, 0.5), at(scene, 3.0)], scene.lidar)
    assert here.shape[1] == 4 and 0 < here[:, 3].min() and here[:, 3].max() <= 255
    assert not np.array_equal(here, later)
    boxes = scene.boxes(0.5)
    empty = replace(at(scene, 0.5), boxes=boxes.select(np.zeros(len(boxes), bool)))
    assert not np.array_equal(world.lidar([state], [empty], scene.lidar)[0], here), "agents return beams"


@pytest.mark.parametrize("name", ["oracle", "replay"])
def test_an_actor_answers_with_points_or_says_what_failed(scene, name):
    start, numbers = WorldStart(scene, scene.rig.at_size(16, 28), 0.0, 0), itertools.count()

    async def run():
        actor = WorldActor(Served(name), Batching(), 1, 1, 100.0)
        packed = pack(start, lambda: f"k{next(numbers)}")[0]
        return await actor.step([StepRequest("first", packed, at(scene, 0.5), scene.lidar)], 60.0)

    (answer,) = asyncio.run(run())
    if name == "oracle":
        world = OracleWorld()
        assert isinstance(answer, LidarReply)
        assert np.array_equal(answer.values, world.lidar(world.reset([start]), [at(scene, 0.5)], scene.lidar)[0])
    else:
        assert isinstance(answer, AttributeError)
