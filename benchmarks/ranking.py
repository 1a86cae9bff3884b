"""Sensitivity of scores: the recorded expert with errors of growing strength, and the order that each score puts them in.

For every kind of error (``planners.experts``) the same episodes are driven at every strength, the faultless record included: each
val scene from several starts, to the end whatever happens. Reported per kind and score: the mean at each strength and Spearman's
rank correlation between strength and score, turned so that 1 means that the score falls with every step. ``planners`` drives the
other planners through the same episodes, as a scale.

    python -m benchmarks.ranking --out benchmarks/results/ranking.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.common import FinishedUnits, result_file, run
from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.evaluation.statistics import bootstrap_mean
from dist4d_env.metrics.driving.composite import pdms_v1
from dist4d_env.metrics.driving.epdms import epdms_v2
from dist4d_env.metrics.driving.recording import log_trace
from dist4d_env.metrics.driving.trace import EpisodeTrace, MetricResult, Plans
from dist4d_env.metrics.foreign.nuplan import nuplan_cls
from dist4d_env.planners.contract import Planner
from dist4d_env.planners.experts import ErringExpert
from dist4d_env.progress import each
from dist4d_env.registry import EXPERT_ERRORS

SCORES: Mapping[str, Callable[[EpisodeTrace, Plans, EpisodeTrace], MetricResult]] = {
    "PDMS": lambda trace, plans, human: pdms_v1(trace),
    "EPDMS": epdms_v2,
    "CLS": lambda trace, plans, human: nuplan_cls(trace, human, form="corrected"),
}
"""The scores of (episode, its plans, the recorded ego in the same time), all in the corrected form."""
BOUND = 0.9
"""Spearman's correlation that a score should reach for every kind of error."""


@dataclass(frozen=True)
class Options:
    """Drives the recorded expert with errors through logged scenes and asks whether scores fall as errors grow."""

    dataroot: Path | None = None
    """A data set; the built-in town where none is given."""
    scenes: int = 8
    """How many val scenes."""
    starts: tuple[float, ...] = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)
    """Seconds into each scene at which episodes begin."""
    horizon: float = 10.0
    """Seconds of an episode."""
    planners: tuple[str, ...] = ("constant_velocity", "lane_keeping", "idm", "pdm_closed")
    """Other planners to place on the same scale."""
    draws: int = 3
    """How many seeds every episode with noise is driven with."""
    quick: bool = False
    """Two scenes, one start, the strongest errors only, to see that it runs."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""

    def __post_init__(self) -> None:
        if self.scenes < 1 or not self.starts or self.horizon < 2 or self.draws < 1:
            raise ConfigError("--scenes, --starts, --horizon and --draws need at least one scene, one start, 2 s and one draw")


def main(options: Options) -> dict[str, Any]:
    dataset = open_dataset(None if options.dataroot is None else str(options.dataroot))
    names = dataset.scene_names("val")[: 2 if options.quick else options.scenes]
    starts = options.starts[:1] if options.quick else options.starts
    strengths = {kind: (0.0, *(values[-2:] if options.quick else values)) for kind, values in EXPERT_ERRORS.items()}
    graded = [(kind, value) for kind in strengths for value in strengths[kind]]
    planners: dict[str, Planner] = {f"{kind}_{value:g}": ErringExpert(kind, value) for kind, value in graded}
    planners |= {name: make_planner(name) for name in (options.planners[:1] if options.quick else options.planners)}
    episodes = [(scene, start) for scene in names for start in starts]
    key = {"town": dataset.dataroot, "starts": starts, "horizon": options.horizon, "scores": list(SCORES)}
    finished = FinishedUnits(options.out, key)
    scored = drive(dataset, planners, episodes, options, finished)
    table = {
        planner: {score: vars(bootstrap_mean([values[score] for values in done])) for score in SCORES}
        for planner, done in scored.items()
    }
    kinds = {kind: ranking(table, kind, values) for kind, values in strengths.items()}
    lowest = min(result["spearman"][score] for result in kinds.values() for score in SCORES)
    content = {
        "scenes": names,
        "episodes": len(episodes),
        "strengths": strengths,
        "scores": table,
        "kinds": kinds,
        "lowest": lowest,
        "bound": BOUND,
        "holds": bool(lowest >= BOUND),
    }
    result = result_file("ranking", options, content, finished)
    show(result, options)
    return result


def drive(
    dataset: Dataset,
    planners: Mapping[str, Planner],
    episodes: Sequence[tuple[str, float]],
    options: Options,
    finished: FinishedUnits,
) -> dict[str, list[dict[str, float | None]]]:
    """Planner -> the scores of each of its episodes, None where one is not valid; those with noise are driven several times."""
    env = DiST4DDrivingEnv(
        dataroot=dataset.dataroot, version=dataset.version, scenes=tuple(scene for scene, _ in episodes), world="none",
        action="trajectory", observation=("ego", "route", "agents"), horizon=options.horizon, termination=(),
    )  # fmt: skip
    draws = {name: options.draws if name.startswith("noise_") and not options.quick else 1 for name in planners}
    units = [(name, seed, *episode) for name in planners for seed in range(draws[name]) for episode in episodes]
    scored: dict[str, list[dict[str, float | None]]] = {name: [] for name in planners}
    for name, seed, scene, start in each(units, "driving", "episode", lambda unit: unit[0]):
        key = f"{name}/{seed}/{scene}/{start:g}"
        if key not in finished.done:
            log = run_episode(env, planners[name], seed, RunOptions(scene, start), name=name)
            human = log_trace(dataset.load(scene), start, float(log.trace.time[-1]), log.trace.vehicle)
            results = {score: measure(log.trace, log.plans, human) for score, measure in SCORES.items()}
            finished.add(key, {score: result.value if result.valid else None for score, result in results.items()})
        scored[name].append(finished.done[key])
    env.close()
    return scored


def ranking(table: dict[str, Any], kind: str, strengths: tuple[float, ...]) -> dict[str, Any]:
    """The means by strength and, per score, Spearman's correlation of strength and lost score."""
    means = {score: [table[f"{kind}_{value:g}"][score]["mean"] for value in strengths] for score in SCORES}
    return {"means": means, "spearman": {score: fall(strengths, values) for score, values in means.items()}}


def fall(strengths: tuple[float, ...], means: list[float]) -> float:
    """Spearman's rank correlation of strengths and lost score; 0 where the score sees no difference at all."""
    rounded = np.round(means, 9)  # equal but for rounding is equal
    return 0.0 if np.ptp(rounded) == 0 else float(spearmanr(strengths, -rounded).statistic)


def show(result: dict[str, Any], options: Options) -> None:
    for kind, ranked in result["kinds"].items():
        print(f"\n{kind:<20}" + "".join(f"{value:>8g}" for value in result["strengths"][kind]) + "  Spearman")
        for score, means in ranked["means"].items():
            print(f"  {score:<18}" + "".join(f"{mean:>8.3f}" for mean in means) + f"{ranked['spearman'][score]:>10.3f}")
    for planner in (name for name in result["scores"] if name in options.planners):
        row = result["scores"][planner]
        print(f"{planner:<20}" + "  ".join(f"{score} {row[score]['mean']:.3f}" for score in SCORES))
    print(f"lowest correlation {result['lowest']:.3f}, bound {BOUND}: {'holds' if result['holds'] else 'does not hold'}")


if __name__ == "__main__":
    run(main, Options)
