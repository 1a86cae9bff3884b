"""Reliability tests: kill and restart, two processes in one folder, soak tests, fuzzing.

    python -m benchmarks.reliability kill --trials 40           # of each activity
    python -m benchmarks.reliability share                      # two at once
    python -m benchmarks.reliability soak --minutes 20          # of each world
    python -m benchmarks.reliability fuzz actions --cases 100000
    python -m benchmarks.reliability table                      # into docs/reliability.md

Every command adds to the result file, trial by trial, and goes on where it was stopped; several may run side by side.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock
from tyro.conf import OmitSubcommandPrefixes, Positional, subcommand

from benchmarks.common import machine, run, write_json
from dist4d_env.errors import ConfigError
from dist4d_env.progress import Progress, each, say
from dist4d_env.scenes.files import write_text

RESULTS = Path(__file__).parent / "results" / "reliability.json"
PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
FUZZING = Path(__file__).parent / "fuzzing"
BATCH = 2000
"""Fuzzed cases after which the counts are stored."""
LONGEST = 60
"""Seconds that one fuzzed case may take."""
COUNTS = ("cases", "accepted", "refused", "raw", "silent")
KEPT = 20
"""Different failures of a fuzzer that are stored whole."""


class Store:
    """The result file, changed under a lock, so that commands side by side lose nothing. A command that has found something
    broken which has been mended since begins anew with ``forget``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, *keys: str) -> Any:
        value = json.loads(self.path.read_text()) if self.path.is_file() else {}
        for key in keys:
            value = value.get(key, {})
        return value

    def change(self, section: str, name: str, how: Callable[[dict[str, Any]], None]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            content = self.read()
            content |= {"benchmark": "reliability", "machine": machine(), "date": date.today().isoformat()}
            how(content.setdefault(section, {}).setdefault(name, {}))
            write_json(self.path, content)

    def forget(self, section: str, name: str) -> None:
        self.change(section, name, dict.clear)


@dataclass(frozen=True)
class Common:
    out: Path = RESULTS
    """Result file (JSON)."""
    afresh: bool = False
    """Forget what is stored of these."""


@dataclass(frozen=True)
class Kill(Common):
    """Kill activities at random moments, begin them again, and compare with an unbroken run."""

    only: tuple[str, ...] = ()
    """Activities; all if none is given."""
    trials: int = 40
    """Of each activity, those stored counted."""
    work: Path = Path(tempfile.gettempdir()) / "dist4d-reliability"
    """Folder to work in."""


@dataclass(frozen=True)
class Share(Kill):
    """Begin activities twice at once in the same folder."""

    trials: int = 5
    """Of each activity, those stored counted."""


@dataclass(frozen=True)
class Fuzz(Common):
    """Give cases of one kind's fuzzer to the product; counts add up over runs."""

    kind: Positional[str] = ""
    """A file of benchmarks/fuzzing."""
    cases: int = 10_000
    """To try in this run."""
    seed: int = 0
    """Of the first batch ever; later ones count up."""


@dataclass(frozen=True)
class Soak(Common):
    """Drive in worlds for long, and see what grows; runs add up."""

    only: tuple[str, ...] = ()
    """Worlds; all if none is given."""
    minutes: float = 10.0
    """In each world."""
    work: Path = Path(tempfile.gettempdir()) / "dist4d-reliability"
    """Folder to work in."""


@dataclass(frozen=True)
class Table(Common):
    """Write the stored results into the page."""

    page: Path = PAGE
    """Page whose tables are written."""


AnyCommand = Kill | Share | Fuzz | Soak | Table
Options = Annotated[
    Annotated[Kill, subcommand("kill")]
    | Annotated[Share, subcommand("share")]
    | Annotated[Fuzz, subcommand("fuzz")]
    | Annotated[Soak, subcommand("soak")]
    | Annotated[Table, subcommand("table")],
    OmitSubcommandPrefixes,
]


def main(options: AnyCommand) -> None:
    if isinstance(options, Fuzz):
        fuzz(options)
    elif isinstance(options, Soak):
        soak(options)
    elif isinstance(options, Table):
        write_tables(options.page, Store(options.out))
    else:
        try_activities(options)


def try_activities(options: Kill) -> None:
    """Trials of kills, or of two at once, in turn over the activities, so that a stopped run has some of each."""
    from benchmarks.activities import ACTIVITIES, SHARED, make_inputs
    from benchmarks.trials import both_at_once, killed_and_again, unbroken

    share = isinstance(options, Share)
    section, attempt, activities = ("share", both_at_once, SHARED) if share else ("kill", killed_and_again, ACTIVITIES)
    unknown = [name for name in options.only if name not in activities]
    if unknown:
        raise ConfigError(f"there is no activity {unknown[0]!r}: choose among {', '.join(activities)}")
    names, store = options.only or tuple(activities), Store(options.out)
    work = options.work / f"{section}-{os.getpid()}"
    work.mkdir(parents=True)
    try:
        inputs = work / "inputs"
        make_inputs(inputs)
        whole = {name: unbroken(name, activities[name], inputs, work) for name in names}
        for name in names if options.afresh else ():
            store.forget(section, name)
        stored = {name: len(store.read(section, name).get("trials", [])) for name in names}
        due = [(seed, name) for name in names for seed in range(stored[name], options.trials)]
        for seed, name in each(sorted(due), "trying", "trial"):
            trial = attempt(name, activities[name], inputs, work, whole[name], seed)
            promise = activities[name].promise
            store.change(section, name, lambda entry: _add_trial(entry, promise, trial))  # noqa: B023
            if trial["failure"]:
                say(f"{name}, trial {seed}: {trial['failure']}")
    finally:
        shutil.rmtree(work)


def _add_trial(entry: dict[str, Any], promise: str, trial: dict[str, Any]) -> None:
    entry["promise"] = promise
    entry.setdefault("trials", []).append(trial)


def soak(options: Soak) -> None:
    """One run in each world after the other."""
    from benchmarks.activities import make_inputs
    from benchmarks.soak import drive
    from dist4d_env.registry import WORLDS

    for world in options.only:
        WORLDS.check(world)
    store = Store(options.out)
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        make_inputs(Path(folder) / "inputs")
        for world in each(options.only or tuple(WORLDS.built_in), "driving", "world"):
            if options.afresh:
                store.forget("soak", world)
            run = drive(world, Path(folder) / "inputs" / "town", options.minutes, len(store.read("soak", world).get("runs", [])))
            store.change("soak", world, lambda entry: entry.setdefault("runs", []).append(run))  # noqa: B023


class Hung(BaseException):
    """A case takes too long."""


def fuzz(options: Fuzz) -> None:
    """Batches of cases until so many are tried; what is raw or silent is printed and stored whole."""
    kinds = sorted(path.stem for path in FUZZING.glob("*.py") if path.stem != "__init__")
    if options.kind not in kinds:
        raise ConfigError(f"there is no fuzzer {options.kind!r}: choose among {', '.join(kinds)}")
    if options.cases < 1:
        raise ConfigError(f"cases={options.cases} must be at least 1")
    module, store = importlib.import_module(f"benchmarks.fuzzing.{options.kind}"), Store(options.out)
    if options.afresh:
        store.forget("fuzz", options.kind)
    signal.signal(signal.SIGALRM, _hung)
    tried = 0.0
    with Progress("trying", "case", options.cases) as bar:
        while tried < options.cases:
            seed = options.seed + store.read("fuzz", options.kind).get("batches", 0)
            counts, failures = batch(module, min(BATCH, options.cases - int(tried)), seed, bar)
            store.change("fuzz", options.kind, lambda entry: _add_batch(entry, counts, failures))  # noqa: B023
            if not counts["cases"]:
                raise ConfigError(f"the fuzzer {options.kind} makes no cases")
            tried += counts["cases"]
    entry = store.read("fuzz", options.kind)
    print(", ".join(f"{entry[name]} {name}" for name in COUNTS))


def batch(module: Any, cases: int, seed: int, bar: Progress) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Tries cases of a seed. Returns counts, and the different failures by where they come from."""
    import hypothesis

    counts: dict[str, float] = dict.fromkeys(COUNTS, 0)
    failures: dict[str, dict[str, Any]] = {}
    began = time.process_time()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases, database=None, deadline=None, phases=(hypothesis.Phase.generate,),
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(module.CASES)
    def one(case: Any) -> None:
        outcome, place, trace = outcome_of(module.attempt, case)
        counts["cases"] += 1
        counts[outcome] += 1
        bar.update()
        if trace and place in failures:
            failures[place]["count"] += 1
        elif trace:
            failures[place] = {"outcome": outcome, "count": 1, "seed": seed, "case": repr(case), "trace": trace}
            say(f"{outcome}: {trace}\n{case!r}")

    one()
    counts["cpu_seconds"] = time.process_time() - began
    return counts, failures


def outcome_of(attempt: Callable[[Any, Path], str], case: Any) -> tuple[str, str, str]:
    """accepted, refused, raw or silent; where a failure comes from, and its traceback."""
    folder = _empty_folder()
    signal.alarm(LONGEST)
    try:
        outcome = attempt(case, folder)
        if outcome not in ("accepted", "refused"):
            raise ValueError(f"attempt answered {outcome!r}")
        return outcome, "", ""
    except (Exception, Hung) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        silent = isinstance(error, AssertionError) and str(error).startswith("silent")
        lines = traceback.format_exception(error)
        return "silent" if silent else "raw", place, "".join(lines[-6:])[-4000:]
    finally:
        signal.alarm(0)


def _hung(number: int, frame: Any) -> None:
    raise Hung(f"no answer within {LONGEST} s")


_folders: list[Path] = []


def _empty_folder() -> Path:
    """The same folder again as long as it stays empty."""
    if _folders and _folders[-1].is_dir():
        if not any(_folders[-1].iterdir()):
            return _folders[-1]
        shutil.rmtree(_folders.pop(), ignore_errors=True)
    _folders.append(Path(tempfile.mkdtemp(prefix="dist4d-fuzz-")))
    return _folders[-1]


def _add_batch(entry: dict[str, Any], counts: dict[str, float], failures: dict[str, dict[str, Any]]) -> None:
    for name, count in counts.items():
        entry[name] = entry.get(name, 0) + count
    entry["batches"] = entry.get("batches", 0) + 1
    known = entry.setdefault("failures", {})
    for place, failure in failures.items():
        if place in known:
            known[place]["count"] += failure["count"]
        elif len(known) < KEPT:
            known[place] = failure


def write_tables(page: Path, store: Store) -> None:
    """Replaces what stands between the page's markers of each table."""
    from benchmarks.soak import slopes

    text = page.read_text(encoding="utf-8")
    tables = {
        "kill": [
            "| activity | kills | in time | between file operations | with helpers | as promised |",
            "|---|---|---|---|---|---|",
        ],
        "share": ["| activity | times | both ended well | as promised |", "|---|---|---|---|"],
        "fuzz": ["| kind | cases | accepted | refused | raw | silent |", "|---|---|---|---|---|---|"],
        "soak": ["| world | hours | episodes | MiB / h | open files / h | threads / h |", "|---|---|---|---|---|---|"],
    }
    for name, entry in sorted(store.read("kill").items()):
        trials = entry.get("trials", [])
        counts = [sum(trial["how"] == how for trial in trials) for how in ("time", "operation")]
        counts += [sum(trial["helpers"] > 0 for trial in trials), sum(not trial["failure"] for trial in trials)]
        tables["kill"].append(_row(name, len(trials), *counts))
    for name, entry in sorted(store.read("share").items()):
        trials = entry.get("trials", [])
        if trials:
            well = sum(trial["statuses"] == [0, 0] for trial in trials)
            tables["share"].append(_row(name, len(trials), well, sum(not trial["failure"] for trial in trials)))
    fuzzed = store.read("fuzz")
    for name, entry in [*sorted(fuzzed.items()), ("all", _sum(list(fuzzed.values())))]:
        tables["fuzz"].append(_row(name, *(f"{entry.get(key, 0):,}" for key in COUNTS)))
    for world, entry in store.read("soak").items():
        runs = entry.get("runs", [])
        found, hours = slopes(runs), sum(run["minutes"] for run in runs) / 60
        if found:
            memory = f"{found['memory']:+.1f} ± {found['memory_error']:.1f}"
            grown = (f"{found[key]:+.2f}" for key in ("files", "threads"))
            tables["soak"].append(_row(world, f"{hours:.2f}", sum(run["episodes"] for run in runs), memory, *grown))
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        if begin not in text or end not in text:
            raise ConfigError(f"{page} has no place for the table {name}: write {begin} and {end} into it")
        before, _, rest = text.partition(begin)
        text = before + begin + "\n" + "\n".join(lines) + "\n" + end + rest.partition(end)[2]
    write_text(page, text)


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _sum(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: sum(entry.get(key, 0) for entry in entries) for key in COUNTS}


if __name__ == "__main__":
    run(main, Options)
