"""Where the faithful forms and the corrected ones part, each difference on a scene made for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from shapely.geometry import box

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.metrics.driving.collision import find_collisions, no_at_fault_collision
from dist4d_env.metrics.driving.road import driving_direction_compliance, speed_limit_compliance
from dist4d_env.metrics.driving.time_to_collision import HORIZON, time_to_collision, time_to_contact
from dist4d_env.metrics.foreign.nuplan import nuplan_parts
from dist4d_env.metrics.plans.scene import PAST, PlanScene
from dist4d_env.metrics.plans.scoring import score_plans
from dist4d_env.scenes.maps import make_map
from dist4d_env.simulation.agents import AgentArrays
from tests.simulation.road import Agent, lane, road_map

from .test_plan_scoring import scene_of
from .test_running import drive
from .test_running import make_scene as driven_scene
from .traces import make_trace, straight

FORMS = ("faithful", "corrected")


def parts(trace, version: str, form: str) -> dict[str, float]:
    return {
        name: values[0]
        for name, values in score_plans(trace.ego[None], PlanScene.happened(trace, 0), version, form).parts.items()
    }


def test_a_collision_is_judged_by_the_velocity_at_first_sight_or_at_the_contact():
    """A car beside the ego slides into its side and stops there: at fault only if it counts as standing."""
    trace = make_trace(straight(8.0), Agent(20.0, 3.0, 0.0, -1.0))
    stopped = trace.position[..., 1] < 1.9
    trace.position[..., 1][stopped], trace.velocity[stopped] = 1.8, 0.0
    assert [c.kind for c in find_collisions(trace)] == ["stopped_track"]
    assert [c.kind for c in find_collisions(trace, "faithful", at_first_sight=True)] != ["stopped_track"]
    assert [parts(trace, "v1", form)["no_at_fault_collision"] for form in FORMS] == [
        no_at_fault_collision(trace, form).value for form in FORMS
    ]


@pytest.mark.parametrize("speed", [0.2, 2.0])
def test_who_reverses_leads_with_the_rear(speed):
    """5 m/s backwards into a car that creeps or drives away: at fault; and who is hit on the front while reversing is not."""
    back, front = Agent(-12.0, 0.0, -speed), Agent(12.0, 0.0, -14.0, yaw=np.pi)
    for agent, fault in ((back, True), (front, False)):
        trace = make_trace(straight(-5.0), agent)
        (hit,) = find_collisions(trace)
        assert hit.at_fault == fault and hit.kind == ("active_front" if fault else "active_rear")
        (hit,) = find_collisions(trace, "faithful")
        assert hit.at_fault != fault, "the originals' front leads"
        values = nuplan_parts(trace, form="corrected")["no_at_fault_collision"], parts(trace, "v1", "corrected")
        assert values[0].value == values[1]["no_at_fault_collision"] == float(not fault)


def test_running_values_of_who_reverses():
    """The rear, 0.642 m behind the axle, is at the bumper of a car 6 m behind; what drives away in front of it is no danger."""
    agents, footprints = AgentArrays.empty(1, 1), np.array([[[4.0], [2.0]]])
    agents.valid[:] = True

    def left(x: float, velocity: float, speed: float) -> float:
        agents.values[0], agents.values[4] = x, velocity
        ego = np.array([[0.0, 0, 0, speed, 0, 0, 0]])
        return float(time_to_contact(ego, agents, np.zeros(1, int), footprints, VehicleParameters())[0])

    assert left(-8.0, 0.0, -5.0) == pytest.approx((6.0 - 0.642) / 5.0) and left(-8.0, 0.0, 5.0) == HORIZON
    assert left(8.0, -14.0, -5.0) == HORIZON, "comes from behind, as the ego moves"
    limited = make_trace(straight(-20.0), scene_map=road_map(8.0))
    assert speed_limit_compliance(limited).value == 0.0
    _, values = drive(driven_scene(speed=9.0, scene_map=road_map(8.0)), [(0.0, 0.0)])
    assert values[-1]["speeding"] == pytest.approx(1.0)


def test_time_to_collision_of_who_reverses():
    """Corrected: what lies behind, where it goes. Faithful: NAVSIM and nuPlan move it along its heading into the car ahead."""
    behind, ahead = (make_trace(straight(-5.0, x=30.0), agent) for agent in (Agent(10.0, 0.0), Agent(36.5, 0.0, yaw=np.pi)))
    for trace, values in ((behind, [1.0, 0.0]), (ahead, [0.0, 1.0])):
        assert [time_to_collision(trace, form).value for form in FORMS] == values
        assert [parts(trace, "v2", form)["time_to_collision"] for form in FORMS] == values
        if trace is ahead:
            assert [nuplan_parts(trace, form=form)["time_to_collision"].value for form in FORMS] == values


@pytest.mark.parametrize("steps, faithful", [(41, 0.5404), (151, 0.5486)])
def test_overspeed_over_the_time_or_the_rows(steps, faithful):
    """1 m/s over the limit throughout: nuPlan's number depends on how long the drive is."""
    trace = make_trace(straight(9.0, steps=steps), scene_map=road_map(8.0))
    values = [nuplan_parts(trace, form=form)["speed_limit_compliance"].value for form in FORMS]
    assert values == pytest.approx([faithful, 0.5516], abs=5e-5)
    assert speed_limit_compliance(trace).value == values[1]


