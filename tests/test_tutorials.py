"""The tutorials and the pages on metrics and on extending run from top to bottom, in an empty folder, as by their readers."""

from __future__ import annotations

from pathlib import Path

import pytest

from dist4d_env.__main__ import main
from tests.pages import DOCS, run_page

TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
METRIC_PAGES = sorted((DOCS / "metrics").glob("*.md"))


@pytest.mark.medium
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(page: Path, town_dataroot: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUSCENES", str(town_dataroot))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run_page(page, monkeypatch, tmp_path) >= 3


def test_the_code_on_extending_runs(
    town_dataroot: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what it makes is evaluated by name."""
    monkeypatch.setenv("NUSCENES", str(town_dataroot))
    assert run_page(DOCS / "extending.md", monkeypatch, tmp_path) >= 9
    named = ["--dataset", "extending:StraightDrive", "--planner", "extending:Braking", "--workers", "0", "--horizon", "2"]
    assert main(["evaluate", *named, "--world", "none", "--out", str(tmp_path / "driven")]) == 0
    assert main(["evaluate", str(tmp_path / "driven"), "--allow", "extending:StraightDrive"]) == 0
    assert "drivable area compliance" in capsys.readouterr().out


@pytest.fixture(scope="module")
def study(town_dataroot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the overview's code ran, and stored the episode that the pages of the metrics begin with."""
    folder = tmp_path_factory.mktemp("metrics")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUSCENES", str(town_dataroot))
        assert run_page(DOCS / "metrics.md", patch, folder) == 2
    return folder


@pytest.mark.parametrize("page", METRIC_PAGES, ids=lambda page: page.stem)
def test_the_code_on_a_metric_runs(page: Path, study: Path, town_dataroot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUSCENES", str(town_dataroot))
    assert run_page(page, monkeypatch, study) == 1


def test_all_six_are_there() -> None:
    asked = {"first-drive", "train-a-policy", "bring-your-data", "write-a-planner", "write-a-world", "score-and-report"}
    assert {page.stem for page in TUTORIALS} == asked
