"""Writes the tables of docs/reinforcement-learning.md from benchmarks/results/rl.json: ``python docs/make_rl_tables.py``.

``--check`` says whether the page is up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import page_tables
from page_tables import load, table


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


TABLES: dict[str, Callable[[], str]] = {
    "planners replay": lambda: planners(load("rl"), "replay"),
    "planners idm": lambda: planners(load("rl"), "idm"),
    "terms": lambda: terms(load("rl")),
    "runs": lambda: runs(load("rl")),
}


if __name__ == "__main__":
    page_tables.main("reinforcement-learning.md", TABLES)
