"""The reliability runner: trials and counts are stored and add up, failures are kept whole, tables come out of them."""

from __future__ import annotations

import json
import os
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from benchmarks import reliability, soak
from benchmarks.activities import Activity, same_files
from benchmarks.reliability import Fuzz, Store, fuzz, write_tables
from benchmarks.trials import both_at_once, killed_and_again, unbroken
from dist4d_env.errors import ConfigError

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")


def careful(inputs: Path, out: Path, helpers: int) -> int:
    """Twenty files, each written whole, those that are there kept."""
    out.mkdir(exist_ok=True)
    for index in range(20):
        if not (out / str(index)).exists():
            part = out / f".{index}.{os.getpid()}"
            part.write_text("x" * 1000)
            os.replace(part, out / str(index))
    return 0


def careless(inputs: Path, out: Path, helpers: int) -> int:
    """The same, but a kill between opening and writing leaves an empty file."""
    out.mkdir(exist_ok=True)
    for index in range(20):
        if not (out / str(index)).exists():
            with (out / str(index)).open("w") as file, (out / ".log").open("a"):
                file.write("x" * 1000)
    return 0


@pytest.mark.parametrize(("run", "right"), [(careful, True), (careless, False)])
def test_kills_find_what_is_half_written(run: Any, right: bool, tmp_path: Path) -> None:
    activity = Activity(run, same_files, "the same files", helpers=False)
    whole = unbroken("it", activity, tmp_path, tmp_path)
    assert whole.operations >= 40
    trials = [killed_and_again("it", activity, tmp_path, tmp_path, whole, seed) for seed in range(1, 16, 2)]
    assert all(trial["how"] == "operation" for trial in trials)
    assert all(not trial["failure"] for trial in trials) == right
    if right:
        assert both_at_once("it", activity, tmp_path, tmp_path, whole, 0)["failure"] == ""


def test_counts_add_up_and_failures_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def attempt(case: int, folder: Path) -> str:
        assert case != 3, "silent: three"
        (folder / "left").write_text("")
        if case == 5:
            raise KeyError(case)
        return "accepted" if case % 2 else "refused"

    made = types.SimpleNamespace(CASES=st.integers(0, 9), attempt=attempt)
    monkeypatch.setattr(reliability, "importlib", types.SimpleNamespace(import_module=lambda name: made))
    out = tmp_path / "results.json"
    for _ in range(2):
        fuzz(Fuzz(out, False, "npz", 10))
    entry = json.loads(out.read_text())["fuzz"]["npz"]
    assert entry["cases"] == 20 and entry["batches"] == 2 and entry["silent"] == entry["raw"] == 2
    assert entry["accepted"] == 6 and entry["refused"] == 10
    assert {failure["case"] for failure in entry["failures"].values()} == {"3", "5"}
    fuzz(Fuzz(out, True, "npz", 10))
    assert Store(out).read("fuzz", "npz", "cases") == 10
    with pytest.raises(ConfigError, match=r"no fuzzer 'nothing': choose among .*http_messages"):
        fuzz(Fuzz(out, False, "nothing", 10))


def test_slopes_and_tables(tmp_path: Path) -> None:
    samples = [[second, second, 100 + second / 36, 7, 3] for second in range(0, 3600, 30)]
    run = {"minutes": 60, "episodes": 3600, "samples": samples}
    higher = run | {"samples": [[s[0], s[1], s[2] + 500, *s[3:]] for s in samples]}
    found = soak.slopes([run, higher])
    assert found["memory"] == pytest.approx(100) and found["files"] == 0 and found["memory_error"] < 1e-6
    store = Store(tmp_path / "r.json")
    store.change("soak", "none", lambda entry: entry.update(runs=[run, higher]))
    trial = {"how": "time", "helpers": 2, "failure": ""}
    store.change("kill", "adapt", lambda entry: entry.update(trials=[trial, trial | {"failure": "differs"}]))
    page = tmp_path / "page.md"
    page.write_text("".join(f"{name}\n<!-- {name} -->\nold\n<!-- end {name} -->\n" for name in ("kill", "share", "fuzz", "soak")))
    write_tables(page, store)
    text = page.read_text()
    assert (
        "old" not in text
        and "| none | 2.00 | 7200 | +100.0 ± 0.0 | +0.00 | +0.00 |" in text
        and "| adapt | 2 | 2 | 0 | 2 | 1 |" in text
    )
    write_tables(page, store)
    assert page.read_text() == text
