"""No score depends on where the world lies: turned and moved as a whole, every metric stays what it was."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.metrics.driving.composite import pdms_v1
from dist4d_env.metrics.driving.epdms import epdms_v2
from dist4d_env.metrics.driving.extended_comfort import extended_comfort
from dist4d_env.metrics.driving.road import lane_keeping
from dist4d_env.metrics.driving.route_lanes import lanes_on_route
from dist4d_env.metrics.driving.suite import evaluate
from dist4d_env.metrics.plans.episode import epdms_of_plans, pdms_of_plans
from dist4d_env.metrics.plans.scoring import score_plans

from . import worlds

SEEDS = st.integers(0, 2**31)
MOTIONS = st.builds(worlds.Motion, st.floats(-math.pi, math.pi), st.tuples(st.floats(-3000, 3000), st.floats(-3000, 3000)))
OF_PLANS = (extended_comfort, epdms_v2, pdms_of_plans, epdms_of_plans)


@settings(max_examples=12)
@given(seed=SEEDS, motion=MOTIONS)
def test_scores_of_plans(seed, motion):
    scene, ego = worlds.random_scene(seed)
    moved = motion.scene(scene)
    for version in ("v1", "v2"):
        for form in ("faithful", "corrected"):
            here, there = (score_plans(rows, world, version, form) for rows, world in ((ego, scene), (motion.poses(ego), moved)))
            np.testing.assert_allclose(there.score, here.score, atol=1e-9)
            for name, values in here.parts.items():
                exact = name != "ego_progress"
                np.testing.assert_allclose(there.parts[name], values, atol=0 if exact else 1e-9, err_msg=f"{version} {name}")
            for name in ("fault_step", "fault_track", "meeting_step", "meeting_track", "off_road_step"):
                assert np.array_equal(there.evidence[name], here.evidence[name]), name


@settings(max_examples=8)
@given(seed=SEEDS, motion=MOTIONS)
def test_episode_metrics(seed, motion):
    trace, plans = worlds.random_trace(seed)
    moved = motion.trace(trace)
    here, there = evaluate(trace), evaluate(moved)
    for metric in OF_PLANS:
        for form in ("faithful", "corrected"):
            name = f"{metric.__name__} {form}"
            here[name], there[name] = metric(trace, plans, form=form), metric(moved, plans, form=form)
    here["faithful"], there["faithful"] = pdms_v1(trace, form="faithful"), pdms_v1(moved, form="faithful")
    here["on the route"], there["on the route"] = lane_keeping(trace, "route"), lane_keeping(moved, "route")
    for name, result in here.items():
        assert there[name].valid == result.valid, name
        assert there[name].value == pytest.approx(result.value, abs=1e-9), name


def test_worlds_are_worth_moving():
    """The random worlds hold what the metrics look for: every sub-score is both kept and broken somewhere."""
    parts: dict[str, list[float]] = {}
    for seed in range(12):
        scene, ego = worlds.random_scene(seed)
        for version in ("v1", "v2"):
            for form in ("faithful", "corrected"):
                for name, values in score_plans(ego, scene, version, form).parts.items():
                    parts.setdefault(f"{name} {form}", []).extend(values.tolist())
    for name, values in parts.items():
        assert min(values) < 0.5 < max(values), name


def test_lanes_on_the_route():
    """Beside the route's lanes A the parallel ones B count and the connector between them, never what comes towards them."""
    scene_map, route = worlds.crossroads()
    assert lanes_on_route(scene_map, route.lanes) == {"A1", "A2", "A3", "B1", "B2", "B3"}
    assert lanes_on_route(None, route.lanes) == lanes_on_route(scene_map, ()) == frozenset()
