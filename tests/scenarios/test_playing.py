"""Scenarios in the environment: given by keyword or at reset, alone or together, kept apart and repeated exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.envs.episodes import EDITED_SCENES
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.runner import visible_scene
from dist4d_env.planners.contract import PlannerNeeds
from dist4d_env.planners.log_follower import LogFollower
from dist4d_env.scenes.edits import Insert, Remove, Slow, Stop
from dist4d_env.scenes.scenario import Scenario, write_scenario
from scenarios.playing import Braking, drive, make_env
from tests.envs.worlds import assert_same, play

SCENE = "town-val-0000"
WALL = Scenario(SCENE, 0.5, 3.0, edits=(Remove("all"), Insert("truck", ahead=14.0, size=(3.0, 2.5, 3.0))), name="wall")
CROWDED = Scenario(SCENE, 0.5, 3.0, traffic="idm", edits=(Slow("nearest car", at=0.2, speed=0.5, deceleration=4.0),))


@pytest.fixture(scope="module")
def env(town_dataroot: Path):
    made = make_env(str(town_dataroot), None)
    yield made
    made.close()


def test_keyword_and_reset_option_play_the_same(town_dataroot: Path, tmp_path: Path) -> None:
    write_scenario(tmp_path / "wall.yaml", WALL)
    settings = {"dataroot": str(town_dataroot), "world": "none", "observation": ("ego", "agents", "bev")}
    actions = [np.array([0.3, 0.0], np.float32)] * 6
    outcomes = []
    for keyword, option in ((WALL, None), (None, WALL), (tmp_path / "wall.yaml", None), (None, str(tmp_path / "wall.yaml"))):
        made = DiST4DDrivingEnv(**settings, scenario=keyword)
        outcomes.append([made.reset(seed=3, options=None if option is None else {"scenario": option}), *play(made, actions)])
        made.close()
    for other in outcomes[1:]:
        assert_same(other, outcomes[0])
    assert outcomes[0][-1][4]["ended_by"] == "collision"


def test_an_inserted_agent_is_hit_and_a_removed_one_is_not(env) -> None:
    hit = drive(env, WALL, LogFollower())
    assert hit.ended_by == "collision" and not hit.bad_start
    assert hit.trace.valid.shape[1] == len(env.scene.recorded.tracks) + 1 == len(env.scene.tracks)
    assert drive(env, replace(WALL, edits=WALL.edits[:1]), LogFollower()).ended_by == "horizon"


def test_one_environment_serves_many_scenarios_and_comes_back_to_each(env) -> None:
    plain = Scenario(SCENE, 0.5, 2.0)
    first = drive(env, plain, Braking())
    drive(env, WALL, Braking())
    again = drive(env, plain, Braking())
    assert first.trace.ego.tobytes() == again.trace.ego.tobytes() and first.trace.valid.shape == again.trace.valid.shape
    scenarios = [replace(WALL, edits=(Remove("all"), Insert(ahead=20.0 + 0.1 * k))) for k in range(EDITED_SCENES + 3)]
    for scenario in scenarios:
        env.reset(seed=0, options={"scenario": scenario})
    assert sum(bool(key[2]) for key in env._episodes._scenes) == EDITED_SCENES
    assert drive(env, WALL, LogFollower()).ended_by == "collision"


def test_a_snapshot_keeps_its_scenario(env) -> None:
    env.reset(seed=0, options={"scenario": WALL})
    kept, tracks = env.snapshot(), len(env.scene.tracks)
    env.reset(seed=0, options={"scene": SCENE, "start": 0.0})
    assert len(env.scene.tracks) == tracks - 1
    env.restore(kept)
    assert len(env.scene.tracks) == tracks and env.episode.scenario == WALL


def test_traffic_is_the_scenarios_own(env) -> None:
    for traffic, state in (("replay", set()), ("idm", {"idm/position", "idm/speed"})):
        env.reset(seed=0, options={"scenario": Scenario(SCENE, 0.5, 2.0, traffic=traffic)})
        assert env.snapshot().episode.state.traffic.keys() == state


@pytest.mark.parametrize("scenario", [WALL, CROWDED], ids=["replay", "idm"])
def test_members_of_a_vector_environment_play_a_scenario_together(town_dataroot: Path, scenario: Scenario) -> None:
    settings = {"dataroot": str(town_dataroot), "world": "none", "observation": ("ego", "agents")}
    together = gym.make_vec("DiST4D-nuScenes-v0", 2, vectorization_mode="vector_entry_point", **settings)
    alone = DiST4DDrivingEnv(**settings)
    seen, _ = together.reset(seed=[4, 5], options={"scenario": scenario})
    expected, _ = alone.reset(seed=5, options={"scenario": scenario})
    for _ in range(3):
        assert_same({key: value[1] for key, value in seen.items()}, expected)
        seen = together.step(np.full((2, 2), 0.1, np.float32))[0]
        expected = alone.step(np.full(2, 0.1, np.float32))[0]
    together.close()
    alone.close()


def test_what_cannot_be_played_is_refused_and_changes_nothing(env) -> None:
    env.reset(seed=0, options={"scenario": WALL})
    before = env.episode
    for options, error, said in (
        ({"scenario": WALL, "start": 1.0}, ConfigError, "fixed by the scenario"),
        ({"scenario": 3}, ConfigError, "must be a Scenario or the path"),
        ({"scenario": replace(WALL, scene="town-val-0099")}, DataError, "town-val-0099"),
        ({"scenario": replace(WALL, start=50.0)}, ConfigError, "the scenario's start=50.0 must lie between"),
        ({"scenario": replace(WALL, edits=(Stop("nobody"),))}, ConfigError, "no instance 'nobody'"),
        ({"scene": SCENE, "scenery": 1}, ConfigError, "'scenery' is unknown: choose from 'scene', 'start', 'scenario'"),
    ):
        with pytest.raises(error, match=said):
            env.reset(seed=0, options=options)
    after = env.episode
    assert (after.scenario, after.state.ego, after.state.time) == (before.scenario, before.state.ego, before.state.time)


def test_a_scene_and_start_of_none_go_with_a_scenario(env) -> None:
    expected = env.reset(seed=0, options={"scenario": WALL})[0]
    assert_same(env.reset(seed=0, options={"scenario": WALL, "scene": None, "start": None})[0], expected)


def test_a_planner_that_is_not_privileged_sees_neither_edited_nor_recorded_tracks(env) -> None:
    env.reset(seed=0, options={"scenario": WALL})
    assert env.scene.recorded_tracks is not None
    seen = visible_scene(env.scene, PlannerNeeds())
    assert len(seen.tracks) == len(seen.recorded.tracks) == 0 and seen.map is None
    assert len(visible_scene(env.scene, PlannerNeeds(privileged=True)).tracks) == len(env.scene.tracks)
