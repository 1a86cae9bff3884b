"""Writes the tables of docs/end-to-end.md from benchmarks/results: ``python docs/make_end_to_end_tables.py``.

``--check`` says whether the page is up to date.
"""

from __future__ import annotations

from collections.abc import Callable

import page_tables
from page_tables import code, load, table


def curve(name: str) -> str:
    """Rounds of training, and the planners beside them, on held-out scenes."""
    rows = [
        [label if label.startswith("round") else code(label), str(point.get("samples", "")), f"{point['pdms']:.3f}"]
        for label, point in load(name).items()
    ]
    return table(["driver", "instants learned from", "PDMS"], rows)


TABLES: dict[str, Callable[[], str]] = {"curve": lambda: curve("end_to_end_curve")}


if __name__ == "__main__":
    page_tables.main("end-to-end.md", TABLES)
