"""HUGSIM's HD-score on the straight road."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.metrics.foreign.ads import PlacedPlans
from dist4d_env.metrics.foreign.hd_score import ground_shares, hd_score, log_completion
from tests.simulation.road import Agent

from .test_ads import cruise
from .traces import make_trace, straight


def test_a_perfect_drive_scores_its_completion():
    human = make_trace(straight(steps=81))
    result = hd_score(make_trace(), cruise(), human)
    assert result.valid and result.details["parts"]["pdms"] == 1.0
    assert result.value == pytest.approx(41 / (0.9 * 81))
    assert result.details["unavailable"] == ["collisions with the background"]


def test_completion_is_the_most_and_at_most_one():
    human = make_trace(straight(steps=41))
    turned = np.concatenate([straight(steps=21), straight(steps=21)[::-1]])
    assert log_completion(make_trace(turned), human) == pytest.approx(21 / (0.9 * 41))
    assert log_completion(make_trace(), human) == 1.0
    # Without a human's drive, by metres of what was left: the box centre goes from 21.4 to 53.4 of the route's 120.
    assert log_completion(make_trace()) == pytest.approx(32 / (0.9 * 98.6))
    assert log_completion(make_trace(straight(0.0))) == 0.0, "what lies before the start is not driven"
    assert log_completion(make_trace(straight(8.0, x=100.0))) is None, "nothing is left"


def test_the_small_ego_passes_where_the_true_one_does_not():
    """A car's side 0.82 m left of the axle: within half of 1.73, outside half of 1.60."""
    trace = make_trace(straight(0.0), Agent(20.0, 1.82))
    assert hd_score(trace, cruise(ticks=(0,))).details["parts"]["no_collision"] == 1.0
    corrected = hd_score(trace, cruise(ticks=(0,)), form="corrected")
    assert corrected.details["parts"]["no_collision"] == 0.0 and corrected.value == 0.0


@pytest.mark.parametrize("y, share", [(0.0, 1.0), (-2.0, 0.5), (-3.0, 0.0)])
def test_quarters_of_the_footprint_that_hold_ground(y, share):
    trace = make_trace(straight(y=y))
    assert ground_shares(trace, PlacedPlans.of(trace, cruise(ticks=(0,))), trace.vehicle) == pytest.approx(share)


def test_progress_is_not_part_of_it():
    """A plan of half the speed is as good, only the time to collision and comfort count: 5 and 2 of 7."""
    assert hd_score(make_trace(), cruise(4.0)).details["parts"]["pdms"] == 1.0
    near = make_trace(straight(0.0), Agent(33.0, 0.0))
    parts = hd_score(near, cruise(ticks=(0,))).details["parts"]
    assert parts["no_collision"] == 1.0 and parts["pdms"] == pytest.approx(2 / 7)


def test_what_cannot_be_told_is_not_valid():
    assert "map" in hd_score(make_trace(scene_map=None), cruise()).details["reason"]
    assert "plans" in hd_score(make_trace(), cruise(ticks=())).details["reason"]
