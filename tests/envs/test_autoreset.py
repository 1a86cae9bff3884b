"""How episodes of the vector environment begin anew, as Gymnasium's own vector environments do it, and its rows' attributes."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dist4d_env.envs.vector import DiST4DVectorEnv
from dist4d_env.envs.wrappers import vector as wrappers
from dist4d_env.errors import ConfigError
from dist4d_env.worlds import stopwatch

from .worlds import assert_same

MODES = tuple(AutoresetMode)
COUNT = 3


@pytest.fixture
def keywords(town_dataroot):
    return {"dataroot": str(town_dataroot), "world": "none", "horizon": 1.0, "termination": (), "observation": ("ego", "agents")}


def synchronous(keywords, mode):
    return SyncVectorEnv([lambda: gym.make("DiST4D-nuScenes-v0", **keywords)] * COUNT, autoreset_mode=mode)


def actions(step):
    return np.random.default_rng(step).uniform(-0.3, 0.3, (COUNT, 2)).astype(np.float32)


def without_masks(info):
    """What both tell: Gymnasium's leaves a key out where nobody has it, and does not know how a None is masked."""
    kept = {key: value for key, value in info.items() if not key.startswith("_") and key != "timing_ms"}
    return {key: without_masks(value) if isinstance(value, dict) else value for key, value in kept.items()}


@pytest.mark.parametrize("mode", MODES)
def test_as_gymnasium_does_it(keywords, mode):
    """Observations, rewards and ends of every step through several episodes, and what is told of the last instants."""
    ours, theirs = DiST4DVectorEnv(COUNT, **keywords, autoreset_mode=mode), synchronous(keywords, mode)
    assert ours.metadata["autoreset_mode"] is mode and ours.autoreset_mode is mode
    seeds = [4, 5, 6]
    assert_same(ours.reset(seed=seeds)[0], theirs.reset(seed=seeds)[0])
    if mode is not AutoresetMode.NEXT_STEP:  # so that they end at different times
        mask = np.array([True, False, False])
        ours.step(actions(50)), theirs.step(actions(50))
        assert_same(ours.reset(options={"reset_mask": mask})[0], theirs.reset(options={"reset_mask": mask})[0])
    told = 0
    for step in range(9):
        mine, others = ours.step(actions(step)), theirs.step(actions(step))
        assert_same(mine[:4], others[:4])
        ended = mine[2] | mine[3]
        assert ("final_obs" in mine[4]) == ("final_obs" in others[4]) == bool(mode is AutoresetMode.SAME_STEP and ended.any())
        if "final_obs" in mine[4]:
            told += 1
            assert_same(list(mine[4]["final_obs"]), list(others[4]["final_obs"]))
            for info in (mine[4], others[4]):
                assert np.array_equal(info["_final_obs"], ended) and np.array_equal(info["_final_info"], ended)
            mine_last, others_last = mine[4]["final_info"], others[4]["final_info"]
            assert list(mine_last["ended_by"]) == list(others_last["ended_by"])
            assert_same(without_masks(mine_last["metrics"]["final"]), without_masks(others_last["metrics"]["final"]))
            assert mine_last["time"].tolist() == others_last["time"].tolist()
        if mode is AutoresetMode.DISABLED and ended.any():
            told += 1
            with pytest.raises(ResetNeeded, match="are over"):
                ours.step(actions(step))
            assert_same(ours.reset(options={"reset_mask": ended})[0], theirs.reset(options={"reset_mask": ended})[0])
    assert told > 1 or mode is AutoresetMode.NEXT_STEP


def test_at_once_the_info_is_that_of_the_new_episode(keywords):
    venv = DiST4DVectorEnv(2, **keywords, autoreset_mode="SameStep")
    venv.reset(seed=0)
    *_, truncated, info = venv.step(np.zeros((2, 2))), None
    *_, truncated, info = venv.step(np.full((2, 2), 2.0))
    assert truncated.all() and info["time"].tolist() == [row.episode.state.time for row in venv.envs]
    assert not info["clipped"].any() and info["final_info"]["clipped"].all(), "the last action was, the first instant has none"
    assert info["final_info"]["metrics"]["final"]["progress"]["valid"].all() and list(info["ended_by"]) == [None, None]


def test_at_once_durations_are_shares_of_all_that_played(keywords, monkeypatch):
    """By a clock on which every stage takes a second."""
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    venv = DiST4DVectorEnv(COUNT, **keywords, autoreset_mode="SAME_STEP")
    venv.reset(seed=0)
    venv.step(actions(0))
    venv.reset(options={"reset_mask": np.array([False, True, True])})
    *_, truncated, info = venv.step(actions(1))
    assert truncated.tolist() == [True, False, False]
    other, ended = info["timing_ms"][1]["simulation"], info["final_info"]["timing_ms"][0]["simulation"]
    usual = venv.step(actions(2))[-1]["final_info"]["timing_ms"][1]["simulation"]
    assert float(ended) == float(usual) == pytest.approx(2000 / COUNT)
    assert float(other) == pytest.approx(3000 / COUNT), "with the beginning of the new episode"


