"""Scenarios and their YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.scenes.scenario import Scenario, read_scenario
from dist4d_env.scenes.suites import read_suite


def test_fields(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("scene: scene-0061\nstart: 2\nhorizon: 8.0\ntraffic: idm\nego_offset: -0.5\nego_speed: 6\n")
    assert read_scenario(file) == Scenario("scene-0061", 2, 8.0, "idm", -0.5, 0.0, 6)
    file.write_text("scene: only\nedits: []\n")
    assert read_scenario(file) == Scenario("only")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scene: a\nspeeed: 3\n", r"line 2: unknown field 'speeed' of Scenario; there are scene, start"),
        ("scene: a\n\nstart: -1\n", r"line 3: start must be a number in \[0, 10000\], not -1"),
        ("scene: a\nhorizon: .nan\n", r"line 2: horizon"),
        ("scene: a\nego_yaw: left\n", r"line 2: ego_yaw must be a number in \[-7, 7\], not 'left'"),
        ("scene: a\nstart: true\n", r"line 2: start"),
        ("start: 1\ntraffic: wild\nscene: a\n", r"line 2: traffic 'wild' is unknown: .*'replay', 'idm'"),
        ("scene: 61\n", r"line 1: scene must be a scene's name"),
        ("scene: a\nstart: 1\nstart: 2\n", r"line 3: start is set again \(first on line 2\)"),
        ("scene: a\nedits: [remove]\n", r"line 2: edits must each be one"),
        ("scene: [a\n", r"line 2: not valid YAML"),
        ("- a\n", r"at least `scene: NAME`"),
        ("", r"at least `scene: NAME`"),
        ("start: 1\n", r"names no scene"),
        ("scene: !!python/object/apply:os.getcwd []\n", r"line 1: not valid YAML here: a value of kind python"),
        ("scene: a\nstart: 010\n", r"line 2: '010' is no plain int: write decimal numbers"),
        ("scene: a\nstart: 1:30\n", r"line 2: '1:30' is no plain int"),
        ("scene: a\nstart: 1:30.5\n", r"line 2: '1:30\.5' is no plain float"),
        ('scene: a\n\nstart: !!int ""\n', r"line 3: '' is no plain int"),
        ("scene: a\nstart: !!bool maybe\n", r"line 2: 'maybe' is no plain bool"),
        ("scene: a\nstart: !!timestamp x\n", r"line 2: not valid YAML here: a value of kind timestamp"),
        (
            "scene: 2024-01-01\n",
            r"line 1: not valid YAML here: a value of kind timestamp \(text that looks like one needs quotes",
        ),
        ("scene: a\nstart: " + "9" * 400 + "\n", r"line 2: '9+ \.\.\. 9+' is no plain int" if False else r"line 2: '9"),
        ("scene: a\nedits:\n  - insert: {at: 1" + "0" * 17 + "}\n", r"line 3: insert: at must be a number in \[0, 10000\]"),
        ("scene: a\nego_offset: 1.0e+300\n", r"line 2: ego_offset must be a number in \[-100, 100\], not 1e\+300"),
        ("scene: a\nedits:\n  - jaywalk: {lateral: -1.0e+300}\n", r"line 3: jaywalk: lateral must be a number in \[-10000"),
        ("scene: a\nname: " + "x" * 400 + "\n", r"line 2: name must be text of at most 100 printable characters, not 'xxx"),
        ('scene: a\nname: "a\\nb"\n', r"line 2: name must be text of at most 100 printable characters"),
        ("scene: a\nname: " + "[" * 5000 + "\n", r"line 2: (not valid YAML|lists and mappings are nested more than 20 deep)"),
        ("scene: a\nname: " + "[" * 21 + "]" * 21 + "\n", r"line 2: lists and mappings are nested more than 20 deep"),
        ("scene: a\n? [b]\n: c\n", r"line 2: not valid YAML here: a value of kind seq"),
        ("scene: a\n<<: {start: 1}\n", r"line 2: not valid YAML here: a value of kind merge"),
        ("scene: a\n\nname: \x07\n", r"line 3: not valid YAML"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"bad\.yaml.*{said}") as caught:
        read_scenario(file)
    assert len(str(caught.value)) <= 300


def test_text_that_is_none_names_its_line_and_a_path_that_is_none_the_path(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("scene: a\nname: Stra\xdfe\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml, line 2: the scenario is not UTF-8 text"):
        read_scenario(tmp_path / "latin.yaml")
    for path in ("\0", "a" * 5000):
        with pytest.raises(ConfigError, match="the scenario cannot be read") as caught:
            read_scenario(path)
        assert len(str(caught.value)) <= 300
        with pytest.raises(ConfigError, match="neither a file nor one of the package's"):
            read_suite(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: the scenario cannot be read"):
        read_scenario(tmp_path / "none.yaml")


def test_traffic_is_any_registered_model_or_a_path_of_ones_own() -> None:
    assert Scenario("a", traffic="my_package.traffic:Swarm").traffic == "my_package.traffic:Swarm"
    with pytest.raises(ConfigError, match="traffic 'idn' is unknown: did you mean 'idm'"):
        Scenario("a", traffic="idn")
    with pytest.raises(ConfigError, match="traffic must be a traffic model's name"):
        Scenario("a", traffic=3)  # type: ignore[arg-type]


def test_a_file_names_a_module_only_where_it_is_allowed(tmp_path: Path) -> None:
    swarm = "my_package.traffic:Swarm"
    one, both = tmp_path / "one.yaml", tmp_path / "both.yaml"
    one.write_text(f"scene: a\ntraffic: {swarm}\n")
    both.write_text(f"name: s\nscenarios:\n  - {{name: x, scene: a}}\n  - name: y\n    scene: a\n    traffic: {swarm}\n")
    assert read_scenario(one, allow=[swarm]) == Scenario("a", traffic=swarm)
    assert read_suite(both, allow=[swarm]).scenarios[1].traffic == swarm
    for read, line in ((lambda: read_scenario(one), 2), (lambda: read_suite(both, allow=["other:Swarm"]), 6)):
        with pytest.raises(
            ConfigError, match=rf"line {line}: traffic '{swarm}' is a module's.*if you trust it.*--allow"
        ) as caught:
            read()
        assert len(str(caught.value)) <= 300
    one.write_text(f"scene: a\ntraffic: {'x' * 500}:Swarm\n")
    with pytest.raises(ConfigError, match="--allow") as caught:
        read_scenario(one)
    assert len(str(caught.value)) <= 300
