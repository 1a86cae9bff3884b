"""The two stages' aggregation, held to the published formula computed elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.metrics.plans.two_stage import Stages, aggregate, start_weights

from . import navsim_two_stage

NAMES = ("score", "no_at_fault_collision", "ego_progress")


def random_frame(random: np.random.Generator, spread: float) -> Stages:
    count = int(random.integers(1, 7))
    columns = [{name: float(random.uniform()) for name in NAMES} for _ in range(count + 1)]
    end = random.uniform(-500, 500, 2)
    return Stages(columns[0], end, columns[1:], end + random.uniform(-spread, spread, (count, 2)))


@pytest.mark.parametrize("spread", [0.2, 1.0, 5.0, 50.0], ids="{} m".format)
def test_columns_are_those_of_the_published_formula(spread):
    random = np.random.default_rng(4)
    groups = [(random_frame(random, spread), random_frame(random, spread)) for _ in range(40)]
    found = aggregate(groups)
    for name in NAMES:
        plain = [
            tuple((s.first[name], s.end.tolist(), [c[name] for c in s.second], s.starts.tolist()) for s in group)
            for group in groups
        ]
        assert found.both[name] == pytest.approx(navsim_two_stage.score(plain), abs=1e-12)
        assert found.first[name] == pytest.approx(np.mean([frame[0] for group in plain for frame in group]), abs=1e-12)


def test_weights_fall_with_the_distance_and_are_even_far_away():
    near = start_weights(np.zeros(2), np.array([[0.0, 0.0], [0.3, 0.4]]))
    assert near[1] / near[0] == pytest.approx(np.exp(-0.25 / 0.2)) and near.sum() == pytest.approx(1)
    assert start_weights(np.zeros(2), np.array([[30.0, 0.0], [40.0, 0.0], [0.0, 90.0]])) == pytest.approx(1 / 3)


def test_what_there_is_no_data_for_is_left_out():
    def frame(light: float) -> Stages:
        columns = {"score": 0.5, "traffic_light_compliance": light}
        return Stages(columns, np.zeros(2), [columns], np.zeros((1, 2)))

    known, unknown = frame(1.0), frame(float("nan"))
    both = aggregate([(known, known), (unknown, unknown)]).both
    assert both == {"score": 0.25, "traffic_light_compliance": 1.0}
    assert np.isnan(aggregate([(unknown, known)]).both["traffic_light_compliance"])
