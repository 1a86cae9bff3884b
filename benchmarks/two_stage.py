"""How far does a generated second stage change NAVSIM v2's two-stage score? The same frames and planners in several worlds.

For every planner the same frames are judged in each world; the first world is the truth. Reported per planner and world: the
score with its interval over scenes, of each stage alone, and over groups the mean difference and mean |difference| from the
truth's. Plans differ only by what the world shows, traffic and states are the same.

    python -m benchmarks.two_stage --out benchmarks/results/two_stage.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks.common import FinishedUnits, result_file, run
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.drive import EnvSettings
from dist4d_env.evaluation.planner_process import PlannerProcess
from dist4d_env.evaluation.statistics import Estimate, Resampler
from dist4d_env.evaluation.two_stage import Group, Judge, frames, judge_frame
from dist4d_env.json_output import plain
from dist4d_env.metrics.plans.two_stage import aggregate
from dist4d_env.planners.contract import PLAN_LIMIT, RESET_LIMIT
from dist4d_env.progress import Progress


@dataclass(frozen=True)
class Options:
    """Of the comparison."""

    planners: tuple[str, ...] = ("measuring", "end_to_end", "imagine")
    """Names as of ``evaluate``; those that look at no pictures agree by construction."""
    worlds: tuple[str, ...] = ("oracle", "dist4d", "splat")
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
    """JSON file for the figures; a stopped run goes on where it was."""

    def __post_init__(self) -> None:
        for name in ("planners", "worlds"):
            some = getattr(self, name)
            if not some or len(set(some)) < len(some):
                raise ConfigError(f"--{name}: name at least one, and each once")
        if self.episodes < 1:
            raise ConfigError(f"--episodes {self.episodes} must be at least 1")


def main(options: Options) -> dict[str, Any]:
    """Judges and prints; stores what there is after every frame that all planners were judged at in all worlds."""
    dataset = open_dataset(options.dataroot, scenes=options.scenes)
    names = tuple(dataset.scene_names(options.scenes))
    scenes = [dataset.load(name, require_map=False) for name in names]
    due = [(scene, time) for scene in scenes for time in frames(scene, options.episodes)]
    if not due:
        raise DataError(f"none of {', '.join(names):.100} is long enough for two stages")
    key = {"traffic": options.traffic, "data": str(dataset.dataroot), "version": dataset.version}
    finished = FinishedUnits(options.out, key)
    make = cache(partial(_environment, str(dataset.dataroot), dataset.version, names, options.traffic))
    drivers: dict[str, Any] = {name: PlannerProcess(name, PLAN_LIMIT, RESET_LIMIT) for name in options.planners}
    judged: list[str] = []
    with ExitStack() as stack:
        for driver in drivers.values():
            stack.callback(driver.close)
        made = {name: f"{name} {driver.made().fingerprint}" for name, driver in drivers.items()}
        progress = stack.enter_context(Progress("judging", "frame", len(due) * len(options.worlds) * len(options.planners)))
        for scene, time in due:
            for planner in options.planners:
                for world in options.worlds:
                    unit = f"{made[planner]} {world} {scene.name} {time}"
                    if unit not in finished.done:
                        judge = Judge(make(world), drivers[planner], plan_limit=PLAN_LIMIT, reset_limit=RESET_LIMIT)
                        finished.add(unit, plain(row_of(judge_frame(judge, scene, time))))
                    progress.update()
            judged.append(f"{scene.name} {time}")
            result = result_file("two_stage", options, results(finished.done, judged, made, options.worlds))
    finished.finish()
    show(result)
    return result


def _environment(dataroot: str, version: str, scenes: tuple[str, ...], traffic: str, world: str) -> Any:
    return EnvSettings(dataroot, version, scenes, world=world, traffic=traffic).make()


Row = Mapping[str, Any]
"""What is kept of a group."""


def row_of(group: Group) -> Row:
    """scene and time; the score of both stages together and of each alone, None where the planner failed; sources: what made the
    second stage's pictures."""
    found = None if group.stages is None else aggregate([group.stages])
    scores = {name: None if found is None else getattr(found, name)["score"] for name in ("both", "first", "second")}
    return {"scene": group.scene, "time": group.time, **scores, "sources": list(group.sources), "error": group.error}


def results(done: Mapping[str, Row], judged: Sequence[str], made: Mapping[str, str], worlds: Sequence[str]) -> dict[str, Any]:
    """Of the frames that all planners were judged at in all worlds. made: planner -> as its units call it."""
    planners = {
        planner: compared({world: [done[f"{unit} {world} {frame}"] for frame in judged] for world in worlds})
        for planner, unit in made.items()
    }
    return {"frames": list(judged), "planners": planners}


def compared(worlds: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, Any]]:
    """Per world the score, that of each stage, and what its groups' scores differ from those in the first world by."""
    truth = next(iter(worlds.values()))
    return {world: _beside(rows, truth) for world, rows in worlds.items()}


def _beside(rows: Sequence[Row], truth: Sequence[Row]) -> dict[str, Any]:
    resampler = Resampler([(row["scene"], row["time"]) for row in rows])
    found: dict[str, Any] = {name: asdict(resampler.mean([row[name] for row in rows])) for name in ("both", "first", "second")}
    for name in ("both", "second"):
        pairs = ((row[name], true[name]) for row, true in zip(rows, truth, strict=True))
        change = [None if a is None or b is None else a - b for a, b in pairs]
        found[f"{name}_difference"] = asdict(resampler.mean(change))
        found[f"{name}_distance"] = asdict(resampler.mean([None if c is None else abs(c) for c in change]))
    sources = [source for row in rows for source in row["sources"]]
    found["sources"] = {source: sources.count(source) for source in sorted(set(sources))}
    errors = [row["error"] for row in rows if row["error"] is not None]
    return found | {"failed": sum(row["both"] is None for row in rows), "groups": len(rows), "error": next(iter(errors), None)}


def show(result: Mapping[str, Any]) -> None:
    """The main numbers on the terminal."""
    for planner, worlds in result["planners"].items():
        for world, row in worlds.items():
            second, change = (Estimate(**row[name]) for name in ("second", "both_difference"))
            failed = f"; failed {row['failed']} x: {row['error']}" if row["failed"] else ""
            print(f"{planner:<18}{world:<8}{Estimate(**row['both'])}  second {second.mean:.3f}  from the truth {change}, "
                  f"|.| {row['both_distance']['mean']:.3f}{failed}")  # fmt: skip


if __name__ == "__main__":
    run(main, Options)
