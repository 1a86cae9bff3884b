"""Scenes made side by side by processes of their own, one core each, which print a line per keyframe."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from dist4d_env.errors import DataError
from dist4d_env.processes import cores, follow_input, run_helpers
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
    works = [[str(root), jobs[index::count], seed, asdict(options)] for index in range(count)]
    if said := run_helpers("dist4d_env.town.workers", works, lambda: progress(1)):
        raise DataError(f"a town scene could not be made: {said}")


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
