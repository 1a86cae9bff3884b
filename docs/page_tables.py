"""Markdown tables in a page of docs/, made from what benchmarks stored: what the ``make_*_tables.py`` share.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
MARKED = re.compile(r"<!-- ([\w -]+) -->\n.*?<!-- /\1 -->", re.DOTALL)


def load(name: str) -> dict[str, Any]:
    """The stored results of a benchmark."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def table(head: Iterable[str], rows: Iterable[Iterable[str]], rule: str = "---:") -> str:
    """A Markdown table; rule: how the columns after the first are set, numbers to the right unless it says otherwise."""
    head = list(head)
    lines = [head, ["---", *[rule] * (len(head) - 1)], *[list(row) for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interval(estimate: Mapping[str, Any] | None, digits: int = 3, sign: str = "") -> str:
    """Mean and 95 % interval, or n/a."""
    if not estimate or not estimate["count"] or estimate["mean"] is None:
        return "n/a"
    mean, *ends = ("?" if estimate[key] is None else f"{estimate[key]:{sign}.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{', '.join(ends)}]"


def mean(estimate: Mapping[str, Any] | None, digits: int = 2) -> str:
    """The mean alone, or n/a."""
    return interval(estimate, digits).partition(" ")[0]


def code(name: str) -> str:
    """A name as code."""
    return f"`{name}`"


def filled(page: str, name: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """A page's text with every table made anew. SystemExit where a place has no table, or a table not one place."""
    places = [found[1] for found in MARKED.finditer(page)]
    if unknown := [place for place in places if place not in tables]:
        raise SystemExit(f"{name} asks for the table {unknown[0]!r}: there are {', '.join(tables)}")
    for wanted in tables:
        if places.count(wanted) != 1:
            raise SystemExit(f"{name} has {places.count(wanted)} places for the table {wanted!r}, not one")
    return MARKED.sub(lambda found: f"<!-- {found[1]} -->\n{tables[found[1]]()}\n<!-- /{found[1]} -->", page)


def main(page: str, tables: Mapping[str, Callable[[], str]]) -> None:
    """Fills a page of docs/; with ``--check`` only says, by its exit status, whether it is up to date."""
    path = DOCS / page
    before = path.read_text()
    after = filled(before, page, tables)
    if "--check" in sys.argv[1:]:
        remedy = f"{page} is older than benchmarks/results: run python docs/{Path(sys.argv[0]).name}"
        sys.exit(None if after == before else remedy)
    path.write_text(after)
