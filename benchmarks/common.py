"""Shared by all benchmarks: command line, result files, description of the machine, resumption of stopped runs."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError, DataError, run_script
from dist4d_env.progress import noun
from dist4d_env.scenes.files import write_text
from dist4d_env.scenes.scene import Scene


@dataclass(frozen=True)
class TownOptions:
    """Options of the benchmarks of models on town scenes."""

    weights: str = "tiny"
    """Preset or directory to evaluate; "splat" evaluates the baselines alone, where there are any."""
    scenes: int = 8
    """How many scenes of the split."""
    split: str = "val"
    """val for choosing between weights; test is looked at once."""
    size: str = "64x112"
    """Height x width of the images."""
    dataroot: Path | None = None
    """A town data set; the default one is made when there is none."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a count of nothing."""
        for name in ("scenes", "instants", "starts", "seeds"):
            if getattr(self, name, 1) < 1:
                raise ConfigError(f"--{name} {getattr(self, name)} must be at least 1")


def run(main: Callable[[Any], Any], options: Any) -> None:
    """A benchmark from the command line; bad input is one line on stderr and status 2."""
    run_script(main, options, sys.modules[main.__module__].__doc__)


def machine() -> dict[str, Any]:
    """The kind of machine, without names that identify one."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    import torch

    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def header(script: str, options: Any) -> dict[str, Any]:
    """Origin of a result file's numbers: command, options, date and machine."""
    return {
        "benchmark": script,
        "command": "python -m benchmarks." + script + " " + shlex.join(sys.argv[1:]),
        "date": date.today().isoformat(),
        "machine": machine(),
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()},
    }


def told_apart(rows: Iterable[tuple[str, str | Path]]) -> dict[str, str]:
    """By the names of a result's rows, what they are of. Raises ConfigError where two have one name: one would take the other's
    place."""
    named: dict[str, str] = {}
    for name, of in rows:
        if name in named:
            raise ConfigError(f"results would call both {named[name]} and {of} {name!r}: rename one of the two, or leave it out")
        named[name] = str(of)
    return named


def images_of(scene: Scene, size: tuple[int, int]) -> str:
    """What a result file says of a frame's images: how many cameras, height, width."""
    return f"{len(scene.rig.names)} x {size[0]} x {size[1]}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write atomically: a reader sees the old file or the new one. What is not a number becomes null."""
    plain = json.loads(json.dumps(content, default=float), parse_constant=lambda _: None)  # JSON knows no nan
    write_text(path, json.dumps(plain, indent=1, allow_nan=False) + "\n")


class FinishedUnits:
    """One JSON line per finished unit of work, so that a stopped run goes on where it was. Lives beside the result file.

    The last line of a run that was killed as it wrote is dropped, and its unit is due again. Raises DataError for another broken
    one, and ConfigError where it would take the place of finished units of a run with another key, or where ``out`` is no place
    for a file.
    """

    def __init__(self, out: Path | None, key: dict[str, Any]) -> None:
        self.path = out.with_suffix(".partial.jsonl") if out else None
        self.done: dict[str, Any] = {}
        if out and (out.is_dir() or any(above.exists() and not above.is_dir() for above in out.parents)):
            raise ConfigError(f"--out {out} is a folder, or lies in what is none: name a file")
        stamp = json.dumps(key, sort_keys=True, default=str)
        if self.path and self.path.exists():
            text = self.path.read_text(errors="replace")
            whole = text[: text.rfind("\n") + 1]
            lines = whole.splitlines()
            if lines and lines[0] == stamp:
                for number, line in enumerate(lines[1:], 2):
                    try:
                        entry = json.loads(line)
                        self.done[entry["unit"]] = entry["value"]
                    except (ValueError, KeyError, TypeError) as error:
                        raise DataError(f"{self.path}, line {number}, cannot be read ({error}): remove the line") from error
                os.truncate(self.path, len(whole.encode()))
                return
            if len(lines) > 1:
                count = len(lines) - 1
                raise ConfigError(
                    f"{self.path} holds {count} finished {noun(count, 'unit')} of a run with other options or another version: "
                    "remove it to begin anew, or choose another --out"
                )
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(stamp + "\n")

    def add(self, unit: str, value: Any) -> None:
        self.done[unit] = value
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps({"unit": unit, "value": value}, default=float) + "\n")

    def finish(self) -> None:
        if self.path:
            self.path.unlink(missing_ok=True)


def result_file(script: str, options: Any, content: dict[str, Any], finished: FinishedUnits | None = None) -> dict[str, Any]:
    """The header and a result file's content, written to ``options.out`` where there is one; finished units have served then."""
    result = header(script, options) | content
    if options.out is not None:
        write_json(options.out, result)
    if finished is not None:
        finished.finish()
    return result


def mean_and_spread(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation over units (scenes), invalid ones (NaN) left out and counted."""
    array = np.array(values, float)
    kept = array[np.isfinite(array)]
    if kept.size == 0:
        return {"mean": float("nan"), "std": float("nan"), "n": 0}
    return {"mean": float(kept.mean()), "std": float(kept.std(ddof=1)) if kept.size > 1 else 0.0, "n": int(kept.size)}
