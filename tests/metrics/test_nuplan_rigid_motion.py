"""No score of another benchmark depends on where the world lies: turned and moved as a whole, every one stays what it was."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist4d_env.metrics.driving.trace import Plans
from dist4d_env.metrics.foreign.ads import ads
from dist4d_env.metrics.foreign.alpasim import alpasim_scene_score
from dist4d_env.metrics.foreign.bench2drive import bench2drive
from dist4d_env.metrics.foreign.hd_score import hd_score
from dist4d_env.metrics.foreign.neuroncap import neuroncap_score
from dist4d_env.metrics.foreign.nuplan import nuplan_cls
from dist4d_env.metrics.foreign.open_loop import CLASSES, nuscenes_open_loop

from . import worlds

MOTIONS = st.builds(worlds.Motion, st.floats(-math.pi, math.pi), st.tuples(st.floats(-3000, 3000), st.floats(-3000, 3000)))
FORMS = ("faithful", "corrected")
PER_STEP = ("time", "ego", "position", "yaw", "velocity", "valid", "expert")


def scores(trace, plans):
    """Every score by name, and the numbers in its details."""
    found = {"alpasim": alpasim_scene_score(trace, plans=plans)}
    for form in FORMS:
        found |= {f"open loop {name} {form}": nuscenes_open_loop(trace, plans, name, form) for name in CLASSES}
        found |= {f"cls {form}": nuplan_cls(trace, form=form), f"ads {form}": ads(trace, plans, form)}
        found |= {f"hd {form}": hd_score(trace, plans, form=form), f"neuroncap {form}": neuroncap_score(trace, 10.0, form)}
        found |= {f"{name} {form}": result for name, result in bench2drive(trace, 20.0, form).items()}
    numbers = {}
    for name, result in found.items():
        numbers[name] = (result.valid, result.value)
        numbers |= {f"{name} {part}": (True, value) for part, value in result.details.get("parts", {}).items()}
    return numbers


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), motion=MOTIONS)
def test_scores_stay(seed, motion):
    trace, plans = worlds.random_trace(seed)
    here, there = scores(trace, plans), scores(motion.trace(trace), plans)
    assert here.keys() == there.keys()
    for name, (valid, value) in here.items():
        # A footprint on a raster jumps by a cell where a corner lies on its border.
        slack = 1e-6 if value is not None else None
        assert there[name][0] == valid and there[name][1] == pytest.approx(value, abs=slack), name


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_episodes_that_end_at_once_have_scores(steps):
    """Whatever is too short to be judged says so; nothing fails."""
    trace, plans = worlds.random_trace(3)
    short = replace(trace, **{name: getattr(trace, name)[:steps] for name in PER_STEP})
    none = Plans(plans.step[:0], plans.poses[:0])
    for issued in (Plans(plans.step[:1], plans.poses[:1]), none):
        assert all(value is None or math.isfinite(value) for _, value in scores(short, issued).values())
    if steps == 1:
        result = nuplan_cls(short)
        assert not result.valid and "comfort" in result.details["reason"]


def test_worlds_are_worth_moving():
    """Over two dozen worlds every score takes several values."""
    found: dict[str, set[float]] = {}
    for seed in range(24):
        for name, (valid, value) in scores(*worlds.random_trace(seed)).items():
            if valid and value is not None:
                found.setdefault(name, set()).add(round(float(value), 6))
    wanted = {
        f"{name} {form}" for name in ("cls", "ads", "hd", "neuroncap", "open loop uniad", "open loop stp3") for form in FORMS
    }
    wanted.add("alpasim")
    assert {name for name in wanted if len(found.get(name, ())) < 2} == set()
