"""Writes the tables of docs/fidelity.md from benchmarks/results: ``python docs/make_fidelity_tables.py``.

``--check`` says whether the page is up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import page_tables
from page_tables import code, interval, load, table

WORLDS = ("dist4d", "dist4d_history", "splat", "splat_history", "replay", "stored", "resampled")
STUDY, FOLLOWING, STAGES, FORETELLING, GAP = "fidelity", "action_following", "two_stage", "foretelling", "policy_gap"
MISLEADING, LARGER = "misleading", "misleading_224x400"


FORETELLERS = {
    "trust": "trust",
    "plan on splat": "distance to the plan on the splat",
    "plan on stored": "distance to the plan on the same picture, stored",
    "either plan": "the larger of the two",
    "error of colours": "true error of colours, front camera",
    "error of depth": "true error of depth, front camera",
}
"""What the rows of foretelling are."""


def number(value: float | None, digits: int = 3) -> str:
    """A number, or n/a."""
    return "n/a" if value is None else f"{value:.{digits}f}"


def worlds() -> dict[str, dict[str, Any]]:
    """The worlds that have been compared with the truth."""
    found = load(STUDY)["worlds"]
    return {world: found[world] for world in WORLDS if found.get(world)}


def progress() -> str:
    """How far the study is."""
    found = load(STUDY)
    rows = []
    for world, row in worlds().items():
        pairs = [cell["episodes"] for cell in row["planners"].values()]
        share = (
            f"{min(pairs)} to {max(pairs)} of {found['asked']}"
            if min(pairs) < max(pairs)
            else f"{min(pairs)} of {found['asked']}"
        )
        rows.append([code(world), str(found["episodes"][world]), str(len(pairs)), share, str(row["order"]["PDMS"]["episodes"])])
    head = [f"world, suite `{found['suite']}`", "episodes", "planners that look", "paired episodes of a planner"]
    return table([*head, "of all planners"], rows)


def scores(score: str) -> str:
    """A score of every planner in the truth and in every world, over the episodes that it has driven in both."""
    found, truth = worlds(), load(STUDY)["truth"]
    rows = []
    for planner, own in truth.items():
        cells = [row.get("planners", {}).get(planner) for row in found.values()]
        shown = [interval(cell[score]["world"]) if cell else "" for cell in cells]
        rows.append([code(planner), str(own[score]["count"]), interval(own[score]), *shown])
    return table(["planner", "episodes", "`oracle`", *map(code, found)], rows)


def differences() -> str:
    """Each planner's mean PDMS less that in the truth, over paired episodes."""
    found = worlds()
    rows = []
    for planner in load(STUDY)["planners"]:
        cells = [row["planners"].get(planner) for row in found.values()]
        rows.append([code(planner), *(interval(cell["PDMS"]["difference"], sign="+") if cell else "" for cell in cells)])
    return table(["planner", *map(code, found)], rows)


def order(score: str) -> str:
    """Rank correlations and the mean |difference| of planners' means."""
    rows = []
    for world, found in worlds().items():
        row = found["order"][score]
        if not row["episodes"]:
            continue
        decided = f"{row['decided_in_truth']} / {row['decided_in_world']} of {row['pairs']}"
        cells = [number(row["spearman"]), number(row["kendall"]), decided, interval(row["spearman_of_means"])]
        rows.append([code(world), str(row["episodes"]), *cells, interval(row["difference_of_means"])])
    head = ["world", "episodes of every planner", "Spearman", "Kendall", "pairs decided, truth / world", "Spearman of means"]
    return table([*head, "abs. difference of means"], rows)


def off() -> str:
    """By how much a planner's mean over so many episodes is off."""
    found = worlds()
    counts = next(iter(found.values()))["off"]
    rows = [[count, *(f"±{number(row['off'][count]['PDMS'], 2)}" for row in found.values())] for count in counts]
    return table(["episodes", *map(code, found)], rows)


