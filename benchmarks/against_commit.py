"""Golden episodes with the package at a commit and with the working tree, compared bit for bit.

Both drive the same episodes (``benchmarks.golden.episodes``) on the same data set with the same interpreter.
Everything they return is compared stream by stream (``benchmarks.golden.compare``); the exit status is 1 if a stream differs
that no ``--expect`` names.

    python -m benchmarks.against_commit main~1 --expect "infos/metrics/*" --keep runs/golden --out runs/golden.json

With ``--speed`` it measures how fast both drive instead, in turn, one core each (``benchmarks.golden.speed``).
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.golden.compare import Difference, compare, matches
from benchmarks.golden.driver import Episode
from benchmarks.golden.episodes import all_episodes
from benchmarks.golden.speed import measure, table
from benchmarks.golden.trees import ROOT, hash_of, machine, make_town, missing, record, recording_key, tree_of
from dist4d_env.progress import Progress, each, say

log = logging.getLogger("against_commit")


@dataclass(frozen=True)
class Options:
    """Golden episodes with the package at a commit and with the working tree, compared bit for bit."""

    commit: Annotated[str, tyro.conf.Positional]
    """Commit to compare the working tree with."""
    only: tuple[str, ...] = ()
    """Episodes, with wildcards; all if none is given."""
    expect: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A stream that may differ, or EPISODE:STREAM, with wildcards; can be given again."""
    renamed: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """OLD=NEW: a stream, or the beginning of several, that has another name in the working tree; can be given again."""
    dataroot: Path | None = None
    """A town with its val split's first four scenes, 14 s at least. Default: such a town is made by the commit's package."""
    nuscenes: Path | None = None
    """A data root of real nuScenes v1.0-mini scenes, for more episodes without pictures."""
    keep: Path | None = None
    """Folder where the town and the commit's recordings are kept for the next run."""
    tree: Path | None = None
    """Folder for the commit's work tree, which then stays and is used again. Default: a temporary one."""
    head: Path = ROOT
    """The tree that is compared with the commit. Default: the one that this program lies in."""
    workers: int = 1
    """Processes that drive at a time."""
    speed: bool = False
    """Measure speeds instead of comparing."""
    starts: int = 3
    """Starts of the processes that measure speeds."""
    repeats: int = 3
    """How often each speed is measured per start; medians of all are reported."""
    out: Path | None = None
    """Result file (JSON); a log is written beside it."""
    list: bool = False
    """Print the names of the episodes and stop."""


def main(options: Options) -> int:
    """Returns the exit status."""
    every = all_episodes(str(options.nuscenes.resolve()) if options.nuscenes else None)
    chosen = [each for each in every if not options.only or any(fnmatchcase(each.name, one) for one in options.only)]
    if not chosen:
        raise SystemExit(f"no episode is called {' or '.join(options.only)}: --list shows them")
    if options.list:
        print("\n".join(each.name for each in chosen))
        return 0
    start_log(options.out)
    commit = hash_of(options.commit)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dist4d-golden-")))
        tree = Lazily(commit, options.tree, stack)
        dataroot = options.dataroot or (options.keep or scratch) / "town"
        if not dataroot.is_dir():
            make_town(tree(), dataroot)
        if options.speed:
            return compare_speeds(options, commit, tree(), dataroot.resolve(), scratch)
        before, now = drive_both(options, commit, chosen, dataroot.resolve(), scratch, tree)
        names = dict(pair.split("=", 1) for pair in options.renamed)
        rows = {one.name: compare(before, now, one.name, names) for one in each(chosen, "comparing", "episode")}
    unexpected = report(rows, options.expect)
    if options.out:
        write_result(options, commit, result_of(options, rows, unexpected))
    return 1 if unexpected else 0


def compare_speeds(options: Options, commit: str, tree: Path, dataroot: Path, scratch: Path) -> int:
    rows = measure(tree, options.head.resolve(), dataroot, scratch, options.starts, options.repeats)
    kind = machine()
    print(table(rows))
    print(f"medians of {options.starts} x {options.repeats} passes, per second that the process ran")
    print(f"{kind['cpu']}, {kind['cores']} cores")
    if options.out:
        write_result(options, commit, {"starts": options.starts, "repeats": options.repeats, "speeds": rows})
    return 0


class Lazily:
    """The commit's work tree, made when it is first asked for."""

    def __init__(self, commit: str, folder: Path | None, stack: ExitStack) -> None:
        self._commit, self._folder, self._stack = commit, folder, stack
        self._tree: Path | None = None

    def __call__(self) -> Path:
        if self._tree is None:
            self._tree = self._stack.enter_context(tree_of(self._commit, self._folder))
        return self._tree


