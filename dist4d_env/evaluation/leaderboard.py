"""Planners side by side: means with intervals over all episodes, by family and by difficulty, and pairwise comparisons."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

from dist4d_env.evaluation.episode_log import PLANNER_ERROR
from dist4d_env.evaluation.failures import KINDS
from dist4d_env.evaluation.statistics import Comparison, Estimate, Resampler, compare
from dist4d_env.evaluation.summary import SCORES, EpisodeScore, nested_key
from dist4d_env.json_output import plain
from dist4d_env.progress import noun
from dist4d_env.scenes.scenario import DIFFICULTIES

LABELS: Mapping[str, str] = {
    **SCORES,
    "bench2drive_efficiency": "Bench2Drive efficiency",
    "bench2drive_comfort": "Bench2Drive comfortness",
    "nuscenes_open_loop_uniad": "nuScenes L2 (UniAD), m",
    "nuscenes_open_loop_stp3": "nuScenes L2 (ST-P3), m",
    "plan_agreement": "plan agreement",
}


def label_of(metric: str) -> str:
    """A metric's name in tables."""
    return LABELS.get(metric, metric.replace("_", " "))


@dataclass(frozen=True)
class Standing:
    """A planner's results. missing: episodes that others drove and it did not; outcomes, failures: how many episodes ended how,
    and how many had a failure of each kind; metrics: estimates over its episodes, composite scores with 0 for those in which the
    planner itself failed, the others without them; survivors: composite scores without them, where there are any; families,
    difficulties: as metrics, over the episodes of each family and difficulty."""

    planner: str
    episodes: int
    outcomes: Mapping[str, int]
    failures: Mapping[str, int]
    metrics: Mapping[str, Estimate]
    survivors: Mapping[str, Estimate]
    families: Mapping[str, Mapping[str, Estimate]]
    difficulties: Mapping[str, Mapping[str, Estimate]]
    missing: int = 0

    @property
    def errors(self) -> int:
        """Episodes in which the planner itself failed."""
        return self.outcomes.get(PLANNER_ERROR, 0)

    def invalid(self, metric: str) -> int:
        """Episodes without a valid value though the planner did not fail."""
        return self.metrics[metric].left_out - (0 if metric in SCORES else self.errors)


@dataclass(frozen=True)
class Leaderboard:
    """standings: best first by ``ranked_by``, of equals who failed less often, after them who did not drive every episode;
    scores: the composite scores that there are; comparisons: per score, every pair of planners in the order of the standings,
    failures of a planner counted as 0; causes: of each planner that failed, where it did first and why."""

    standings: tuple[Standing, ...]
    ranked_by: str
    scores: tuple[str, ...]
    comparisons: Mapping[str, tuple[Comparison, ...]]
    causes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, episodes: Sequence[EpisodeScore], seed: int = 0) -> Leaderboard:
        """Standings and comparisons of scored episodes; seed: of the bootstrap."""
        metrics = list(dict.fromkeys(name for episode in episodes for name in episode.metrics))
        scores = tuple(name for name in SCORES if name in metrics) or tuple(metrics[:1])
        groups: dict[str, list[EpisodeScore]] = {}
        for episode in episodes:
            groups.setdefault(episode.planner, []).append(episode)
        every = {nested_key(episode) for episode in episodes}
        missing = {planner: len(every - {nested_key(episode) for episode in mine}) for planner, mine in groups.items()}
        standings = [replace(_standing(*group, metrics, seed), missing=missing[group[0]]) for group in groups.items()]
        standings.sort(key=lambda row: (row.missing > 0, -_or_least(row.metrics[scores[0]].mean), row.errors))
        order = [row.planner for row in standings]
        comparisons = {name: _compare_all({planner: groups[planner] for planner in order}, name, seed) for name in scores}
        failed = {e.planner: f"{e.scenario or e.scene}, seed {e.seed}: {e.error}" for e in reversed(episodes) if e.failed}
        return cls(tuple(standings), scores[0], scores, comparisons, failed)

    def as_json(self) -> Any:
        """Plain values; nan is null."""
        comparisons = {name: [asdict(c) | {"clear": c.clear} for c in found] for name, found in self.comparisons.items()}
        standings = [asdict(row) for row in self.standings]
        return plain({"ranked_by": self.ranked_by, "standings": standings, "comparisons": comparisons})

    def told_causes(self) -> str:
        """A line for every planner that failed: in how many episodes, and why in the first; empty where none did."""
        return "".join(
            f"\n{row.planner} failed in {row.errors} of {row.episodes} {noun(row.episodes, 'episode')}, first in "
            f"{self.causes[row.planner]}"
            for row in self.standings
            if row.errors
        )

    def markdown(self) -> str:
        """The leaderboard as a Markdown table: means with 95 % intervals, and where the planner failed the survivors' mean."""
        also = ["plan_agreement"] if any("plan_agreement" in row.metrics for row in self.standings) else []
        names = [escaped(label_of(name)) for name in (*self.scores, *also)]
        head = ["planner", *names, "collisions", "off road", "planner failed", "n"]
        lines = [head, ["---", *["---:"] * (len(head) - 1)]]
        for row in self.standings:
            fewer = f" ({row.missing} fewer than others, not ranked)" if row.missing else ""
            counts = [row.failures.get(kind, 0) for kind in ("collision", "off_road")] + [row.errors, f"{row.episodes}{fewer}"]
            others = [interval(row.metrics[name]) if name in row.metrics else "n/a" for name in also]
            lines.append([escaped(row.planner), *(marked(row, name) for name in self.scores), *others, *map(str, counts)])
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        note = "\n\n(0.000*): mean over the episodes in which the planner did not fail; the ranking counts the others as 0."
        return table + note * ("*)" in table)


