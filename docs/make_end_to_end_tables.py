"""Writes the tables of docs/end-to-end.md from benchmarks/results: ``python docs/make_end_to_end_tables.py``.

``--check`` says whether the page is up to date.
"""

from __future__ import annotations

from collections.abc import Callable

import page_tables
from page_tables import code, interval, load, table


def curve(name: str) -> str:
    """Networks of the training, and the planners beside them, on held-out scenes."""
    rows = [
        [label if "samples" in point else code(label), str(point.get("samples", "")), f"{point['pdms']:.3f}"]
        for label, point in load(name).items()
    ]
    return table(["driver", "instants learned from", "PDMS"], rows)


def town(name: str) -> str:
    """Scores on the town's suite, and the end-to-end planner's paired differences in PDMS from the others."""
    result = load(name)
    less = {}
    for pair in result["comparisons"]["pdms_v1"]:
        names = [pair["first"], pair["second"]]
        if "end_to_end" in names:
            sign, found = (1 if names[0] == "end_to_end" else -1), pair["difference"]
            low, high = sorted(sign * found[end] for end in ("low", "high"))
            names.remove("end_to_end")
            less[names[0]] = interval(found | {"mean": sign * found["mean"], "low": low, "high": high}, sign="+")
    rows = [
        [
            code(row["planner"]),
            *(interval(row["metrics"][metric]) for metric in ("pdms_v1", "epdms_v2")),
            less.get(row["planner"], ""),
        ]
        for row in result["standings"]
    ]
    return table(["planner", "PDMS", "EPDMS", "`end_to_end` less this one, PDMS"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "curve": lambda: curve("end_to_end_curve"),
    "town": lambda: town("planning_end_to_end"),
}


if __name__ == "__main__":
    page_tables.main("end-to-end.md", TABLES)
