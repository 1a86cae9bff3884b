"""Does training leak memory: the slope of a training run's memory over time, after its warm-up.

    python -m benchmarks.rl_memory --run runs/hour --out benchmarks/results/rl_memory.json

The run's ``machine.jsonl`` has memory and time at every point of its curve.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import header, run, write_json
from dist4d_env.errors import ConfigError


@dataclass(frozen=True)
class Options:
    """Fit a line to the memory of a training run."""

    run: Path = Path("runs/hour")
    """Folder of the run, as agents.train_sb3 or agents.train_rllib left it."""
    warmup: float = 0.2
    """Share of the run's time that is left out at its beginning, while scenes are loaded and buffers filled."""
    out: Path | None = None
    """Result file (JSON)."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup={self.warmup} must be a share from 0 to below 1")


def main(options: Options) -> dict[str, Any]:
    """Prints and stores the slope. Raises ConfigError for a run without enough points."""
    path = options.run / "machine.jsonl"
    if not path.exists():
        raise ConfigError(f"{path} is not there: --run names a folder of agents.train_sb3 or agents.train_rllib")
    points = [json.loads(line) for line in path.read_text().splitlines()]
    result = header("rl_memory", options) | leak(points, options.warmup)
    slope = f"{result['mib_per_hour']:+.2f} +- {result['mib_per_hour_error']:.2f} MiB an hour"
    size = f"{result['mib_first']:.0f} MiB after the warm-up, {result['mib_last']:.0f} MiB at the end"
    spent = f"{result['hours']:.2f} h, {result['cpu_minutes']:.0f} CPU minutes"
    print(f"{spent}, {result['decisions'] / 1e6:.2f} million decisions, {size}: {slope}")
    if options.out:
        write_json(options.out, result)
    return result


def leak(points: Sequence[dict[str, Any]], warmup: float) -> dict[str, Any]:
    """The least-squares slope of memory over time after the warm-up, and its standard error (of independent residuals).

    points: of one unbroken run, each with "steps", "seconds", "cpu_seconds", "memory_mib". Raises ConfigError for fewer than five
    after the warm-up or an unknown memory.
    """
    begun, ended = points[0]["seconds"], points[-1]["seconds"]
    later = [point for point in points if point["seconds"] >= begun + warmup * (ended - begun)]
    if len(later) < 5 or any(point["memory_mib"] is None for point in later):
        raise ConfigError(f"{len(later)} points with a known memory are too few for a slope: train longer or evaluate more often")
    hours = np.array([point["seconds"] - begun for point in later]) / 3600
    memory = np.array([point["memory_mib"] for point in later])
    around = hours - hours.mean()
    slope = float(around @ memory / (around @ around))
    residuals = memory - memory.mean() - slope * around
    return {
        "hours": float(ended - begun) / 3600,
        "cpu_minutes": (points[-1]["cpu_seconds"] - points[0]["cpu_seconds"]) / 60,
        "decisions": int(points[-1]["steps"]),
        "points": len(later),
        "mib_first": float(memory[0]),
        "mib_last": float(memory[-1]),
        "mib_per_hour": slope,
        "mib_per_hour_error": float(np.sqrt(residuals @ residuals / (len(later) - 2) / (around @ around))),
        "curve": [[float(hour), float(mib)] for hour, mib in zip(hours, memory, strict=True)],
    }


if __name__ == "__main__":
    run(main, Options)
