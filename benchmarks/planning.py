"""Planners in closed loop: every (planner, scenario, seed) of a suite one episode, in any world, over processes.

A run that was stopped or killed goes on where it was when it is started again with the same --out.
See docs/planning-benchmark.md.

    python -m benchmarks.planning --planner idm pdm_closed --suite town_val --seeds 3 --out runs/town
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.common import header, run, write_json
from dist4d_env.evaluation.campaign import Campaign
from dist4d_env.evaluation.campaign import run as drive
from dist4d_env.evaluation.executors import executor
from dist4d_env.evaluation.leaderboard import Leaderboard
from dist4d_env.evaluation.results import REPLAYS, write_results
from dist4d_env.planners.contract import PLAN_LIMIT, RESET_LIMIT
from dist4d_env.scenes.suites import read_suite


@dataclass(frozen=True)
class Options:
    """Planners in closed loop through a suite of scenarios."""

    planner: tuple[str, ...]
    """Built-in names, folders of learned policies, or your own as module:Class."""
    suite: str
    """Suite of scenarios: town_val, town_test, safety_critical, nuscenes, or a YAML file."""
    out: Path
    """Folder of the run: episodes, results.json, leaderboard.md, report.html."""
    world: str = "none"
    """World that makes the images; none for planners that use none."""
    workers: int = 1
    """Processes, one thread each; 0 drives in this one, planners included."""
    ray: bool = False
    """The workers are those of Ray, in the cluster of $RAY_ADDRESS or one started here."""
    seeds: int = 1
    """Seeds of every scenario; those beyond the first move the ego's start a little."""
    only: tuple[str, ...] = ()
    """Scenario names, families or difficulties (with * and ?) to drive; all if none is given."""
    dataroot: Path | None = None
    """Data set in place of the suite's: nuScenes, or another town."""
    version: str | None = None
    """Its version folder."""
    dataset: str | None = None
    """Its reader: a registered name, or your own as module:Class."""
    weights: str = "tiny"
    """Of the world dist4d: a shipped preset, a folder, or splat."""
    size: str | None = None
    """Height x width of the images, such as 224x400; else the world's own."""
    memory: Literal["log", "history"] = "log"
    """Memory of dist4d and replay."""
    traffic: str = "replay"
    """Traffic of scenarios that name none: as logged (and edited), or reacting."""
    jitter: bool = True
    """Whether seeds beyond the first move the ego's start."""
    plan_limit: float = PLAN_LIMIT
    """Seconds of the clock after which a plan has timed out, which counts as the planner's failure."""
    reset_limit: float = RESET_LIMIT
    """Seconds that making a planner, and its reset, may take."""
    again: bool = False
    """Drive again the episodes in --out that other code, or a planner of other files, has driven."""
    form: Literal["corrected", "faithful"] = "corrected"
    """Of scores that others defined: as meant, or as their original code has them, known defects included."""
    replays: int = REPLAYS
    """Episodes that the report can show as they were driven."""
    store: Path | None = None
    """Also write what tables need as a result file (JSON), without the single episodes."""


def main(options: Options) -> dict[str, Any]:
    limits = ("plan_limit", "reset_limit")
    names = ("seeds", "only", "world", "weights", "size", "memory", "traffic", "jitter", "version", "dataset", *limits)
    settings: dict[str, Any] = {name: getattr(options, name) for name in names}
    settings |= {"dataroot": None if options.dataroot is None else str(options.dataroot), "apart": options.workers > 0}
    suite = read_suite(options.suite)
    campaign = Campaign(options.planner, suite, **settings)
    execute = executor(options.workers, options.ray)
    drive(campaign, options.out, execute, options.again)
    board = write_results(options.out, execute=execute, replays=options.replays, form=options.form, afresh=False)
    result = header("planning", options) | {"suite": suite.name, "scenarios": len(suite.scenarios)} | digest(board)
    if options.store is not None:
        write_json(options.store, result)
    print(board.markdown() + board.told_causes())
    print(f"report: {options.out / 'report.html'}")
    return result


def digest(board: Leaderboard) -> dict[str, Any]:
    """Contents of the tables: every metric of every planner, the ranking score by family and difficulty, and its comparisons."""
    full = board.as_json()
    for row in full["standings"]:
        for groups in ("families", "difficulties"):
            row[groups] = {name: {board.ranked_by: metrics[board.ranked_by]} for name, metrics in row[groups].items()}
    return full | {"scores": list(board.scores), "comparisons": {board.ranked_by: full["comparisons"][board.ranked_by]}}


if __name__ == "__main__":
    try:
        run(main, Options)
    except KeyboardInterrupt:
        print("\nplanning: stopped from the keyboard; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
