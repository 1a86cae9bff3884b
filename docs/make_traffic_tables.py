"""Writes the tables of docs/metrics/realism.md about traffic from benchmarks/results: ``python docs/make_traffic_tables.py``.

``--check`` says whether the page is up to date.
"""

from __future__ import annotations

from collections.abc import Callable

import page_tables
from page_tables import interval, load, mean, table

SETS = {"town": "town val", "other": "nuScenes"}
LOGS = {"town train": "town train", "town val": "town val", "other": "nuScenes"}
COLUMNS = {
    "kinematic": 3,
    "interactive": 3,
    "map_based": 3,
    "ADE": 2,
    "minADE": 2,
    "collision_rate": 3,
    "offroad_rate": 3,
}


def realism() -> str:
    """One line per data set and traffic model."""
    rows = []
    for name, models in load("realism")["realism"].items():
        for model, found in models.items():
            cells = [interval(found["realism"]), *(mean(found[column], digits) for column, digits in COLUMNS.items())]
            rows.append([f"{SETS[name]}, `{model}`", *cells])
    return table(["", "realism", *(column.replace("_", " ") for column in COLUMNS)], rows)


def fit() -> str:
    """Distances from the log before and after the fit."""
    rows = []
    for name, models in load("traffic_fit")["judged"].items():
        for model, row in models.items():
            marks = [f"{metres:.2f}" for metres in row["mean_distance"].values()]
            rows.append([f"{LOGS[name]}, {model}", f"{row['error']:.2f}", *marks, str(row["drivers"])])
    marks = list(next(iter(load("traffic_fit")["judged"].values()))["fitted"]["mean_distance"])
    return table(["", "error, m", *marks, "drivers"], rows)


def speed() -> str:
    """Milliseconds of a simulated second, and times the replayed one."""
    rows = []
    for count, took in load("realism")["seconds_per_simulated_second"].items():
        cells = [f"{1e3 * seconds:.2f} ({seconds / took['replay']:.1f}x)" for seconds in took.values()]
        rows.append([f"{count} episode{'s' * (count != '1')}, ms", *cells])
    names = list(next(iter(load("realism")["seconds_per_simulated_second"].values())))
    return table(["", *(f"`{name}`" for name in names)], rows)


TABLES: dict[str, Callable[[], str]] = {"traffic realism": realism, "traffic fit": fit, "traffic speed": speed}


if __name__ == "__main__":
    page_tables.main("metrics/realism.md", TABLES)
