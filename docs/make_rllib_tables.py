"""Writes the tables of docs/reinforcement-learning-rllib.md from benchmarks/results: ``python docs/make_rllib_tables.py``.

``--check`` says whether the page is up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import page_tables
from make_rl_tables import planners, runs
from page_tables import load, table


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


TABLES: dict[str, Callable[[], str]] = {
    "rllib curve": lambda: runs(load("rl_rllib")),
    "rllib planners": lambda: planners(load("rl_rllib"), "replay"),
    "world service": lambda: service(load("world_service")),
}


if __name__ == "__main__":
    page_tables.main("reinforcement-learning-rllib.md", TABLES)
