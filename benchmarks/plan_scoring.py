"""Milliseconds to simulate and score a batch of plans, stage by stage.

64 plans of 4 s, as a sampling planner proposes them (eight speeds, eight offsets from the route), against 50 agents on a map of
real size, on one core: LQR tracker and bicycle first, then every sub-score of NAVSIM v1.1 and v2, faithful and corrected.

    OMP_NUM_THREADS=1 python -m benchmarks.plan_scoring --out benchmarks/results/plan_scoring.json
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import header, run, write_json
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.metrics.driving.comfort import WINDOWS, smoothed_signals
from dist4d_env.metrics.driving.rectangles import ego_centers
from dist4d_env.metrics.plans import subscores
from dist4d_env.metrics.plans.scene import PlanScene
from dist4d_env.metrics.plans.scoring import score_plans
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.drive import simulate_plans
from dist4d_env.simulation.ego import EgoState
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig

ORIGINAL: Mapping[str, Any] = {"simulate_ms": 98.0, "score_ms": 345.0, "plans": 65, "world": "made by hand"}
"""What the original takes on a machine of this kind: measured once, kept for comparison."""
FORMS = [(version, form) for version in ("v1", "v2") for form in ("faithful", "corrected")]


@dataclass(frozen=True)
class Options:
    """Milliseconds to simulate and score a batch of plans."""

    plans: int = 64
    """Plans in the batch."""
    agents: int = 50
    """Agents around; a scene with fewer lends copies of its own, moved aside."""
    repeats: int = 50
    """Timed runs per scene; the median counts."""
    scenes: int = 4
    """Scenes of the data set."""
    dataroot: Path | None = None
    """A data set with maps; the built-in town when there is none."""
    version: str | None = None
    """The data set's version where it is not the default."""
    quick: bool = False
    """One scene, five repeats."""
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> dict[str, Any]:
    if options.quick:
        options = replace(options, scenes=1, repeats=5)
    dataset = open_dataset(options.dataroot, options.version) if options.version else open_dataset(options.dataroot)
    rows: dict[str, dict[str, float]] = {}
    for name in tqdm(dataset.names()[: options.scenes], disable=None):
        rows[name] = measure(dataset.load(name), options)
    if not rows:
        raise DataError(f"{dataset.dataroot} holds no scene to plan in")
    stages = {stage: float(np.mean([row[stage] for row in rows.values()])) for stage in next(iter(rows.values()))}
    result = {**header("plan_scoring", options), "original": dict(ORIGINAL), "milliseconds": stages, "scenes": rows}
    print(f"{options.plans} plans of {40 * TICK:.0f} s, {options.agents} agents\n\n{table(stages)}")
    if options.out:
        write_json(options.out, result)
    return result


def measure(scene: Scene, options: Options) -> dict[str, float]:
    """Median milliseconds of every stage and of the whole, in the middle of one scene."""
    simulator = Simulator(SimulatorConfig(), [scene])
    state = simulator.single(simulator.reset([0], [scene.duration / 2]), 0)
    plan_scene = with_agents(PlanScene.forecast(state, scene), state.ego, options.agents)
    plans = proposals(scene, state.ego, options.plans)
    ego = simulate_plans(state.ego, plans)
    center = ego_centers(ego, plan_scene.vehicle)
    there: dict[str, np.ndarray] = {"rows": np.full(len(ego), len(plan_scene.position))}
    history = scene_history(simulator, scene)
    with_past = replace(plan_scene, history=history)
    stages: dict[str, Callable[[], Any]] = {
        "simulate": lambda: simulate_plans(state.ego, plans),
        "at-fault collisions": lambda: subscores.plan_no_at_fault_collision(ego, center, plan_scene, True, there),
        "drivable area": lambda: subscores.plan_drivable_area(ego, plan_scene, True, there),
        "driving direction, faithful": lambda: subscores.plan_driving_direction(ego, center, plan_scene, "v1", True, there),
        "driving direction, corrected": lambda: subscores.plan_driving_direction(ego, center, plan_scene, "v1", False, there),
        "time to collision": lambda: subscores.plan_time_to_collision(ego, plan_scene, 40, True, there),
        "progress": lambda: subscores.plan_progress(center, plan_scene.route),
        "comfort, v1": lambda: subscores.plan_comfort(ego, smoothed_signals(ego, 0.0, WINDOWS["v1"], True), there),
        "comfort with history, v2": lambda: subscores.plan_history_comfort(ego, with_past, True, there),
        "lane keeping": lambda: subscores.plan_lane_keeping(center, plan_scene, there),
    }
    timed = {name: milliseconds(stage, options.repeats) for name, stage in stages.items()}
    for version, form in FORMS:

        def score(v: str = version, f: str = form) -> None:
            score_plans(ego, with_past, v, f)

        def whole(v: str = version, f: str = form) -> None:
            score_plans(simulate_plans(state.ego, plans), with_past, v, f)

        timed[f"score {version}, {form}"] = milliseconds(score, options.repeats)
        timed[f"simulate and score {version}, {form}"] = milliseconds(whole, options.repeats)
    return timed


