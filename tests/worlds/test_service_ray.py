"""The world service on a small Ray: frames, episodes and errors as in one process, whatever happens to the actors."""

from __future__ import annotations

import os
import signal

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("ray")
import ray

import dist4d_env  # noqa: F401
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError, WeightsError
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.worlds.service.actors import Batching, Served, serve_world
from dist4d_env.worlds.service.client import RemoteWorld, ServiceError, service_timeout
from tests.envs.worlds import actions_of, assert_same
from tests.raying import small_ray
from tests.worlds.street import make_scene, make_start, scene_at

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def cluster():
    with small_ray():
        yield


@pytest.fixture(scope="module")
def service(cluster):
    """Two actors with the shipped weights."""
    serving = serve_world("world", weights="tiny", actors=2, num_cpus=0.5)
    yield serving
    serving.stop()


@pytest.fixture
def keywords(town_dataroot):
    return {"dataroot": town_dataroot, "scenes": "val", "world": "dist4d", "weights": "tiny", "horizon": 3.0}


def outcomes(env, actions, seed=3, between=None):
    """Everything that an episode tells; ``between`` is called before the step of each number."""
    told = [env.reset(seed=seed)]
    for number, action in enumerate(actions):
        if between is not None:
            between(number)
        told.append(env.step(action))
        if told[-1][2] or told[-1][3]:
            break
    return told


def kill(actor) -> None:
    """The actor's process dies at once, without a word."""
    os.kill(ray.get(actor.describe.remote()).pid, signal.SIGKILL)


def test_an_episode_is_the_same_and_survives_the_death_of_its_actor(service, keywords):
    here, there = gym.make("DiST4D-nuScenes-v0", **keywords), gym.make("DiST4D-nuScenes-v0", service="world", **keywords)
    actions = actions_of(here, 4)
    alone = outcomes(here, actions)
    sources = {outcome[-1]["world"]["source"][0] for outcome in alone}
    assert {"dist_t", "dist_s"} <= sources
    assert_same(alone, outcomes(there, actions))
    lives = {stats["life"] for stats in service.stats()}

    def kill_all(number: int) -> None:
        if number == 2:
            for actor in service.actors:
                kill(actor)

    assert_same(alone, outcomes(there, actions, between=kill_all))
    after = service.stats()
    assert not lives & {stats["life"] for stats in after}
    assert sum(sum(stats["batches"].values()) for stats in after) == len(actions) - 2  # one actor's episode, from its middle on


def test_a_vector_environment_through_both_actors_is_the_one_in_this_process(service, keywords):
    vectors = [
        gym.make_vec("DiST4D-nuScenes-v0", 3, vectorization_mode="vector_entry_point", **{**keywords, **more})
        for more in ({}, {"service": "world"})
    ]
    told = []
    for vector in vectors:
        random, run = np.random.default_rng(0), [vector.reset(seed=5)]
        for _ in range(3):
            run.append(vector.step(random.uniform([0.2, -0.2], [0.5, 0.2], (3, 2)).astype(np.float32)))
        told.append([part[:4] for part in run])
    assert_same(*told)
    assert all(max(stats["batches"]) > 1 or sum(stats["batches"].values()) for stats in service.stats())


def test_lidar_points_are_those_of_the_world_in_this_process(cluster, keywords):
    keywords |= {"world": "oracle", "observation": ("lidar", "ego")}
    serving = serve_world("measuring", world="oracle", num_cpus=0.5)
    here, there = gym.make("DiST4D-nuScenes-v0", **keywords), gym.make("DiST4D-nuScenes-v0", service="measuring", **keywords)
    actions = actions_of(here, 2)
    assert_same(outcomes(here, actions), outcomes(there, actions))
    serving.stop()


def test_scenarios_with_inserted_agents_and_forgetful_actors(cluster, keywords, town_dataroot):
    """An actor that keeps next to nothing is told everything again, and it draws the same."""
    scene = open_dataset(town_dataroot).names()[0]
    serving = serve_world(
        "forgetful",
        weights="splat",
        kept=0.001,
        threads=2,
        batching=Batching(max_batch_size=4, batch_wait_timeout_s=0.0, max_queued_requests=4),
    )
    try:
        keywords = {**keywords, "weights": "splat", "scenario": Scenario(scene, 0.0, edits=(Insert("car", ahead=15.0),))}
        runs = []
        for more in ({}, {"service": "forgetful"}):
            env = gym.make("DiST4D-nuScenes-v0", **keywords, **more)
            runs.append(outcomes(env, actions_of(env, 3)))
        assert_same(*runs)
        (stats,) = serving.stats()
        assert stats["states"] == 1
    finally:
        serving.stop()
    with pytest.raises(ConfigError, match="no world service"):
        RemoteWorld("forgetful", Served("dist4d", "splat"))


def test_any_world_is_served_by_its_path(cluster, town_dataroot):
    keywords = {"dataroot": town_dataroot, "scenes": "val", "world": "dist4d_env.worlds.replay:ReplayWorld", "horizon": 3.0}
    serving = serve_world("named", keywords["world"], num_cpus=0.1)
    try:
        envs = [gym.make("DiST4D-nuScenes-v0", **keywords, **more) for more in ({}, {"service": "named"})]
        assert_same(*(outcomes(env, actions_of(env, 2)) for env in envs))
        assert envs[1].unwrapped.open_world().needs_images
    finally:
        serving.stop()


def test_errors_arrive_as_what_they_are(service, cluster):
    with pytest.raises(ConfigError, match="serves weights='tiny'"):
        RemoteWorld("world", Served("dist4d", "splat"))
    with pytest.raises(ConfigError, match="already running"):
        serve_world("world")
    with pytest.raises(ConfigError, match="world 'unreal' is unknown"):
        serve_world("other", "unreal")
    with pytest.raises(WeightsError, match="no-such-weights"):
        serve_world("other", weights="no-such-weights", num_cpus=0.1)
    world, scene = RemoteWorld("world", Served()), make_scene(without=range(9))
    good = make_scene()
    with pytest.raises(DataError, match="no keyframe with images"):
        world.step(world.reset([make_start(scene)]), [scene_at(scene, 0.0)])
    ((_, frame, info),) = world.step(world.reset([make_start(good)]), [scene_at(good, 0.0)])
    assert info.source == ("log",) * 6 and frame.rgb.shape == (6, 64, 112, 3)


def test_how_long_to_wait_is_a_number_of_seconds(monkeypatch):
    assert service_timeout() == 120
    monkeypatch.setenv("DIST4D_SERVICE_TIMEOUT", "2.5")
    assert service_timeout() == 2.5
    for text in ("soon", "-1", "inf"):
        monkeypatch.setenv("DIST4D_SERVICE_TIMEOUT", text)
        with pytest.raises(ConfigError, match="DIST4D_SERVICE_TIMEOUT"):
            service_timeout()


def test_a_service_that_is_stopped_is_an_error_in_time(cluster):
    serving = serve_world("short", weights="splat", num_cpus=0.5)
    world, scene = RemoteWorld("short", Served("dist4d", "splat"), timeout=1.0), make_scene()
    (state,) = world.reset([make_start(scene)])
    serving.stop()
    with pytest.raises(ServiceError, match="did not answer within 1 s: an actor has died"):
        world.step([state], [scene_at(scene, 0.0)])
