"""Workloads in forked processes: killed at a random moment and restarted, or two at once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.activities import Activity, leftovers

WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
"""Audited events that change a file system, beside open() for writing."""
MARK = "DIST4D_RELIABILITY"
"""Environment variable that helper processes inherit."""
PATIENCE = 600.0
"""Seconds after which a run counts as hung."""
FOLLOW = 8.0
"""Seconds that helper processes have to follow a killed parent."""


@dataclass(frozen=True)
class Child:
    """A forked process that leads a session of its own. log: what it printed; operations: the file that tells how many file
    operations it did, once it is over."""

    pid: int
    log: Path

    @property
    def operations(self) -> Path:
        return self.log.with_suffix(".operations")

    def wait(self, until: float = PATIENCE) -> int | None:
        """Its exit status, negative for a signal; None where it is still running after so many seconds."""
        end = time.monotonic() + until
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        return None

    def members(self) -> list[int]:
        """Live processes of its session, or that inherited its mark in sessions of their own; itself included."""
        found, mark = [], f"{MARK}={self.pid}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    marked = mark in (entry / "environ").read_bytes().split(b"\0")
                except OSError:
                    continue
                if (int(fields[3]) == self.pid or marked) and fields[0] != "Z":
                    found.append(int(entry.name))
        return found

    def end(self) -> None:
        """Ends what is left of its session."""
        for pid in self.members():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def followed(self) -> bool:
        """Whether all its helpers ended soon after it; those that did not are ended."""
        until = time.monotonic() + FOLLOW
        while self.members() and time.monotonic() < until:
            time.sleep(0.02)
        left = bool(self.members())
        self.end()
        return not left


def start(work: Callable[[], int], log: Path, kill_at: int | None = None) -> Child:
    """Runs ``work`` in a forked process, which is killed right before its file operation number ``kill_at``."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, log)
    code = 1
    try:
        os.setsid()
        os.environ[MARK] = str(os.getpid())
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(target, 1)
        os.dup2(target, 2)
        count = _audit(kill_at)
        code = work()
        Child(pid, log).operations.write_text(str(count()))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _audit(kill_at: int | None) -> Callable[[], int]:
    """Counts operations of this process that change files, and kills it before number ``kill_at``."""
    parent, done = os.getpid(), 0

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal done
        if event == "open":
            path, _, flags = given
            writes = isinstance(path, str) and (flags or 0) & (os.O_WRONLY | os.O_RDWR) and not path.startswith(("/dev", "/proc"))
            if not writes or path.endswith((".pyc", ".lock")):
                return
        elif event not in WRITES:
            return
        if os.getpid() == parent:
            done += 1
            if done == kill_at:
                os.kill(parent, signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: done


@dataclass(frozen=True)
class Reference:
    """An unbroken run: its folder, how long it took and how many file operations it did."""

    folder: Path
    seconds: float
    operations: int


def unbroken(name: str, activity: Activity, inputs: Path, work: Path) -> Reference:
    """The run that the others are compared with. Raises RuntimeError where it fails."""
    folder = work / name / "whole" / "run"
    shutil.rmtree(work / name, ignore_errors=True)
    folder.parent.mkdir(parents=True)
    began = time.monotonic()
    child = start(lambda: activity.run(inputs, folder, 0), work / name / "whole.log")
    if child.wait() != 0:
        raise RuntimeError(f"{name} fails without any kill: {child.log.read_text()[-2000:]}")
    return Reference(folder, time.monotonic() - began, int(child.operations.read_text()))


def killed_and_again(name: str, activity: Activity, inputs: Path, work: Path, whole: Reference, seed: int) -> dict[str, Any]:
    """One trial: killed, begun again, compared. Even seeds kill at a moment in time, odd ones between two file operations; every
    fourth run has two helper processes, which are there when its parent is killed.

    "failure" is empty where the result is as promised; "waited" tells that a run ended before its moment and was begun anew.
    """
    draw = random.Random(f"{name} {seed}")
    helpers = 2 if activity.helpers and seed % 4 == 2 else 0
    folder = work / name / f"trial-{seed}"
    trial: dict[str, Any] = {"seed": seed, "helpers": helpers, "waited": 0}
    began, lasts = time.monotonic(), whole.seconds + (8.0 if helpers else 0.0)
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        out, log = folder / "run", folder / "log"
        go = lambda: activity.run(inputs, out, helpers)  # noqa: E731, B023
        if seed % 2:
            at = draw.randint(1, whole.operations)
            trial |= {"how": "operation", "moment": at}
            child = start(go, log, at)
            status = child.wait()
        else:
            moment, started = draw.uniform(0, lasts), time.monotonic()
            trial |= {"how": "time", "moment": round(moment, 3)}
            child = start(go, log)
            status = child.wait(moment)
            if status is None:
                os.kill(child.pid, signal.SIGKILL)
                status = child.wait()
        if status == -signal.SIGKILL:
            break
        if status != 0:  # it broke before it was killed
            return trial | {"failure": f"status {status} before the kill: {log.read_text()[-2000:]}"}
        child.end()
        trial["waited"] += 1
        lasts = min(lasts, time.monotonic() - started)
    again = start(go, folder / "again.log")
    status = again.wait()
    followed, ended = child.followed(), again.followed()
    failure = _failure(activity, whole.folder, out, status, again.log)
    if not (followed and ended):
        failure = f"helpers outlive their parent; {failure}"
    trial |= {
        "failure": failure,
        "leftovers": leftovers(folder) if not failure else 0,
        "seconds": round(time.monotonic() - began, 1),
    }
    shutil.rmtree(folder)
    return trial


def _failure(activity: Activity, whole: Path, out: Path, status: int | None, log: Path) -> str:
    if status != 0:
        printed = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        return f"{'hung' if status is None else f'status {status}'} when run again: {printed}"
    try:
        different = activity.compare(whole, out)
    except Exception as error:  # a file that cannot be read is the finding
        return f"the result cannot be read: {type(error).__name__}: {error}"
    return f"differs: {different}" if different else ""


def both_at_once(name: str, activity: Activity, inputs: Path, work: Path, whole: Reference, seed: int) -> dict[str, Any]:
    """Two processes begin the same in the same folder, the second at a random moment: each ends well or says in one line why not,
    and what is there afterwards is as promised."""
    draw = random.Random(f"{name} at once {seed}")
    folder = work / name / f"shared-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    out, began = folder / "run", time.monotonic()
    go = lambda: activity.run(inputs, out, 0)  # noqa: E731
    first = start(go, folder / "first.log")
    time.sleep(draw.uniform(0, whole.seconds / 2))
    second = start(go, folder / "second.log")
    statuses = [first.wait(), second.wait()]
    for child in (first, second):
        child.end()
    printed = [child.log.read_text(errors="replace") for child in (first, second)]
    failure = ""
    if 0 not in statuses or any(status not in (0, 2) for status in statuses) or any("Traceback" in text for text in printed):
        failure = f"statuses {statuses}: {printed[0][-1000:]} | {printed[1][-1000:]}"
    else:
        failure = _failure(activity, whole.folder, out, 0, first.log)
    trial = {"seed": seed, "statuses": statuses, "failure": failure, "seconds": round(time.monotonic() - began, 1)}
    shutil.rmtree(folder)
    return trial
