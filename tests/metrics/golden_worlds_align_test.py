"""Scores of plans against the original NAVSIM scorers on random crossroads: agents that change their speed, that come and go, and
an ego that reverses; six worlds each, twelve driven plans a world, in both versions."""

from __future__ import annotations

import numpy as np
import pytest

from dist4d_env.metrics.driving.collision import find_collisions, no_at_fault_collision
from dist4d_env.metrics.driving.road import drivable_area_compliance, lane_keeping
from dist4d_env.metrics.driving.time_to_collision import time_to_collision
from dist4d_env.metrics.driving.trace import EpisodeTrace
from dist4d_env.metrics.plans.scene import PlanScene
from dist4d_env.metrics.plans.scoring import score_plans
from dist4d_env.scenes.scene import TICK

from . import golden


@pytest.mark.parametrize("mode", ["accel", "appear", "reverse"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_every_world(stored_data, version, mode):
    """Every sub-score, the score, the metres, and the steps of the first at-fault collision and the first meeting."""
    cases = golden.worlds(stored_data, version, mode)
    assert len(cases) == 6
    for number, (case, ego, scene) in enumerate(cases):
        original = case["original"]
        assert len(ego) == len(original["score"]) == 12
        scores = score_plans(ego, scene, version, "faithful")
        assert scores.valid.all()
        found = {key: scores.parts[part].tolist() for key, part in golden.PARTS.items() if key in original}
        assert len(found) == 6, "NC, DAC, DDC, EP, TTC and the comfort of v1 or the lane keeping of v2"
        found |= {"score": scores.score.tolist(), "progress": scores.evidence["progress"].tolist()}
        for key, column in (("fault", "fault_step"), ("ttcstep", "meeting_step")):
            found[key] = [None if step < 0 else step for step in scores.evidence[column].tolist()]
        for key, values in found.items():
            for plan, (ours, theirs) in enumerate(zip(values, original[key], strict=True)):
                assert ours == pytest.approx(theirs, abs=1e-6), (number, plan, key)


def trace_of(ego: np.ndarray, scene: PlanScene) -> EpisodeTrace:
    """One driven plan as if it had been an episode of 4 s."""
    rows, here = len(ego), scene.until(len(ego))
    return EpisodeTrace(
        time=TICK * np.arange(rows),
        ego=ego,
        position=np.concatenate([here.position, np.zeros((*here.yaw.shape, 1))], -1),
        yaw=here.yaw,
        velocity=here.velocity,
        valid=here.valid,
        size=np.column_stack([here.size, np.ones(len(here.size))]),
        category=here.category,
        expert=ego[:, :3],
        map=here.map,
        route=here.route,
        vehicle=here.vehicle,
    )


@pytest.mark.parametrize("mode", ["accel", "appear", "reverse"])
def test_metrics_of_episodes(stored_data, mode):
    """The metrics of a whole episode, on each plan as one: all that needs no future beyond it."""
    for number, (case, egos, scene) in enumerate(golden.worlds(stored_data, "v2", mode)):
        original = case["original"]
        for plan, ego in enumerate(egos):
            trace, where = trace_of(ego, scene), (number, plan)
            faults = [c.step for c in find_collisions(trace, "faithful", at_first_sight=True) if c.at_fault]
            assert no_at_fault_collision(trace, "faithful").value == original["NC"][plan], where
            assert next(iter(faults), None) == original["fault"][plan], where
            assert drivable_area_compliance(trace, "faithful").value == original["DAC"][plan], where
            meeting = time_to_collision(trace, "faithful")
            assert (meeting.value, meeting.details.get("step")) == (original["TTC"][plan], original["ttcstep"][plan]), where
            assert lane_keeping(trace, "route").value == original["LK"][plan], where