def test_a_row_restored_at_its_end_waits_for_its_reset(keywords):
    venv = DiST4DVectorEnv(2, **keywords, autoreset_mode="DISABLED")
    venv.reset(seed=0)
    for _ in range(2):
        venv.step(np.zeros((2, 2)))
    kept = venv.envs[0].snapshot()
    venv.reset(seed=1)
    venv.envs[0].restore(kept)
    with pytest.raises(ResetNeeded, match="0 are over"):
        venv.step(np.zeros((2, 2)))
    venv.reset(options={"reset_mask": np.array([True, False])})
    venv.step(np.zeros((2, 2)))


def test_an_error_in_the_new_episode_loses_nothing(keywords):
    venv = DiST4DVectorEnv(2, **keywords, autoreset_mode="SAME_STEP")
    venv.reset(seed=0)
    venv.step(np.zeros((2, 2)))
    venv.set_attr("starts", lambda: {"scene": "nowhere"})
    with pytest.raises(Exception, match="nowhere"):
        venv.step(np.zeros((2, 2)))
    assert all(row.episode.ended_by == "horizon" for row in venv.envs)
    with pytest.raises(ResetNeeded):
        venv.step(np.zeros((2, 2)))


@pytest.mark.parametrize("mode", MODES)
def test_our_wrappers_in_every_mode(keywords, mode):
    """A history never mixes two episodes, and the last observation is put together like all others."""
    bare = DiST4DVectorEnv(COUNT, **keywords, autoreset_mode=mode)
    env = wrappers.FrameHistory(wrappers.VectorOnly(DiST4DVectorEnv(COUNT, **keywords, autoreset_mode=mode)), frames=2)
    flat = wrappers.VectorOnly(bare)
    last, _ = flat.reset(seed=1)
    seen, _ = env.reset(seed=1)
    assert np.array_equal(seen, np.concatenate([last, last], 1))
    before = np.zeros(COUNT, bool)
    for step in range(7):
        now, _, terminated, truncated, plain = flat.step(actions(step))
        seen, *_, info = env.step(actions(step))
        ended = terminated | truncated
        begun = {AutoresetMode.NEXT_STEP: before, AutoresetMode.SAME_STEP: ended, AutoresetMode.DISABLED: np.zeros(COUNT, bool)}[
            mode
        ]
        assert np.array_equal(seen, np.concatenate([np.where(begun[:, None], now, last), now], 1))
        for row in np.flatnonzero(ended & (mode is AutoresetMode.SAME_STEP)).tolist():
            assert np.array_equal(info["final_obs"][row], np.concatenate([last[row], plain["final_obs"][row]]))
        before, last = ended, now
        if mode is AutoresetMode.DISABLED and ended.any():
            last, _ = flat.reset(options={"reset_mask": ended})
            seen, _ = env.reset(options={"reset_mask": ended})
            assert np.array_equal(seen[ended], np.concatenate([last, last], 1)[ended])


def test_attributes_of_the_rows(keywords):
    venv = DiST4DVectorEnv(2, **keywords)
    venv.reset(seed=0)
    assert venv.call("trace")[1].time.shape == (1,) and venv.get_attr("config") == (venv.config,) * 2
    assert venv.get_attr("generator") == venv.np_random
    venv.set_attr("render_mode", ["rgb_array", None])
    assert venv.get_attr("render_mode") == ("rgb_array", None) and venv.render()[0].ndim == 3
    venv.set_attr("starts", lambda: {"start": 0.5})
    assert (venv.reset(seed=0)[1]["time"] == 0.5).all()
    with pytest.raises(ConfigError, match="3 values of starts for 2"):
        venv.set_attr("starts", [None] * 3)
    with pytest.raises(AttributeError, match="nothing"):
        venv.call("nothing")


def test_clipped_controls_are_told_in_every_info(keywords):
    single, venv = gym.make("DiST4D-nuScenes-v0", **keywords).unwrapped, DiST4DVectorEnv(2, **keywords)
    assert single.reset(seed=0)[1]["clipped"] is False and venv.reset(seed=[0, 1])[1]["clipped"].tolist() == [False, False]
    wild = np.array([5.0, -1e300])
    *outcome, info = single.step(wild)
    *_, infos = venv.step(np.stack([wild, [0.5, 0.5]]))
    assert info["clipped"] is True and infos["clipped"].tolist() == [True, False] and infos["_clipped"].all()
    single.reset(seed=0)
    *expected, info = single.step([1.0, -1.0])
    assert info["clipped"] is False
    assert_same(outcome, expected)
