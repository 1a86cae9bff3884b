"""Inserted agents: does what a scenario puts into a scene stand in the pictures where the simulator has it?

The scenarios of a suite are driven as recorded, in the truth and in every world. Of every visible agent, inserted or recorded,
the pixels whose depth lies in its box are compared with the same of the true picture: intersection over union
(``silhouette``), the share of its true pixels that show what is behind it (``missing``), pixels beside it that are as near as it
though the truth is not, as a share of its own (``phantom``), and metres between the depths where both show it.

    python -m benchmarks.inserted_agents --out benchmarks/results/inserted_agents.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import dist4d_env  # noqa: F401 (registers the environment)
from benchmarks.action_following import GROWS, SLACK, SMALLEST, VISIBLE, Shot, iou, surroundings, through_box
from benchmarks.agreement import Clusters
from benchmarks.common import FinishedUnits, header, run, write_json
from benchmarks.fidelity import TRUTH, WORLDS, in_turn
from dist4d_env.data.open import open_dataset
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.fingerprint import package_fingerprint
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.geometry.cameras import CameraRig, parse_size
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.progress import Progress, say
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import read_suite

FARTHEST = 30.0
"""Metres to an agent for it to be looked at."""
MEASURES = ("silhouette", "missing", "phantom", "depth")


@dataclass(frozen=True)
class Options:
    """Inserted agents in the pictures of every world against the truth, beside recorded ones."""

    suite: str = "town_val"
    """Suite of scenarios in the town: a name or a YAML file."""
    scenarios: int = 16
    """How many scenarios with inserted agents, the families in turn."""
    size: str = "64x112"
    """Height x width of the images."""
    weights: str = "tiny"
    """Of the world dist4d: a shipped preset or a folder."""
    worlds: tuple[str, ...] = ("splat", "dist4d")
    """Worlds to look at, beside the truth."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""

    def __post_init__(self) -> None:
        unknown = [world for world in self.worlds if world not in WORLDS or world == TRUTH]
        if unknown or not self.worlds or self.scenarios < 1:
            raise ConfigError(f"--scenarios at least 1, --worlds any of {', '.join(sorted(set(WORLDS) - {TRUTH}))}")


def main(options: Options) -> dict[str, Any]:
    chosen = [scenario for scenario in in_turn(read_suite(options.suite).scenarios) if scenario.edits]
    scenes = tuple(dict.fromkeys(scenario.scene for scenario in chosen))
    dataset = open_dataset(None, scenes=scenes, size=parse_size(options.size))
    key = {name: getattr(options, name) for name in ("suite", "size", "weights", "worlds")}
    finished = FinishedUnits(options.out, key | {"town": dataset.dataroot, "code": package_fingerprint()})

    @cache
    def make(world: str) -> gym.Env:
        return gym.make(
            "DiST4D-nuScenes-v0", dataroot=dataset.dataroot, version=dataset.version, scenes=scenes, action="trajectory",
            termination=(), observation=("ego", "route"), size=parse_size(options.size),
            **{"weights": options.weights, **WORLDS[world]},
        )  # fmt: skip

    names: list[str] = []
    with Progress("drives", "scenario", options.scenarios) as progress:
        for scenario in chosen:
            if len(names) == options.scenarios:
                break
            if scenario.name not in finished.done:
                finished.add(scenario.name, one_scenario(make, options.worlds, scenario))
            if finished.done[scenario.name] is not None:
                names.append(scenario.name)
                progress.update()
    if len(names) < options.scenarios:
        say(f"{options.suite} has {len(names)} scenarios with inserted agents, not {options.scenarios}")
    found = {name: finished.done[name] for name in names}
    result = header("inserted_agents", options) | {"scenarios": names, "worlds": summary(found, options.worlds)}
    if options.out:
        write_json(options.out, result)
    finished.finish()
    show(result)
    return result


