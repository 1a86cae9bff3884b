"""Writes the tables of docs/reinforcement-learning-rllib.md from benchmarks/results: ``python docs/make_rllib_tables.py``.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``; ``--check`` says whether the page is up to date.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from make_rl_tables import planners, runs, table  # noqa: E402

RESULTS = HERE.parent / "benchmarks" / "results"
PAGE = HERE / "reinforcement-learning-rllib.md"


def service(result: dict[str, Any]) -> str:
    """One line per measurement."""
    rows = []
    for row in result["rows"]:
        batches = ", ".join(f"{count} of {size}" for size, count in row.get("batches", {}).items())
        parts = [f"{row[name]:.0f}" if name in row else "" for name in ("worked_ms_per_question", "queued_ms_per_question")]
        sent = f"{row['megabytes_per_decision']:.1f}" if "batches" in row else ""
        rows.append([
            row["where"], str(row["clients"]), f"{row['decisions_per_second']:.2f}",
            f"{row['cpu_ms_per_decision']:.0f}", f"{row['latency_ms_median']:.0f}",
            f"{row['latency_ms_p95']:.0f}", *parts, sent, batches,
        ])  # fmt: skip
    head = ["models", "clients", "decisions/s", "CPU ms", "median ms", "p95 ms", "worked ms", "queued ms", "MB", "batches"]
    return table(head, rows)


def main(check: bool) -> int:
    """Fill the page; returns 1 where it is checked and not up to date."""
    text = PAGE.read_text()
    learned = json.loads((RESULTS / "rl_rllib.json").read_text())
    made = {
        "rllib curve": runs(learned),
        "rllib planners": planners(learned, "replay"),
        "world service": service(json.loads((RESULTS / "world_service.json").read_text())),
    }
    filled = text
    for name, content in made.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        filled, found = re.subn(pattern, lambda m, c=content: f"{m[1]}{c}\n{m[2]}", filled, flags=re.DOTALL)
        if found != 1:
            raise SystemExit(f"{PAGE.name} has {found} places for {name!r}, not one")
    if check:
        return int(filled != text)
    PAGE.write_text(filled)
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
