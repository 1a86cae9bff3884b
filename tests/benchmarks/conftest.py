"""What tests of several benchmarks drive."""

from __future__ import annotations

from pathlib import Path

import pytest

from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import Suite, write_suite


@pytest.fixture(scope="module")
def suite(town_dataroot, tmp_path_factory) -> Path:
    """A suite of two short scenarios on two streets of the town."""
    path = tmp_path_factory.mktemp("suite") / "two.yaml"
    scenarios = (
        Scenario("town-val-0000", name="one", family="nominal", difficulty="easy", horizon=2.0),
        Scenario("town-val-0001", name="two", family="late", difficulty="hard", start=2.0, horizon=2.0),
    )
    write_suite(path, Suite("two", str(town_dataroot), None, scenarios))
    return path
