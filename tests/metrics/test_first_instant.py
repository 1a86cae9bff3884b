"""What is there already at the first instant: running values, reward and final scores tell the same, faithful forms their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from dist4d_env.envs.ending import termination_causes
from dist4d_env.envs.rewards import pdms_so_far
from dist4d_env.metrics.driving.areas import corners_off, ego_corners
from dist4d_env.metrics.driving.collision import find_collisions, no_at_fault_collision, no_collision
from dist4d_env.metrics.driving.composite import pdms_v1
from dist4d_env.metrics.driving.epdms import epdms_v2
from dist4d_env.metrics.driving.first_instant import counted_corners
from dist4d_env.metrics.driving.road import drivable_area_compliance
from dist4d_env.metrics.driving.time_to_collision import time_to_collision
from dist4d_env.metrics.driving.trace import Plans
from dist4d_env.metrics.foreign.ads import ads
from dist4d_env.metrics.foreign.hd_score import hd_score
from dist4d_env.metrics.foreign.neuroncap import neuroncap_score
from dist4d_env.metrics.foreign.nuplan import nuplan_cls
from dist4d_env.metrics.foreign.nuplan_road import nuplan_drivable_area
from dist4d_env.metrics.plans.episode import epdms_of_plans, pdms_of_plans
from dist4d_env.metrics.plans.scene import PlanScene
from dist4d_env.metrics.plans.scoring import score_plans
from dist4d_env.scenes.maps import make_map
from tests.simulation.road import Agent, lane, make_scene, road_map

from .test_running import SCENES, drive
from .traces import make_trace, straight

CAUSES = ("collision", "off_road", "wrong_way")
BEHIND = Agent(-2.5, 0.0)  # its front at -0.25; the ego's rear is at -0.642
HOLED = make_map("holed", {"drivable_area": [box(-50, -1.75, 400, 8.75) - box(-1, -1, -0.5, -0.5)]}, [lane("A", 0.0)])
"""The road with a hole under the ego's rear right corner at (-0.642, -0.865)."""
LATE = Agent(20.0, 0.0, first=2.0)  # annotated when the ego, 16 m on, already stands in it


def cruise(ticks: int) -> Plans:
    """Plans every half second that go straight on at 8 m/s."""
    steps = np.arange(0, ticks, 5)
    plan = np.zeros((8, 3))
    plan[:, 0] = 4.0 * np.arange(1, 9)
    return Plans(steps, np.tile(plan, (len(steps), 1, 1)))


@pytest.mark.parametrize("scene", [make_scene(BEHIND, scene_map=road_map()), make_scene(scene_map=HOLED),
                                   make_scene(LATE, scene_map=road_map())], ids=["parked", "hole", "late"])  # fmt: skip
def test_running_reward_and_final_forgive_alike(scene):
    trace, values = drive(scene, [(0.0, 0.0)] * 8)
    assert trace.contact.any() or corners_off(HOLED, ego_corners(trace.ego, trace.vehicle))[0].any()
    for each in values:
        assert termination_causes({name: np.array([value]) for name, value in each.items()}, CAUSES) == [None]
        assert each["collision"] == 0 and each["time_to_contact"] == 10.0
    assert no_collision(trace).value == no_at_fault_collision(trace).value == drivable_area_compliance(trace).value == 1.0
    assert time_to_collision(trace).value == 1.0
    final = pdms_v1(trace, 32.0)
    assert final.valid and final.value == pytest.approx(1.0)
    assert pdms_so_far(trace, float(trace.time[-1]), 32.0) == pytest.approx(final.value)
    plans = cruise(41)
    assert nuplan_cls(trace, form="corrected").value == neuroncap_score(trace, 8.0, "corrected").value / 5 == 1.0
    assert pdms_of_plans(trace, plans).value == pytest.approx(1.0)
    for score in (ads, hd_score):
        assert score(trace, plans, form="corrected").details["parts"]["pdms"] == pytest.approx(1.0)


