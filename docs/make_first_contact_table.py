"""Writes the table of docs/troubleshooting.md from the numbers in benchmarks/results.

``--check`` says whether the page is up to date.
"""

from __future__ import annotations

import page_tables
from page_tables import load, table


def path() -> str:
    """A newcomer's steps, one a row."""
    rows = []
    for row in load("first_contact")["results"].values():
        made = f", PDMS {row['pdms']:.2f}" if "pdms" in row else ""
        rows.append([row["what"] + made, f"`{row['command']}`", f"{row['seconds']:.0f}", f"{row['cpu_seconds']:.0f}"])
    return table(["", "command", "seconds", "CPU seconds"], rows)


if __name__ == "__main__":
    page_tables.main("troubleshooting.md", {"first contact": path})