def proposals(scene: Scene, ego: EgoState, count: int) -> np.ndarray:
    """(count, 8, 3) plans every 0.5 s: speeds from a stop to 15 m/s, offsets from 3.5 m right to 3.5 m left of the route."""
    side = np.linspace(-3.5, 3.5, 8)
    speeds = np.linspace(0.0, 15.0, -(-count // len(side)))
    begin = scene.route.project(ego.x, ego.y)[0]
    time_ahead = 0.5 * np.arange(1, 9)
    plans = []
    for speed in speeds:
        for offset in side:
            # Speed and offset are reached after 2 s.
            share = np.clip(time_ahead / 2.0, 0.0, 1.0)
            metres = ego.speed * time_ahead + (speed - ego.speed) * np.where(time_ahead < 2, time_ahead**2 / 4, time_ahead - 1)
            x, y, yaw = scene.route.sample(begin + metres).T
            aside = offset * share**2 * (3 - 2 * share)
            dx, dy = x - aside * np.sin(yaw) - ego.x, y + aside * np.cos(yaw) - ego.y
            cos, sin = np.cos(ego.yaw), np.sin(ego.yaw)
            plans.append(np.column_stack([cos * dx + sin * dy, cos * dy - sin * dx, yaw - ego.yaw]))
    return np.array(plans[:count])


def with_agents(scene: PlanScene, ego: EgoState, count: int) -> PlanScene:
    """The scene with exactly so many agents: the nearest, and where there are too few, copies moved along and beside the road."""
    here = scene.position[0]
    if not len(here):
        raise DataError("no agents in the middle of the scene; take another data set")
    order = np.argsort(np.hypot(here[:, 0] - ego.x, here[:, 1] - ego.y), kind="stable")
    picked = np.resize(order, count)
    copy = np.arange(count) // len(order)
    cos, sin = np.cos(ego.yaw), np.sin(ego.yaw)
    moved = copy[:, None] * np.array([9.0 * cos - 3.5 * sin, 9.0 * sin + 3.5 * cos])
    return replace(
        scene,
        position=scene.position[:, picked] + moved,
        yaw=scene.yaw[:, picked],
        velocity=scene.velocity[:, picked],
        valid=scene.valid[:, picked],
        size=scene.size[picked],
        category=scene.category[picked],
        track=np.arange(count),
    )


def scene_history(simulator: Simulator, scene: Scene) -> np.ndarray | None:
    """(15, 7) the recorded ego before the middle of the scene."""
    return PlanScene.logged(scene, scene.duration / 2, simulator.config.vehicle).history


def milliseconds(stage: Callable[[], Any], repeats: int) -> float:
    """Median of some runs after one that warms caches."""
    stage()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        stage()
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken) * 1e3)


def table(stages: Mapping[str, float]) -> str:
    """Markdown."""
    lines = ["| stage | ms |", "|---|---|", *(f"| {name} | {value:.1f} |" for name, value in stages.items())]
    simulate, score = (f"{ORIGINAL[key]:.0f}" for key in ("simulate_ms", "score_ms"))
    return "\n".join([*lines, f"| NAVSIM's own code, {ORIGINAL['plans']} plans | {simulate} + {score} |"])


if __name__ == "__main__":
    run(main, Options)
