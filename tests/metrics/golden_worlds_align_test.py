"""Scores of plans against the original NAVSIM scorers on random crossroads: agents that change their speed, that come and go, and
an ego that reverses; six worlds each, twelve driven plans a world, in both versions."""

from __future__ import annotations

import pytest

from dist4d_env.metrics.plans.scoring import score_plans

from . import golden

PARTS = {
    "NC": "no_at_fault_collision",
    "DAC": "drivable_area_compliance",
    "DDC": "driving_direction_compliance",
    "EP": "ego_progress",
    "TTC": "time_to_collision",
    "LK": "lane_keeping",
    "comfort": "comfort",
}


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
        found = {key: scores.parts[part].tolist() for key, part in PARTS.items() if key in original}
        assert len(found) == 6, "NC, DAC, DDC, EP, TTC and the comfort of v1 or the lane keeping of v2"
        found |= {"score": scores.score.tolist(), "progress": scores.evidence["progress"].tolist()}
        for key, column in (("fault", "fault_step"), ("ttcstep", "meeting_step")):
            found[key] = [None if step < 0 else step for step in scores.evidence[column].tolist()]
        for key, values in found.items():
            for plan, (ours, theirs) in enumerate(zip(values, original[key], strict=True)):
                assert ours == pytest.approx(theirs, abs=1e-6), (number, plan, key)
