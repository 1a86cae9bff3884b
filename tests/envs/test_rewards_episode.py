"""Rewards of whole episodes: they add up to the score that the episode gets."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

from dist4d_env.data.lights import lights_file
from dist4d_env.envs.rewards import pdms_so_far
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.recording import logged_progress
from dist4d_env.planners.contract import PlannerContext, PlannerInput
from dist4d_env.planners.lane_follower import LaneFollower
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario


def drive(env: gym.Env, seed: int, action=None):
    """One episode of the lane follower, or of one action over and over: rewards, terms and the last info."""
    env.reset(seed=seed)
    driving, planner = env.unwrapped, LaneFollower()
    planner.reset(PlannerContext(driving.scene, 0.5, 2.0), 0)
    rewards, terms, over = [], [], False
    while not over:
        state = driving.episode.state
        chosen = planner.plan(PlannerInput(state.time, state.ego, {}, state)).trajectory if action is None else action
        _, reward, terminated, truncated, info = env.step(np.asarray(chosen, np.float32))
        rewards.append(reward)
        terms.append(info["reward_terms"])
        over = terminated or truncated
    return rewards, terms, info


@pytest.mark.parametrize(("seed", "horizon"), [(0, 4.0), (1, 4.0), (2, 4.0), (3, 4.0), (0, 1.25), (1, 3.8)])
def test_an_episode_driven_to_its_end_collects_its_score(make_env, seed, horizon):
    rewards, terms, info = drive(make_env(action="trajectory", reward="pdms", horizon=horizon), seed)
    assert info["ended_by"] == "horizon"
    final = info["metrics"]["final"]["pdms_v1"]
    assert final["valid"] and sum(rewards) == pytest.approx(final["value"], abs=1e-9)
    assert [t["pdms"] for t in terms] == rewards and max(rewards) < 0.5  # collected on the way, not at the end


def test_a_fault_takes_back_what_was_collected(make_env):
    """Full speed ahead and to the left: off the road."""
    rewards, _, info = drive(make_env(reward="pdms", horizon=8.0, termination=("collision", "off_road")), 1, [0.5, 0.3])
    assert info["ended_by"] in ("off_road", "collision") and len(rewards) > 1
    assert max(np.cumsum(rewards)) > 0.02 and sum(rewards) == pytest.approx(0.0, abs=1e-9)


def test_sparse_is_silent_until_the_end(make_env):
    rewards, terms, info = drive(make_env(action="trajectory", reward="sparse", horizon=4.0), 0)
    assert info["ended_by"] == "horizon"
    far = info["metrics"]["final"]["ego_progress"]["value"]
    assert rewards[:-1] == [0.0] * (len(rewards) - 1) and rewards[-1] == terms[-1]["arrival"] == float(far >= 0.9)
    rewards, _, info = drive(make_env(reward="sparse", horizon=8.0), 1, [0.5, 0.3])
    assert info["ended_by"] in ("off_road", "collision", "wrong_way") and sum(rewards) == -1.0


def test_who_stands_still_does_not_arrive(make_env):
    env = make_env(reward="sparse", horizon=4.0)
    arrivals = []
    for seed in range(6):
        _, terms, info = drive(env, seed, [-1.0, 0.0])
        episode = env.unwrapped.episode
        begun = float(env.unwrapped.trace().time[0])
        logged = logged_progress(env.unwrapped.scene, VehicleParameters(), begun, episode.end_time)
        came = info["metrics"]["route_progress"]
        assert terms[-1]["arrival"] == float(info["ended_by"] == "horizon" and (logged <= 5.0 or came >= 0.9 * logged))
        arrivals.append(terms[-1]["arrival"])
    assert 0.0 in arrivals


def test_terms_are_there_only_where_they_are_weighed(make_env):
    env = make_env(reward={"progress": 1.0, "pdms": 2.0})
    _, info = env.reset(seed=0)
    assert info["reward_terms"]["pdms"] == 0.0 and "arrival" not in info["reward_terms"]
    _, reward, _, _, info = env.step(np.zeros(2, np.float32))
    assert reward == pytest.approx(info["reward_terms"]["progress"] + 2 * info["reward_terms"]["pdms"])


def test_nothing_is_collected_at_the_start(make_env):
    env = make_env()
    env.reset(seed=0)
    driving = env.unwrapped
    assert pdms_so_far(driving.trace(), driving.episode.end_time, 30.0) == 0.0


@pytest.mark.parametrize("touching", [Insert(ahead=-2.0, lateral=2.2), Insert(ahead=-1.0, lateral=1.6, category="barrier")])
def test_what_touches_the_ego_at_the_start_costs_nothing(make_env, touching):
    """A parked car, a barrier: reward, running values and final score are those without it."""
    collected = []
    for edits in ((), (touching,)):
        env = make_env(action="trajectory", reward="pdms", horizon=4.0, traffic="replay")
        env.reset(options={"scenario": Scenario(env.unwrapped.scene_names[0], 1.0, ego_offset=0.6, edits=edits)})
        driving, rewards, over = env.unwrapped, [], False
        assert bool(driving.trace().contact.any()) == bool(edits)
        while not over:
            plan = np.zeros((8, 3), np.float32)
            plan[:, 0] = 0.5 * driving.episode.state.ego.speed * np.arange(1, 9)
            _, reward, terminated, truncated, info = env.step(plan)
            rewards.append(reward)
            over = terminated or truncated
            assert info["metrics"]["collision"] == 0.0
        final = info["metrics"]["final"]["pdms_v1"]
        assert info["ended_by"] == "horizon" and sum(rewards) == pytest.approx(final["value"], abs=1e-9)
        collected.append(rewards)
    assert collected[0] == collected[1] and sum(collected[1]) > 0.5


def test_running_a_red_light_costs_where_it_is_weighed(make_env, town_dataroot, tmp_path):
    """A line across the road, 8 m ahead of the first keyframe's ego, at green and at red."""
    env = make_env()
    env.reset(seed=0, options={"scene": "town-val-0000", "start": 0.0})
    assert "red_light" not in env.step(np.zeros(2, np.float32))[4]["reward_terms"], "it is there where it is weighed"
    pose = env.unwrapped.scene.ego_pose(0.0)
    ends = [(pose @ [8.0, left, 0.0, 1.0])[:2].tolist() for left in (15.0, -15.0)]
    for state, ran in (("green", 0.0), ("red", 1.0)):
        file = lights_file(tmp_path / state, "town-val-0000")
        file.parent.mkdir(parents=True)
        for entry in town_dataroot.iterdir():
            if entry.name != file.parent.name:
                (tmp_path / state / entry.name).symlink_to(entry)
        light = {"token": "light", "stop_line": ends, "lanes": [], "heads": [], "states": [[0.0, state]]}
        file.write_text(json.dumps([light]))
        env = make_env(dataroot=str(tmp_path / state), reward={"red_light": -3.0, "progress": 0.1}, horizon=3.0, termination=())
        env.reset(seed=0, options={"scene": "town-val-0000", "start": 0.0})
        over, total = False, 0.0
        while not over:
            _, reward, _, over, info = env.step(np.array([1.0, 0.0], np.float32))
            terms = info["reward_terms"]
            assert terms["red_light"] == info["metrics"]["red_light"]
            assert reward == pytest.approx(0.1 * terms["progress"] - 3.0 * terms["red_light"])
            total += terms["red_light"]
        assert total == ran
