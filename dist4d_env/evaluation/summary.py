"""Scores of episodes and their summary: outcomes counted, metrics averaged over the episodes in which they are valid."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dist4d_env.evaluation.episode_log import PLANNER_ERROR, EpisodeLog
from dist4d_env.evaluation.failures import Failure, find_failures
from dist4d_env.evaluation.scores import results_of
from dist4d_env.evaluation.statistics import Estimate, Resampler
from dist4d_env.json_output import plain
from dist4d_env.metrics.driving.trace import MetricResult
from dist4d_env.progress import noun
from dist4d_env.scenes.files import write_text

SCORES: Mapping[str, str] = {
    "pdms_v1": "PDMS",
    "epdms_v2": "EPDMS",
    "nuplan_cls_nr": "CLS-NR",
    "nuplan_cls_r": "CLS-R",
    "pdms_of_plans": "PDMS of plans",
    "epdms_of_plans": "EPDMS of plans",
    "ads": "ADS",
    "hd_score": "HD-score",
    "alpasim_scene_score": "AlpaSim",
    "neuroncap_score": "NeuroNCAP",
    "bench2drive_driving_score": "Bench2Drive driving score",
    "bench2drive_success": "Bench2Drive success",
}
"""Composite scores, all from 0 upwards, in the order in which tables show those that there are; the first one ranks."""


@dataclass(frozen=True)
class EpisodeScore:
    """One episode's outcome and its metrics; None where a metric is not valid, all None where the planner failed.

    scenario, family, difficulty: empty where the episode was not part of a suite.
    """

    scene: str
    start: float
    seed: int
    planner: str
    outcome: str
    error: str | None
    seconds: float
    total_reward: float
    metrics: Mapping[str, float | None]
    scenario: str = ""
    family: str = ""
    difficulty: str = ""
    failures: tuple[Failure, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the planner failed."""
        return self.outcome == PLANNER_ERROR

    def ranked(self, metric: str) -> float | None:
        """A metric as rankings count it: a composite score of an episode in which the planner failed is 0."""
        return 0.0 if self.failed and metric in SCORES and metric in self.metrics else self.metrics.get(metric)


def nested_key(episode: EpisodeScore) -> tuple[str, str, int]:
    """Scene, scenario, seed: what the bootstrap resamples, outermost first."""
    return episode.scene, episode.scenario or f"{episode.start:g}", episode.seed


def score(log: EpisodeLog, results: Mapping[str, MetricResult] | None = None) -> EpisodeScore:
    """Scores an episode. The metrics of one in which the planner failed are None; rankings count its composite scores as 0.

    results: those of ``results_of``, where they are known already.
    """
    failed = log.outcome == PLANNER_ERROR
    results = results_of(log) if results is None else results
    metrics = {name: float(r.value) if r.valid and not failed else None for name, r in results.items()}
    time = log.trace.time
    return EpisodeScore(
        scene=log.scene,
        start=float(time[0]),
        seed=log.seed,
        planner=log.planner,
        outcome=log.outcome,
        error=log.error,
        seconds=float(time[-1] - time[0]),
        total_reward=log.total_reward,
        metrics=metrics,
        scenario=str(log.scenario.get("name", "")),
        family=str(log.scenario.get("family", "")),
        difficulty=str(log.scenario.get("difficulty", "")),
        failures=find_failures(log, results),
    )


@dataclass(frozen=True)
class ScoredEpisode:
    """A stored episode as results and reports have it. name: of its files; dataroot, version, dataset: its data set and reader;
    replay: its drawing, packed (``report.replays``)."""

    name: str
    score: EpisodeScore
    dataroot: str
    version: str
    dataset: str | None
    replay: str


@dataclass(frozen=True)
class Summary:
    """episodes: in the order given; outcomes: how many ended how; metrics: estimates over the episodes where each is valid;
    ranked: of composite scores where the planner failed in some, with 0 for those."""

    episodes: tuple[EpisodeScore, ...]
    outcomes: Mapping[str, int]
    metrics: Mapping[str, Estimate]
    ranked: Mapping[str, Estimate]

    @classmethod
    def of(cls, episodes: Sequence[EpisodeScore], seed: int = 0) -> Summary:
        """Averages over episodes; seed: of the bootstrap (``Resampler``, over scenes and what lies within)."""
        names = dict.fromkeys(name for episode in episodes for name in episode.metrics)
        columns = {name: [episode.metrics.get(name) for episode in episodes] for name in names}
        columns["total_reward"] = [None if episode.failed else episode.total_reward for episode in episodes]
        resampler = Resampler([nested_key(episode) for episode in episodes], seed)
        estimates = {name: resampler.mean(values) for name, values in columns.items()}
        scores = [name for name in SCORES if name in names] if any(episode.failed for episode in episodes) else []
        ranked = {name: resampler.mean([episode.ranked(name) for episode in episodes]) for name in scores}
        return cls(tuple(episodes), dict(Counter(episode.outcome for episode in episodes)), estimates, ranked)

    def table(self) -> str:
        """The summary as text: a line per metric with its 95 % interval."""
        ended = ", ".join(f"{outcome} {count}" for outcome, count in sorted(self.outcomes.items()))
        count = f"{len(self.episodes)} {noun(len(self.episodes), 'episode')}"
        lines = [f"{count}; ended by: {ended}", f"{'metric':<30}{'mean':>9}  {'95 % interval':<20}{'n':>4}"]
        for name, estimate in self.metrics.items():
            label = name.replace("_", " ")
            if not estimate.count:
                lines.append(f"{label:<30}{'n/a':>9}")
                continue
            interval = f"[{estimate.low:.3f}, {estimate.high:.3f}]" if estimate.count > 1 else "one episode"
            lines.append(f"{label:<30}{estimate.mean:>9.3f}  {interval:<20}{estimate.count:>4}")
        failed = [episode for episode in self.episodes if episode.failed]
        if failed:
            lines.append(f"the planner failed in {len(failed)} of {len(self.episodes)} episodes; these are in no mean above:")
            lines += [f"  {episode.scene}, seed {episode.seed}: {episode.error}" for episode in failed]
            means = ", ".join(f"{SCORES[name]} {estimate.mean:.3f}" for name, estimate in self.ranked.items() if estimate.count)
            lines.append(f"counted as 0, as rankings do: {means}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Plain values; nan is null."""
        metrics, ranked = ({n: asdict(e) for n, e in each.items()} for each in (self.metrics, self.ranked))
        episodes = [asdict(episode) for episode in self.episodes]
        return plain({"outcomes": self.outcomes, "metrics": metrics, "ranked": ranked, "episodes": episodes})


def write_summary(path: Path, summary: Summary, settings: Mapping[str, Any]) -> None:
    """Writes a summary and the settings it was made with as JSON, whole or not at all."""
    write_text(path, json.dumps({"settings": dict(settings), **summary.as_json()}, indent=1))
