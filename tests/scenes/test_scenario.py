"""Scenarios and their YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.scenes.scenario import Scenario, read_scenario


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
        ("scene: a\n\nstart: -1\n", r"line 3: start must be a number of at least 0, not -1"),
        ("scene: a\nhorizon: .nan\n", r"line 2: horizon"),
        ("scene: a\nego_yaw: left\n", r"line 2: ego_yaw must be a finite number, not 'left'"),
        ("scene: a\nstart: true\n", r"line 2: start"),
        ("start: 1\ntraffic: wild\nscene: a\n", r"line 2: traffic 'wild' is unknown: .*'replay', 'idm'"),
        ("scene: 61\n", r"line 1: scene must be a scene's name"),
        ("scene: a\nstart: 1\nstart: 2\n", r"line 3: start is set again \(first on line 2\)"),
        ("scene: a\nedits: [remove]\n", r"line 2: edits must each be one"),
        ("scene: [a\n", r"line 2: not valid YAML"),
        ("- a\n", r"at least `scene: NAME`"),
        ("", r"at least `scene: NAME`"),
        ("start: 1\n", r"names no scene"),
        ("scene: !!python/object/apply:os.getcwd []\n", r"not valid YAML"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"bad\.yaml.*{said}"):
        read_scenario(file)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: the scenario cannot be read"):
        read_scenario(tmp_path / "none.yaml")


def test_traffic_is_any_registered_model_or_a_path_of_ones_own() -> None:
    assert Scenario("a", traffic="my_package.traffic:Swarm").traffic == "my_package.traffic:Swarm"
    with pytest.raises(ConfigError, match="traffic 'idn' is unknown: did you mean 'idm'"):
        Scenario("a", traffic="idn")
    with pytest.raises(ConfigError, match="traffic must be a traffic model's name"):
        Scenario("a", traffic=3)  # type: ignore[arg-type]
