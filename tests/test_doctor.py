"""The doctor finds what is wrong with an installation or a machine, and says what it is for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dist4d_env.__main__ import main
from dist4d_env.doctor import installation, machine, speed
from dist4d_env.doctor.check import Check, looked
from dist4d_env.doctor.cli import shown


def test_a_sound_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--no-speed", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert found["sound"] and "broken" not in states.values()
    assert list(states) == ["python", "packages", "pins", "extras", "variables", "machine", "device", "cache", "kernels", "data",
                            "weights", "display"]  # fmt: skip
    values = {check["name"]: check["values"] for check in found["checks"]}
    assert values["packages"]["versions"]["torch"] and values["cache"]["free_bytes"] > 0 and values["machine"]["cores"] >= 1
    assert all(f"{state:<7}{name}" in err for name, state in states.items()) and "nothing essential is broken" in err


def test_it_knows_every_variable_of_the_package() -> None:
    sources = Path(machine.__file__).parents[1].rglob("*.py")
    named = {name for source in sources for name in re.findall(r"\bDIST4D_[A-Z_]+\b", source.read_text(encoding="utf-8"))}
    assert named and named <= set(machine.VARIABLES)


@pytest.mark.medium
def test_how_fast_a_step_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert all(f"ok     speed of {world}" in said for world in speed.WORLDS)


def test_speed_of_one_world(town_dataroot: Path) -> None:
    found = speed.speed("none", town_dataroot, "tiny")
    assert found.values["steps_per_second"] > 1 and "simulation" in found.values["timing_ms"]


def test_a_package_that_is_missing_or_old(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    needed = [Requirement("no-such-package>=2"), Requirement("numpy>=99"), Requirement("tqdm")]
    monkeypatch.setattr(installation, "requirements", lambda extra="": needed)
    assert main(["doctor", "--no-speed"]) == 1
    said = capsys.readouterr().out
    assert "broken packages         no-such-package is missing\n" in said
    assert "numpy>=99 is needed" in said and "tqdm" not in said.split("numpy>=99")[1].split("\n")[0]
    assert "\nbroken: packages" in said


def test_a_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(installation, "requirements", lambda extra="": [Requirement("opencv-python-headless")])
    monkeypatch.setattr(installation.importlib, "import_module", broken)
    found = installation.packages()
    assert found.state == "broken" and "opencv-python-headless cannot be imported: libGL.so.1" in found.words


def test_a_package_whose_files_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "requirements", lambda extra="": [Requirement("tqdm"), Requirement("pyyaml")])
    monkeypatch.setitem(sys.modules, "yaml", None)
    found = installation.packages()
    assert found.state == "broken" and found.values["faults"][0].startswith("pyyaml cannot be imported")


@pytest.mark.parametrize("missing", ["gymnasium", "numpy", "torch"])
def test_it_works_where_a_package_is_missing(missing: str) -> None:
    code = f"""
import sys
class Gone:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == {missing!r}:
            raise ModuleNotFoundError("No module named {missing}", name=name)
sys.meta_path.insert(0, Gone)
from dist4d_env.__main__ import main
sys.exit(main(["doctor", "--no-speed", "--json"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert f"{missing} cannot be imported" in checks["packages"]["words"]


def test_what_even_it_needs_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert main(["doctor"]) == 3
    said = capsys.readouterr().err
    assert (
        "tyro" in said
        and sys.executable in said
        and "installed in" in said
        and "install it anew" in said
        and said.count("\n") == 1
    )


def test_python_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation.platform, "python_version", lambda: "3.14.0")
    found = installation.python()
    assert found.state == "broken" and "3.14.0" in found.words and "<3.13" in found.words


def test_pins_that_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("# why\nnumpy==0.1  # so old\ntqdm\nno-such-package==3\n")
    found = installation.pins(tmp_path / "constraints.txt")
    assert found.state == "note" and "numpy==0.1 is needed" in found.words and len(found.values["faults"]) == 1
    assert installation.pins(tmp_path / "nothing").state == "ok"


def test_what_extras_would_be_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "[" not in str(installation.fault_of(Requirement("ray[rllib]")) or ""), "RLlib is installed for tests"
    there = installation.installed
    monkeypatch.setattr(installation, "installed", lambda name: None if name in ("uvicorn", "ormsgpack") else there(name))
    assert installation.fault_of(Requirement("ray[rllib]")) == "ormsgpack is missing, of ray[rllib]"
    found = installation.extras()
    assert found.state == "ok" and "play" in found.values["missing"] and "sb3" in found.values["installed"]
    assert "play is not, for play (uvicorn is missing): pip install 'dist4d_env[play]'" in found.words


def test_data_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NUSCENES", str(tmp_path / "nowhere"))
    monkeypatch.setattr("dist4d_env.doctor.machine.weights", lambda name: Check("weights", "ok", ""))
    assert main(["doctor", "--no-speed"]) == 1
    said = capsys.readouterr().out
    assert "broken data" in said and "$NUSCENES" in said and "NUSCENES=" in said


def test_what_a_data_set_holds(tiny_root: Path, town_dataroot: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUSCENES", str(tiny_root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "($NUSCENES)" in machine.data().words
    found = machine.data(town_dataroot)
    assert found.state == "ok" and "2 scenes; town-val-0000 is for all worlds" in found.words
    monkeypatch.setenv("DIST4D_DEPTH", str(tmp_path / "gone"))
    found = machine.data(town_dataroot)
    assert found.state == "note" and "$DIST4D_DEPTH" in found.words
    monkeypatch.delenv("NUSCENES")
    assert "not made yet" in machine.data().words


def test_a_cache_without_room_or_rights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NUSCENES", raising=False)
    (tmp_path / "dist4d_env").mkdir()
    (tmp_path / "dist4d_env" / "file").write_bytes(bytes(3_000_000))
    found = machine.cache()
    assert found.state == "ok" and found.values["bytes"] == 3_000_000 and ": 3 MB" in found.words
    assert [path.name for path in (tmp_path / "dist4d_env").iterdir()] == ["file"]
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(1, 1, 10_000_000))
    assert machine.cache().state == "note"

    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    found = machine.cache()
    assert found.state == "broken" and "XDG_CACHE_HOME" in found.words
    monkeypatch.setenv("NUSCENES", str(tmp_path))
    assert machine.cache().state == "note"


def test_weights_that_cannot_be_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--no-speed", "--weights", str(tmp_path / "none")]) == 1
    assert "broken weights" in capsys.readouterr().out


def test_a_busy_machine_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (50.0, 0.0, 0.0))
    assert machine.machine().state == "note"
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert machine.machine().state == "ok"


def test_whatever_is_raised_is_what_is_broken() -> None:
    def raises() -> Check:
        raise RuntimeError("on two\nlines")

    found = looked("device", raises)
    assert (found.name, found.state, found.words) == ("device", "broken", "RuntimeError: on two lines")
    assert shown(Check("data", "note", "one\ntwo")).splitlines()[1] == " " * 24 + "two"