def drives() -> str:
    """How alike the drives are, episode by episode."""
    rows = []
    for world, found in worlds().items():
        row = found["drives"]
        apart = [interval(row["apart"][score]) for score in ("PDMS", "EPDMS", "CLS")]
        cells = [interval(row["same_outcome"]), interval(row["never_parted"]), interval(row["seconds_together"], 1)]
        rows.append([code(world), str(row["episodes"]), *apart, *cells])
    head = ["world", "pairs", "abs. difference in PDMS", "in EPDMS", "in CLS", "same outcome", "never 0.5 m apart"]
    return table([*head, "seconds together"], rows)


def families() -> str:
    """Which families disagree: |difference| in PDMS and share of same outcomes."""
    found = worlds()
    names = sorted({family for row in found.values() for family in row["families"]})
    rows = []
    for name in names:
        cells = [row["families"].get(name) for row in found.values()]
        shown = [f"{number(c['apart']['PDMS']['mean'], 2)} / {number(c['same_outcome']['mean'], 2)}" if c else "" for c in cells]
        rows.append([name.replace("_", " "), str(max(c["episodes"] for c in cells if c)), *shown])
    return table(["family", "pairs", *map(code, found)], rows)


def frames() -> str:
    """The open-loop view by kind of frame."""
    found = worlds()
    kinds = dict.fromkeys(kind for row in found.values() for kind in row["frames"])
    rows = []
    for kind in kinds:
        cells = [row["frames"].get(kind) for row in found.values()]
        shown = [
            f"{number(c['metres']['mean'], 2)} m, {100 * c['differs']['mean']:.0f} % of {c['decisions']}" if c else ""
            for c in cells
        ]
        rows.append([kind, *shown])
    return table(["frames", *map(code, found)], rows)


def trust() -> str:
    """Whether trust foretells plans that differ, and the recommended floor."""
    rows = []
    for world, found in worlds().items():
        row = found["trust"]
        if not row:
            continue
        floor = row["floor"]
        cells = [str(row["decisions"]), interval(row["differs"]), interval(row["auroc"]), number(row["auroc_of_made_frames"])]
        if floor:
            shares = (
                f"{100 * floor[name]:.0f} %" if floor[name] is not None else "n/a" for name in ("differing_below", "alike_below")
            )
            cells += [number(floor["trust_floor"], 2), " / ".join(shares), f"{floor['episodes_above']} of {floor['episodes']}"]
            apart = (number(floor[part].get("apart", {}).get("mean")) for part in ("all", "above"))
            cells.append(" / ".join(apart))
        rows.append([code(world), *cells, *[""] * (8 - len(cells))])
    head = [
        "world",
        "decisions",
        "plans that differ",
        "AUROC of trust",
        "without the log's own frames",
        "floor",
        "below it, of those that differ / hold",
    ]
    return table([*head, "episodes above it", "abs. difference in PDMS, all / above"], rows)


def reliability() -> str:
    """Share of plans that hold by trust, in bins of equally many decisions."""
    found = {world: row["trust"]["reliability"] for world, row in worlds().items() if row["trust"]}
    rows = []
    for place in range(max(map(len, found.values()), default=0)):
        cells = (f"{number(row[place]['trust'], 2)}: {interval(row[place]['holds'], 2)}" for row in found.values())
        rows.append([str(place + 1), *cells])
    return table(["bin", *map(code, found)], rows)


def motion() -> str:
    """The ego's motion in the pictures against the commanded one."""
    rows = []
    for world, paths in load(FOLLOWING)["worlds"].items():
        for path, found in paths.items():
            for kind, row in found["motion"].items():
                medians = number(row["median_metres"]), number(row["median_degrees"])
                cells = [*medians, interval(row["metres"]), interval(row["degrees"], 2), interval(row["within"], 2)]
                rows.append([code(world), path, kind, f"{row['found']} of {row['steps']}", *cells])
    head = ["world", "drive", "pixels", "steps found", "median, m", "median, degrees", "mean, m", "mean, degrees"]
    return table([*head, "within the bounds"], rows)


def vehicles() -> str:
    """Whether vehicles stand in the pictures where the simulator says."""
    rows = []
    for world, paths in load(FOLLOWING)["worlds"].items():
        for path, found in paths.items():
            row = found["vehicles"]
            cells = (interval(row[name]) for name in ("box", "segmented", "silhouette"))
            rows.append([code(world), path, str(row["count"]), *cells])
    return table(["world", "drive", "vehicles", "box and depth", "box and segmenter", "depth and true depth"], rows)


