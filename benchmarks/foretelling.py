"""What foretells that a plan on a generated picture differs from the plan on the true one of the same state?

Planners drive in the generated world. Others of their kind are shown, of every state that they come to, the true pictures; the
splat; and the world's own pictures once through JPEG and 16-bit depth. Beside the world's trust stand as foretellers the
distances between the plan that is driven and those second opinions, which need no truth, and the errors of the pictures, which
do: no trust that looks at pictures alone can know more than these. Which is better is measured by AUROC over decisions.

    python -m benchmarks.foretelling --out benchmarks/results/foretelling.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np

from benchmarks.agreement import Clusters, auroc
from benchmarks.common import FinishedUnits, result_file, run
from benchmarks.fidelity import PATIENCE, TRUTH, Beside, OtherPictures, Shown, in_turn
from benchmarks.fidelity_episodes import AHEAD, between
from benchmarks.fidelity_table import DIFFERS
from dist4d_env.data.depth_files import decode_depth, encode_depth
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.campaign import Campaign
from dist4d_env.evaluation.drive import EnvSettings
from dist4d_env.evaluation.episode_log import forward_cameras
from dist4d_env.evaluation.executors import executor
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.progress import Progress
from dist4d_env.registry import MEASURING
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import read_suite
from dist4d_env.simulation.actions import PLAN_DT
from dist4d_env.simulation.state import EpisodeState
from dist4d_env.worlds.oracle import OracleWorld
from dist4d_env.worlds.replay import SplatWorld

OPINIONS: Mapping[str, Callable[[], Shown]] = {
    "splat": lambda: OtherPictures(SplatWorld()),
    "stored": lambda: Stored(Own()),
    "stored splat": lambda: Stored(OtherPictures(SplatWorld())),
    "half way": lambda: HalfWay(OtherPictures(SplatWorld())),
}
"""What second planners are shown beside the truth."""
Row = Mapping[str, Any]
"""A decision: planner, scene, metres apart and what may foretell them."""
FORETELLERS = (
    "trust",
    *(f"plan on {name}" for name in OPINIONS),
    "any plan",
    "plan before",
    "error of colours",
    "error of depth",
)


@dataclass(frozen=True)
class Options:
    """What foretells that a plan differs from the one on the true picture."""

    planner: tuple[str, ...] = (
        "end_to_end",
        "end_to_end_front",
        "measuring",
        *(f"measuring_{v}" for v in MEASURING if v != "idm"),
    )
    """Planners that look at pictures."""
    scenarios: int = 20
    """The first so many of the suite, families in turn."""
    suite: str = "town_test"
    """Suite of scenarios in the town: a name or a YAML file."""
    weights: str = "tiny"
    """Of the world dist4d: a shipped preset or a folder."""
    workers: int = 2
    """Processes, one thread each; 0 drives in this one."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""

    def __post_init__(self) -> None:
        if self.scenarios < 1:
            raise ConfigError(f"--scenarios {self.scenarios} must be at least 1")


@dataclass(frozen=True)
class Drive:
    """What a process drives: one episode of one planner."""

    planner: str
    scenario: Scenario
    settings: EnvSettings

    @property
    def name(self) -> str:
        return f"{self.planner} {self.scenario.name}"


def main(options: Options) -> dict[str, Any]:
    suite = read_suite(options.suite)
    chosen = in_turn(suite.scenarios)[: options.scenarios]
    campaign = Campaign(
        options.planner, suite, only=tuple(scenario.name for scenario in chosen), world="dist4d", weights=options.weights
    )
    settings = campaign.env_settings(campaign.open_data())
    drives = [Drive(name, scenario, settings) for scenario in chosen for name in options.planner]
    finished = FinishedUnits(options.out, {"suite": options.suite, "weights": options.weights})
    due = [drive for drive in drives if drive.name not in finished.done]
    with Progress("driving", "episode", len(drives), len(drives) - len(due)) as progress:
        for name, rows in executor(options.workers)(driven, due):
            finished.add(name, rows)
            progress.update()
    every: list[Row] = [{**row, "planner": d.planner, "scene": d.scenario.scene} for d in drives for row in finished.done[d.name]]
    content = {"differs_from": DIFFERS, "episodes": len(drives), **foretold(every)}
    result = result_file("foretelling", options, content, finished)
    print(f"{content['decisions']} decisions, {content['differs']['mean']:.3f} of the plans differ")
    for name, found in content["foretellers"].items():
        print(f"{name:<18} AUROC {found['auroc']['mean']:.3f} [{found['auroc']['low']:.3f}, {found['auroc']['high']:.3f}], "
              f"within planners {found['within_planners']:.3f}")  # fmt: skip
    return result


