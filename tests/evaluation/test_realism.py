"""Seeded rollouts of traffic beside a driven ego."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.cli import Options, run
from dist4d_env.evaluation.realism import RealismResult, judge, rollouts, windows
from dist4d_env.metrics.foreign.wosac import HISTORY, STEPS
from tests.simulation.road import Agent, make_scene, road_map

# A car that is overtaken by nobody, and one right behind the ego.
SCENE = make_scene(Agent(60.0, 3.5, 8.0), Agent(-8.0, 0.0, 8.0), duration=12.0, scene_map=road_map())


def test_windows_hold_history_and_future():
    assert windows(SCENE, 1) == [1.0] and windows(SCENE, 3) == pytest.approx([1.0, 2.5, 4.0])
    assert windows(make_scene(duration=8.0), 2) == []
    with pytest.raises(DataError, match="long enough"):
        RealismResult.of([])


def test_rollouts_are_seeded_and_the_first_is_recorded():
    made = rollouts(SCENE, 1.0, "idm", 3, seed=5)
    assert all(len(trace.time) == HISTORY + STEPS for trace in made)
    ahead = [trace.ego[-1, 0] for trace in made]
    assert ahead[0] == pytest.approx(72.0, abs=0.3) and len({round(x, 3) for x in ahead}) == 3
    for mine, theirs in zip(made, rollouts(SCENE, 1.0, "idm", 3, seed=5), strict=True):
        assert np.array_equal(mine.ego, theirs.ego) and np.array_equal(mine.position, theirs.position)
    assert not np.array_equal(made[1].ego, rollouts(SCENE, 1.0, "idm", 3, seed=6)[1].ego)


def test_replay_is_the_log_and_idm_answers_a_slower_ego():
    replayed, reacting = (judge(SCENE, 1.0, traffic, 4).found for traffic in ("replay", "idm"))
    assert replayed.ade == 0 and replayed.agents == 2
    slowest = min(trace.ego[-1, 0] for trace in rollouts(SCENE, 1.0, "idm", 4))
    assert slowest < 71.5 and reacting.ade > reacting.min_ade > 0
    assert replayed.meta >= reacting.meta > 0.5
    assert replayed.meta >= judge(SCENE, 1.0, "lanes", 4).found.meta > 0.5


def test_the_command_refuses_what_does_not_go_together(town_dataroot, tmp_path):
    with pytest.raises(ConfigError, match="--two-stage"):
        run(Options(realism=4, two_stage=True))
    with pytest.raises(DataError, match="long enough"):
        run(Options(realism=2, dataroot=town_dataroot, out=tmp_path))
