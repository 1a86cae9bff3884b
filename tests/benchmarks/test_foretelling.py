"""What foretells plans that differ, and what is lost by learning in a generated world: the numbers behind the tables."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import foretelling, policy_gap
from benchmarks.fidelity_drives import Drive
from dist4d_env.errors import ConfigError


def test_what_foretells_is_counted_overall_and_within_planners() -> None:
    """Of one that is right for each planner, but on another scale, the second number alone is 1."""
    rows = []
    for planner, scale in (("a", 1.0), ("b", 100.0)):
        for index in range(10):
            row = dict.fromkeys(foretelling.FORETELLERS, 0.0)
            rows.append({**row, "planner": planner, "scene": str(index), "apart": index / 9, "trust": scale * index})
    found = foretelling.foretold(rows)
    assert found["decisions"] == 20 and found["differs"]["mean"] == 0.5
    trust = found["foretellers"]["trust"]
    assert trust["within_planners"] == 1.0 and trust["auroc"]["mean"] == pytest.approx(0.8)
    assert found["foretellers"]["either plan"]["auroc"]["mean"] == 0.5


def drive(planner: str, scenario: str, pdms: float) -> Drive:
    return Drive(
        planner, scenario, 0, scenario, "f", "end", "c", {"PDMS": pdms}, [(0.0, 0.0)], ["log"], [1.0], [0.0], [True], [None]
    )


def test_the_gap_is_over_episodes_that_all_have_driven() -> None:
    scores = {"t0": (0.5, 0.7), "t1": (0.6, 0.8), "m0": (0.4, 0.8), "m1": (0.5, 0.5)}
    drives = [drive(name, f"s{k}", value) for name, both in scores.items() for k, value in enumerate(both)]
    options = policy_gap.Options(Path(), ("t0", "t1"), ("m0", "m1"))
    found = policy_gap.compared([*drives, drive("t0", "only", 1.0)], options)
    assert found["episodes"] == 2 and found["by_seed"] == pytest.approx([0.0, -0.2])
    assert found["gap"]["mean"] == pytest.approx(-0.1) and found["truth"]["mean"] == pytest.approx(0.65)
    assert policy_gap.compared(drives[:-2], options) == {}
    with pytest.raises(ConfigError, match="2 policies, --made 1"):
        replace(options, made=("m0",))
    assert math.isclose(found["seeds"]["made"]["mean"], 0.55)


def test_halves_of_the_episodes_by_agreement() -> None:
    rows = [{"agreement": k / 4, "apart": 0.4 - k / 10, "same_outcome": k > 1, "scene": str(k)} for k in range(4)]
    found = foretelling.judged_alike([*rows, {"agreement": None, "apart": 1.0, "same_outcome": False, "scene": "x"}])
    assert found["more agreement"]["apart"]["mean"] == pytest.approx(0.15) and found["more agreement"]["count"] == 2
    assert found["less agreement"]["same_outcome"]["mean"] == 0.0 and found["less agreement"]["count"] == 2
    assert foretelling.judged_alike([])["less agreement"]["count"] == 0
