"""What foretells that a plan on a generated picture differs from the plan on the true one of the same state?

Planners drive in the generated world. Others of their kind are shown, of every state that they come to, the true pictures; the
splat; and the world's own pictures once through JPEG and 16-bit depth. Beside the world's trust stand as foretellers the
distances between the plan that is driven and those second opinions, which need no truth, and the errors of the pictures, which
do: no trust that looks at pictures alone can know more than these. Which is better is measured by AUROC over decisions. The same
episodes are driven in the truth: are those in which second opinions agree judged more alike there than the others?

    python -m benchmarks.foretelling --out benchmarks/results/foretelling.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.agreement import Clusters, auroc
from benchmarks.common import result_file, run
from benchmarks.decisions import DecisionOptions, Drive, drive_all
from benchmarks.fidelity import PATIENCE, TRUTH
from benchmarks.fidelity_episodes import scores_of
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.evaluation.drive import EnvSettings
from dist4d_env.evaluation.episode_log import forward_cameras
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.evaluation.second_opinion import DIFFERS, OPINIONS, OtherPictures, SecondOpinions, between
from dist4d_env.registry import MEASURING
from dist4d_env.worlds.oracle import OracleWorld

Row = Mapping[str, Any]
"""A decision: planner, scene, metres apart and what may foretell them."""
FORETELLERS = (
    "trust",
    *(f"plan on {name}" for name in OPINIONS),
    "either plan",
    "error of colours",
    "error of depth",
)


@dataclass(frozen=True)
class Options(DecisionOptions):
    """What foretells that a plan differs from the one on the true picture."""

    planner: tuple[str, ...] = (*DecisionOptions.planner, *(f"measuring_{v}" for v in MEASURING if v != "idm"))
    """Planners that look at pictures."""


def main(options: Options) -> dict[str, Any]:
    drives, finished = drive_all(options, "dist4d", driven)
    of = {drive.name: {"planner": drive.planner, "scene": drive.scenario.scene} for drive in drives}
    rows: list[Row] = [{**row, **of[drive.name]} for drive in drives for row in finished.done[drive.name]["decisions"]]
    episodes: list[Row] = [{**finished.done[drive.name]["episode"], **of[drive.name]} for drive in drives]
    content = {"differs_from": DIFFERS, **foretold(rows), "episodes": judged_alike(episodes)}
    result = result_file("foretelling", options, content, finished)
    print(f"{content['decisions']} decisions, {content['differs']['mean']:.3f} of the plans differ")
    for name, found in content["foretellers"].items():
        print(f"{name:<18} AUROC {found['auroc']['mean']:.3f} [{found['auroc']['low']:.3f}, {found['auroc']['high']:.3f}], "
              f"within planners {found['within_planners']:.3f}")  # fmt: skip
    for name, half in content["episodes"].items():
        print(f"episodes with {name}: {half['count']}, |difference| in PDMS {half['apart']['mean']:.3f}, "
              f"same outcome {half['same_outcome']['mean']:.2f}")  # fmt: skip
    return result


def driven(drive: Drive) -> tuple[str, dict[str, Any]]:
    """Drives an episode; of each decision that all planners took, how far apart plans are and what else may foretell it; and of
    the episode how often opinions agreed, and how it was judged here and in the truth."""
    env, truth = _environment(drive.settings), Errors()
    planner, first, *others = (make_planner(drive.planner) for _ in range(2 + len(OPINIONS)))
    shown = {name: (one, show("log")) for (name, show), one in zip(OPINIONS.items(), others, strict=True)}
    opinions = SecondOpinions({TRUTH: (first, truth), **shown})
    options = RunOptions(plan_limit=PATIENCE, reset_limit=PATIENCE, scenario=drive.scenario, opinions=opinions)
    log = run_episode(env, planner, 0, options, None, drive.planner)
    drive.check(log, opinions)
    plans, count = log.plans.poses, len(log.plans.step)
    apart = {name: between(plans, opinions.plans_of(name)[:count]) for name in opinions.others}
    rows = []
    for index in range(count):
        far = {name: float(metres[index]) for name, metres in apart.items()}
        if not np.isfinite(list(far.values())).all():
            continue
        row = {"apart": far[TRUTH], "trust": 1.0 - log.steps[index].trust, "either plan": max(far[name] for name in OPINIONS)}
        row |= {f"plan on {name}": far[name] for name in OPINIONS}
        rows.append({**row, "error of colours": truth.errors[index][0], "error of depth": truth.errors[index][1]})
    true_env = _environment(replace(drive.settings, world=TRUTH))
    true = run_episode(true_env, make_planner(drive.planner), 0, replace(options, opinions=None), None, drive.planner)
    scores = [scores_of(one)["PDMS"] for one in (log, true)]
    agree = [row["either plan"] <= DIFFERS for row in rows]
    episode = {
        "agreement": float(np.mean(agree)) if agree else None,
        "apart": None if None in scores else abs(scores[0] - scores[1]),  # type: ignore[operator]
        "same_outcome": log.outcome == true.outcome,
    }
    return drive.name, {"decisions": rows, "episode": episode}


class Errors(OtherPictures):
    """The true pictures, and how far the shown ones are from them in the front camera.

    errors: of each state the mean absolute difference of colours as a share of their range, and of the logarithm of depth.
    """

    def __init__(self) -> None:
        super().__init__(OracleWorld())
        self.errors: list[tuple[float, float]] = []

    def begin(self, driving: DiST4DDrivingEnv) -> None:
        """An episode begins."""
        super().begin(driving)
        self.errors = []
        self._front = driving.scene.rig.names[forward_cameras(driving.scene.rig)[0]]

    def pictures(self, observation: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The true ones."""
        true, depth = super().pictures(observation), f"{self._front}/depth"
        colours = np.abs(observation[self._front].astype(float) - true[self._front]).mean() / 255
        depths = np.abs(np.log(np.maximum(observation[depth], 0.1) / np.maximum(true[depth], 0.1))).mean()
        self.errors.append((float(colours), float(depths)))
        return true


