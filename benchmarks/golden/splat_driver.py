"""Measures how fast the ``dist4d_env`` that Python finds splats and fills; row by row, as named on stdin.

Every line on stdin is a row of the inputs (a pickle that ``benchmarks.splat`` makes of arrays alone); each is answered by a line
of JSON: how often it was splatted and filled, in how many seconds of the process and on the clock.

    PYTHONPATH=TREE python splat_driver.py INPUTS --tree TREE
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPEATS = 5


def prepared(row: dict[str, Any]) -> Callable[[], Any]:
    """A call that splats and fills, warm."""
    from dist4d_env.geometry.boxes import Boxes
    from dist4d_env.geometry.rgbd import RGBDFrame
    from dist4d_env.geometry.splat import splat
    from dist4d_env.geometry.splat_source import SplatSource

    sources = [SplatSource.from_frame(RGBDFrame(**frame), [Boxes(**one) for one in boxes]) for frame, boxes in row["frames"]]
    now = Boxes(**row["boxes"])

    def call() -> Any:
        return splat(sources, row["intrinsics"], row["cameras"], row["size"], now, row["time"]).filled()

    call()
    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("--tree", type=Path, required=True)
    arguments = parser.parse_args()
    import dist4d_env

    found = Path(dist4d_env.__file__).resolve()
    if not found.is_relative_to(arguments.tree.resolve()):
        raise SystemExit(f"dist4d_env is {found}, not that of {arguments.tree}")
    rows = pickle.loads(arguments.inputs.read_bytes())
    calls: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        name = line.strip()
        call = calls.setdefault(name, calls.get(name) or prepared(rows[name]))
        clock, process = time.perf_counter(), time.process_time()
        for _ in range(REPEATS):
            call()
        measured = {"count": REPEATS, "process": time.process_time() - process, "clock": time.perf_counter() - clock}
        print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