def drive_both(
    options: Options, commit: str, chosen: list[Episode], dataroot: Path, scratch: Path, tree: Lazily
) -> tuple[Path, Path]:
    """The folders of the commit's recordings and of the working tree's."""
    before = (options.keep or scratch).resolve() / f"{commit[:12]}-{recording_key(dataroot)}"
    now = scratch / "now"
    todo = missing(chosen, before)
    log.info("%d episodes: %d of them are recorded for %s already", len(chosen), len(chosen) - len(todo), commit[:12])
    with Progress("driving", "episode", len(todo) + len(chosen)) as bar:

        def done(name: str, seconds: float) -> None:
            bar.note(name)
            bar.update()
            log.debug("%s: %.2f s", name, seconds)

        if todo:
            record(tree(), todo, dataroot, before, options.workers, done)
        record(options.head.resolve(), chosen, dataroot, now, options.workers, done)
    return before, now


GROUPS = {
    "observations": ("observations", "render"),
    "rewards": ("rewards",),
    "terms": ("terms",),
    "infos": ("infos",),
    "ends": ("terminated", "truncated"),
    "final": ("final",),
    "rest": ("facts", "error", "labels"),
}
"""Columns of the table, and the streams that each is about."""

Rows = dict[str, tuple[list[str], list[Difference]]]
"""Every episode's streams and differences."""


def report(rows: Rows, expect: tuple[str, ...]) -> list[tuple[str, str]]:
    """Prints what differs; returns episode and stream of what was not expected."""
    unexpected = []
    by_stream: dict[str, list[str]] = defaultdict(list)
    print(f"{'':<34}" + "".join(f"{group:>14}" for group in GROUPS) + "   (equal streams of all)")
    for name, (streams, differences) in rows.items():
        print(f"{name:<34}" + "".join(f"{cell:>14}" for cell in cells(streams, {each.stream for each in differences})))
        for one in differences:
            wanted = any(matches(pattern, name, one.stream) for pattern in expect)
            by_stream[one.stream].append(name)
            if not wanted:
                unexpected.append((name, one.stream))
            print(f"    {'expected  ' if wanted else 'DIFFERS   '}{one.stream:<40}{described(one)}")
    print(f"\n{len(rows)} episodes, {sum(len(streams) for streams, _ in rows.values())} streams")
    for stream, names in sorted(by_stream.items()):
        bad = sum((name, stream) in set(unexpected) for name in names)
        print(f"  {stream:<44} differs in {len(names)} episodes" + (f", {bad} unexpected" if bad else ", as expected"))
    print("nothing differs" if not by_stream else "UNEXPECTED DIFFERENCES" if unexpected else "only what was expected differs")
    return unexpected


def cells(streams: list[str], different: set[str]) -> list[str]:
    """For every group of streams how many are equal, of how many."""
    shown = []
    for roots in GROUPS.values():
        of = [stream for stream in streams if stream.split("/")[0] in roots]
        equal = sum(stream not in different for stream in of)
        shown.append("" if not of else f"{equal}" if equal == len(of) else f"{equal} of {len(of)} !")
    return shown


def described(each: Difference) -> str:
    largest = "" if each.largest is None else f", at most {each.largest:.3g}"
    shown = f": {each.before} -> {each.now}" if each.before or each.now else ""
    return f"{each.kind} from step {each.step}, {each.rows} of {each.of} rows{largest}{shown}"


def result_of(options: Options, rows: Rows, unexpected: list[tuple[str, str]]) -> dict[str, Any]:
    episodes = {
        name: {"equal": [s for s in streams if s not in {d.stream for d in found}], "differ": [asdict(d) for d in found]}
        for name, (streams, found) in rows.items()
    }
    return {
        "expected": list(options.expect),
        "renamed": list(options.renamed),
        "unexpected": [{"episode": name, "stream": stream} for name, stream in unexpected],
        "episodes": episodes,
    }


def write_result(options: Options, commit: str, content: dict[str, Any]) -> None:
    assert options.out is not None
    whole = {"benchmark": "against_commit", "commit": commit, "machine": machine(), **content}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(whole, indent=1) + "\n")


class BesideTheBar(logging.Handler):
    """Writes to stderr without breaking the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def start_log(out: Path | None) -> None:
    """To stderr, and with every episode's duration into a file beside the result."""
    log.setLevel(logging.DEBUG)
    log.addHandler(BesideTheBar(logging.INFO))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(out.with_suffix(".log"), mode="w")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
