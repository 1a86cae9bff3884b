"""Writes the tables of docs/reinforcement-learning.md from benchmarks/results/rl.json: ``python docs/make_rl_tables.py``.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``; ``--check`` says whether the page is up to date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "benchmarks" / "results" / "rl.json"
PAGE = HERE / "reinforcement-learning.md"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table, numbers to the right."""
    head = list(head)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *[list(row) for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def planners(result: dict[str, Any], traffic: str) -> str:
    """Scores and failures of every driver."""
    rows = []
    for name, row in sorted(result["planners"][traffic].items(), key=lambda item: -item[1]["pdms_v1"]["mean"]):
        pdms, ends = row["pdms_v1"], row["outcomes"]
        rows.append([
            f"`{name}`", f"{pdms['mean']:.3f} [{pdms['low']:.3f}, {pdms['high']:.3f}]",
            *(f"{100 * ends.get(cause, 0):.0f} %" for cause in ("collision", "off_road")),
            *(f"{row[metric]['mean']:.2f}" for metric in ("ego_progress", "time_to_collision", "comfort")),
        ])  # fmt: skip
    return table(["driver", "PDMS", "at-fault collision", "off road", "progress", "TTC", "comfort"], rows)


def terms(result: dict[str, Any]) -> str:
    """What an episode collects of each term, by driver."""
    drivers = next(iter(result["reward_terms"].values()))
    order = next(iter(drivers.values()))
    rows = [[f"`{term}`", *(f"{scales[term]['per_episode']:.3g}" for scales in drivers.values())] for term in order]
    weights = result["weights"]
    totals = [
        [f"**{preset}**", *(f"{sum(w * s[t]['per_episode'] for t, w in weights[preset].items()):.2f}" for s in drivers.values())]
        for preset in weights
    ]
    return table(["term", *(f"`{name}`" for name in drivers)], rows + totals)


def runs(result: dict[str, Any]) -> str:
    """Each training run: where its curve began, was best and ended, and what it took."""
    rows = []
    for name, run in result["runs"].items():
        best = max(run["curve"], key=lambda point: point["pdms"])
        first, last = run["curve"][0], run["curve"][-1]
        rows.append([
            f"`{name}`", f"{last['steps'] / 1e3:.0f} k", *(f"{point['pdms']:.3f}" for point in (first, best, last)),
            f"{100 * last['collision']:.0f} %", f"{run['cpu_seconds'] / 60:.0f}", f"{run['mib_per_cpu_hour']:+.0f}",
        ])  # fmt: skip
    head = ["run", "decisions", "PDMS at first", "at best", "at last", "collisions", "CPU minutes", "MiB per CPU hour"]
    return table(head, rows)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "planners replay": lambda result: planners(result, "replay"),
    "planners idm": lambda result: planners(result, "idm"),
    "terms": terms,
    "runs": runs,
}


def filled(page: str, result: dict[str, Any]) -> str:
    """The page with its tables as the results say."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(page):
            raise SystemExit(f"{PAGE.name} has no place for the table {name!r}")
        text = make(result)
        page = pattern.sub(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)
    return page


def main(check: bool) -> None:
    page = PAGE.read_text()
    new = filled(page, json.loads(RESULTS.read_text()))
    if check and new != page:
        raise SystemExit(f"{PAGE.name} is not what {RESULTS.name} says: run python docs/make_rl_tables.py")
    if not check:
        PAGE.write_text(new)


if __name__ == "__main__":
    main("--check" in sys.argv[1:])
