"""Writes the tables of docs/planning-benchmark.md from benchmarks/results: ``python docs/make_planning_tables.py``.

``--check`` says whether the page is up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import page_tables
from page_tables import code, interval, load, mean, table

from dist4d_env.evaluation.summary import SCORES

LEADING = ("pdms_v1", "epdms_v2", "nuplan_cls_nr", "nuplan_cls_r")
CLAIMED = (("pdm_closed", "idm"), ("idm", "constant_velocity"))
"""Pairs whose order is claimed: they are shown whatever stands between them."""
DIFFICULTIES = ("easy", "medium", "hard", "extreme")


def leaderboard(name: str) -> str:
    """Leading scores with intervals, and episodes with a failure of each kind."""
    found = load(name)
    scores = [score for score in LEADING if score in found["scores"]]
    kinds = {"collision": "at-fault collision", "off_road": "off road", "planner_error": "planner failed"}
    rows = []
    for row in found["standings"]:
        counts = [f"{100 * row['failures'].get(kind, 0) / row['episodes']:.0f} %" for kind in kinds]
        counts.append(str(row["episodes"]))
        rows.append([code(row["planner"]), *(interval(row["metrics"].get(score)) for score in scores), *counts])
    return table(["planner", *(SCORES[score] for score in scores), *kinds.values(), "episodes"], rows)


def others(name: str) -> str:
    """The scores of other benchmarks."""
    found = load(name)
    scores = [score for score in found["scores"] if score not in LEADING]
    rows = ([code(row["planner"]), *(mean(row["metrics"].get(score)) for score in scores)] for row in found["standings"])
    return table(["planner", *(SCORES[score] for score in scores)], rows)


def groups(name: str, kind: str) -> str:
    """The ranking score by family or difficulty."""
    found = load(name)
    labels = sorted({label for row in found["standings"] for label in row[kind]})
    if kind == "difficulties":
        labels = [label for label in DIFFICULTIES if label in labels]
    rows = (
        [code(row["planner"]), *(mean(row[kind].get(label, {}).get(found["ranked_by"])) for label in labels)]
        for row in found["standings"]
    )
    return table(["planner", *(label.replace("_", " ") for label in labels)], rows)


def pairs(name: str) -> str:
    """Each planner against the next one of the ranking, and the pairs in CLAIMED, on the same episodes."""
    found = load(name)
    order = [row["planner"] for row in found["standings"]]
    compared = {(one["first"], one["second"]): one for one in found["comparisons"][found["ranked_by"]]}
    rows = []
    for pair in dict.fromkeys([*(pair for pair in CLAIMED if pair in compared), *pairwise(order)]):
        one = compared[pair]
        if not one["difference"]["count"]:
            continue
        shares = " / ".join(f"{100 * one[share]:.0f}" for share in ("won", "tied", "lost"))
        cell = one["difference"]
        rows.append([" - ".join(map(code, pair)), interval(cell, sign="+"), "yes" if one["clear"] else "no", shares])
    return table(["pair", "difference in PDMS", "clear", "won / tied / lost, %"], rows)


def worlds(name: str) -> str:
    """The same episodes in several worlds; with intervals where they were stored."""
    found = load(name)
    names = found["worlds"]
    rows = []
    for planner, row in found["planners"].items():
        cells = [row["pdms_v1"][world] for world in names]
        shown = [interval({**cell, "count": cell["n"]}) if "low" in cell else f"{cell['mean']:.3f}" for cell in cells]
        rows.append([code(planner), f"{row['same']} of {row['episodes']}", *shown])
    return table(["planner", "episodes the same in every world", *(f"PDMS, `{world}`" for world in names)], rows)


def experts(name: str) -> str:
    """The recorded drive with errors of growing strength."""
    found = load(name)
    scores = list(next(iter(found["scores"].values())))
    rows = []
    for kind, strengths in found["strengths"].items():
        for strength in strengths:
            if strength or not rows:  # without an error all kinds are one
                label = code(f"expert_{kind}_{strength:g}") if strength else "without error"
                cells = found["scores"][f"{kind}_{strength:g}"]
                rows.append([label, *(interval(cells[score]) for score in scores), str(cells[scores[0]]["count"])])
    return table(["planner", *scores, "episodes"], rows)


def rank_correlations(name: str) -> str:
    """How far each score's order is that of the errors."""
    found = load(name)
    scores = list(next(iter(found["kinds"].values()))["spearman"])
    rows = ([kind, *(f"{judged['spearman'][score]:.3f}" for score in scores)] for kind, judged in found["kinds"].items())
    return table(["kind of error", *(f"Spearman, {score}" for score in scores)], rows)


TABLES: dict[str, Callable[[], str]] = {
    "town": lambda: leaderboard("planning_town"),
    "town-ppo": lambda: leaderboard("planning_ppo"),
    "town-others": lambda: others("planning_town"),
    "town-families": lambda: groups("planning_town", "families"),
    "town-difficulties": lambda: groups("planning_town", "difficulties"),
    "town-pairs": lambda: pairs("planning_town"),
    "worlds": lambda: worlds("planning_worlds"),
    "seeing": lambda: worlds("planning_seeing"),
    "experts": lambda: experts("ranking"),
    "experts-order": lambda: rank_correlations("ranking"),
    "nuscenes": lambda: leaderboard("planning_nuscenes"),
    "nuscenes-others": lambda: others("planning_nuscenes"),
    "nuscenes-worlds": lambda: worlds("planning_nuscenes_worlds"),
    "safety": lambda: leaderboard("planning_safety"),
    "safety-families": lambda: groups("planning_safety", "families"),
    "safety-others": lambda: others("planning_safety"),
}


if __name__ == "__main__":
    page_tables.main("planning-benchmark.md", TABLES)
