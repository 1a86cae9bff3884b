"""How real and how fast is traffic? Every model beside the recorded ego, scored as the Waymo sim agents challenge does.

The windows of each data set's scenes, N seeded rollouts each (``evaluate --realism N``), for every model alike; a window at a
time is stored, so that a stopped run goes on where it was. ``replay`` is the log itself: the most that the estimators give. The
processor time of a simulated second is that of the simulator alone, for one episode and for a batch, the least of several turns
of ten seconds from the scenes' start, in which the traffic of the log is there.

    python -m benchmarks.realism --other NUSCENES --out benchmarks/results/realism.json
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import FinishedUnits, header, run, write_json
from dist4d_env.data.open import open_dataset
from dist4d_env.evaluation.realism import RealismResult, Window, judge, windows
from dist4d_env.evaluation.summary import plain
from dist4d_env.metrics.foreign.wosac import Realism
from dist4d_env.progress import Progress
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.simulator import Simulator, SimulatorConfig
from dist4d_env.town.cache import default_dataroot


@dataclass(frozen=True)
class Options:
    """Of the comparison."""

    traffic: tuple[str, ...] = ("replay", "idm", "lanes")
    """Traffic models."""
    rollouts: int = 32
    """Rollouts of each window."""
    windows: int = 1
    """Windows of each scene."""
    split: str = "val"
    """Of the town."""
    scenes: int = 8
    """How many scenes of the town's."""
    other: Path | None = None
    """Another data set, such as nuScenes."""
    batch: int = 16
    """Episodes of the batch whose speed is measured."""
    turns: int = 5
    """Times that the speed of each model is measured, in turn."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""


def main(options: Options) -> None:
    """Scores and prints."""
    town = open_dataset(default_dataroot(options.split))
    sets = {"town": [town.load(name) for name in town.scene_names((options.split,))[: options.scenes]]}
    if options.other is not None:
        other = open_dataset(options.other, scenes=("train", "val"))
        sets["other"] = [other.load(name, require_map=False) for name in other.scene_names(("train", "val"))]
    key = {"rollouts": options.rollouts, "windows": options.windows, "split": options.split, "scenes": options.scenes}
    key |= {"town": town.dataroot, "other": options.other and other.dataroot}
    finished = FinishedUnits(options.out, key)
    score(sets, options, finished)
    found = {name: {model: result(name, model, finished) for model in options.traffic} for name in sets}
    speed = {str(count): seconds(sets["town"], options, count) for count in (1, options.batch)}
    for name, models in found.items():
        for model, one in models.items():
            print(f"{name}, {model}: {one.table()}")
    for count, row in speed.items():
        print(
            f"{count} episodes: "
            + ", ".join(f"{model} {1e3 * took:.3f} ms" for model, took in row.items())
            + " a simulated second"
        )
    if options.out is not None:
        rows = {name: {model: one.as_json()["estimates"] for model, one in models.items()} for name, models in found.items()}
        counts = {name: len(next(iter(models.values())).windows) for name, models in found.items()}
        agents = {name: sum(w.found.agents for w in next(iter(models.values())).windows) for name, models in found.items()}
        content = {"windows": counts, "agents": agents, "realism": rows, "seconds_per_simulated_second": speed}
        write_json(options.out, {**header("realism", options), **content})
    finished.finish()


def score(sets: Mapping[str, Sequence[Scene]], options: Options, finished: FinishedUnits) -> None:
    """Every window that is not scored yet."""
    due = [
        (f"{name}/{model}/{scene.name}/{start:g}", scene, start, model)
        for name, scenes in sets.items()
        for scene in scenes
        for start in windows(scene, options.windows)
        for model in options.traffic
    ]
    with Progress("scoring traffic", "window", len(due)) as progress:
        for unit, scene, start, model in due:
            if unit not in finished.done:
                finished.add(unit, plain(asdict(judge(scene, start, model, options.rollouts).found)))
            progress.update()


def result(name: str, model: str, finished: FinishedUnits) -> RealismResult:
    """Of a model on a data set."""
    found = []
    for unit, value in finished.done.items():
        own, kind, scene, start = unit.split("/")
        if (own, kind) == (name, model):
            known = {key: _numbers(part) for key, part in value.items()}
            found.append(Window(scene, float(start), Realism(**known)))
    return RealismResult.of(found)


def _numbers(value: Any) -> Any:
    """Stored values with nan where there is none."""
    if isinstance(value, dict):
        return {key: _numbers(part) for key, part in value.items()}
    return float("nan") if value is None else value


def seconds(scenes: Sequence[Scene], options: Options, count: int) -> dict[str, float]:
    """Processor seconds that a simulated second of ``count`` episodes takes, by traffic model, while the logs last."""
    took: dict[str, list[float]] = {model: [] for model in options.traffic}
    ready = {}
    for model in options.traffic:
        simulator = Simulator(SimulatorConfig(traffic=model), scenes)
        state, _ = simulator.step(simulator.reset(np.arange(count) % len(scenes), [0.0] * count), np.zeros((count, 2)))
        ready[model] = simulator, state
    for _ in range(options.turns):
        for model, (simulator, first) in ready.items():
            decision, state = simulator.config.decision_dt, first
            steps = min(20, round(min(scene.duration for scene in scenes) / decision) - 1)
            begin = time.process_time()
            for _ in range(steps):
                state, _ = simulator.step(state, np.zeros((count, 2)))
            took[model].append((time.process_time() - begin) / (steps * decision))
    return {model: min(values) for model, values in took.items()}


if __name__ == "__main__":
    run(main, Options)
