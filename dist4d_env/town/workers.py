"""Scenes made side by side by helper processes, one core each.

Each helper is a fresh interpreter that reads jobs from its standard input and reports on its standard output, so it works the
same from scripts without a main guard, notebooks and test runners.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from dist4d_env.errors import DataError
from dist4d_env.town.generate import generate_scene
from dist4d_env.town.scene_files import FileOptions, write_scene

Job = tuple[str, int]


def run_jobs(
    root: Path, jobs: list[Job], seed: int, options: FileOptions, workers: int | None, progress: Callable[[int], object]
) -> None:
    """Writes all scenes ``jobs`` under ``root``; calls ``progress(1)`` per keyframe. Raises DataError if a helper fails."""
    count = min(len(jobs), workers or _cores())
    if count <= 1:
        for job in jobs:
            make_scene(root, job, seed, options, lambda: progress(1))
        return
    pending: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        pending.put(job)
    helpers = [_start(root, seed, options) for _ in range(count)]
    failures: list[str] = []
    threads = [threading.Thread(target=_feed, args=(h, pending, progress, failures), daemon=True) for h in helpers]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)  # short waits keep Ctrl-C alive
    finally:
        for helper in helpers:
            helper.kill()
            helper.wait()
    if failures:
        raise DataError(f"a town scene could not be made: {failures[0]}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rows_file(root: Path, split: str, index: int) -> Path:
    """Rows of a finished scene, kept until the tables are put together."""
    return root / ".rows" / f"{split}-{index:04d}.json"


def make_scene(root: Path, job: Job, seed: int, options: FileOptions, progress: Callable[[], object]) -> None:
    """Writes one scene's files, then its rows (which mark it as finished)."""
    rows = write_scene(root, generate_scene(*job, seed), options, progress)
    target = rows_file(root, *job)
    temporary = target.with_suffix(".tmp")
    temporary.write_text(json.dumps(rows))
    os.replace(temporary, target)


def _start(root: Path, seed: int, options: FileOptions) -> subprocess.Popen[str]:
    package = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dist4d_env.town.workers", json.dumps([str(root), seed, asdict(options)])]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def _feed(
    helper: subprocess.Popen[str], pending: queue.SimpleQueue[Job], progress: Callable[[int], object], failures: list[str]
) -> None:
    """Hands jobs to one helper until none is left or something has failed."""
    assert helper.stdin is not None and helper.stdout is not None and helper.stderr is not None
    while not failures:
        try:
            job = pending.get_nowait()
        except queue.Empty:
            return
        try:
            helper.stdin.write(json.dumps(job) + "\n")
            helper.stdin.flush()
        except BrokenPipeError:
            pass  # its last words are read below
        for line in helper.stdout:
            if line.strip() == "done":
                break
            progress(1)
        else:
            failures.append(f"scene {job[0]} {job[1]}: {helper.stderr.read().strip()[-2000:]}")


def main() -> None:
    root, seed, options = json.loads(sys.argv[1])
    stored = FileOptions(**{**options, "size": tuple(options["size"])})
    for line in sys.stdin:
        split, index = json.loads(line)
        make_scene(Path(root), (split, index), seed, stored, lambda: print("keyframe", flush=True))
        print("done", flush=True)


if __name__ == "__main__":
    main()
