"""``--json``: the result alone on stdout, for every verb."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dist4d_env.__main__ import main
from dist4d_env.json_output import plain
from dist4d_env.verbs import VERBS

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("verb", [*VERBS, "train codec"])
def test_every_verb_has_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    said = capsys.readouterr().out
    assert ("--json" in said) == (verb != "train") and "--no-json" not in said


def test_what_people_read_goes_to_stderr(town_dataroot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--dataroot", str(town_dataroot), "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["sound"] and found["dataroot"] == str(town_dataroot) and found["faults"] == []
    first = found["scenes"][0]
    assert (first["name"], first["use"], first["broken"]) == ("town-val-0000", "all worlds", [])
    assert "playable in" in err and out.count("\n") == 1


def test_errors_are_results_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--dataroot", str(tmp_path / "nowhere"), "--json"]) == 2
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["status"] == 2 and "nowhere" in found["error"] and err.strip().endswith(found["error"])


def test_mistakes_of_the_program_are_results_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(options: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("dist4d_env.evaluation.validation.run", wrong)
    with pytest.raises(ZeroDivisionError):
        main(["validate", "--json"])
    assert json.loads(capsys.readouterr().out) == {"error": "ZeroDivisionError: division by zero", "status": 1}


def test_nothing_of_it_without_the_option(town_dataroot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--dataroot", str(town_dataroot)]) == 0
    assert "{" not in capsys.readouterr().out


def test_evaluate_and_leaderboard(town_dataroot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--dataroot", str(town_dataroot), "--workers", "0", "--json"]
    one = ["evaluate", *place, "--scenes", "town-val-0000", "--horizon", "1", "--out", str(tmp_path / "one")]
    assert main(one) == 0
    found = json.loads(capsys.readouterr().out)
    stored = json.loads((tmp_path / "one" / "results.json").read_text())
    assert found["results"] == str(tmp_path / "one" / "results.json")
    assert found["metrics"] == stored["metrics"] and found["settings"] == stored["settings"]
    (tmp_path / "suite.yaml").write_text(
        "name: small\nscenarios:\n  - {name: a, scene: town-val-0000, start: 0.0, horizon: 1.0}\n"
    )
    suite = ["evaluate", *place, "--suite", str(tmp_path / "suite.yaml"), "--planner", "lane", "idm"]
    assert main([*suite, "--out", str(tmp_path / "many")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["planner"] for row in found["standings"]} == {"lane", "idm"} and Path(found["report"]).is_file()
    assert main(["leaderboard", str(tmp_path / "many"), "--out", str(tmp_path / "site"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert Path(found["page"]).is_file() and found["campaigns"][0]["name"] == "many"


def test_other_processes_and_numbers_of_streams() -> None:
    code = """
import os, sys
from dist4d_env.json_output import as_json, result
with as_json(True):
    print("print"); sys.stdout.flush()
    os.system("echo process")
    result({"a": 1})
    result({"b": 2})
    print("more")
print("after")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout == '{"a": 1}\nafter\n', done.stderr
    assert done.stderr.split() == ["print", "process", "more"]


def test_values_that_json_does_not_know() -> None:
    values = {
        "nan": float("nan"),
        3: np.float32(0.5),
        "path": Path("a/b"),
        "many": (np.int64(1), float("inf")),
        "true": np.bool_(1),
    }
    assert plain(values) == {"nan": None, "3": 0.5, "path": "a/b", "many": [1, None], "true": True}


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("town --scenes 1 --size 32x48 --duration 0.5 --workers 1 --out OUT", {"dataroot"}),
        (
            "demo --dataroot DATA --scene town-val-0000 --weights splat --seconds 0.3 --swerve 0 --out OUT",
            {"scene", "seconds", "outcome", "frames", "video", "report", "episode"},
        ),
        (
            "prepare --dataroot DATA --scenes town-val-0000 --height 32 --sweeps 0 --workers 1 --out OUT",
            {"depth", "scenes", "written", "kept", "without_image", "without_lidar", "without_returns", "bodies"},
        ),
        pytest.param(
            "train codec --dataroot DATA --split town-val-0000 --val-split none --sizes 32x56 --steps 1 --batch 1 --workers 1"
            " --out OUT",
            {"weights", "steps"},
            marks=pytest.mark.medium,
        ),
    ],
    ids=lambda given: given.split()[0] if isinstance(given, str) else "",
)
def test_what_verbs_have_made(
    words: str, keys: set[str], town_dataroot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {"DATA": str(town_dataroot), "OUT": str(tmp_path / "out")}
    assert main([*(places.get(word, word) for word in words.split()), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert set(found) == keys
    paths = [found[name] for name in ("dataroot", "video", "report", "episode", "depth", "weights") if name in found]
    assert paths and all(Path(path).exists() for path in paths)
