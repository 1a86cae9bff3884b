"""nuPlan's own test scenes: every value that can be computed from what a scene holds is nuPlan's.

Time series agree to all digits given, statistics to the 0.01 to which nuPlan's own tests hold its metrics: the files cut some
digits off where others are rounded.

The scenes come without their map. Where a straight lane or a bare field stands in for it, the case says so; where the value
depends on the true map, or belongs to a metric that is no part of the score, ``NOT_HELD`` lists the case.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from shapely.geometry import Polygon, box

from dist4d_env.geometry.boxes import CATEGORIES
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.comfort import TERMS, WINDOWS, smoothed, within_limits
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.metrics.foreign.nuplan import nuplan_making_progress, nuplan_progress, progress_ratio
from dist4d_env.metrics.foreign.nuplan_road import nuplan_driving_direction
from dist4d_env.metrics.foreign.nuplan_traffic import LEAST, at_fault_collisions, nuplan_no_at_fault_collision, times_to_collision
from dist4d_env.scenes.maps import Lane, make_map
from dist4d_env.scenes.route import Route
from dist4d_env.scenes.scene import TICK

PACIFICA = VehicleParameters(5.176, 2.297, 1.777, 3.089, 1.461)
KINDS = {"vehicles": "car", "bicycles": "bicycle", "pedestrians": "pedestrian", "genericobjects": "other"}
OTHER = "no part of the closed-loop score"
NOT_HELD = {
    "drivable_area_compliance/drivable_area_violation": "the drivable area is in the map, which the scene does not hold",
    "drivable_area_compliance/no_drivable_area_violation": "the drivable area is in the map, which the scene does not hold",
    "ego_acceleration/ego_acceleration": OTHER,
    "ego_expert_l2_error/ego_expert_l2_error": OTHER,
    "ego_expert_l2_error_with_yaw/ego_expert_l2_error_with_yaw": OTHER,
    "ego_is_comfortable/ego_is_comfortable": "nuPlan's test reads it before its parts are computed: False is an unset flag",
    "ego_lane_change/ego_lane_change": OTHER,
    "ego_lat_jerk/ego_lat_jerk": OTHER,
    "ego_mean_speed/ego_mean_speed": OTHER,
    "ego_progress_along_expert_route/ego_no_progress_along_expert_route": "progress runs along lanes of the map",
    "ego_stop_at_stop_line/ego_stop_at_stop_line": OTHER,
    "planner_expert_average_heading_error_within_bound/low_average_heading_error": OTHER,
    "planner_expert_average_l2_error_within_bound/high_average_l2_error": OTHER,
    "planner_expert_final_heading_error_within_bound/low_final_heading_error": OTHER,
    "planner_expert_final_l2_error_within_bound/high_final_l2_error": OTHER,
    "planner_miss_rate_within_bound/high_miss_rate": OTHER,
    "speed_limit_compliance/no_speed_limit_violation": "the speed limit is in the map, which the scene does not hold",
}


class Case:
    """One of the files, as what its metric looks at."""

    def __init__(self, path, scene_map=None):
        self.raw = json.loads(path.read_text())
        expected = self.raw.get("expected")
        self.expected = [value for _, value in (expected[0] if isinstance(expected, list) else expected)["statistics"]]
        self.series = (expected if isinstance(expected, dict) else expected[0]).get("time_series", {}).get("values")
        self.states = [self.raw["ego"], *self.raw.get("ego_future_states", [])]
        self.experts = self.raw.get("expert_ego_states", self.states)
        self.time = np.array([state["time_us"] for state in self.states]) / 1e6
        self.trace = self._trace([self.raw["world"], *self.raw.get("world_future_states", [])], scene_map)

    def _trace(self, worlds, scene_map):
        found = [{a["id"]: (kind, a) for kind in KINDS for a in world.get(kind, [])} for world in worlds]
        ids = sorted({token for world in found for token in world})
        shape = (len(worlds), len(ids))
        position, velocity, yaw, valid = np.zeros((*shape, 3)), np.zeros((*shape, 2)), np.zeros(shape), np.zeros(shape, bool)
        size, category = np.ones((len(ids), 3)), np.zeros(len(ids), np.int8)
        for step, world in enumerate(found):
            for token, (kind, agent) in world.items():
                row = ids.index(token)
                x, y, heading = agent["box"]["pose"]
                position[step, row, :2], yaw[step, row], valid[step, row] = (x, y), heading, True
                velocity[step, row] = agent["speed"] * np.array([math.cos(heading), math.sin(heading)])
                size[row, :2], category[row] = agent["box"]["size"][::-1], CATEGORIES.index(KINDS[kind])
        ego = np.array([[*s["pose"], math.hypot(*s["velocity"]), s["acceleration"][0], 0.0, 0.0] for s in self.states])
        return EpisodeTrace(
            self.time,
            ego,
            position,
            yaw,
            velocity,
            valid,
            size,
            category,
            self.poses(self.experts)[: len(ego)],
            scene_map,
            self._route(),
            PACIFICA,
        )

    def poses(self, states):
        return np.array([state["pose"] for state in states])

    def _route(self):
        """Along the expert's first move, and on and back, as the lane there is."""
        start, end = self.poses(self.experts)[[0, min(1, len(self.experts) - 1)], :2]
        along = end - start if np.linalg.norm(end - start) > 1e-6 else np.array([1.0, 0.0])
        return Route.through(start + np.arange(-60.0, 61.0)[:, None] * along / np.linalg.norm(along))

    def values(self, computed):
        """Asserts that computed values are the expected ones, in the file's order."""
        expected = [float(value) for value in self.expected]
        assert [float(value) for value in computed] == pytest.approx(expected, rel=1e-5, abs=0.01)


