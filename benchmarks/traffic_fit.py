"""Fits the parameters of lane traffic to the logs of the town's train scenes, and says how far it drives from other logs.

Drivers are simulated for 8 s from several starts of each scene beside the recorded ego. The error is the mean over drivers of the
mean distance from where the log has them, each distance at most 10 m, so that one that takes its turn at another time does not
decide alone. One parameter after the other is tried larger and smaller, and the step halved when nothing helps: the parameters in
``FITTED``. Those of changes of lanes are not fitted (drivers of the town do not change lanes).

    python -m benchmarks.traffic_fit --out benchmarks/results/traffic_fit.json --other NUSCENES
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import header, run, write_json
from dist4d_env.data.open import open_dataset
from dist4d_env.progress import Progress
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.simulation.lanes import LaneParameters, LaneTraffic
from dist4d_env.simulation.simulator import Simulator
from dist4d_env.town.cache import default_dataroot

STEPS, FARTHEST = 80, 10.0
"""Ticks that are simulated, and m beyond which a distance counts no more."""
MARKS = (1.0, 2.0, 4.0, 8.0)
"""Seconds at which distances are reported."""
FITTED = ("headway", "gap", "acceleration", "braking", "haste", "cruise", "sideways", "margin", "turning")
START = LaneParameters(
    headway=1.5, gap=2.0, acceleration=1.0, braking=2.0, haste=1.0, cruise=5.0, sideways=2.0, margin=1.0, turning=1.0
)
"""Where the fit begins: the intelligent driver model as commonly published, and round figures."""
ROUND = 2
"""Decimals of fitted values."""


@dataclass(frozen=True)
class Options:
    """Of the fit."""

    scenes: int = 24
    """Train scenes that are fitted to."""
    starts: int = 2
    """Starts in each scene."""
    rounds: int = 12
    """The most rounds over all parameters."""
    other: Path | None = None
    """Another data set to say the distances of, such as nuScenes."""
    out: Path | None = None
    """JSON file for the figures."""


@dataclass(frozen=True)
class Logs:
    """Scenes and the rows at which rollouts start: scene and row (B,), egos (B, STEPS, 7)."""

    scenes: Sequence[Scene]
    scene: np.ndarray
    row: np.ndarray
    ego: np.ndarray
    models: dict[tuple[float, float], LaneTraffic] = field(default_factory=dict)

    def model(self, parameters: LaneParameters) -> LaneTraffic:
        """Traffic in these scenes, whose tables are made once."""
        made_with = parameters.sideways, parameters.braking
        if made_with not in self.models:
            self.models[made_with] = LaneTraffic(parameters=parameters)
            for scene in self.scenes:
                self.models[made_with].add(scene)
        return self.models[made_with].tuned(parameters)

    @classmethod
    def of(cls, scenes: Sequence[Scene], starts: int) -> Logs:
        """Evenly spread starts."""
        simulator = Simulator(scenes=scenes)
        due = [
            (number, int(row))
            for number, scene in enumerate(scenes)
            for row in np.linspace(0, max(len(scene.ego.time) - 1 - STEPS, 0), starts).round()
        ]
        ego = np.array([[simulator.logged_ego(number, row + tick) for tick in range(STEPS)] for number, row in due])
        return cls(scenes, np.array([number for number, _ in due]), np.array([row for _, row in due]), ego)


def distances(logs: Logs, parameters: LaneParameters) -> np.ndarray:
    """(D, STEPS) metres from the log of everybody who drives at a start, nan where the log or the rollout has it no more."""
    model = logs.model(parameters)
    tracks = max(len(scene.tracks) for scene in logs.scenes)
    agents, state = model.start(logs.scene, logs.row, tracks)
    driven, found = state["phase"] == 1, []
    truth = [scene.tracks for scene in logs.scenes]
    for tick in range(STEPS):
        row = logs.row + tick
        agents, state = model.step(logs.scene, row, logs.ego[:, tick], agents, state)
        away = np.full(agents.valid.shape, np.nan)
        for index, number in enumerate(logs.scene.tolist()):
            log, at = truth[number], min(int(row[index]) + 1, len(truth[number].time) - 1)
            there = log.valid[:, at] & agents.valid[index, : len(log)]
            gap = np.linalg.norm(log.position[:, at, :2] - agents.position[index, : len(log), :2], axis=1)
            away[index, : len(log)] = np.where(there, gap, np.nan)
        found.append(away[driven])
    return np.array(found).T


def error(away: np.ndarray) -> float:
    """The mean over drivers of their mean distance."""
    near = np.minimum(away, FARTHEST)
    known = np.isfinite(near)
    mean = np.where(known, near, 0.0).sum(1)[known.any(1)] / known.sum(1)[known.any(1)]
    return float(mean.mean())


def straight_on(logs: Logs) -> np.ndarray:
    """``distances`` of drivers who keep their velocity: the parameter-free baseline."""
    agents, state = logs.model(START).start(logs.scene, logs.row, max(len(scene.tracks) for scene in logs.scenes))
    found = []
    for index, track in np.argwhere(state["phase"] == 1).tolist():
        log, row = logs.scenes[logs.scene[index]].tracks, int(logs.row[index])
        at = np.minimum(row + np.arange(1, STEPS + 1), len(log.time) - 1)
        expected = agents.position[index, track, :2] + agents.velocity[index, track] * TICK * np.arange(1, STEPS + 1)[:, None]
        found.append(np.where(log.valid[track, at], np.linalg.norm(expected - log.position[track, at, :2], axis=1), np.nan))
    return np.array(found)


def fit(logs: Logs, rounds: int) -> tuple[LaneParameters, list[float]]:
    """The parameters that fit best and the error after each round."""
    best = START
    least, step, curve = error(distances(logs, best)), 0.3, []
    with Progress("fitting traffic", "round", rounds) as progress:
        for _ in range(rounds):
            before = least
            for name in FITTED:
                for factor in (1 + step, 1 / (1 + step)):
                    tried = replace(best, **{name: round(getattr(best, name) * factor, ROUND)})
                    found = error(distances(logs, tried))
                    if found < least - 1e-4:
                        best, least = tried, found
                        break
            curve.append(least)
            step = step / 2 if least > before - 0.002 else step
            progress.update()
            if step < 0.03:
                break
    return best, curve


def report(logs: Logs, models: Mapping[str, LaneParameters]) -> dict[str, Any]:
    """Errors and median distances at the marks of every model, and of who keeps its velocity."""
    away = {"straight on": straight_on(logs), **{name: distances(logs, p) for name, p in models.items()}}
    rows = {}
    for name, values in away.items():
        at = {f"{mark:g} s": float(np.nanmean(values[:, round(mark / TICK) - 1])) for mark in MARKS}
        rows[name] = {"error": error(values), "mean_distance": at, "drivers": len(values)}
    return rows


def main(options: Options) -> None:
    """Fits and prints."""
    train = open_dataset(default_dataroot("train"))
    names = train.scene_names(("train",))[: options.scenes]
    logs = Logs.of([train.load(name) for name in names], options.starts)
    best, curve = fit(logs, options.rounds)
    models = {"before": START, "fitted": best}
    judged = {"town train": report(logs, models)}
    val = open_dataset(default_dataroot("val"))
    judged["town val"] = report(Logs.of([val.load(name) for name in val.scene_names(("val",))], options.starts), models)
    if options.other is not None:
        other = open_dataset(options.other, scenes=("train", "val"))
        scenes = [other.load(name, require_map=False) for name in other.scene_names(("train", "val"))]
        judged["other"] = report(Logs.of(scenes, options.starts), models)
    for name, rows in judged.items():
        for model, row in rows.items():
            marks = "  ".join(f"{mark} {metres:.2f} m" for mark, metres in row["mean_distance"].items())
            print(f"{name:<12}{model:<12} error {row['error']:.3f} m   {marks}   {row['drivers']} drivers")
    print(best)
    if options.out is not None:
        write_json(options.out, {**header("traffic_fit", options), "parameters": asdict(best), "curve": curve, "judged": judged})


if __name__ == "__main__":
    run(main, Options)