def driven(drive: Drive) -> tuple[str, list[dict[str, float]]]:
    """Drives an episode; of each decision that all planners took, how far apart plans are and what else may foretell it."""
    env = _environment(drive.settings)
    driving: Any = env.unwrapped
    truth = Errors()
    others: dict[str, Shown] = {TRUTH: truth} | {name: make() for name, make in OPINIONS.items()}
    planner, *twins = (make_planner(drive.planner) for _ in range(1 + len(others)))
    beside = Beside(planner, dict(zip(others, zip(twins, others.values(), strict=True), strict=True)), driving)
    options = RunOptions(plan_limit=PATIENCE, reset_limit=PATIENCE, scenario=drive.scenario)
    log = run_episode(env, beside, 0, options, lambda *_: None, drive.planner)
    plans, count = log.plans.poses, len(log.plans.step)
    apart = {name: np.array(between(plans, beside.plans_of(name)[:count]), float) for name in others}
    changed = since_before(plans[:count], log.trace.ego[log.plans.step])
    rows = []
    for index in range(count):
        far = {name: float(apart[name][index]) for name in others}
        if not np.isfinite(list(far.values())).all():
            continue
        row = {"apart": far[TRUTH], "trust": 1.0 - log.steps[index].trust, "any plan": max(far[name] for name in OPINIONS)}
        row["plan before"] = changed[index]
        row |= {f"plan on {name}": far[name] for name in OPINIONS}
        rows.append({**row, "error of colours": truth.errors[index][0], "error of depth": truth.errors[index][1]})
    return drive.name, rows


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

    def pictures(self, state: EpisodeState, observation: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The true ones."""
        true, depth = super().pictures(state, observation), f"{self._front}/depth"
        colours = np.abs(observation[self._front].astype(float) - true[self._front]).mean() / 255
        depths = np.abs(np.log(np.maximum(observation[depth], 0.1) / np.maximum(true[depth], 0.1))).mean()
        self.errors.append((float(colours), float(depths)))
        return true


class Own:
    """The pictures that are shown."""

    def begin(self, driving: DiST4DDrivingEnv) -> None:
        """An episode begins."""

    def pictures(self, state: EpisodeState, observation: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Them."""
        return observation


@dataclass
class Stored:
    """Pictures through JPEG and 16-bit depth: a plan that changes with them turns on nothing."""

    of: Shown

    def begin(self, driving: DiST4DDrivingEnv) -> None:
        """An episode begins."""
        self.of.begin(driving)
        self._names = driving.scene.rig.names

    def pictures(self, state: EpisodeState, observation: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """All of the rig's cameras."""
        shown, stored = self.of.pictures(state, observation), dict[str, np.ndarray]()
        for name in self._names:
            _, content = cv2.imencode(".jpg", np.ascontiguousarray(shown[name][..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 90])
            stored[name] = np.ascontiguousarray(cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1])
            stored[f"{name}/depth"] = decode_depth(encode_depth(shown[f"{name}/depth"][..., 0]))[..., None]
        return stored


@dataclass
class HalfWay:
    """The mean of the shown pictures and others; of depth the harmonic one."""

    other: Shown

    def begin(self, driving: DiST4DDrivingEnv) -> None:
        """An episode begins."""
        self.other.begin(driving)

    def pictures(self, state: EpisodeState, observation: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """All of the rig's cameras."""
        return {name: _mean(observation[name], value) for name, value in self.other.pictures(state, observation).items()}


def _mean(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    if one.dtype == np.uint8:
        return ((one.astype(np.uint16) + two) // 2).astype(np.uint8)
    return (2 / (1 / np.maximum(one, 0.1) + 1 / np.maximum(two, 0.1))).astype(one.dtype)


def since_before(plans: np.ndarray, ego: np.ndarray) -> np.ndarray:
    """(D,) metres between where each plan (8, 3) has the ego after ``AHEAD`` seconds and where the plan before had it then; 0 for
    the first. ego: (D, 3 or more) x, y, yaw at each decision. Decisions are ``PLAN_DT`` apart."""
    pose = round(AHEAD / PLAN_DT) - 1
    turn = np.stack([np.cos(ego[:, 2]), -np.sin(ego[:, 2]), np.sin(ego[:, 2]), np.cos(ego[:, 2])], -1).reshape(-1, 1, 2, 2)
    places = (turn @ plans[..., :2, None])[..., 0] + ego[:, None, :2]
    return np.concatenate([np.zeros(min(1, len(plans))), np.linalg.norm(places[1:, pose] - places[:-1, pose + 1], axis=-1)])


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


@lru_cache(maxsize=1)
def _environment(settings: EnvSettings) -> gym.Env:
    return settings.make()


if __name__ == "__main__":
    run(main, Options)
