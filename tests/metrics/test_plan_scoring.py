"""Scoring plans: what each part looks at, on worlds worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from dist4d_env.errors import ConfigError
from dist4d_env.metrics.driving.route_lanes import RouteArea, route_area
from dist4d_env.metrics.plans.scene import PlanScene
from dist4d_env.metrics.plans.scoring import score_plans
from dist4d_env.metrics.plans.subscores import plan_progress, relative_progress
from dist4d_env.scenes.maps import make_map
from dist4d_env.scenes.route import Route
from tests.simulation.road import Agent, lane

from . import worlds
from .traces import make_trace, straight


def scene_of(*agents: Agent, rows: int = 51, **changes) -> PlanScene:
    """Agents on the straight road, nothing known of the past."""
    trace = make_trace(straight(steps=rows), *agents)
    route = replace(trace.route, lanes=("A",))
    return replace(PlanScene.happened(replace(trace, route=route), 0), **{"history": None, **changes})


def one(ego: np.ndarray, scene: PlanScene, version: str = "v1", form: str = "corrected", reference: float | None = None):
    scores = score_plans(ego[None], scene, version, form, reference)
    return {name: values[0] for name, values in scores.parts.items()}, scores.details(0)


def test_the_road_itself():
    parts, details = one(straight(), scene_of())
    assert set(parts.values()) == {1.0} and details["score"] == 1.0
    assert [details[name] for name in ("collision", "meeting", "off_road", "against_traffic", "discomfort")] == [None] * 5


def test_first_contact_decides_about_a_track():
    """Hit from behind at no fault, the track is excused even when its contact goes on beside; another one is not."""
    from_behind = Agent(-12, 0, vx=14.0)
    parts, details = one(straight(5.0), scene_of(from_behind))
    assert parts["no_at_fault_collision"] == 1.0 and details["collision"] is None
    parts, details = one(straight(8.0), scene_of(from_behind, Agent(20, 0, category="barrier", length=0.5)))
    assert parts["no_at_fault_collision"] == 0.5 and details["collision"]["category"] == "barrier"
    assert details["collision"]["track"] == 1 and details["collision"]["step"] == 21
    parts, _ = one(straight(8.0), scene_of(Agent(20, 0, category="barrier", length=0.5), Agent(30, 0)))
    assert parts["no_at_fault_collision"] == 0.0


def test_details_name_objects_as_the_simulation_does():
    scene = scene_of(Agent(30, 0), track=np.array([77]))
    assert one(straight(), scene)[1]["collision"]["track"] == one(straight(), scene)[1]["meeting"]["track"] == 77


def test_versions_look_differently_far():
    """A car that the projected ego meets from tick 34 on: v1 judges all 41 ticks, v2 those whose future the plan holds."""
    scene = scene_of(Agent(39.7, 0))
    meeting = one(straight(), scene, "v1")[1]["meeting"]
    assert meeting["step"] == 34 and meeting["lead"] == pytest.approx(0.9)
    assert one(straight(), scene, "v2")[1]["meeting"] is None


def test_nobody_is_met_past_the_last_row():
    short = scene_of(Agent(39.7, 0)).until(41)
    scores = score_plans(straight()[None], short, "v1")
    assert scores.parts["time_to_collision"][0] == 1.0 and scores.evidence["rows"][0] == 41


def test_history_counts_as_ridden():
    """A hard brake just before now is felt in v2's comfort, in both forms; without a past the forms part."""
    past = straight(steps=15, x=-12.0)
    past[:, 4] = -5.0
    for form in ("faithful", "corrected"):
        parts, details = one(straight(), scene_of(history=past), "v2", form)
        assert parts["history_comfort"] == 0.0 and details["discomfort"]["acceleration"]["step"] == 0
    braking = straight()
    braking[:, 4] = -5.0
    assert one(braking, scene_of(), "v2", "faithful")[0]["history_comfort"] == 1.0
    assert one(braking, scene_of(), "v2", "corrected")[0]["history_comfort"] == 0.0


def test_lane_keeping_follows_the_route_where_lanes_end():
    """The lane ends at x = 20; from there on the route itself is the middle of the road."""
    x = np.arange(-50.0, 21.0)
    short = replace(lane("A", 0.0), centerline=np.column_stack([x, 0 * x, 0 * x]), polygon=box(-50, -1.75, 20, 1.75))
    road = make_map("short", {"drivable_area": [box(-50, -1.75, 400, 8.75)]}, [short])
    scene = scene_of(map=road)
    assert one(straight(), scene, "v2")[0]["lane_keeping"] == 1.0
    parts, details = one(straight(y=0.8), scene, "v2")
    assert parts["lane_keeping"] == 0.0 and details["off_lane"] == {"step": 19}


