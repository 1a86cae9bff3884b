"""Scenes made side by side by processes of their own, one core each.

Each is a fresh interpreter that gets its jobs on the command line and prints a line per keyframe, so it works the same from
scripts without a main guard, notebooks and test runners.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from dist4d_env.errors import DataError
from dist4d_env.processes import follow_input
from dist4d_env.scenes.files import write_text
from dist4d_env.town.generate import generate_scene
from dist4d_env.town.scene_files import FileOptions, write_scene

Job = tuple[str, int, int, int]
"""Split, index, and which keyframes: every ``step``-th from ``start`` on."""


def run_jobs(
    root: Path, jobs: list[Job], seed: int, options: FileOptions, workers: int | None, progress: Callable[[int], object]
) -> None:
    """Writes all scenes ``jobs`` under ``root``; calls ``progress(1)`` per keyframe. Raises DataError if a process fails."""
    count = min(len(jobs), workers or cores())
    if count <= 1:
        make_scenes(root, jobs, seed, options, lambda: progress(1))
        return
    package = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    lines, out = os.pipe()  # of all processes: it ends when the last of them has ended
    processes, errors = [], [tempfile.TemporaryFile("w+") for _ in range(count)]
    for index, error in enumerate(errors):
        work = json.dumps([str(root), jobs[index::count], seed, asdict(options)])
        command = [sys.executable, "-m", "dist4d_env.town.workers", work]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=error, env=environment))
    os.close(out)
    try:
        with open(lines) as keyframes:
            for _ in keyframes:
                progress(1)
    except BaseException:  # Ctrl-C, too
        for process in processes:
            process.kill()
        raise
    failed = [error for process, error in zip(processes, errors, strict=True) if process.wait()]
    if failed:
        failed[0].seek(0)
        said = failed[0].read().strip().splitlines() or ["a process was killed"]
        raise DataError(f"a town scene could not be made: {said[-1][-200:]}")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rows_file(root: Path, split: str, index: int) -> Path:
    """Where a finished scene's rows lie until the tables are put together."""
    return root / ".rows" / f"{split}-{index:04d}.json"


def make_scenes(root: Path, jobs: list[Job], seed: int, options: FileOptions, progress: Callable[[], object]) -> None:
    """Writes the files of scenes one after the other; a file of its rows comes last and marks a scene as finished."""
    for split, index, start, step in jobs:
        rows = write_scene(
            root, generate_scene(split, index, seed, options.looks, options.duration), options, progress, slice(start, None, step)
        )
        if options.on_demand and options.pictures:
            continue  # the tables are there already
        write_text(rows_file(root, split, index), json.dumps(rows))


if __name__ == "__main__":
    follow_input()
    folder, given, number, stored = json.loads(sys.argv[1])
    as_given = FileOptions(**stored | {"size": tuple(stored["size"])})
    make_scenes(Path(folder), given, number, as_given, lambda: print("keyframe", flush=True))
