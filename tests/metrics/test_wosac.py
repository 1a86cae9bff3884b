"""Realism of traffic: features of hand-made traffic, estimators beside plain loops, weights as published."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dist4d_env.metrics.foreign.wosac import FEATURES, HISTORY, STEPS, Feature, _features, _histogram, _yes_or_no, realism
from dist4d_env.scenes.lights import RED
from tests.simulation.road import Agent, light_at

from .traces import make_trace, straight

ROWS = HISTORY + STEPS


def traffic(*agents: Agent, **more):
    """A recording of the challenge's length beside an ego that stands far back."""
    return make_trace(straight(0.0, steps=ROWS, x=-45.0), *agents, **more)


def one(trace, name: str) -> np.ndarray:
    """(STEPS,) of the first track."""
    return _features(trace, np.array([0]))[name][0]


def test_weights_are_the_published_ones():
    assert sum(feature.weight for feature in FEATURES.values()) == pytest.approx(1.0)
    safe = ("collision", "offroad")
    assert all(FEATURES[name].weight == 0.25 for name in safe)


def test_features_of_a_follower():
    trace = traffic(Agent(0.0, 0.0, 8.0), Agent(40.0, 0.0, 4.0), Agent(40.0, 80.0))
    assert one(trace, "linear_speed")[:-1] == pytest.approx(8.0) and np.isnan(one(trace, "linear_speed")[-1])
    assert one(trace, "angular_speed")[:-1] == pytest.approx(0.0)
    gap = 40.0 - 4.5 - 4.0 * 0.1 * np.arange(HISTORY, ROWS)
    apart = gap > 0
    assert one(trace, "distance_to_nearest_object")[apart] == pytest.approx(gap[apart])
    assert one(trace, "time_to_collision")[apart][:-1] == pytest.approx(np.minimum(gap[apart] / 4.0, 5.0)[:-1], abs=1e-6)
    assert np.array_equal(one(trace, "collision"), gap < 0), "it drives on into it"
    assert one(trace, "distance_to_road_edge") == pytest.approx(-0.75), "1 m of half a width, 1.75 m to the edge"
    assert not one(trace, "offroad").any()


def test_overlap_is_negative_by_its_depth():
    trace = traffic(Agent(0.0, 0.0), Agent(4.0, 0.3))
    assert one(trace, "distance_to_nearest_object") == pytest.approx(-0.5) and one(trace, "collision").all()
    beside = traffic(Agent(0.0, 0.0), Agent(0.0, 1.7))
    assert one(beside, "distance_to_nearest_object") == pytest.approx(-0.3)
    assert one(traffic(Agent(0.0, -1.0)), "offroad").all()


def test_who_crosses_at_red_is_seen():
    lit = replace(traffic(Agent(0.0, 0.0, 8.0), Agent(60.0, 0.0, 8.0)), lights=light_at(30.0, np.full(ROWS, RED)))
    violated = one(lit, "traffic_light_violation")
    assert violated.sum() == 1 and (np.argmax(violated) + HISTORY) * 0.8 + 2.25 == pytest.approx(30.0, abs=0.9)
    assert _features(traffic(Agent(0.0, 0.0, 8.0)), np.array([0]))["traffic_light_violation"] is None


def test_estimators_are_those_of_plain_loops():
    random = np.random.default_rng(0)
    truth, values = random.normal(2, 2, (3, 7)), random.normal(2, 2, (4, 3, 7))
    counts = random.uniform(size=truth.shape) < 0.8
    feature, logs = Feature("kinematic", 1.0, 0.0, 5.0, 10), []
    for agent in range(3):
        filled = [0.1] * 10
        for value in values[:, agent].ravel():
            filled[min(int(min(max(value, 0.0), 5.0) / 0.5), 9)] += 1
        for tick in range(7):
            if counts[agent, tick]:
                place = min(int(min(max(truth[agent, tick], 0.0), 5.0) / 0.5), 9)
                logs.append(math.log(filled[place] / sum(filled)))
    assert _histogram(feature, truth, values, counts) == pytest.approx(math.exp(sum(logs) / len(logs)))
    happens = np.array([[True, False], [True, False], [False, False]])
    shares = [math.log(2.001 / 3.002), math.log(3.001 / 3.002)]
    assert _yes_or_no(np.array([True, False]), happens) == pytest.approx(math.exp(sum(shares) / 2))


def test_the_log_is_likelier_under_itself_than_under_something_else():
    log = traffic(Agent(0.0, 0.0, 8.0), Agent(40.0, 3.5, 6.0))
    same = realism(log, [log] * 4)
    assert same.ade == same.min_ade == 0 and same.collisions == 0 and same.agents == 2
    assert same.likelihoods["collision"] > 0.999 and same.likelihoods["linear_speed"] > 0.9
    crash = traffic(Agent(0.0, 0.0, 8.0), Agent(40.0, 0.0, 2.0))
    other = realism(log, [crash, log])
    assert other.meta < same.meta and other.collisions == 0.5 and other.min_ade == 0 < other.ade
    assert other.groups["interactive"] < same.groups["interactive"]


def test_what_there_is_no_data_for_has_no_weight():
    log = traffic(Agent(0.0, 0.0, 8.0), Agent(20.0, 3.5, category="traffic_cone", length=0.4, width=0.4), scene_map=None)
    found = realism(log, [log] * 2)
    absent = {"distance_to_road_edge", "offroad", "traffic_light_violation"}
    assert {name for name, value in found.likelihoods.items() if math.isnan(value)} == absent and found.agents == 1
    assert math.isnan(found.groups["map_based"])
    known = [name for name in FEATURES if name not in absent]
    weighted = sum(FEATURES[n].weight * found.likelihoods[n] for n in known) / sum(FEATURES[n].weight for n in known)
    assert found.meta == pytest.approx(weighted)
