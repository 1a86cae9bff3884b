"""Scores of plans against the original NAVSIM scorers: eight worlds, ten plans each, in both versions, from plan to score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dist4d_env.metrics.plans.scoring import score_plans
from dist4d_env.simulation.drive import drive_along, simulate_plans
from dist4d_env.simulation.ego import EgoState
from dist4d_env.simulation.tracker import References

from . import golden

START = EgoState(0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module", params=["v1", "v2"])
def version(request):
    return request.param


@pytest.fixture(scope="module")
def data(stored_data, version):
    return golden.read(stored_data, version)


@pytest.fixture(scope="module")
def ego(data):
    """(10, 41, 7) our own simulation of the golden plans. They come with a heading of their own at t = 0, so that the tracker is
    handed all 41 poses where ``simulate_plans`` would put the ego's pose first."""
    poses = np.stack([np.column_stack([plan[key] for key in ("x", "y", "heading")]) for plan in data["plans"].values()])
    references = References.fitted(poses, np.zeros(len(poses), int))
    start = np.array([[0.0, 0.0, 0.0, data["ego_start"]["speed"], 0.0, 0.0, 0.0]])
    return drive_along(start, references, 40, golden.vehicle_of(data), golden.UNLIMITED)


def test_simulated_states(data, ego):
    wanted = golden.simulated(data)
    assert wanted.shape == ego.shape == (10, 41, 7)
    np.testing.assert_allclose(ego, wanted, atol=1e-6)


def test_straight_plans_through_simulate_plans(data):
    """Where the golden heading at t = 0 is the ego's, the public door leads to the same states."""
    straight = [row for row, plan in enumerate(data["plans"].values()) if plan["heading"][0] == 0.0]
    assert len(straight) == 6
    plans = list(data["plans"].values())
    poses = np.stack([np.column_stack([plans[row][key][1:] for key in ("x", "y", "heading")]) for row in straight])
    driven = simulate_plans(START, poses, 0.1, 40, golden.vehicle_of(data), golden.UNLIMITED)
    np.testing.assert_allclose(driven, golden.simulated(data)[straight], atol=1e-6)


def test_every_case(data, ego, version):
    """Sub-scores, score, raw progress, comfort flags and first infractions of 80 cases, judged world by world in one batch."""
    cases = 0
    for world, plans in data["expected"].items():
        reference = plans[data["reference_plan"]]
        metres = reference["raw_progress"] * reference["NC"] * reference["DAC"]
        scores = score_plans(ego, golden.scene_of(data, world), version, "faithful", metres)
        assert scores.valid.all()
        for row, name in enumerate(data["plans"]):
            wanted, where = plans[name], f"{version}, {world}, {name}"
            for key, part in golden.PARTS.items():
                if key in wanted:
                    assert scores.parts[part][row] == pytest.approx(wanted[key], abs=1e-6), (where, key)
            details = scores.details(row)
            assert details["score"] == pytest.approx(wanted["score"], abs=1e-6), where
            assert details["progress"] == pytest.approx(wanted["raw_progress"], abs=1e-6), where
            assert (details["collision"] or {}).get("step") == wanted["first_at_fault_step"], where
            assert (details["meeting"] or {}).get("step") == wanted["first_ttc_step"], where
            if "comfort_flags" in wanted:
                assert scores.evidence["comfort_held"][row].astype(int).tolist() == wanted["comfort_flags"], where
            cases += 1
    assert cases == 80


def test_best_of_the_batch_is_the_reference(data, ego, version):
    """Without a reference the fastest plan of the batch that broke nothing takes its place."""
    scores = score_plans(ego, golden.scene_of(data, "empty"), version)
    progress, parts = scores.evidence["progress"], scores.parts
    best = (progress * parts["no_at_fault_collision"] * parts["drivable_area_compliance"]).max()
    assert best == pytest.approx(46.6923, abs=1e-4)
    row = list(data["plans"]).index("cruise8")
    assert parts["ego_progress"][row] == pytest.approx(32.0 / best)


def test_each_plan_scores_alone_as_in_the_batch(data, ego, version):
    scene = golden.scene_of(data, "left car 8 m/s B")
    together = score_plans(ego, scene, version, "corrected", 32.0)
    for row in range(len(ego)):
        alone = score_plans(ego[row : row + 1], scene, version, "corrected", 32.0)
        assert alone.score[0] == together.score[row]
        assert alone.details(0) == together.details(row)


def test_corrected_defects(data, ego, version):
    """The corrected form parts with the original where, and only where, the original is known to be wrong."""
    names = list(data["plans"])
    off_road, cruise, oncoming = (names.index(n) for n in ("right off road -1.5", "cruise8", "to oncoming +7 in 4s"))
    empty, rear = golden.scene_of(data, "empty"), golden.scene_of(data, "rear car 14 m/s")
    faithful, corrected = (score_plans(ego, empty, version, form, 32.0).parts for form in ("faithful", "corrected"))
    direction = "driving_direction_compliance"
    assert faithful[direction][off_road] == 0.0 and corrected[direction][off_road] == 1.0, "off the road is DAC's to punish"
    assert faithful[direction][oncoming] == corrected[direction][oncoming] == 0.0, "lane C comes the other way"
    # Who is hit from behind at constant speed is not at fault and had nothing to foresee ahead.
    faithful, corrected = (score_plans(ego, rear, version, form, 32.0).parts for form in ("faithful", "corrected"))
    assert faithful["time_to_collision"][cruise] == 0.0 and corrected["time_to_collision"][cruise] == 1.0
    assert faithful["no_at_fault_collision"][cruise] == corrected["no_at_fault_collision"][cruise] == 1.0


def test_corrected_comfort(data, version):
    """A 30 m radius at 15 m/s is 7.5 m/s^2 sideways, which the original does not feel; braking hard is smoothed away in v1."""
    time = np.arange(41) * 0.1
    curve = np.zeros((1, 41, 7))
    curve[0, :, 2], curve[0, :, 3], curve[0, :, 6] = 0.5 * time, 15.0, 0.5
    curve[0, :, 0], curve[0, :, 1] = 30 * np.sin(0.5 * time), 30 * (1 - np.cos(0.5 * time))
    brake = golden.simulated(data)[[list(data["plans"]).index("brake-3")]]
    comfort = "comfort" if version == "v1" else "history_comfort"
    scene = golden.scene_of(data, "empty")
    scores = {form: [score_plans(p, scene, version, form).parts[comfort][0] for p in (curve, brake)] for form in golden.FORMS}
    assert scores["faithful"] == [1.0, 1.0] and scores["corrected"] == [0.0, 0.0]
    felt = score_plans(curve, scene, version, "corrected").details(0)["discomfort"]
    assert "lateral_acceleration" in felt and "longitudinal_jerk" not in felt
    assert math.isclose(felt["lateral_acceleration"]["step"], 0)