def one_scenario(make: Any, worlds: Sequence[str], scenario: Scenario) -> dict[str, Any] | None:
    """world -> "inserted" or "recorded" -> of each visible agent in each picture the MEASURES; None where nothing is inserted."""
    shots: dict[str, list[Shot]] = {}
    for world in (TRUTH, *worlds):
        env = make(world)
        shots[world] = _shown(env, scenario)
        driving: DiST4DDrivingEnv = env.unwrapped
        scene = driving.scene
        if len(scene.tracks) == len(scene.recorded.tracks):
            return None
    rig = scene.rig.at_size(*shots[TRUTH][0].frame.depth.shape[1:])
    return {world: measured(shots[world], shots[TRUTH], rig, len(scene.recorded.tracks)) for world in worlds}


def _shown(env: gym.Env, scenario: Scenario) -> list[Shot]:
    shots: list[Shot] = []

    def watch(driving: DiST4DDrivingEnv, info: Mapping[str, Any]) -> None:
        state, frame = driving.episode.state, driving.episode.frame
        assert frame is not None
        pose = pose_from_xy_yaw(state.ego.x, state.ego.y, state.ego.yaw)  # the town's streets are level
        shots.append(Shot(frame, pose, state.boxes, state.time))

    run_episode(env, make_planner("log"), 0, RunOptions(scenario=scenario), watch)
    return shots[1:]  # the first may be the log's own, taken a little before or after


def measured(shots: list[Shot], truth: list[Shot], rig: CameraRig, recorded: int) -> dict[str, list[list[float]]]:
    """The MEASURES of agents; those with tokens from ``recorded`` on are inserted."""
    found: dict[str, list[list[float]]] = {"inserted": [], "recorded": []}
    for shot, true in zip(shots, truth, strict=True):
        boxes = true.boxes
        near = np.flatnonzero(np.hypot(*(boxes.position[:, :2] - true.pose[:2, 3]).T) < FARTHEST)
        for view in range(len(rig.names)):
            camera, depth, right = true.pose @ rig.ego_from_camera[view], shot.frame.depth[view], true.frame.depth[view]
            for box in near.tolist():
                enters, leaves = through_box(boxes, box, camera, rig.intrinsics[view], rig.height, rig.width)
                hull, slack = leaves > 0, SLACK + GROWS * enters
                shown = hull & (right > enters - slack)
                truly = shown & (right < leaves + slack)
                if hull.sum() < SMALLEST or shown.sum() < VISIBLE * hull.sum() or truly.sum() < SMALLEST / 2:
                    continue
                inside = shown & (depth > enters - slack) & (depth < leaves + slack)
                distance, both = float(np.median(right[truly])), inside & truly
                beside = surroundings(hull) & ~hull & (right > distance + 3) & (depth < distance + 1)
                row = [
                    iou(inside, truly),
                    float((truly & (depth > leaves + slack + 1)).sum() / truly.sum()),
                    float(beside.sum() / truly.sum()),
                    float(np.abs(depth - right)[both].mean()) if both.any() else float("nan"),
                ]
                found["inserted" if boxes.token[box] >= recorded else "recorded"].append(row)
    return found


def summary(found: Mapping[str, Mapping[str, Mapping[str, list[list[float]]]]], worlds: Sequence[str]) -> dict[str, Any]:
    """Means with intervals over scenarios."""
    result: dict[str, Any] = {}
    for world in worlds:
        for kind in ("inserted", "recorded"):
            names = [name for name, one in found.items() for _ in one[world][kind]]
            rows = np.array([row for one in found.values() for row in one[world][kind]]).reshape(-1, len(MEASURES))
            clusters = Clusters(names)
            measures = {measure: vars(clusters.mean(rows[:, column])) for column, measure in enumerate(MEASURES)}
            result.setdefault(world, {})[kind] = {"count": len(rows)} | measures
    return result


def show(result: Mapping[str, Any]) -> None:
    """The main numbers on the terminal."""
    for world, kinds in result["worlds"].items():
        for kind, found in kinds.items():
            numbers = ", ".join(f"{measure} {found[measure]['mean']:.3f}" for measure in MEASURES)
            print(f"{world:<15}{kind:<10}{found['count']:>5} seen: {numbers}")


if __name__ == "__main__":
    run(main, Options)
