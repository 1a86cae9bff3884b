"""How far does a generated second stage change NAVSIM v2's two-stage score? The same frames and planners in several worlds.

For every planner the same frames are judged in each world; the first world is the truth. Reported per planner and world: the
score with its interval over scenes, of the second stage alone, and over groups the mean difference and mean |difference| from the
truth's. Plans differ only by what the world shows, traffic and states are the same.

    python -m benchmarks.two_stage --out benchmarks/results/two_stage.json
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import result_file, run
from dist4d_env.data.open import open_dataset
from dist4d_env.evaluation.drive import EnvSettings
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.statistics import Resampler
from dist4d_env.evaluation.two_stage import Group, Judge, TwoStageResult, frames, judge_frame
from dist4d_env.json_output import plain
from dist4d_env.metrics.plans.two_stage import aggregate
from dist4d_env.progress import Progress


@dataclass(frozen=True)
class Options:
    """Of the comparison."""

    planners: tuple[str, ...] = ("imagine",)
    """Names as of ``evaluate``; those that look at no pictures agree by construction."""
    worlds: tuple[str, ...] = ("oracle", "dist4d", "splat", "replay")
    """The truth first."""
    scenes: tuple[str, ...] = ("val",)
    """Splits or names."""
    episodes: int = 1
    """Frames of each scene."""
    traffic: str = "replay"
    """Of the scoring."""
    dataroot: Path | None = None
    """The built-in town if none is given."""
    out: Path | None = None
    """JSON file for the figures."""


def main(options: Options) -> None:
    """Judges and prints."""
    dataset = open_dataset(options.dataroot, scenes=options.scenes)
    names = tuple(dataset.scene_names(options.scenes))
    scenes = [dataset.load(name, require_map=False) for name in names]
    due = [(scene, time) for scene in scenes for time in frames(scene, options.episodes)]
    found: dict[str, Any] = {}
    with Progress("judging", "frame", len(due) * len(options.worlds) * len(options.planners)) as progress:
        for planner in options.planners:
            groups: dict[str, list[Group]] = {}
            for world in options.worlds:
                env = EnvSettings(str(dataset.dataroot), dataset.version, names, world=world, traffic=options.traffic).make()
                judge = Judge(env, make_planner(planner))
                for scene, time in due:
                    groups.setdefault(world, []).append(judge_frame(judge, scene, time))
                    progress.update()
                env.close()
            found[planner] = compared(groups, options.worlds[0])
            for world, row in found[planner].items():
                print(
                    f"{planner:<20}{world:<8} {row['score']['mean']:.3f}  second {row['second']:.3f}  {_apart(row['difference'])}"
                )
    result_file("two_stage", options, {"planners": plain(found)})


def compared(groups: dict[str, list[Group]], truth: str) -> dict[str, dict[str, Any]]:
    """Per world the score, the second stage's, and what its groups' scores differ from the truth's by."""
    own = {world: [_score(group) for group in some] for world, some in groups.items()}
    rows = {}
    for world, some in groups.items():
        result = TwoStageResult.of(some)
        pairs = zip(own[world], own[truth], strict=True)
        change = [None if a is None or b is None else a - b for a, b in pairs]
        resampler = Resampler([(group.scene, group.time) for group in some])
        rows[world] = {
            "score": asdict(result.score),
            "second": float("nan") if result.columns is None else result.columns.second["score"],
            "difference": asdict(resampler.mean(change)),
            "distance": asdict(resampler.mean([None if c is None else abs(c) for c in change])),
            "failed": sum(group.stages is None for group in some),
            "groups": len(some),
        }
    return rows


def _score(group: Group) -> float | None:
    return None if group.stages is None else aggregate([group.stages]).both["score"]


def _apart(difference: dict[str, float]) -> str:
    return (
        "" if np.isnan(difference["mean"]) else f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
    )


if __name__ == "__main__":
    run(main, Options)