@pytest.mark.parametrize("rate", [0.7, 0.8, 0.9])
def test_history_comfort_with_and_without_the_tick_before(rate):
    """A steady turn at 5 m/s: the original leaves out a tick between past and plan, which looks like a jerk of the wheel."""
    time = 0.1 * np.arange(-PAST, 41)
    turn = np.zeros((len(time), 7))
    turn[:, 0], turn[:, 1], turn[:, 2] = 5 / rate * np.sin(rate * time), 5 / rate * (1 - np.cos(rate * time)), rate * time
    turn[:, 3], turn[:, 6] = 5.0, rate
    scene = scene_of(history=turn[:PAST])
    values = [score_plans(turn[None, PAST:], scene, "v2", form).parts["history_comfort"][0] for form in FORMS]
    assert values == [0.0, 1.0]


def test_driving_direction_in_intersections():
    """Outside the route's lanes within an intersection: v1.1 counts it, v2 and the corrected forms do not."""
    crossing = make_map(
        "crossing", {"drivable_area": [box(-50, -50, 400, 50)]}, [lane("A", 0.0)], intersections=[box(-50, -50, 400, 50)]
    )
    trace = make_trace(straight(8.0, y=5.0), scene_map=crossing)
    trace = replace(trace, route=replace(trace.route, lanes=("A",)))
    direction = {(v, f): parts(trace, v, f)["driving_direction_compliance"] for v in ("v1", "v2") for f in FORMS}
    assert direction == {("v1", "faithful"): 0.0, ("v1", "corrected"): 1.0, ("v2", "faithful"): 1.0, ("v2", "corrected"): 1.0}


def test_no_lanes_on_the_route_is_no_zero():
    """Without them the original's rule tells no lane from an oncoming one: not known, nor is a score with it as a factor."""
    trace = make_trace()  # its route names no lanes
    result = driving_direction_compliance(trace, "faithful")
    assert not result.valid and "no lane" in result.details["reason"] and driving_direction_compliance(trace).valid
    scene = PlanScene.happened(trace, 0)
    scores = {version: score_plans(trace.ego[None], scene, version, "faithful") for version in ("v1", "v2")}
    assert scores["v1"].valid[0] and not scores["v2"].valid[0] and scores["v1"].score[0] == 1.0
    assert scores["v1"].details(0)["driving_direction_compliance"] is None, "v1 does not weigh it"


def test_the_reference_of_a_batch_obeys_the_direction_in_v2():
    """The faster plan drives against the traffic: v2 does not measure the other's progress by it, v1 does."""
    fast, slow = straight(12.0, y=7.0), straight(6.0)
    scene = scene_of()
    progress = {v: score_plans(np.stack([fast, slow]), scene, v, "corrected").parts["ego_progress"] for v in ("v1", "v2")}
    assert progress["v1"].tolist() == [1.0, pytest.approx(0.5)] and progress["v2"].tolist() == [1.0, 1.0]
