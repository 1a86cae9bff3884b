"""Finds, for a planner, the mildest edit that makes it fail, and writes it down.

    python -m scenarios.search --planner idm --family cut_in --out DIR
    python -m scenarios.search --planner module:Class --family jaywalk stalled --scenes town-val-0003 --out DIR

In every scene and from every start the cross-entropy method looks for the edit of least severity (the braking, in m/s^2, that
would have avoided it on the recorded path) after which the planner collides at its own fault or leaves the road, without
pictures. DIR gets one scenario YAML per failure, which replays it, and ``search.json``. A run that was stopped goes on. Edits on
which the planner itself fails (it raises, or returns no plan) are counted apart, the mildest as a YAML of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DiST4DError
from dist4d_env.evaluation.drive import file_name
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.metrics.driving.collision import find_collisions
from dist4d_env.progress import Progress
from dist4d_env.scenes.files import write_text
from dist4d_env.scenes.scenario import write_scenario
from scenarios.adversary import FAILED, Budget, Problem, Trial, difficulty_of, search
from scenarios.playing import make_env
from scenarios.spaces import SPACES


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit code is 1 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planner", required=True, help="a built-in name, the folder of a learned policy, or module:Class")
    parser.add_argument("--family", nargs="+", choices=tuple(SPACES), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataroot", default=None, help="default: $NUSCENES or the built-in town")
    parser.add_argument("--version", default=None)
    parser.add_argument("--scenes", nargs="+", default=["val"], help="a split, or names")
    parser.add_argument("--starts", type=float, nargs="+", default=[2.0], help="seconds since the scene's first keyframe")
    parser.add_argument("--horizon", type=float, default=8.0)
    parser.add_argument("--traffic", default="replay", help="a name of dist4d_env.registry.TRAFFIC, or module:Class")
    parser.add_argument("--population", type=int, default=Budget.population)
    parser.add_argument("--generations", type=int, default=Budget.generations)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        report = run(given)
    except DiST4DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(summary(report))
    return 0


def run(given: argparse.Namespace) -> dict[str, Any]:
    """All searches of a command line but those done before; the content of ``search.json``. Raises DiST4DError."""
    budget = Budget(given.population, given.generations)
    dataset = open_dataset(given.dataroot, given.version, given.scenes)
    names = dataset.scene_names(given.scenes)
    planner = make_planner(given.planner)
    if planner.requires.cameras or planner.requires.imagination:
        raise ConfigError(f"planner {given.planner!r} needs pictures, and the search drives without any: choose another planner")
    settings = {
        "planner": given.planner, "dataroot": dataset.dataroot, "version": dataset.version, "seed": given.seed,
        "horizon": given.horizon, "traffic": given.traffic, "budget": asdict(budget),
    }  # fmt: skip
    path = given.out / "search.json"
    report = _resumed(path, settings)
    env = make_env(dataset.dataroot, dataset.version, names, traffic=given.traffic, termination=FAILED)
    tasks = [(family, name, start) for family in given.family for name in names for start in given.starts]
    with Progress("searching", "episode", len(tasks) * budget.population * budget.generations) as bar:
        for number, (family, name, start) in enumerate(tasks):
            key = f"{family} {name} {start:g}"
            if key not in report["searches"]:
                bar.note(key)
                scene = dataset.load(name)
                problem = Problem(family, scene, start, given.horizon, given.seed)
                errors: list[Trial] = []

                def watch(trial: Trial, errors: list[Trial] = errors) -> None:
                    bar.update()
                    if trial.error is not None:
                        errors.append(trial)

                found = search(env, planner, problem, budget, watch)
                report["searches"][key] = _failure(found, given, problem) | _planner_errors(errors, given, problem)
                write_text(path, json.dumps(report, indent=1) + "\n")
            bar.update((number + 1) * budget.population * budget.generations - bar.count)
    env.close()
    return report


def _failure(found: Trial | None, given: argparse.Namespace, problem: Problem) -> dict[str, Any]:
    """The record of a search's failure, whose scenario is written."""
    if found is None or found.scenario is None or found.outcome is None:
        return {"failed": False}
    file = _write(found, "fails", "", given, problem)
    faults = [c for c in find_collisions(found.outcome.trace) if c.at_fault]
    return {
        "failed": True, "scenario": file, "severity": round(found.severity, 3), "ended_by": found.outcome.ended_by,
        "seconds": round(found.outcome.seconds, 3), "hit": faults[-1].category if faults else None,
    }  # fmt: skip


def _planner_errors(errors: Sequence[Trial], given: argparse.Namespace, problem: Problem) -> dict[str, Any]:
    """The record of edits on which the planner itself fails: their number, and the mildest, whose scenario is written."""
    if not errors:
        return {}
    mildest = min(errors, key=lambda trial: trial.severity)
    file = _write(mildest, "breaks", "-planner-error", given, problem)
    return {"planner_errors": len(errors), "planner_error": {"scenario": file, "error": mildest.error}}


def _write(trial: Trial, verb: str, ending: str, given: argparse.Namespace, problem: Problem) -> str:
    """Writes a trial's scenario; returns the file's name."""
    assert trial.scenario is not None
    task = f"{problem.family}-{problem.scene.name}-{problem.start:g}s{ending}"
    file = f"{file_name(given.planner)}-{file_name(task)}.yaml"
    name, difficulty = file_name(f"{trial.scenario.name}-{verb}-{given.planner}"), difficulty_of(trial, problem.family)
    write_scenario(given.out / file, replace(trial.scenario, traffic=given.traffic, difficulty=difficulty, name=name))
    return file


def _resumed(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The searches of an earlier run with the same settings, or a new one. Raises ConfigError for one with other settings."""
    if not path.is_file():
        return {"settings": settings, "searches": {}}
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        before = report["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): remove it, or choose another --out") from error
    other = [key for key in settings if before.get(key) != settings[key]]
    if other:
        raise ConfigError(f"{path} holds a search with another {', '.join(other)}: choose another --out")
    return report


def summary(report: dict[str, Any]) -> str:
    """A line per search."""
    lines = []
    for key, found in report["searches"].items():
        what = f"{found['ended_by']} after {found['seconds']:.1f} s, severity {found['severity']:.2f}" if found["failed"] else "-"
        broke = f"; the planner itself failed in {found['planner_errors']}" if "planner_errors" in found else ""
        lines.append(f"{key:44s} {what}{broke}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