def stages() -> str:
    """NAVSIM v2's two stages in every world, beside those in the truth."""
    rows = []
    for planner, found in load(STAGES)["planners"].items():
        for world, row in found.items():
            means = [interval(row[name]) for name in ("both", "first", "second")]
            changes = [interval(row["both_difference"], sign="+"), number(row["both_distance"]["mean"])]
            second = [interval(row["second_difference"], sign="+"), number(row["second_distance"]["mean"])]
            truth = world == next(iter(found))
            rows.append([code(planner), code(world), str(row["groups"]), *means, *([""] * 4 if truth else [*changes, *second])])
    head = ["planner", "world", "frames", "both stages", "first", "second", "both less the truth's", "its size"]
    return table([*head, "second less the truth's", "its size"], rows)


def misleading(results: str) -> str:
    """How far plans on other pictures of the same states are from those on the true ones."""
    result = load(results)
    found = result["pictures"]
    planners = list(next(iter(found.values())))
    rows = []
    for shown, row in found.items():
        cells = []
        for name in planners:
            share = " to ".join(f"{100 * row[name]['differ'][end]:.0f}" for end in ("low", "high"))
            cells.append(f"{row[name]['metres']['mean']:.2f} m, {100 * row[name]['differ']['mean']:.0f} % [{share}]")
        rows.append([shown, *cells, *(f"{1e4 * result['pixels'][shown][end]:.0f}" for end in ("too_near", "too_far"))])
    return table(["pictures", *map(code, planners), "too near", "too far"], rows)


def foretelling() -> str:
    """What foretells that a plan differs from the one on the true picture."""
    rows = []
    for name, found in load(FORETELLING)["foretellers"].items():
        within = list(found["planners"].values())
        spread = f"{min(within):.2f} to {max(within):.2f}"
        rows.append([FORETELLERS[name], interval(found["auroc"], 2), f"{found['within_planners']:.2f}", spread])
    return table(["foreteller", "AUROC", "mean within planners", "planners"], rows)


def agreement() -> str:
    """Whether episodes in which second opinions agree are judged more alike."""
    rows = [
        [name, str(half["count"]), f"{half['agreement']:.2f}", interval(half["apart"]), interval(half["same_outcome"], 2)]
        for name, half in load(FORETELLING)["episodes"].items()
    ]
    return table(["episodes with", "count", "plan agreement", "abs. difference in PDMS", "same outcome"], rows)


def policies() -> str:
    """Policies trained in the generated world and in the truth, both driven there."""
    rows = []
    for world, found in load(GAP)["worlds"].items():
        seeds = ", ".join(f"{gap:+.3f}" for gap in found["by_seed"])
        trained = [interval(found[group]) for group in ("truth", "made")]
        rows.append([code(world), str(found["episodes"]), *trained, interval(found["gap"], sign="+"), seeds])
    return table(["driven in", "episodes of each", "trained in `oracle`", "trained in `dist4d`", "gap", "by seed"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "fidelity-progress": progress,
    "fidelity-pdms": lambda: scores("PDMS"),
    "fidelity-epdms": lambda: scores("EPDMS"),
    "fidelity-cls": lambda: scores("CLS"),
    "fidelity-differences": differences,
    "fidelity-order": lambda: order("PDMS"),
    "fidelity-off": off,
    "fidelity-drives": drives,
    "fidelity-families": families,
    "fidelity-frames": frames,
    "fidelity-trust": trust,
    "fidelity-reliability": reliability,
    "misleading": lambda: misleading(MISLEADING),
    "misleading-larger": lambda: misleading(LARGER),
    "foretelling": foretelling,
    "foretelling-episodes": agreement,
    "policy-gap": policies,
    "two-stage": stages,
    "following-motion": motion,
    "following-vehicles": vehicles,
}


if __name__ == "__main__":
    page_tables.main("fidelity.md", TABLES)