def test_without_a_map_nothing_is_known_of_the_road():
    for bare in (None, make_map("bare", {}, missing=("drivable_area",))):
        scene = replace(scene_of(Agent(30, 0)), map=bare, on_route=frozenset())
        scores = score_plans(straight()[None], scene, "v2")
        assert not scores.valid[0]
        assert scores.parts["drivable_area_compliance"][0] == scores.parts["driving_direction_compliance"][0] == 1.0
        assert scores.parts["no_at_fault_collision"][0] == 0.0, "what can be told is told"


@pytest.mark.parametrize(
    "ego, options, match",
    [
        (straight()[None], {"version": "v3"}, "version='v3' is unknown"),
        (straight()[None], {"form": "nice"}, "form='nice' is unknown"),
        (straight(), {}, r"ego rows \(B, S, 7\)"),
        (straight(steps=8)[None], {}, "at least one plan of 11 ticks"),
        (straight()[None][:0], {}, "at least one plan"),
        (np.full((1, 41, 7), np.nan), {}, "finite"),
    ],
)
def test_bad_input(ego, options, match):
    with pytest.raises(ConfigError, match=match):
        score_plans(ego, scene_of(), **options)


def test_progress_on_a_route_that_comes_by_again():
    """A figure of eight: a plan through the crossing is not taken to have jumped to the other branch."""
    angle = np.linspace(0, 2 * np.pi, 500)[:-1]
    route = Route.through(np.column_stack([80 * np.sin(angle), 80 * np.sin(angle) * np.cos(angle)]))
    for first in (0, 220, 240, 260):
        driven = route.points[first : first + 41]
        for near in (None, route.arc_length[first]) if first != 0 else (0.0,):
            metres = plan_progress(driven[None] + 0.02, route, near)[0]
            assert metres == pytest.approx(route.arc_length[first + 40] - route.arc_length[first], abs=0.1)
    assert plan_progress(route.points[None, 40::-1], route, route.arc_length[40])[0] == 0.0, "backwards earns nothing"


def test_relative_progress():
    raw, multiplier = np.array([32.0, 40.0, 16.0]), np.array([1.0, 0.0, 0.5])
    np.testing.assert_allclose(relative_progress(raw, multiplier, None, "v1"), [1.0, 0.0, 0.25])
    np.testing.assert_allclose(relative_progress(raw, multiplier, None, "v2"), [1.0, 1.0, 0.5])
    np.testing.assert_allclose(relative_progress(raw, multiplier, 64.0, "v1"), [0.5, 0.0, 0.125])
    np.testing.assert_allclose(relative_progress(raw / 10, multiplier, 3.0, "v1"), [1.0, 0.0, 1.0])
    np.testing.assert_allclose(relative_progress(raw / 10, multiplier, 3.0, "v2"), [1.0, 1.0, 1.0])


@settings(max_examples=30)
@given(st.integers(0, 2**31))
def test_offsets_are_distances_to_the_lines(seed):
    """The nearest corner decides which line is measured, the nearest line but where two cross: exact along a line of small steps,
    as centrelines are."""
    random = np.random.default_rng(seed)
    angle = np.cumsum(random.normal(0, 0.05, (2, 60)), axis=1)
    lines = tuple(random.uniform(-20, 20, 2) + np.cumsum(np.stack([np.cos(a), np.sin(a)], -1), axis=0) for a in angle)
    points = np.concatenate([line[random.integers(0, 60, 20)] + random.normal(0, 0.7, (20, 2)) for line in lines])
    wanted = shapely.distance(shapely.multilinestrings([shapely.linestrings(line) for line in lines]), shapely.points(points))
    offset = RouteArea(shapely.Polygon(), lines).offset(points[None])[0]
    corners = np.concatenate(lines)
    nearest = np.linalg.norm(points[:, None] - corners, axis=-1).argmin(1) // len(lines[0])  # the line of the nearest corner
    apart = shapely.distance([shapely.linestrings(line) for line in lines], shapely.points(points)[:, None])
    measured = apart[np.arange(len(points)), nearest]
    np.testing.assert_allclose(offset[measured < 0.6], measured[measured < 0.6], atol=0.05)
    assert (offset >= wanted - 1e-9).all()


def test_areas_of_a_route_are_made_once():
    scene_map, route = worlds.crossroads()
    first = route_area(scene_map, frozenset({"A1"}), route)
    assert route_area(scene_map, frozenset({"A1"}), route) is first
    assert route_area(scene_map, frozenset({"A1", "B1"}), route) is not first
    assert first.holds(np.array([[0.0, 0.0], [0.0, 3.5]])).tolist() == [True, False]
