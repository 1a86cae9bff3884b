"""Writes the tables of docs/reinforcement-learning.md from benchmarks/results/rl*.json: ``python docs/make_rl_tables.py``.

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


def memory(result: dict[str, Any]) -> str:
    """The slope of a run's memory."""
    slope = f"{result['mib_per_hour']:+.2f} ± {result['mib_per_hour_error']:.2f}"
    ends = [f"{result[name]:.1f}" for name in ("mib_first", "mib_last")]
    row = [f"{result['hours']:.2f}", f"{result['cpu_minutes']:.0f}", f"{result['decisions']:,}", *ends, slope]
    return table(["hours", "CPU minutes in them", "decisions", "MiB after the warm-up", "MiB at the end", "MiB an hour"], [row])


def cameras(result: dict[str, Any]) -> str:
    """Scores by world of training and of driving: means over seeds, and how far above what all of them began as."""
    begun = result["scores"]["start"]["none"]
    rows = [["none: the start", "any", f"{result['start_pdms']:.3f}", "", "", *_failures([begun])]]
    for home, by_world in result["gained"].items():
        for world, gained in by_world.items():
            seeds = [result["scores"][name][world] for name, where in result["trained_in"].items() if where == home]
            each = ", ".join(f"{result['start_pdms'] + gain:.3f}" for gain in gained["by_seed"].values())
            rows.append([
                f"`{home}`", f"`{world}`", f"{result['start_pdms'] + gained['mean']:.3f} ({each})", f"{gained['mean']:+.3f}",
                f"{gained['std']:.3f}", *_failures(seeds),
            ])  # fmt: skip
    head = ["trained in", "driven in", "PDMS (by seed)", "over the start", "sd of seeds", "at-fault collision", "progress"]
    return table(head, rows)


def _failures(seeds: list[dict[str, Any]]) -> list[str]:
    crashed = sum(row["outcomes"].get("collision", 0) for row in seeds) / len(seeds)
    return [f"{100 * crashed:.0f} %", f"{sum(row['ego_progress']['mean'] for row in seeds) / len(seeds):.2f}"]


def gaps(result: dict[str, Any]) -> str:
    """Trained in a world less trained in the truth, seed by seed."""
    rows = [
        [f"`{home}` less truth", f"`{world}`", f"{gap['mean']:+.3f}", f"{gap['std']:.3f}",
         ", ".join(f"{value:+.3f}" for value in gap["by_seed"].values())]
        for home, by_world in result["gap"].items() for world, gap in by_world.items()
    ]  # fmt: skip
    return table(["trained in", "driven in", "gap in PDMS", "sd of seeds", "by seed"], rows)


def scans(result: dict[str, Any]) -> str:
    """How well each world shows what is in the way."""
    rows = [
        [f"`{world}`", f"{row['instants']:.0f}", f"{row['near']:.0%}", f"{row['missed']:.0%}", f"{row['error_m']:.2f} m",
         f"{row['invented']:.1%}"]
        for world, row in result["scans"].items()
    ]  # fmt: skip
    return table(["world", "instants", "with something within 30 m", "of these missed", "median error", "invented"], rows)


def repeats(result: dict[str, Any]) -> str:
    """Libraries whose two runs of one seed are the same; a run that is not leaves no result."""
    runs = result["runs"].items()
    rows = [[library, f"{run['decisions']:,}", f"{len(run['points'])}", "the same, bit for bit"] for library, run in runs]
    return table(["runs by", "decisions", "compared after so many batches", "two runs of one seed"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "planners replay": lambda: planners(load("rl"), "replay"),
    "planners idm": lambda: planners(load("rl"), "idm"),
    "terms": lambda: terms(load("rl")),
    "runs": lambda: runs(load("rl")),
    "sac planners": lambda: planners(load("rl_sac"), "replay"),
    "sac runs": lambda: runs(load("rl_sac")),
    "repeats": lambda: repeats(load("rl_repeat")),
    "memory": lambda: memory(load("rl_memory")),
    "cameras": lambda: cameras(load("rl_cameras")),
    "gaps": lambda: gaps(load("rl_cameras")),
    "scans": lambda: scans(load("rl_cameras")),
}


if __name__ == "__main__":
    page_tables.main("reinforcement-learning.md", TABLES)
