"""Tables of decision fidelity from what is stored, at any time.

    python -m benchmarks.fidelity_table runs/fidelity --store benchmarks/results/fidelity.json
    python -m benchmarks.fidelity_table --drives benchmarks/results/fidelity_drives.jsonl.xz    # of kept drives

Intervals are 95 % of a cluster bootstrap over scenes. An order of planners is that of their paired differences: those whose
interval holds 0 are tied. See docs/fidelity.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Positional

from benchmarks.agreement import Clusters, auroc, best_threshold, better, estimate, kendall, rank_correlations, spearman
from benchmarks.common import header, run, write_json
from benchmarks.fidelity import TRUTH, WORLDS
from benchmarks.fidelity_drives import SCORES, Drive, KeptDrives, load_drives, rounded, save_drives, study
from benchmarks.fidelity_episodes import parted_after, read_drives
from dist4d_env.errors import DataError
from dist4d_env.evaluation.campaign import is_campaign, read_settings
from dist4d_env.evaluation.second_opinion import DIFFERS
from dist4d_env.evaluation.statistics import Estimate

ASKED = 200
"""Paired episodes of a planner that the study is meant to have."""
FROM_LOG = (0.25, 1.0, 2.0)
"""Metres from the recorded path at which kinds of frame part."""
FEW = (8, 40, 200)
"""Numbers of episodes of which it is said how far off their mean may be."""
BINS = 8
"""Bins of the reliability curve, of equally many decisions."""
Drives = Mapping[str, Sequence[Drive]]
"""World -> its drives."""


@dataclass(frozen=True)
class Options:
    """Tables of decision fidelity from the stored episodes of benchmarks.fidelity."""

    out: Positional[Path | None] = None
    """Folder of the study; none where all that counts is in --drives."""
    store: Path | None = None
    """Result file (JSON)."""
    drives: Path | None = None
    """File that keeps drives (.jsonl.xz): those it holds count, and those of the folder are added to it."""
    seed: int = 0
    """Of the bootstrap."""


def main(options: Options) -> dict[str, Any]:
    kept = load_drives(options.drives) if options.drives else KeptDrives({}, {})
    if options.out is not None:
        kept = kept.with_those_of(driven(options.out))
        if options.drives is not None:
            save_drives(options.drives, kept)
    drives = kept.by_world()
    if TRUTH not in drives or len(drives) < 2:
        where = options.out or options.drives
        raise DataError(f"{where} holds no drives in {TRUTH} and another world: run python -m benchmarks.fidelity first")
    result = header("fidelity_table", options) | {"suite": None, "size": None, "weights": None, **kept.study}
    result |= tables(drives, options.seed)
    if options.store is not None:
        write_json(options.store, result)
    show(result)
    return result


def driven(folder: Path) -> KeptDrives:
    """The whole episodes of a study's folder, rounded as a file keeps them, so that both give the same tables.

    A world in which nothing is driven yet, as all of it may be kept in a file, has none.
    """
    begun = {world: folder / world for world in WORLDS if is_campaign(folder / world)}
    folders = {world: place for world, place in begun.items() if any((place / "episodes").glob("[!.]*.npz"))}
    if not folders:
        return KeptDrives({}, {})
    settings = read_settings(next(iter(folders.values())))["common"]
    found = {(world, d.planner, *d.episode): rounded(d) for world, place in folders.items() for d in read_drives(place)}
    return KeptDrives(study(settings["suite"], settings.get("size"), settings["weights"]), found)


def tables(drives: Drives, seed: int = 0) -> dict[str, Any]:
    """Everything that is reported: plain values, estimates as their fields."""
    every = list(chain.from_iterable(drives.values()))
    looking = list(dict.fromkeys(drive.planner for world, found in drives.items() if world != TRUTH for drive in found))
    truth = {(drive.planner, *drive.episode): drive for drive in drives[TRUTH]}
    blind = [name for name in dict.fromkeys(drive.planner for drive in drives[TRUTH]) if name not in looking]
    worlds = {}
    for world, found in drives.items():
        if world != TRUTH:
            pairs = [(truth[key], drive) for drive in found if (key := (drive.planner, *drive.episode)) in truth]
            worlds[world] = compared(pairs, looking, seed) | {"trust": trusted(found, pairs, seed)} if pairs else {}
    return {
        "episodes": {world: len(found) for world, found in drives.items()},
        "scenes": len({drive.scene for drive in every}),
        "asked": ASKED,
        "planners": looking,
        "codes": dict(Counter(drive.code for drive in every)),
        "truth": {name: means([d for d in drives[TRUTH] if d.planner == name], seed) for name in (*looking, *blind)},
        "worlds": worlds,
    }


def means(drives: Sequence[Drive], seed: int) -> dict[str, Any]:
    """The scores of one planner in one world."""
    clusters = Clusters([drive.scene for drive in drives], seed)
    return {name: vars(clusters.mean(values(drives, name))) for name in SCORES}


def values(drives: Sequence[Drive], score: str) -> np.ndarray:
    """(E,) a score, nan where it is not valid."""
    return np.array([drive.scores[score] for drive in drives], float)


Pair = tuple[Drive, Drive]
"""The same episode of one planner in the truth and in another world."""


def compared(pairs: Sequence[Pair], looking: Sequence[str], seed: int) -> dict[str, Any]:
    """A world beside the truth: planner by planner, all planners' order, drives, families and plans."""
    planners = {name: [pair for pair in pairs if pair[1].planner == name] for name in looking}
    planners = {name: found for name, found in planners.items() if found}
    clusters = Clusters([pair[1].scene for pair in pairs], seed)
    families = sorted({pair[1].family for pair in pairs})
    return {
        "planners": {name: one_planner(found, seed) for name, found in planners.items()},
        "order": {score: order(planners, score, seed) for score in SCORES},
        "drives": agreement(pairs, clusters),
        "off": {count: off_by(list(planners.values()), count) for count in FEW},
        "families": {
            name: agreement(found := [p for p in pairs if p[1].family == name], Clusters([p[1].scene for p in found], seed))
            for name in families
        },
        "frames": frames([pair[1] for pair in pairs], seed),
    }


