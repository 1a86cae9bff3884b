"""What pictures of a size cost in the generated world: seconds of a decision and memory, beside 64 x 112.

    python -m benchmarks.sizes --out benchmarks/results/sizes.json

Each size has a process of its own. ``cpu_seconds`` is what a decision takes of all cores together, whatever else the machine
does, ``seconds`` what a clock on the wall shows; ``megabytes`` is the most memory that the process has held, programs included.
"""

from __future__ import annotations

import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import result_file, run
from benchmarks.throughput import Options as Throughput
from benchmarks.throughput import driving, first_scene
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.progress import each

SIZES = "64x112", "128x224", "224x400", "448x800"


@dataclass(frozen=True)
class Options:
    """What pictures of a size cost in the generated world."""

    sizes: tuple[str, ...] = SIZES
    """Height x width of each; ratios are to the first."""
    decisions: int = 20
    """Measured decisions per size, after two that don't count."""
    weights: str = "tiny"
    """Preset or directory of the generative world."""
    dataroot: Path | None = None
    """A data set with town scenes; the default one is made when there is none."""
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> dict[str, Any]:
    rows: dict[str, dict[str, float]] = {}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for size in each(options.sizes, "measuring", "size"):
            rows[size] = pool.submit(cost, size, options).result()
    first = rows[options.sizes[0]]
    for row in rows.values():
        row |= {"times": row["cpu_seconds"] / first["cpu_seconds"]}
    result_file("sizes", options, {"results": rows})
    for size, row in rows.items():
        print(f"{size:<10}" + ", ".join(f"{name} {value:.3g}" for name, value in row.items()))
    return rows


def cost(size: str, options: Options) -> dict[str, float]:
    """Means over decisions of the generated world at a size, in this process."""
    step = driving("dist4d", Throughput(weights=options.weights, size=size, dataroot=options.dataroot))
    step(), step()
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(options.decisions):
        step()
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    unit = 1e-6 if sys.platform == "darwin" else 1e-3  # of bytes there, of kilobytes elsewhere
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {
        "pixels": float(len(first_scene(options.dataroot).rig.names) * np.prod(parse_size(size))),
        "cpu_seconds": processor / options.decisions,
        "seconds": clock / options.decisions,
        "megabytes": held,
    }


if __name__ == "__main__":
    run(main, Options)
