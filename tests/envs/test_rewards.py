"""Reward terms, episode end and timings as values."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.envs.ending import termination_causes, truncation_cause
from dist4d_env.envs.rewards import DEFAULT_WEIGHTS, reward_terms, reward_weights, weighted_sum
from dist4d_env.errors import ConfigError
from dist4d_env.worlds.contract import WorldInfo

NAN = float("nan")
CALM = {
    "route_progress_delta": 4.0,
    "at_fault_collision": 0.0,
    "off_road": 0.0,
    "wrong_way": 0.0,
    "discomfort": 0.2,
    "speeding": 2.0,
    "route_offset": -1.0,
    "time_to_contact": 10.0,
}


def batch(values):
    return {name: np.array([value]) for name, value in values.items()}


def terms_of(values):
    return {name: float(term[0]) for name, term in reward_terms(batch(values), decision_dt=0.5).items()}


def test_terms_have_their_documented_units():
    terms = terms_of(CALM)
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
    assert weighted_sum(batch(terms), DEFAULT_WEIGHTS, 1)[0] == pytest.approx(4 * 0.2 - 0.2 * 2.0 - 1.0 * 0.4 - 0.5 * 0.05)


def test_a_second_short_of_safe_costs():
    assert terms_of({**CALM, "time_to_contact": 0.4})["time_to_collision"] == pytest.approx(0.3)


def test_unknown_values_cost_nothing():
    terms = terms_of({**CALM, "off_road": NAN, "wrong_way": NAN, "speeding": NAN})
    assert terms["off_road"] == terms["wrong_way"] == terms["speed_limit"] == 0.0


def test_given_weights_stand_alone():
    assert reward_weights({"collision": -1}) == {"collision": -1.0}
    assert reward_weights(None) == reward_weights("shaped") == DEFAULT_WEIGHTS
    assert reward_weights("pdms") == {"pdms": 1.0}


@pytest.mark.parametrize("reward", ["dense", {"speed": 1.0}, {"progress": NAN}, 3])
def test_rewards_that_do_not_exist(reward):
    with pytest.raises(ConfigError, match="reward"):
        reward_weights(reward)


def believed(trust: float) -> WorldInfo:
    return WorldInfo(("replay",), 0.0, trust)


def test_causes():
    everything = ("collision", "off_road", "wrong_way")
    assert termination_causes(batch(CALM), everything) == [None]
    assert termination_causes(batch({**CALM, "off_road": 1.0}), everything) == ["off_road"]
    assert termination_causes(batch({**CALM, "off_road": 1.0}), ("collision",)) == [None]
    assert termination_causes(batch({**CALM, "off_road": NAN}), everything) == [None]
    assert truncation_cause(9.9, 10.0, believed(1.0), 0.0) is None
    assert truncation_cause(10.0, 10.0, believed(1.0), 0.0) == "horizon"
    assert truncation_cause(5.0, 10.0, believed(0.2), 0.3) == "trust"
