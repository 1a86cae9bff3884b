"""Faults of the machine: every verb ends with status 3 and one line, leaves nothing half made, and no helper outlives it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.trials import MARK
from dist4d_env.__main__ import Terminated, _stoppable, fault_of, main
from dist4d_env.errors import DataError

pytestmark = [pytest.mark.medium, pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")]

SUITE = """name: small
scenarios:
  - {name: one, scene: town-val-0000, start: 0.0, horizon: 1.0}
"""


def arguments(verb: str, data: Path, out: Path) -> list[str]:
    """A short run of a verb that writes below ``out``."""
    (out.parent / "suite.yaml").write_text(SUITE)
    given = ["--dataroot", str(data)]
    return {
        "town": ["town", "--scenes", "1", "--size", "32x48", "--duration", "0.5", "--workers", "1", "--out", str(out / "made")],
        "prepare": ["prepare", *given, "--scenes", "town-val-0000", "--height", "32", "--sweeps", "0", "--workers", "1",
                    "--out", str(out)],
        "train": ["train", "codec", *given, "--split", "town-val-0000", "--val-split", "none", "--sizes", "32x56", "--steps", "1",
                  "--batch", "1", "--workers", "1", "--out", str(out)],
        "evaluate": ["evaluate", *given, "--scenes", "town-val-0000", "--horizon", "1.0", "--out", str(out)],
        "suite": ["evaluate", *given, "--suite", str(out.parent / "suite.yaml"), "--workers", "0", "--out", str(out)],
        "demo": ["demo", *given, "--scene", "town-val-0000", "--weights", "splat", "--seconds", "0.3", "--swerve", "0",
                 "--out", str(out)],
    }[verb]  # fmt: skip


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes: as on a full disk, writing fails in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def told(printed: str) -> str:
    """The line that a verb ends with on stderr, nothing of a traceback beside it."""
    assert "Traceback" not in printed and "Exception ignored" not in printed
    line = printed.replace("\r", "\n").strip().splitlines()[-1]
    assert line.startswith("dist4d_env ") and len(line) <= 400
    return line


@pytest.mark.parametrize("verb", ["town", "prepare", "train", "evaluate", "suite", "demo"])
@pytest.mark.parametrize("size", [1000, 8000])
def test_full_disk(verb: str, size: int, town_dataroot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    if verb == "prepare" and size == 8000:
        pytest.skip("its files are smaller")
    given = arguments(verb, town_dataroot, out)
    with files_up_to(size):
        assert main(given) == 3
    line = told(capfd.readouterr().err)
    assert "free some space and run the same command again" in line and str(out) in line
    left = [path for path in out.rglob("*") if path.is_file()] if out.exists() else []
    kept = [path for path in left if not any(part.endswith(".partial") for part in path.parts)]  # a town to be gone on with
    assert not [path for path in kept if path.name.startswith(".") and not path.name.endswith("lock")], "half-made files"
    assert all(path.stat().st_size < size or path.name.endswith("lock") for path in kept), "cut-off files"
    assert not (out / "made").exists()


@pytest.mark.parametrize("verb", ["town", "prepare", "train", "evaluate", "suite", "demo"])
def test_file_in_place_of_the_folder(verb: str, town_dataroot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("kept")
    given = arguments(verb, town_dataroot, tmp_path / "out")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        given[given.index("--out") + 1] = str(out)
        assert main(given) == 2
        assert f"--out {out}: {tmp_path / 'file'} is a file: choose a folder" in told(capfd.readouterr().err)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_read_only_folder(town_dataroot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for verb in ("town", "prepare", "train", "evaluate", "suite", "demo"):
        assert main(arguments(verb, town_dataroot, closed / "out")) == 3
        assert "choose a folder that can be written to" in told(capfd.readouterr().err)


@pytest.mark.parametrize("arguments", [["validate"], ["--help"], ["--version"], ["validate", "--help"]])
def test_standard_output_is_full(arguments: list[str], town_dataroot: Path) -> None:
    given = [*arguments, "--dataroot", str(town_dataroot)] if arguments == ["validate"] else arguments
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "dist4d_env", *given]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 3 and told(done.stderr) == (
        f"dist4d_env {arguments[0]}: No space left on device (standard output): free some space and run the same command again"
    )


def test_errors_that_libraries_wrap() -> None:
    rust = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert str(fault_of(rust, Path("runs/a"))).startswith("No space left on device (runs/a): free some space")
    try:
        try:
            raise PermissionError(13, "Permission denied", "x.npz")
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")
    except RuntimeError as error:
        assert str(fault_of(error)).startswith("Permission denied (x.npz): choose a folder that can be written to")
    assert fault_of(ValueError("a bug")) is None


@pytest.mark.parametrize("error", [ImportError("numpy failed to import"), DataError("no end")])
def test_what_others_make_of_sigterm_is_sigterm(error: Exception) -> None:
    with pytest.raises(Terminated) as stopped, _stoppable():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except BaseException:
            raise error from None
    assert stopped.value.__cause__ is error
    with pytest.raises(type(error)), _stoppable():
        raise error


def descendants(mark: str) -> list[int]:
    """Live processes whose environment holds the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0") and state != "Z":
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("verb", ["town", "prepare", "train", "suite"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_helper_outlives_its_parent(verb: str, number: signal.Signals, town_dataroot: Path, tmp_path: Path) -> None:
    given = arguments(verb, town_dataroot, tmp_path / "out")
    if "--workers" in given:
        given[given.index("--workers") + 1] = "2"
    given += {"town": ["--scenes", "8", "--duration", "20"], "prepare": ["--scenes", "val", "--sweeps", "5"],
              "train": ["--split", "val"], "suite": ["--seeds", "50"]}[verb]  # fmt: skip
    mark = f"{verb}-{os.getpid()}-{number}"
    parent = subprocess.Popen(
        [sys.executable, "-m", "dist4d_env", *given], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {MARK: mark, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        until = time.monotonic() + 300
        while len(descendants(mark)) < 3 and time.monotonic() < until:
            assert parent.poll() is None, "it ended before it had any helpers"
            time.sleep(0.02)
        time.sleep(1.0)  # beyond the fork itself, whose hooks swallow what a signal raises
        parent.send_signal(number)
        printed = parent.communicate(timeout=300)[1]
        until = time.monotonic() + 60
        while descendants(mark) and time.monotonic() < until:
            time.sleep(0.05)
        assert not descendants(mark)
    finally:
        for pid in descendants(mark):
            os.kill(pid, signal.SIGKILL)
    assert parent.returncode == (143 if number == signal.SIGTERM else -9), printed[-2000:]
    if number == signal.SIGTERM:
        assert "stopped by SIGTERM" in told(printed)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_are_closed(closed: str, town_dataroot: Path) -> None:
    command = [sys.executable, "-m", "dist4d_env", "validate", "--dataroot", str(town_dataroot)]
    done = subprocess.run(["bash", "-c", f'"$@" {closed}', "bash", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("town-val-0000" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_a_terminal_without_the_characters_of_a_path(town_dataroot: Path, tmp_path: Path) -> None:
    place = tmp_path / "Straßen 日本"
    place.symlink_to(town_dataroot)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "dist4d_env", "validate", "--dataroot", os.fsencode(place)]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **plain})
    assert done.returncode == 0, done.stderr
    assert b"town-val-0000" in done.stdout and done.stdout.isascii()
