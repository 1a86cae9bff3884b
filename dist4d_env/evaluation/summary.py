"""Scores of episodes and their summary: outcomes counted, metrics averaged over the episodes in which they are valid."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dist4d_env.evaluation.episode_log import PLANNER_ERROR, EpisodeLog
from dist4d_env.evaluation.failures import Failure, find_failures
from dist4d_env.evaluation.scores import results_of
from dist4d_env.evaluation.statistics import Estimate, bootstrap_mean
from dist4d_env.metrics.driving.trace import MetricResult
from dist4d_env.scenes.files import write_text


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


def score(log: EpisodeLog, results: Mapping[str, MetricResult] | None = None) -> EpisodeScore:
    """Scores an episode. The metrics of one in which the planner failed are None: they enter no mean.

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
    """A stored episode as results and reports have it. name: of its files; dataroot, version: of its data set; replay: its
    drawing, packed (``report.replays``)."""

    name: str
    score: EpisodeScore
    dataroot: str
    version: str
    replay: str


@dataclass(frozen=True)
class Summary:
    """episodes: in the order given; outcomes: how many ended how; metrics: estimates over the episodes where each is valid."""

    episodes: tuple[EpisodeScore, ...]
    outcomes: Mapping[str, int]
    metrics: Mapping[str, Estimate]

    @classmethod
    def of(cls, episodes: Sequence[EpisodeScore], seed: int = 0) -> Summary:
        """Averages over episodes; seed: of the bootstrap."""
        names = dict.fromkeys(name for episode in episodes for name in episode.metrics)
        columns = {name: [episode.metrics.get(name) for episode in episodes] for name in names}
        columns["total_reward"] = [None if e.outcome == PLANNER_ERROR else e.total_reward for e in episodes]
        estimates = {name: bootstrap_mean(values, seed) for name, values in columns.items()}
        return cls(tuple(episodes), dict(Counter(episode.outcome for episode in episodes)), estimates)

    def table(self) -> str:
        """The summary as text: a line per metric with its 95 % interval."""
        ended = ", ".join(f"{outcome} {count}" for outcome, count in sorted(self.outcomes.items()))
        lines = [f"{len(self.episodes)} episodes; ended by: {ended}", f"{'metric':<30}{'mean':>9}  {'95 % interval':<20}{'n':>4}"]
        for name, estimate in self.metrics.items():
            label = name.replace("_", " ")
            if not estimate.count:
                lines.append(f"{label:<30}{'n/a':>9}")
                continue
            interval = f"[{estimate.low:.3f}, {estimate.high:.3f}]" if estimate.count > 1 else "one episode"
            lines.append(f"{label:<30}{estimate.mean:>9.3f}  {interval:<20}{estimate.count:>4}")
        failed = self.outcomes.get(PLANNER_ERROR, 0)
        if failed:
            lines.append(f"the planner failed in {failed} of {len(self.episodes)} episodes; these are in no mean:")
            lines += [f"  {e.scene}, seed {e.seed}: {e.error}" for e in self.episodes if e.outcome == PLANNER_ERROR]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Plain values; nan is null."""
        metrics = {name: asdict(estimate) for name, estimate in self.metrics.items()}
        return plain({"outcomes": self.outcomes, "metrics": metrics, "episodes": [asdict(e) for e in self.episodes]})


def plain(value: Any) -> Any:
    """A value as JSON has it: mappings as dicts, sequences as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_summary(path: Path, summary: Summary, settings: Mapping[str, Any]) -> None:
    """Writes a summary and the settings it was made with as JSON, whole or not at all."""
    write_text(path, json.dumps({"settings": dict(settings), **summary.as_json()}, indent=1))