@pytest.fixture
def case(stored_data):
    return lambda name, **kwargs: Case(stored_data / "nuplan_metric_cases" / f"{name}.json", **kwargs)


def straight_lane(scene):
    """A map of one lane along the ego's heading, standing in for the one it drives on."""
    x, y, yaw = scene["ego"]["pose"]
    along, left = np.array([math.cos(yaw), math.sin(yaw)]), np.array([-math.sin(yaw), math.cos(yaw)])
    line = np.array([x, y]) + np.arange(-80.0, 81.0)[:, None] * along
    sides = np.concatenate([line + 4 * left, (line - 4 * left)[::-1]])
    lane = Lane("lane", False, np.column_stack([line, np.full(len(line), yaw)]), Polygon(sides), (), ())
    return make_map("stand-in", {}, [lane])


MOTION = {
    "ego_lon_acceleration": ("acceleration", 10.0),  # the bounds that nuPlan's tests take here
    "ego_lat_acceleration": ("lateral_acceleration", 10.0),
    "ego_jerk": ("jerk", 10.0),
    "ego_lon_jerk": ("longitudinal_jerk", 8.0),
    "ego_yaw_rate": ("yaw_rate", 5.0),
    "ego_yaw_acceleration": ("yaw_acceleration", 3.0),
}
DERIVATIVES = {"jerk": 1, "longitudinal_jerk": 1, "yaw_rate": 1, "yaw_acceleration": 2}


def comfort_signals(scene):
    """The package's six signals of a scene that is sampled every second instead of every tick."""
    acceleration = np.array([state["acceleration"] for state in scene.states])
    signals = smoothed(acceleration[:, 0], acceleration[:, 1], scene.trace.ego[:, 2], WINDOWS["v2"])
    step = float(np.diff(scene.time).mean())
    return {term: signal * (TICK / step) ** DERIVATIVES.get(term, 0) for term, signal in zip(TERMS, signals, strict=True)}


@pytest.mark.parametrize("family", MOTION)
def test_motion(case, family):
    scene, (term, bound) = case(f"{family}/{family}"), MOTION[family]
    values = comfort_signals(scene)[term]
    assert np.round(values, 2).tolist() == scene.series
    statistics = [values.max(), values.min(), values.mean(), np.percentile(np.abs(values), 90, method="closest_observation")]
    scene.values([*statistics, (np.abs(values) < bound).all()])


COLLISIONS = {
    "no_collision": [],
    "active_front_collision": ["active_front"],
    "active_lateral_collision": ["active_lateral"],
    "active_rear_collision": ["active_rear"],
    "stopped_ego_collision": ["stopped_ego"],
    "multiple_collisions": ["active_lateral", "active_front", "active_front"],
}