def one_planner(pairs: Sequence[Pair], seed: int) -> dict[str, Any]:
    """A planner's scores in a world, and how far their means are from those in the truth."""
    clusters = Clusters([pair[1].scene for pair in pairs], seed)
    found: dict[str, Any] = {"episodes": len(pairs)}
    for score in SCORES:
        true, made = (values(side, score) for side in zip(*pairs, strict=True))
        found[score] = {"truth": vars(clusters.mean(true)), "world": vars(clusters.mean(made)),
                        "difference": vars(clusters.mean(made - true))}  # fmt: skip
    return found | agreement(pairs, clusters)


def off_by(planners: Sequence[Sequence[Pair]], count: int) -> dict[str, float | None]:
    """By how much a planner's mean over ``count`` random episodes is off in 19 of 20 draws, in each score: from the deviation of
    paired differences around a planner's own mean, the root mean square over planners, as if episodes were independent. None
    where no planner has two pairs."""
    found: dict[str, float | None] = {}
    for score in SCORES:
        sides = [[values([pair[side] for pair in pairs], score) for side in (0, 1)] for pairs in planners]
        valid = [made[known] - true[known] for true, made in sides if (known := np.isfinite(made - true)).sum() > 1]
        found[score] = 1.96 * float(np.sqrt(np.mean([row.var(ddof=1) for row in valid]) / count)) if valid else None
    return found


def agreement(pairs: Sequence[Pair], clusters: Clusters) -> dict[str, Any]:
    """How alike the drives of paired episodes are: |difference| of scores, same outcome, and until when they are together."""
    parted = [parted_after(*pair) for pair in pairs]
    lasted = np.array([0.1 * (min(len(true.path), len(made.path)) - 1) for true, made in pairs])
    together = np.array([end if time is None else time for time, end in zip(parted, lasted, strict=True)])
    return {
        "episodes": len(pairs),
        "apart": {
            score: vars(clusters.mean(abs(values([p[0] for p in pairs], score) - values([p[1] for p in pairs], score))))
            for score in SCORES
        },
        "same_outcome": vars(clusters.mean([float(true.outcome == made.outcome) for true, made in pairs])),
        "never_parted": vars(clusters.mean([float(time is None) for time in parted])),
        "seconds_together": vars(clusters.mean(together)),
    }


