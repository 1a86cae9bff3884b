"""The planners' names: each stands for something that can be made, and for a line about it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.planners.builtin import ABOUT, ERRORS, PLANNERS
from dist4d_env.planners.contract import PlannerNeeds

TRUTH = {"log", "lane", *(name for name in PLANNERS if name.startswith("expert_"))}


@pytest.mark.parametrize("name", PLANNERS)
def test_every_name_makes_a_planner(name):
    planner = make_planner(name)
    assert isinstance(planner.requires, PlannerNeeds)
    assert planner.requires.privileged == (name in TRUTH), "privileged is who drives by the truth, and nobody else"


def test_every_planner_is_described():
    kinds = {f"expert_{kind}" for kind in ERRORS}
    assert {name if not name.startswith("expert_") else name.rpartition("_")[0] for name in PLANNERS} == set(ABOUT)
    assert kinds <= set(ABOUT)


def test_a_name_that_stands_for_nothing():
    with pytest.raises(ConfigError, match="pdm_open"):
        make_planner("pdm_open")


def test_names_cost_nothing():
    """Listing planners loads no planner, no torch and no numpy."""
    code = "import sys, agents; sys.exit(any(name in sys.modules for name in ('numpy', 'torch', 'dist4d_env')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
