"""Progress, deviation, and the composite score."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.metrics.driving.composite import pdms_v1
from dist4d_env.metrics.driving.epdms import epdms_v2
from dist4d_env.metrics.driving.progress import ego_progress, expert_deviation, expert_progress, progress, route_completion
from dist4d_env.metrics.driving.suite import METRICS, evaluate
from dist4d_env.metrics.foreign.nuplan import nuplan_cls
from dist4d_env.scenes.route import Route
from tests.simulation.road import Agent

from .traces import make_trace, straight


def test_progress_is_metres_of_the_route():
    trace = make_trace(straight(8.0, y=1.0), expert_speed=10.0)
    assert progress(trace).value == pytest.approx(32.0)
    assert expert_progress(trace) == pytest.approx(40.0)
    result = ego_progress(trace)
    assert result.value == pytest.approx(0.8)
    assert result.details == {"progress": pytest.approx(32), "reference": pytest.approx(40)}


def test_the_suite_compares_with_a_reference_that_it_is_given():
    trace = make_trace()
    assert evaluate(trace)["ego_progress"].value == 1.0
    results = evaluate(trace, 64.0)
    assert results["ego_progress"].value == pytest.approx(0.5) and results["pdms_v1"].value == pytest.approx((2.5 + 7) / 12)


def test_progress_backwards_is_negative_and_earns_nothing():
    trace = make_trace(straight(-2.0, x=20.0))
    assert progress(trace).value == pytest.approx(-8.0) and progress(trace).details["farthest"] == 0.0
    assert ego_progress(trace).value == 0.0


def test_progress_below_five_metres_is_not_compared():
    assert ego_progress(make_trace(straight(0.5), expert_speed=1.0)).value == 1.0
    assert ego_progress(make_trace(straight(0.5), expert_speed=1.0), multiplier=0.0).value == 0.0
    assert ego_progress(make_trace(straight(12.0), expert_speed=1.0)).value == 1.0, "faster than the reference is not better"


def test_route_completion_is_the_share_of_what_remained():
    """The logged path ends 120 m along a route that begins at x = -20: from a box centre at 1.4 m there are 98.6 m left."""
    result = route_completion(make_trace(straight(8.0)))
    assert result.value == pytest.approx(32 / 98.6) and result.valid
    ended = route_completion(make_trace(straight(8.0, x=96.0)))
    assert not ended.valid and "ends within" in ended.details["reason"]


def test_a_route_that_crosses_itself_is_followed():
    """A figure of eight: at the crossing the arc length goes on instead of jumping to the other branch."""
    angle = np.linspace(0, 2 * np.pi, 500)[:-1]
    points = np.column_stack([80 * np.sin(angle), 80 * np.sin(angle) * np.cos(angle)])
    route = Route.through(points)
    driven = points[::3] + 0.05
    s = route.follow(driven)
    assert (np.diff(s) > 0).all() and s[-1] > 0.98 * route.length


def test_deviation_from_the_log():
    ego = straight(8.0, steps=21)
    ego[10:, 1] = 3.0
    result = expert_deviation(make_trace(ego))
    assert result.value == pytest.approx(11 * 3.0 / 21)
    assert (result.details["largest"], result.details["step"], result.details["last"]) == (3.0, 10, 3.0)


def test_pdms_is_its_formula():
    trace = make_trace(straight(8.0), expert_speed=10.0)
    assert pdms_v1(trace).value == pytest.approx((5 * 0.8 + 5 * 1 + 2 * 1) / 12)
    assert pdms_v1(trace).details["version"] == "v1"
    assert pdms_v1(make_trace(straight(), Agent(30, 0))).value == 0.0
    cone = pdms_v1(make_trace(straight(), Agent(30, 0, category="traffic_cone", length=0.4, width=0.4)))
    assert cone.value == pytest.approx(0.5 * (5 * 0.5 + 5 * 0 + 2 * 1) / 12), "v1 weighs progress with the collision, too"
    assert not pdms_v1(make_trace(scene_map=None)).valid


def test_a_crash_at_once_is_a_zero_and_no_missing_value():
    crash = make_trace(straight(8.0, steps=4), Agent(6, 0))
    for score in (pdms_v1(crash), epdms_v2(crash), nuplan_cls(crash)):
        assert score.valid and score.value == 0.0
    assert not pdms_v1(make_trace(straight(8.0, steps=4))).valid, "what goes well for four ticks says nothing"


def test_suite_gives_what_each_metric_gives():
    trace = make_trace(straight(8.0, y=0.3), Agent(60, 3.5))
    results = evaluate(trace)
    assert list(results) == list(METRICS)
    for name, metric in METRICS.items():
        assert results[name] == metric(trace), name
        assert np.isfinite(results[name].value)


def test_metrics_change_nothing():
    trace = make_trace(straight(), Agent(30, 0))
    kept = {name: np.copy(getattr(trace, name)) for name in ("ego", "position", "yaw", "velocity", "valid", "expert")}
    first, second = evaluate(trace), evaluate(trace)
    assert first == second
    for name, before in kept.items():
        assert np.array_equal(before, getattr(trace, name)), name