def foretold(rows: Sequence[Row]) -> dict[str, Any]:
    """How well each foretells which plans differ, overall and, as the mean over planners, among one planner's own."""
    differs = np.array([row["apart"] > DIFFERS for row in rows])
    clusters = Clusters([row["scene"] for row in rows], 0, 500)
    planner = np.array([row["planner"] for row in rows])
    foretellers = {}
    for name in FORETELLERS:
        doubt = np.array([row[name] for row in rows], float)
        mine = {one: planner == one for one in dict.fromkeys(planner.tolist())}
        within = {one: auroc(doubt[own], differs[own]) for one, own in mine.items()}
        foretellers[name] = {
            "auroc": vars(clusters.statistic(partial(auroc, doubt, differs))),
            "planners": within,
            "within_planners": float(np.nanmean(list(within.values()))),
        }
    return {"decisions": len(rows), "differs": vars(clusters.mean(differs.astype(float))), "foretellers": foretellers}


def judged_alike(episodes: Sequence[Row]) -> dict[str, Any]:
    """Of the half of the episodes with more agreement, and of the other: |difference| in PDMS from the truth, and the share
    that end alike."""
    known = [row for row in episodes if row["agreement"] is not None and row["apart"] is not None]
    middle = float(np.median([row["agreement"] for row in known])) if known else 1.0
    halves = {"more agreement": [row for row in known if row["agreement"] >= middle],
              "less agreement": [row for row in known if row["agreement"] < middle]}  # fmt: skip
    found = {}
    for name, half in halves.items():
        clusters = Clusters([row["scene"] for row in half], 0, 500)
        found[name] = {
            "count": len(half),
            "agreement": float(np.mean([row["agreement"] for row in half])) if half else None,
            "apart": vars(clusters.mean([row["apart"] for row in half])),
            "same_outcome": vars(clusters.mean([float(row["same_outcome"]) for row in half])),
        }
    return found


@lru_cache(maxsize=2)
def _environment(settings: EnvSettings) -> gym.Env:
    return settings.make()


if __name__ == "__main__":
    run(main, Options)
