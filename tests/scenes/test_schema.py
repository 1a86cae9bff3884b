"""The JSON Schemas of scenarios and suites: they take what the readers take, and refuse what they refuse for its shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given

from dist4d_env.errors import ConfigError
from dist4d_env.scenes.scenario import Scenario, read_scenario, scenario_dict
from dist4d_env.scenes.schema import scenario_schema, suite_schema
from tests.scenes.test_suites import SCENARIOS

jsonschema = pytest.importorskip("jsonschema")  # comes with Ray
FOLDER = Path(__file__).resolve().parents[2] / "dist4d_env" / "suites"


def test_the_file_beside_the_suites_is_up_to_date() -> None:
    remedy = "python -m dist4d_env.scenes.schema suite > dist4d_env/suites/suite.schema.json"
    assert json.loads((FOLDER / "suite.schema.json").read_text()) == suite_schema(), remedy


@pytest.mark.parametrize("name", ["town_val", "town_test", "nuscenes", "safety_critical"])
def test_the_suites_keep_to_it(name: str) -> None:
    jsonschema.Draft7Validator.check_schema(suite_schema())
    jsonschema.validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()), suite_schema())


@given(SCENARIOS)
def test_every_scenario_that_can_be_written_keeps_to_it(scenario: Scenario) -> None:
    jsonschema.validate(json.loads(json.dumps(scenario_dict(scenario))), scenario_schema())


@pytest.mark.parametrize(
    "text",
    [
        "start: 1\n",
        "scene: a\nspeeed: 3\n",
        "scene: a\nego_yaw: left\n",
        "scene: a\ntraffic: wild\n",
        "scene: a\ntraffic: 3\n",
        "scene: a\ndifficulty: brutal\n",
        "scene: a\nedits: [remove]\n",
        "scene: a\nedits:\n  - fly: {}\n",
        "scene: a\nedits:\n  - stop: {target: lead, when: 3}\n",
        "scene: a\nedits:\n  - insert: {category: dragon}\n",
        "scene: a\nedits:\n  - insert: {size: [1, 2]}\n",
        "scene: a\nedits:\n  - {stop: {target: lead}, slow: {target: lead}}\n",
    ],
)
def test_what_has_the_wrong_shape_is_refused_by_both(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        read_scenario(file)
    found: Any = yaml.safe_load(text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, scenario_schema())


def test_defaults_are_those_of_the_classes() -> None:
    fields = scenario_schema()["properties"]
    assert fields["start"]["default"] == Scenario("a").start and "default" not in fields["horizon"]
