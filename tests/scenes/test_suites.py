"""Scenarios and suites as YAML: both ways, and errors that name the line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist4d_env.errors import ConfigError
from dist4d_env.scenes.edits import Cross, CutIn, Door, Edit, Insert, Jaywalk, Oncoming, Remove, Slow, Stop
from dist4d_env.scenes.scenario import DIFFICULTIES, Scenario, read_scenario, write_scenario
from dist4d_env.scenes.suites import Suite, read_suite, shipped_suites, write_suite

metres, seconds = st.floats(-50.0, 50.0), st.floats(0.0, 20.0)
sizes = st.one_of(st.none(), st.tuples(st.floats(1, 10), st.floats(1, 3), st.floats(1, 3)))
EDITS: st.SearchStrategy[Edit] = st.one_of(
    st.builds(Insert, category=st.sampled_from(["car", "pedestrian"]), ahead=metres, lateral=metres, at=seconds, size=sizes),
    st.builds(Insert, profile=st.sampled_from([(), ((0.0, 1.0),), ((0.0, 1.0), (2.5, 0.0))]), straight=st.booleans()),
    st.builds(Remove, st.sampled_from(["all", "lead", "0123456789", "1e5", "null", "nearest car"])),
    st.builds(Slow, st.just("lead"), at=seconds, speed=st.floats(0, 20), hold=st.one_of(st.none(), seconds)),
    st.builds(Stop, st.just("edit-0"), deceleration=st.floats(0.1, 10.0)),
    st.builds(CutIn, gap=metres, size=sizes), st.builds(Jaywalk, early=metres), st.builds(Cross, angle=st.floats(0.3, 2.8)),
    st.builds(Oncoming, into=metres), st.builds(Door, target=st.sampled_from(["", "abc"]), before=metres),
)  # fmt: skip
SCENARIOS = st.builds(
    Scenario, st.sampled_from(["scene-0061", "town-val-0000", "yes", "12"]), seconds, st.one_of(st.none(), st.floats(0.1, 30.0)),
    st.sampled_from([None, "idm"]), metres, st.floats(-3.0, 3.0), st.one_of(st.none(), seconds),
    st.lists(EDITS, max_size=3).map(tuple), st.text("ab :#-'\"{é", max_size=8), st.just("door_zone"),
    st.sampled_from(["", *DIFFICULTIES]),
)  # fmt: skip


@given(SCENARIOS)
def test_a_written_scenario_reads_as_it_was(tmp_path_factory: pytest.TempPathFactory, scenario: Scenario) -> None:
    file = tmp_path_factory.getbasetemp() / "scenario.yaml"
    write_scenario(file, scenario)
    assert read_scenario(file) == scenario


def test_a_written_suite_reads_as_it_was(tmp_path: Path) -> None:
    stops, walks = (Scenario("a", edits=(edit,), name=edit.kind, difficulty="hard") for edit in (Stop("lead"), Jaywalk()))
    suite = Suite("both", "/some/where", None, (stops, walks))
    write_suite(tmp_path / "s" / "suite.yaml", suite, "made by hand\nand read again")
    assert read_suite(tmp_path / "s" / "suite.yaml") == suite
    assert (tmp_path / "s" / "suite.yaml").read_text().startswith("# made by hand\n# and read again\nname: both\n")
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["suite.yaml"]


HEAD = "name: s\nscenarios:\n  - name: one\n    scene: a\n    edits:\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "      - stop: {target: lead}\n      - fly: {}\n", r"line 7: unknown edit 'fly'; there are insert, remove"),
        (HEAD + "      - stop:\n          target: lead\n          when: 3\n", r"line 8: unknown field 'when' of Stop; there are"),
        (HEAD + "      - stop:\n          target: lead\n          at: soon\n", r"line 8: stop: at must be a number in \[0"),
        (HEAD + "      - stop: {at: 1}\n", r"line 6: stop: target must be an instance token"),
        (HEAD + "      - stop\n", r"line 6: edits must each be one `KIND:"),
        (HEAD + "      - stop: 3\n", r"line 6: stop takes \{field: value, ...\}, not 3"),
        (HEAD + "      - insert: {profile: [[0, 1], [0, 2]]}\n", r"line 6: insert: profile must be pairs"),
        (HEAD + "      - {stop: {target: lead}, slow: {target: lead}}\n", r"line 6: edits must each be one"),
        (HEAD + "      stop: {}\n", r"line 5: edits must be a list"),
        ("name: s\nscenarios:\n  - name: one\n    scene: a\n    difficulty: brutal\n", r"line 5: difficulty must be one of easy"),
        ("name: s\nscenarios:\n  - {name: x, scene: a}\n  - {name: x, scene: b}\n", r"line 2: .*'x' is there 2 times"),
        ("name: s\nscenarios:\n  - {scene: a}\n", r"line 2: scenarios must each have a name"),
        ("name: s\nscenarios:\n  - just text\n", r"line 3: a scenario is a list of"),
        ("name: s\nscenarios: []\n", r"line 2: scenarios must hold at least one"),
        ("name: s\nscenes: []\nscenarios: []\n", r"line 2: unknown field 'scenes' of Suite"),
        (
            "name: 3\nscenarios:\n  - {scene: a, name: x}\n",
            r"line 1: name must be text of at most 100 printable characters, not 3",
        ),
        ("name: s\n", r"line 1: a suite is"),
        ("name: s\nscenarios:\n  - &one {scene: a, name: x}\n  - *one\n", r"line 4: a suite has no aliases"),
        ("a: &a [*a]\n", r"a suite has no aliases"),
        ("name: s\nscenarios:\n  - {scene: a, scene: b}\n", r"line 3: scene is set again"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"bad\.yaml, {said}" if said.startswith("line") else said):
        read_suite(file)


def test_suites_of_the_package_have_names() -> None:
    assert {"town_val", "safety_critical", "nuscenes"} <= set(shipped_suites())
    assert read_suite("town_val").scenarios == read_suite(shipped_suites()["town_val"]).scenarios
    with pytest.raises(ConfigError, match="suite 'moon' is neither a file nor one of the package's: nuscenes, safety_critical"):
        read_suite("moon")


def test_scenarios_hold_edits_only() -> None:
    with pytest.raises(ConfigError, match="edits must be a tuple of edits"):
        Scenario("a", edits=("stop",))  # type: ignore[arg-type]
    assert hash(Scenario("a", edits=(Cross(angle=math.pi / 2),))) == hash(Scenario("a", edits=(Cross(),)))