def test_faithful_forms_do_as_their_originals():
    """NAVSIM v1 and nuPlan count everything; v2 removes who touches the ego in the first frame, and nobody else."""
    parked, late, holed = make_trace(None, BEHIND), make_trace(None, LATE), make_trace(None, scene_map=HOLED)
    assert [pdms_v1(trace, form="faithful").value for trace in (parked, late, holed)] == [0.0] * 3
    assert [nuplan_cls(trace).value for trace in (parked, late)] == [0.0] * 2
    assert no_at_fault_collision(parked, "faithful").value == 0.0
    route = [epdms_v2(trace, form="faithful").details["no_at_fault_collision"] for trace in (parked, late)]
    assert route == [1.0, 0.0]
    assert epdms_v2(holed, form="faithful").details["drivable_area_compliance"] == 0.0
    plans = cruise(1)
    assert pdms_of_plans(parked, plans, form="faithful").details["no_at_fault_collision"] == 0.0
    assert epdms_of_plans(parked, plans, form="faithful").details["no_at_fault_collision"] == 1.0
    scene, ego = PlanScene.happened(parked, 0), parked.ego[None]
    assert score_plans(ego, scene, "v2", "faithful").parts["no_at_fault_collision"][0] == 0.0, "as the scorer alone"
    assert score_plans(ego, scene.cleared(ego[0, 0]), "v2", "faithful").parts["no_at_fault_collision"][0] == 1.0
    for version in ("v1", "v2"):
        assert score_plans(ego, scene, version, "corrected").score[0] == 1.0
        assert score_plans(ego, PlanScene.happened(late, 0), version, "corrected").parts["time_to_collision"][0] == 1.0
        assert score_plans(holed.ego[None], PlanScene.happened(holed, 0), version, "corrected").score[0] == 1.0


def test_who_was_put_there_stays_excused_and_nobody_else_does():
    """Coming back to the parked car is no collision; another one, and a track seen before, are."""
    there_and_back = np.concatenate([straight(8.0, steps=11), straight(8.0, steps=11)[::-1]])
    there_and_back[11:, 3] = -8.0
    assert find_collisions(make_trace(there_and_back, BEHIND)) == ()
    assert [c.track for c in find_collisions(make_trace(straight(8.0), BEHIND, Agent(20.0, 0.0)))] == [1]
    gone = make_trace(straight(8.0), Agent(20.0, 0.0))
    gone.valid[5:22] = False  # it was seen before, so that the ego knew of it
    assert [c.step for c in find_collisions(gone)] == [22]


def test_a_corner_counts_once_it_has_been_on_the_road():
    """Of the corners that start off the road each waits for itself; leaving with another one counts at once."""
    off = np.zeros((4, 4), bool)
    off[[0, 1, 3], 0] = off[2, 1] = True
    counted, waiting = counted_corners(off, np.ones(4, bool))
    assert np.argwhere(counted).tolist() == [[2, 1], [3, 0]] and not waiting.any()
    counted, waiting = counted_corners(off[:2], np.ones(4, bool))
    assert not counted.any() and waiting.tolist() == [True, False, False, False]
    standing = make_trace(straight(0.0), scene_map=HOLED)
    assert drivable_area_compliance(standing).value == 1.0 and drivable_area_compliance(standing, "faithful").value == 0.0
    assert drivable_area_compliance(make_trace(straight(8.0, x=-8.0), scene_map=HOLED)).value == 0.0, "driven into"
    begins = make_map("begins", {"drivable_area": [box(0, -1.75, 400, 8.75)]})  # 0.642 m ahead of the rear bumper
    entering = make_trace(straight(8.0), scene_map=begins)
    assert [nuplan_drivable_area(entering, form).value for form in ("faithful", "corrected")] == [0.0, 1.0]
    leaving = straight(8.0)
    leaving[:, 1] = np.linspace(0, -3, 41)
    assert drivable_area_compliance(make_trace(leaving, scene_map=HOLED)).value == 0.0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_running_values_are_those_of_the_whole_episode(seed):
    """Decision by decision: a collision, whose fault it is, and the road, from starts in the middle of scenes."""
    random = np.random.default_rng(seed)
    scene = SCENES[random.integers(len(SCENES))]
    trace, values = drive(scene, np.clip(random.normal((0.2, 0.0), (0.6, 0.3), (6, 2)), -1, 1), random.integers(0, 20) / 10)
    collisions = find_collisions(trace)
    for column, found in (("collision", collisions), ("at_fault_collision", [c for c in collisions if c.at_fault])):
        assert {-(-c.step // 5) for c in found} == {i for i, each in enumerate(values) if each[column]}, column
    if scene.map is not None:
        left = any(each["off_road"] == 1.0 for each in values)
        assert drivable_area_compliance(trace).value == float(not left)