def escaped(text: str) -> str:
    """A text on one line that Markdown shows as it is; underscores within words mean nothing there."""
    return re.sub(r"([\\|`*\[\]<>&~$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))


def interval(estimate: Estimate, digits: int = 3) -> str:
    """``0.912 [0.874, 0.941]``, or n/a."""
    if not estimate.count:
        return "n/a"
    return f"{estimate.mean:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def marked(row: Standing, metric: str) -> str:
    """A score's ``interval``, and beside it, with an asterisk, its mean over the episodes that the planner survived."""
    survivors = row.survivors.get(metric)
    return interval(row.metrics[metric]) + (f" ({survivors.mean:.3f}*)" if survivors and survivors.count else "")


def _standing(planner: str, episodes: Sequence[EpisodeScore], metrics: Sequence[str], seed: int) -> Standing:
    failed = Counter(kind for episode in episodes for kind in {failure.kind for failure in episode.failures})
    ranks = {name: rank for rank, name in enumerate(DIFFICULTIES)}
    return Standing(
        planner,
        len(episodes),
        dict(Counter(episode.outcome for episode in episodes)),
        {kind: failed[kind] for kind in KINDS if failed[kind]},
        _estimates(episodes, metrics, seed),
        _estimates([e for e in episodes if not e.failed], tuple(SCORES), seed) if any(e.failed for e in episodes) else {},
        _by(episodes, metrics, seed, lambda episode: episode.family, str),
        _by(episodes, metrics, seed, lambda episode: episode.difficulty, lambda name: (ranks.get(name, len(ranks)), name)),
    )


def _by(
    episodes: Sequence[EpisodeScore], metrics: Sequence[str], seed: int,
    label: Callable[[EpisodeScore], str], order: Callable[[str], Any],
) -> dict[str, dict[str, Estimate]]:  # fmt: skip
    names = sorted({label(episode) for episode in episodes} - {""}, key=order)
    return {name: _estimates([e for e in episodes if label(e) == name], metrics, seed) for name in names}


def _estimates(episodes: Sequence[EpisodeScore], metrics: Sequence[str], seed: int) -> dict[str, Estimate]:
    """Each metric over the episodes that have it (CLS-R exists with reacting traffic only)."""
    resamplers: dict[tuple[int, ...], Resampler] = {}
    found = {}
    for name in metrics:
        having = tuple(i for i, e in enumerate(episodes) if name in e.metrics)
        if having not in resamplers:
            resamplers[having] = Resampler([nested_key(episodes[i]) for i in having], seed)
        found[name] = resamplers[having].mean([episodes[i].ranked(name) for i in having])
    return found


def _compare_all(groups: Mapping[str, Sequence[EpisodeScore]], metric: str, seed: int) -> tuple[Comparison, ...]:
    values = {planner: {nested_key(e): e.ranked(metric) for e in episodes} for planner, episodes in groups.items()}
    return tuple(compare((a, values[a]), (b, values[b]), seed, resamples=2000) for a, b in combinations(groups, 2))


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value
