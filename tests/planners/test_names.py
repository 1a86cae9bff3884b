"""Planners by name: every name makes a planner, whose docstring describes it; unknown names are refused with the remedy."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from dist4d_env.errors import ConfigError, WeightsError
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.learning.policy_planner import SHIPPED, PolicyPlanner
from dist4d_env.planners.constant_velocity import ConstantVelocity
from dist4d_env.planners.contract import PlannerNeeds
from dist4d_env.registry import PLANNERS

PRIVILEGED = {"log", "lane", *(name for name in PLANNERS.built_in if name.startswith("expert_"))}


@pytest.mark.parametrize("name", PLANNERS.built_in)
def test_every_name_makes_a_planner(name):
    planner = make_planner(name)
    assert isinstance(planner.requires, PlannerNeeds) and inspect.getdoc(type(planner))
    assert planner.requires.privileged == (name in PRIVILEGED), "privileged planners drive by the truth, and no others"


def test_objects_modules_and_policy_folders():
    planner = ConstantVelocity()
    assert make_planner(planner) is planner
    assert isinstance(make_planner("dist4d_env.planners.constant_velocity:ConstantVelocity"), ConstantVelocity)
    assert isinstance(make_planner(str(SHIPPED)), PolicyPlanner)


def test_planners_of_other_packages(tmp_path, monkeypatch):
    """An installed package declares one as an entry point; nothing here changes."""
    (tmp_path / "other_planner.py").write_text(
        "from dist4d_env.planners.constant_velocity import ConstantVelocity\n\n\nclass Other(ConstantVelocity):\n    pass\n"
    )
    declared = tmp_path / "other_planner-1.0.dist-info"
    declared.mkdir()
    (declared / "METADATA").write_text("Metadata-Version: 2.1\nName: other-planner\nVersion: 1.0\n")
    (declared / "entry_points.txt").write_text("[dist4d_env.planners]\nother = other_planner:Other\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "other" in PLANNERS.names() and type(make_planner("other")).__name__ == "Other"


def test_unknown_names_say_what_there_is(tmp_path):
    with pytest.raises(ConfigError, match=r"'pdm_open' is unknown: did you mean 'pdm_closed'.*module:Class.*dist4d_env.planners"):
        make_planner("pdm_open")
    with pytest.raises(WeightsError, match="no policy can be read"):
        make_planner(str(tmp_path))
    with pytest.raises(ConfigError, match="has no requires, reset, plan"):
        make_planner("builtins:dict")


def test_names_cost_nothing():
    """Listing planners imports no planner and no numeric library."""
    code = "import sys; from dist4d_env.registry import PLANNERS; PLANNERS.check('idm'); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "torch" not in done.stdout and "dist4d_env.planners" not in done.stdout


@pytest.mark.parametrize(
    "asked, says",
    [({"rate_hz": "often"}, "rate_hz must be a number above 0, not 'often'"), ({"cameras": 6}, "cameras must be True or False"),
     ({"history": -1}, "history must be a whole number")],
)  # fmt: skip
def test_needs_that_say_nothing_are_refused(asked, says):
    with pytest.raises(ConfigError, match=says):
        PlannerNeeds(**asked)
