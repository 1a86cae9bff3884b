"""The stopwatch of a newcomer's path: every step is timed once, and a stopped run goes on with the next."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import first_contact
from benchmarks.first_contact import STEPS, Newcomer, Options, main
from dist4d_env.errors import ConfigError


def test_steps_are_timed_and_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def spin(newcomer: Newcomer) -> dict[str, str]:
        assert newcomer.variables["XDG_CACHE_HOME"] == str(tmp_path / "work" / "cache") and "NUSCENES" not in newcomer.variables
        done.append("spin")
        newcomer.call(sys.executable, "-c", "sum(range(3_000_000))")
        return {"command": "spin"}

    def fail(newcomer: Newcomer) -> dict[str, str]:
        done.append("fail")
        newcomer.call(sys.executable, "-c", "raise SystemExit('no such luck')")
        return {}

    monkeypatch.setenv("NUSCENES", "/somewhere")
    (tmp_path / "work" / "dist4d_env").mkdir(parents=True)  # the checkout
    options = Options(steps=("install", "frame"), work=tmp_path / "work", out=tmp_path / "found.json")
    monkeypatch.setattr(first_contact, "STEPS", {"install": ("installed", spin), "frame": ("first frame", fail)})
    with pytest.raises(RuntimeError, match="no such luck"):
        main(options)
    assert not options.out.exists()
    monkeypatch.setattr(first_contact, "STEPS", {"install": ("installed", spin), "frame": ("first frame", spin)})
    main(options)
    assert done == ["spin", "fail", "spin"], "what was measured is not measured again"
    found = json.loads(options.out.read_text())
    assert list(found["results"]) == ["install", "frame"]
    for row in found["results"].values():
        assert 0 < row["cpu_seconds"] < 10 * row["seconds"] and row["command"] == "spin" and row["load_before"] >= 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "work"]


def test_a_step_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match=f"there is no step 'fly': choose among {', '.join(STEPS)}"):
        Options(steps=("fly",))


def test_the_first_frame_is_a_generated_one(town_dataroot: Path) -> None:
    code = first_contact.FRAME.replace('"DiST4D-nuScenes-v0",', f'"DiST4D-nuScenes-v0", dataroot={str(town_dataroot)!r},')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=first_contact.ROOT)
    assert done.returncode == 0, done.stderr
