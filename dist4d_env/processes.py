"""Helper processes that do not outlive their parent, however it ends, and what one process does while others wait."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from dist4d_env.progress import say

PATIENCE = 2.0
"""Seconds after which it is said that another process is waited for."""


@contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Holds a lock file; whoever waits for it says so, and for what another process does meanwhile."""
    from filelock import FileLock, Timeout

    held = FileLock(lock)
    try:
        held.acquire(timeout=PATIENCE)
    except Timeout:
        say(f"another process is {what}: waiting for it")
        held.acquire()
    try:
        yield
    finally:
        held.release()


def follow_parent(with_group: bool = False) -> None:
    """Initialises a process of multiprocessing: it leaves Ctrl-C to its parent and ends when its parent does. with_group: so does
    the group of processes that it leads, where the system knows groups."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # of a forked process: its parent's would be its own
    threading.Thread(target=_follow, args=(with_group,), daemon=True).start()


def _follow(with_group: bool) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        if with_group and hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def follow_input() -> None:
    """The same in a process of subprocess, whose standard input is a pipe from its parent."""

    def follow() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def run_helpers(module: str, works: Sequence[Any], each: Callable[[], object]) -> str | None:
    """Runs ``python -m MODULE WORK`` for each work, as JSON, side by side; ``each`` is called for every line that one prints.

    Each is a fresh interpreter with one thread, so it works the same from scripts without a main guard, notebooks and test
    runners; it has to call ``follow_input``. Returns what the first of those that failed said last, None if none did.
    """
    package = Path(__file__).resolve().parents[1]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    lines, out = os.pipe()  # of all processes: it ends when the last of them has ended
    processes, errors = [], [tempfile.TemporaryFile("w+") for _ in works]
    for work, error in zip(works, errors, strict=True):
        command = [sys.executable, "-m", module, json.dumps(work)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=error, env=environment))
    os.close(out)
    try:
        with open(lines) as printed:
            for _ in printed:
                each()
    except BaseException:  # Ctrl-C, too
        for process in processes:
            process.kill()
        raise
    failed = [error for process, error in zip(processes, errors, strict=True) if process.wait()]
    if not failed:
        return None
    failed[0].seek(0)
    return (failed[0].read().strip().splitlines() or ["a process was killed"])[-1][-200:]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
