"""Reward terms, episode end and timings as values."""

from __future__ import annotations

import copy
import pickle

import pytest

from dist4d_env.envs.rewards import DEFAULT_WEIGHTS, reward_terms, reward_weights, weighted_sum
from dist4d_env.envs.termination import termination_cause, truncation_cause
from dist4d_env.envs.timing import Stopwatch, Timing
from dist4d_env.errors import ConfigError

NAN = float("nan")
CALM = {
    "progress_delta": 4.0,
    "at_fault_collision": 0.0,
    "off_road": 0.0,
    "wrong_way": 0.0,
    "discomfort": 0.2,
    "speeding": 2.0,
    "route_offset": -1.0,
    "time_to_collision": 10.0,
}


def test_terms_have_their_documented_units():
    terms = reward_terms(CALM, decision_dt=0.5)
    assert terms == pytest.approx(
        {
            "progress": 4.0,
            "collision": 0,
            "off_road": 0,
            "wrong_way": 0,
            "time_to_collision": 0,
            "comfort": 0.2,
            "speed_limit": 1.0,
            "route_offset": 0.5,
        }
    )
    assert weighted_sum(terms, DEFAULT_WEIGHTS) == pytest.approx(4 * 0.2 - 0.2 * 2.0 - 1.0 * 0.4 - 0.5 * 0.05)


def test_a_second_short_of_safe_costs():
    assert reward_terms({**CALM, "time_to_collision": 0.4}, 0.5)["time_to_collision"] == pytest.approx(0.3)


def test_unknown_values_cost_nothing():
    terms = reward_terms({**CALM, "off_road": NAN, "wrong_way": NAN, "speeding": NAN}, 0.5)
    assert terms["off_road"] == terms["wrong_way"] == terms["speed_limit"] == 0.0


def test_given_weights_stand_alone():
    assert reward_weights({"collision": -1}) == {"collision": -1.0}
    assert reward_weights(None) == reward_weights("shaped") == DEFAULT_WEIGHTS
    assert reward_weights("pdms") == {"pdms": 1.0}


@pytest.mark.parametrize("reward", ["dense", {"speed": 1.0}, {"progress": NAN}, 3])
def test_rewards_that_do_not_exist(reward):
    with pytest.raises(ConfigError, match="reward"):
        reward_weights(reward)


def test_causes():
    everything = ("collision", "off_road", "wrong_way")
    assert termination_cause(CALM, everything) is None
    assert termination_cause({**CALM, "off_road": 1.0}, everything) == "off_road"
    assert termination_cause({**CALM, "off_road": 1.0}, ("collision",)) is None
    assert termination_cause({**CALM, "off_road": NAN}, everything) is None
    assert truncation_cause(9.9, 10.0, 1.0, 0.0) is None
    assert truncation_cause(10.0, 10.0, 1.0, 0.0) == "horizon"
    assert truncation_cause(5.0, 10.0, 0.2, 0.3) == "trust"


def test_timings_read_like_dicts_and_compare_equal():
    watch = Stopwatch()
    for _ in range(2):
        with watch("world"):
            pass
    timing = watch.timing({"splat": 3.0})
    assert set(timing) == {"world", "world/splat"} and timing["world/splat"] == 3.0 and timing["world"] >= 0
    assert timing == Timing({}) and timing != {}
    assert dict(pickle.loads(pickle.dumps(timing))) == dict(copy.deepcopy(timing)) == dict(timing)
