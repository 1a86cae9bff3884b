"""How fast two trees drive, measured alternately in one run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.golden.speed_driver import MANY, ROWS
from benchmarks.golden.trees import environment
from dist4d_env.progress import Progress

SPEED_DRIVER = Path(__file__).with_name("speed_driver.py")
SIDES = ("before", "now")


class Measured:
    """A process that measures rows with a tree's package; data: what the driver takes, a data root unless it is another's."""

    def __init__(self, tree: Path, data: Path, log: Path, driver: Path = SPEED_DRIVER, threads: int | None = None) -> None:
        self._log = log.open("w+")
        command = (sys.executable, str(driver), str(data), "--tree", str(tree))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log, "text": True}
        variables = environment(tree) | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
        self._process = subprocess.Popen(command, cwd=log.parent, env=variables, **pipes)  # type: ignore[call-overload]

    def __call__(self, row: str) -> dict[str, float]:
        """Raises SystemExit with the end of its log if the process stops."""
        self._process.stdin.write(row + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith('{"count"'):
                return json.loads(line)
        self._log.seek(0)
        raise SystemExit("the speed driver stopped:\n" + self._log.read()[-2000:])

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


def measure(before: Path, now: Path, dataroot: Path, folder: Path, starts: int, repeats: int) -> dict[str, Any]:
    """Rates of both trees by row: medians over all passes, in which each tree goes first every other time.

    starts: how often both processes are started anew, for a process can be faster or slower than another of the same code by some
    percent throughout; repeats: passes of each row per start.
    """
    passes: dict[str, dict[str, list[dict[str, float]]]] = {row: {side: [] for side in SIDES} for row in ROWS}
    rows = list(ROWS)
    with Progress("measuring", "row", starts * repeats * len(ROWS)) as bar:
        for start in range(starts):
            trees = zip(SIDES, (before, now), strict=True)
            processes = {side: Measured(tree, dataroot, folder / f"speed-{side}.txt") for side, tree in trees}
            try:
                for number in range(repeats * len(ROWS)):
                    row = rows[number // repeats]
                    for side in SIDES if (start + number) % 2 else SIDES[::-1]:
                        passes[row][side].append(processes[side](row))
                    bar.update()
            finally:
                for process in processes.values():
                    process.close()
    return {row: summary(each) for row, each in passes.items()} | idm_shares(passes)


def rates(passes: Sequence[dict[str, float]], of: str = "process") -> list[float]:
    return [each["count"] / each[of] for each in passes]


def summary(passes: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Per second of the process, and the ratio now / before with its range over the passes; that on the clock besides."""
    result: dict[str, Any] = {f"{side}_per_second": median(rates(passes[side])) for side in SIDES}
    for of in ("process", "clock"):
        pairs = [new / old for old, new in zip(*(rates(passes[side], of) for side in SIDES), strict=True)]
        suffix = "" if of == "process" else "_on_the_clock"
        result[f"ratio{suffix}"] = median(pairs)
        result[f"ratio_range{suffix}"] = [min(pairs), max(pairs)]
    return result


def idm_shares(passes: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """Speed with reacting traffic as a share of that with replayed traffic, by tree."""
    names = f"none x {MANY}", f"none x {MANY} idm"
    replay, idm = ({side: median(rates(passes[name][side])) for side in SIDES} for name in names)
    return {"idm share": {side: idm[side] / replay[side] for side in SIDES}}


def table(rows: dict[str, Any]) -> str:
    """A line per row."""
    lines = [f"{'':<24}{'before, 1/s':>14}{'now, 1/s':>14}{'now / before':>14}  range"]
    for name, row in rows.items():
        if "ratio" in row:
            low, high = row["ratio_range"]
            numbers = f"{row['before_per_second']:14.1f}{row['now_per_second']:14.1f}{row['ratio']:14.3f}"
            lines.append(f"{name:<24}{numbers}  {low:.3f} - {high:.3f}")
        else:
            lines.append(f"{'x 64, idm / replay':<24}{row['before']:14.3f}{row['now']:14.3f}")
    return "\n".join(lines)