@pytest.mark.parametrize("name", COLLISIONS)
def test_collisions(case, name):
    """Kinds, counts per group and impacts. In the lateral case the ego changes lanes: a field without lanes stands in for that;
    in the multiple one it keeps its lane while its side is hit: a wide lane stands in."""
    scene = case(f"no_ego_at_fault_collision/{name}")
    if name == "active_lateral_collision":
        scene = case(f"no_ego_at_fault_collision/{name}", scene_map=_lane_elsewhere(scene.raw))
    elif name == "multiple_collisions":
        scene = case(f"no_ego_at_fault_collision/{name}", scene_map=straight_lane(scene.raw))
    judged = at_fault_collisions(scene.trace)
    result = nuplan_no_at_fault_collision(scene.trace, judged)
    assert sorted(c.kind for c in judged.first) == sorted(COLLISIONS[name]) and result.valid
    details = result.details
    impacts = [f(group) for group in details["impacts"].values() if group for f in (max, min, np.mean)]
    scene.values([not judged.at_fault, details["count"], *details["counts"].values(), *impacts])
    assert result.value == float(not judged.at_fault)


def _lane_elsewhere(scene):
    x, y, _ = scene["ego"]["pose"]
    line = np.column_stack([x + 500 + np.arange(50.0), np.full(50, y), np.zeros(50)])
    return make_map("stand-in", {}, [Lane("far", False, line, box(x + 500, y - 2, x + 550, y + 2), (), ())])


@pytest.mark.parametrize("name", ["ego_stopped", "in_collision", "no_collisions", "no_relevant_tracks"])
def test_time_to_collision(case, name):
    scene = case(f"time_to_collision_within_bound/{name}")
    parameters = scene.raw["metric_parameters"]
    times, _ = times_to_collision(scene.trace, horizon=parameters["time_horizon"], step=parameters["time_step_size"])
    assert parameters["least_min_ttc"] == LEAST and times.tolist() == scene.series
    scene.values([times.min(), times.min() > LEAST])


@pytest.mark.parametrize("name", ["ego_drives_backward", "ego_does_not_drive_backward"])
def test_driving_direction(case, name):
    """A straight lane along the first heading stands in for the true one."""
    scene = case(f"driving_direction_compliance/{name}")
    scene = case(f"driving_direction_compliance/{name}", scene_map=straight_lane(scene.raw))
    result = nuplan_driving_direction(scene.trace)
    scene.values([result.value, -result.details["distance"]])


def test_progress_of_an_ego_that_drives_backward(case):
    """A straight route along the expert's move stands in for its lane."""
    scene = case("ego_progress_along_expert_route/ego_drives_backward")
    result = nuplan_progress(scene.trace)
    scene.values([result.details["expert"], result.details["ego"], result.value])


def test_progress_without_a_route(case):
    case("ego_progress_along_expert_route/ego_no_route").values([0.0, progress_ratio(4.0, None)])


def test_making_progress(case):
    scene = case("ego_is_making_progress/ego_is_making_progress")
    scene.values([nuplan_making_progress(nuplan_progress(scene.trace)).value])


def test_every_case_is_held_or_listed(stored_data):
    held = {f"{family}/{family}" for family in MOTION} | {"ego_is_making_progress/ego_is_making_progress"}
    held |= {f"no_ego_at_fault_collision/{name}" for name in COLLISIONS}
    held |= {f"driving_direction_compliance/{name}" for name in ("ego_drives_backward", "ego_does_not_drive_backward")}
    held |= {f"ego_progress_along_expert_route/{name}" for name in ("ego_drives_backward", "ego_no_route")}
    ttc = ("ego_stopped", "in_collision", "no_collisions", "no_relevant_tracks")
    held |= {f"time_to_collision_within_bound/{name}" for name in ttc}
    files = {f"{path.parent.name}/{path.stem}" for path in (stored_data / "nuplan_metric_cases").glob("*/*.json")}
    assert len(files) == 38 and not held & NOT_HELD.keys() and held | NOT_HELD.keys() == files


def test_the_scene_that_nuplan_calls_uncomfortable_is_within_all_bounds(case):
    """Why its case is not held: none of the six signals leaves its bounds."""
    scene = case("ego_is_comfortable/ego_is_comfortable")
    signals = comfort_signals(scene)
    assert within_limits(np.stack([signals[term] for term in TERMS])).all() and scene.expected == [False]
