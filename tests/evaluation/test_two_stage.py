"""Two stages on recorded scenes: where the second begins, what shows it, and what failures count."""

from __future__ import annotations

import json
import math

import gymnasium as gym
import numpy as np
import pytest

from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.cli import Options, run
from dist4d_env.evaluation.two_stage import SPACING, Judge, TwoStageResult, frames, grid_around, judge_frame, starting_at
from dist4d_env.planners.contract import PlannerNeeds
from dist4d_env.planners.lane_follower import LaneFollower
from dist4d_env.planners.log_follower import LogFollower


class Refuses:
    """Fails in its second plan."""

    requires = PlannerNeeds()

    def __init__(self) -> None:
        self.asked = 0
        self.lane = LaneFollower()

    def reset(self, context, seed):
        self.lane.reset(context, seed)

    def plan(self, given):
        self.asked += 1
        if self.asked > 1:
            raise ValueError("enough")
        return self.lane.plan(given)


@pytest.fixture(scope="module")
def scene(env):
    return env.unwrapped.dataset.load("town-val-0000")


def test_frames_leave_room_for_both_stages(scene):
    assert frames(scene, 3, recorded=1.0) == [0.5, 1.0] and frames(scene, 1, recorded=1.0) == [0.5]
    assert frames(scene, 3) == [], "six seconds are too few"
    with pytest.raises(DataError, match=r"8\.5 s"):
        TwoStageResult.of([])


def test_the_second_stage_begins_around_the_plans_end(env, scene):
    group = judge_frame(Judge(env, LogFollower()), scene, 0.5)
    now, before = group.stages
    assert np.abs(now.starts - now.end).max() <= SPACING and np.allclose(now.starts % SPACING, 0, atol=1e-9)
    assert np.array_equal(now.starts, grid_around(now.end))
    moved = np.linalg.norm(now.starts - before.starts, axis=1)
    assert np.ptp(moved) < 1e-6 and 0 < moved[0] < 8, "half a second before each, at the plan's last speed"
    assert now.first["score"] > 0.95 and now.first.keys() == now.second[0].keys()
    assert now.first["extended_comfort"] == before.first["extended_comfort"]
    again = judge_frame(Judge(env, LogFollower()), scene, 0.5)
    assert again.stages[0].first == now.first and again.stages[1].second == before.second


def test_starts_are_where_they_are_asked_for(env, scene):
    x, y = scene.ego.global_from_ego[30, :2, 3]
    scenario = starting_at(scene, 2.5, x + 3.0, y - 2.0, 0.4, 5.5)
    env.reset(seed=0, options={"scenario": scenario})
    ego = env.unwrapped.episode.state.ego
    assert (ego.x, ego.y, ego.speed) == pytest.approx((x + 3.0, y - 2.0, 5.5), abs=1e-9)
    assert math.remainder(ego.yaw - 0.4, math.tau) == pytest.approx(0, abs=1e-9)


def test_a_failed_group_is_no_zero_but_ranks_as_one(env, scene):
    good = judge_frame(Judge(env, LogFollower()), scene, 0.5)
    bad = judge_frame(Judge(env, Refuses()), scene, 1.0)
    assert bad.stages is None and "enough" in bad.error
    result = TwoStageResult.of([good, bad])
    assert result.score.count == 1 and result.ranked.mean == pytest.approx(result.score.mean / 2)
    assert "failed in 1 of 2 groups" in result.table() and "at 1.0 s" in result.table()
    told = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert told["groups"][1]["score"] is None and len(told["groups"][0]["frames"][0]["second"]) == 4


def test_the_generated_world_shows_it_through_dist_s(town_dataroot, scene):
    env = gym.make("DiST4D-nuScenes-v0", dataroot=str(town_dataroot), world="dist4d", action="trajectory", horizon=3.0)
    place = scene.ego.global_from_ego[40, :2, 3]
    judge = Judge(env, LaneFollower())
    assert set(judge.plan(starting_at(scene, 4.0, *(place + 0.4), 0.0, 3.0))[1]) == {"dist_s"}
    env.close()


def test_the_command_says_what_does_not_go_together(town_dataroot, tmp_path):
    with pytest.raises(ConfigError, match="--suite"):
        run(Options(two_stage=True, suite="town_val"))
    with pytest.raises(DataError, match="long enough"):
        run(Options(two_stage=True, dataroot=town_dataroot, workers=0, out=tmp_path))
    assert not list(tmp_path.iterdir())
