"""The package at a commit and in the working tree: folders of code, and episodes recorded with them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks import common
from benchmarks.golden.driver import Episode

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("driver.py")
TOWN = ("--split", "val", "--size", "64x112", "--scenes", "4", "--duration", "14")
"""The data set that is made where none is given."""
log = logging.getLogger("against_commit")


def git(*arguments: str, at: Path = ROOT) -> str:
    return subprocess.run(("git", *arguments), cwd=at, check=True, capture_output=True, text=True).stdout.strip()


def hash_of(commit: str) -> str:
    """The full hash. Raises SystemExit for what git does not know."""
    try:
        return git("rev-parse", "--verify", f"{commit}^{{commit}}")
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{commit!r} is no commit: {error.stderr.strip()}") from error


@contextmanager
def tree_of(commit: str, folder: Path | None = None) -> Iterator[Path]:
    """A work tree of a commit: in a temporary folder that is removed afterwards, or in ``folder``, which is made and stays."""
    if folder is not None and folder.exists():
        if git("rev-parse", "HEAD", at=folder) != commit or git("status", "--porcelain", "--untracked-files=no", at=folder):
            raise SystemExit(f"{folder} is not a clean work tree of {commit[:12]}")
        yield folder
        return
    place = folder or Path(tempfile.mkdtemp(prefix="dist4d-against-")) / "tree"
    git("worktree", "add", "--detach", str(place), commit)
    try:
        yield place
    finally:
        if folder is None:
            git("worktree", "remove", "--force", str(place))
            shutil.rmtree(place.parent, ignore_errors=True)


def environment(tree: Path) -> dict[str, str]:
    """Of a process that finds the tree's package, with one thread and without data sets of its own."""
    kept = {key: value for key, value in os.environ.items() if key not in ("NUSCENES", "DIST4D_DEPTH")}
    return {"OMP_NUM_THREADS": "1", **kept, "PYTHONPATH": str(tree)}


def make_town(tree: Path, folder: Path) -> Path:
    """The small town, made by the tree's command line where it is not there yet."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        log.info("making a town of four scenes")
        command = (sys.executable, "-m", "dist4d_env", "town", "--out", str(folder), *TOWN)
        subprocess.run(command, cwd=tree, env=environment(tree), check=True, stdout=subprocess.DEVNULL)
    return folder


def machine() -> dict[str, Any]:
    """The kind of machine and what computes on it."""
    kind = common.machine()
    return {"cpu": kind["cpu"], "cores": kind["cores"], "python": platform.python_version()} | {
        name: version(name) for name in ("numpy", "torch", "numba", "gymnasium")
    }


def recording_key(dataroot: Path) -> str:
    """Changes with the driver, the machine and the data set: recordings under different keys are not comparable."""
    files = [(str(path.relative_to(dataroot)), path.stat().st_size) for path in sorted(dataroot.rglob("*")) if path.is_file()]
    parts = (DRIVER.read_text(), json.dumps(machine()), str(dataroot.resolve()), json.dumps(files))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def missing(episodes: Sequence[Episode], folder: Path) -> list[Episode]:
    """Those that the folder does not hold as they are defined now."""

    def there(episode: Episode) -> bool:
        path = folder / f"{episode.name}.json"
        return path.exists() and json.loads(path.read_text())["fingerprint"] == episode.fingerprint()

    return [episode for episode in episodes if not there(episode)]


def record(
    tree: Path, episodes: Sequence[Episode], dataroot: Path, folder: Path, workers: int, report: Callable[[str, float], None]
) -> None:
    """Drives episodes with a tree's package, in processes of their own. report: called with episode and seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    threads, failed = [], []

    def work(share: Sequence[Episode], number: int) -> None:
        jobs = folder / f"jobs-{number}.json"
        jobs.write_text(json.dumps({"dataroot": str(dataroot), "episodes": [dataclasses.asdict(each) for each in share]}))
        command = (sys.executable, str(DRIVER), str(jobs), str(folder), "--tree", str(tree))
        with (folder / f"log-{number}.txt").open("w") as errors:
            process = subprocess.Popen(
                command, cwd=folder, env=environment(tree), stdout=subprocess.PIPE, stderr=errors, text=True
            )
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith('{"episode"'):
                    entry = json.loads(line)
                    report(entry["episode"], entry["seconds"])
                    if entry["error"]:
                        log.warning("%s in %s: %s", entry["episode"], tree, entry["error"])
            if process.wait():
                failed.append(folder / f"log-{number}.txt")

    for number in range(workers):
        if share := episodes[number::workers]:
            threads.append(Thread(target=work, args=(share, number)))
            threads[-1].start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit("the driver stopped in " + str(tree) + ":\n" + "\n".join(path.read_text()[-2000:] for path in failed))