def order(planners: Mapping[str, Sequence[Pair]], score: str, seed: int) -> dict[str, Any]:
    """Spearman's and Kendall's correlation of the planners' order in a world with that in the truth, over the episodes that all
    of them have driven in both, and the |difference| of their means."""
    shared = set.intersection(*({pair[1].episode for pair in pairs} for pairs in planners.values()))
    by_episode = {name: {p[1].episode: p for p in pairs if p[1].episode in shared} for name, pairs in planners.items()}
    names = sorted(shared)
    if not names:
        return {"episodes": 0}
    scenes = [next(iter(by_episode.values()))[name][1].scene for name in names]
    clusters = Clusters(scenes, seed)
    true, made = (
        np.array([values([found[name][side] for name in names], score) for found in by_episode.values()]) for side in (0, 1)
    )
    signs = better(true, clusters), better(made, clusters)
    resampled = [np.stack([clusters.means(row) for row in side], 1) for side in (true, made)]
    plain = [np.array([[clusters.mean(row).mean for row in side]]) for side in (true, made)]
    gap = float(np.abs(plain[0] - plain[1]).mean())
    return {
        "episodes": len(names),
        "planners": len(planners),
        "decided_in_truth": int(np.abs(signs[0]).sum() // 2),
        "decided_in_world": int(np.abs(signs[1]).sum() // 2),
        "pairs": len(planners) * (len(planners) - 1) // 2,
        "spearman": spearman(*signs),
        "kendall": kendall(*signs),
        "spearman_of_means": vars(estimate(float(rank_correlations(*plain)[0]), rank_correlations(*resampled), len(names))),
        "difference_of_means": vars(estimate(gap, np.abs(resampled[0] - resampled[1]).mean(1), len(names))),
    }


def flat(drives: Sequence[Drive]) -> dict[str, np.ndarray]:
    """Every decision with a plan on the true picture, as columns."""
    columns: dict[str, list[Any]] = {name: [] for name in ("apart", "trust", "source", "from_log", "near", "scene", "planner")}
    for drive in drives:
        for index, apart in enumerate(drive.apart):
            if apart is not None:
                row = (apart, drive.trust[index], drive.source[index], drive.from_log[index], drive.near[index], drive.scene)
                for name, value in zip(columns, (*row, drive.planner), strict=True):
                    columns[name].append(value)
    return {name: np.array(column) for name, column in columns.items()}


def frames(drives: Sequence[Drive], seed: int) -> dict[str, Any]:
    """The open-loop view: metres between the plans for the same state on both worlds' pictures, by kind of frame."""
    column = flat(drives)
    if not len(column["apart"]):
        return {}
    edges = (0.0, *FROM_LOG, np.inf)
    quarter = np.quantile(column["trust"], (0.25, 0.5, 0.75))
    kinds: dict[str, np.ndarray] = {"all": np.ones(len(column["apart"]), bool)}
    kinds |= {f"source {name}": column["source"] == name for name in sorted(set(column["source"].tolist()))}
    for low, high in pairwise(edges):
        label = f"{low:g} m and more" if np.isinf(high) else f"{low:g} to {high:g} m"
        kinds[f"from the log: {label}"] = (column["from_log"] >= low) & (column["from_log"] < high)
    kinds |= {"something moves near": column["near"], "nothing moves near": ~column["near"]}
    for place in range(4):
        kinds[f"trust, quarter {place + 1}"] = np.searchsorted(quarter, column["trust"]) == place
    kinds |= {f"planner {name}": column["planner"] == name for name in dict.fromkeys(column["planner"].tolist())}
    return {name: _plans_apart(column, chosen, seed) for name, chosen in kinds.items() if chosen.any()}


def _plans_apart(column: Mapping[str, np.ndarray], chosen: np.ndarray, seed: int) -> dict[str, Any]:
    apart, clusters = column["apart"][chosen], Clusters(column["scene"][chosen].tolist(), seed, 500)
    return {
        "decisions": int(chosen.sum()),
        "metres": vars(clusters.mean(apart)),
        "median": float(np.median(apart)),
        "differs": vars(clusters.mean((apart > DIFFERS).astype(float))),
    }


def trusted(drives: Sequence[Drive], pairs: Sequence[Pair], seed: int) -> dict[str, Any]:
    """Whether trust foretells that a plan differs from the one on the true picture, and which floor is recommended; nothing where
    trust is always the same."""
    column = flat(drives)
    differs = column["apart"] > DIFFERS
    if not len(differs) or differs.all() or not differs.any() or np.ptp(column["trust"].astype(float)) == 0:
        return {}
    doubt = -column["trust"].astype(float)
    clusters = Clusters(column["scene"].tolist(), seed, 500)
    curve = []
    for part in np.array_split(np.argsort(column["trust"], kind="stable"), BINS):
        holds = Clusters(column["scene"][part].tolist(), seed, 500).mean((~differs[part]).astype(float))
        curve.append({"trust": float(column["trust"][part].mean()), "holds": vars(holds)})
    return {
        "decisions": len(differs),
        "differs": vars(clusters.mean(differs.astype(float))),
        "auroc": vars(clusters.statistic(lambda weight: auroc(doubt, differs, weight))),
        "auroc_of_made_frames": auroc(doubt[made := column["source"] != "log"], differs[made]),
        "auroc_of_planners": {
            name: auroc(doubt[mine := column["planner"] == name], differs[mine])
            for name in dict.fromkeys(column["planner"].tolist())
        },
        "reliability": curve,
        "floor": floor(column, doubt, differs, pairs, seed),
    }


def floor(
    column: Mapping[str, np.ndarray], doubt: np.ndarray, differs: np.ndarray, pairs: Sequence[Pair], seed: int
) -> dict[str, Any]:
    """A trust floor chosen on every second scene and judged on the others: what it finds, and how alike the drives are that stay
    above it."""
    names = sorted({*column["scene"].tolist(), *(pair[1].scene for pair in pairs)})
    chooses = np.isin(column["scene"], names[::2])
    if not (differs[chooses].any() and (~differs[chooses]).any()) or chooses.all():
        return {}
    value = -best_threshold(doubt[chooses], differs[chooses])
    below, rest = column["trust"] < value, ~chooses
    judged = [pair for pair in pairs if pair[1].scene in names[1::2]]
    kept = [pair for pair in judged if min(pair[1].trust, default=1.0) >= value]
    share: Callable[[np.ndarray], float] = lambda chosen: float(below[chosen].mean()) if chosen.any() else float("nan")  # noqa: E731
    return {
        "trust_floor": float(value),
        "decisions_below": share(rest),
        "differing_below": share(rest & differs),
        "alike_below": share(rest & ~differs),
        "episodes": len(judged),
        "episodes_above": len(kept),
        "all": ranked(judged, seed),
        "above": ranked(kept, seed),
    }


def ranked(pairs: Sequence[Pair], seed: int) -> dict[str, Any]:
    """Order and agreement of some paired episodes in PDMS; {} for none."""
    if not pairs:
        return {}
    planners = {name: [p for p in pairs if p[1].planner == name] for name in dict.fromkeys(p[1].planner for p in pairs)}
    together = agreement(pairs, Clusters([pair[1].scene for pair in pairs], seed))
    gaps = [abs(np.nanmean(values([p[1] for p in found], "PDMS")) - np.nanmean(values([p[0] for p in found], "PDMS")))
            for found in planners.values()]  # fmt: skip
    true, made = ([float(np.nanmean(values([p[side] for p in found], "PDMS"))) for found in planners.values()] for side in (0, 1))
    return {
        "apart": together["apart"]["PDMS"],
        "same_outcome": together["same_outcome"],
        "difference_of_means": float(np.mean(gaps)),
        "spearman_of_means": float(rank_correlations(np.array([true]), np.array([made]))[0]),
    }


def show(result: Mapping[str, Any]) -> None:
    """The main numbers on the terminal."""
    print(
        "episodes: " + ", ".join(f"{world} {count}" for world, count in result["episodes"].items()),
        f"; {result['scenes']} scenes",
    )
    for world, found in result["worlds"].items():
        if not found:
            continue
        ranks = found["order"]["PDMS"]
        print(f"\n{world}: {ranks['episodes']} episodes that all planners share")
        for name, row in found["planners"].items():
            cell = row["PDMS"]
            print(f"  {name:<20}{row['episodes']:>4} PDMS {Estimate(**cell['world'])} truth {cell['truth']['mean']:.3f}, "
                  f"|episodes| {row['apart']['PDMS']['mean']:.3f}, same outcome {row['same_outcome']['mean']:.2f}")  # fmt: skip
        if ranks["episodes"]:
            print(f"  Spearman {ranks['spearman']:.3f}, of means {ranks['spearman_of_means']['mean']:.3f}, "
                  f"Kendall {ranks['kendall']:.3f}, |means| {ranks['difference_of_means']['mean']:.3f}")  # fmt: skip
        if found["trust"]:
            print(f"  AUROC of trust {Estimate(**found['trust']['auroc'])}, floor {found['trust']['floor'].get('trust_floor')}")


if __name__ == "__main__":
    run(main, Options)
