"""DiST-T against geometry on town scenes it was never trained on: one step, and eight seconds in closed loop.

Four protocols, each judged against the oracle's render of the same instant:

- ``one_step_history``: 0.5 s ahead on the recorded drive, from several instants, remembering only what was seen before;
- ``one_step_log``: 0.25 s ahead, halfway between two keyframes, remembering the whole log;
- ``closed_loop_history``: 8 s on the recorded drive, remembering only what was seen before they began, the world living on
  what it made;
- ``closed_loop_log``: 8 s beside the recorded drive (a lateral swerve), at instants between the keyframes, remembering the
  whole log: what the simulator does by default. DiST-S takes part here.

Rows: the codec applied to the truth (ceiling), copy of the last real frame (with the log in memory: of the nearest one), the
parameter-free splat, and the weights. ``--weights splat`` leaves out the rows that need weights.

    python -m benchmarks.temporal --out benchmarks/results/temporal.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import Journal, header, mean_and_spread, run, write_json
from benchmarks.pixels import REGIONS, regions, score
from benchmarks.rollouts import Drive, Rollout, codec_of, logged, real_frames, roll_out, swerving, through_codec
from benchmarks.tables import print_table
from dist4d_env.errors import ConfigError
from dist4d_env.models.codec import RGBDCodec
from dist4d_env.scenes.nuscenes import open_dataset
from dist4d_env.scenes.scene import Scene
from dist4d_env.world.contract import World
from dist4d_env.world.factory import make_world
from dist4d_env.world.memory import MemoryPolicy
from dist4d_env.world.oracle import OracleWorld

MEMORIES: tuple[MemoryPolicy, ...] = ("history", "log")
STEP = 0.5
SIZE = (64, 112)
HISTORY_START = 2.0
"""Seconds of history that a closed loop begins with."""
MARKS = (0.5, 1.0, 2.0, 4.0, 8.0)
SWERVE, SWERVE_PERIOD = 0.6, 8.0
"""Metres and seconds of the lateral swerve."""


@dataclass(frozen=True)
class Options:
    """Scores of DiST-T beside copy-last, best splat and codec ceiling."""

    weights: str = "tiny"
    """Preset or directory to judge; "splat" judges the baselines alone."""
    scenes: int = 8
    """How many val scenes."""
    starts: int = 6
    """Instants of each scene from which one step is predicted."""
    duration: float = 8.0
    """Seconds in closed loop; scenes must be two seconds longer."""
    seeds: int = 1
    """How many noise seeds."""
    dataroot: Path | None = None
    """A town data set; the default one is made when there is none."""
    quick: bool = False
    """Two scenes, two instants, two seconds, to see that it runs."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""


def main(options: Options) -> dict[str, Any]:
    codec = codec_of(options.weights)
    worlds = {memory: contenders(options.weights, memory) for memory in MEMORIES}
    dataset = open_dataset(options.dataroot)
    names = dataset.scene_names("val")[: 2 if options.quick else options.scenes]
    duration, starts = (2.0, 2) if options.quick else (options.duration, options.starts)
    key = {"weights": options.weights, "duration": duration, "starts": starts, "seeds": options.seeds, "town": dataset.dataroot}
    journal = Journal(options.out, key)
    units = [(name, seed) for name in names for seed in range(options.seeds)]
    for name, seed in tqdm(units, desc="scenes", disable=None):
        if f"{name}/{seed}" not in journal.done:
            judge = Judge(dataset.load(name), seed, worlds, codec)
            journal.add(f"{name}/{seed}", judge.protocols(duration, starts))
    results = summarise([journal.done[f"{name}/{seed}"] for name, seed in units])
    result = header("temporal", options) | {"scenes": names, "images": "6 x 64 x 112", "results": results}
    if options.out:
        write_json(options.out, result)
    journal.finish()
    print_table(results)
    return result


def contenders(weights: str, memory: MemoryPolicy) -> dict[str, World]:
    """The worlds to judge, by the name of their row."""
    worlds = {"splat": make_world("dist4d", weights="splat", memory=memory)}
    return worlds if weights == "splat" else worlds | {"dist4d": make_world("dist4d", weights=weights, memory=memory)}


class Judge:
    """Roll-outs of one scene and seed, scored against the oracle."""

    def __init__(self, scene: Scene, seed: int, worlds: Mapping[MemoryPolicy, dict[str, World]], codec: RGBDCodec | None) -> None:
        self.scene, self.seed, self.worlds, self.codec = scene, seed, worlds, codec
        self.rig = scene.rig.at_size(*SIZE)
        self.real = real_frames(scene, *SIZE)
        self.oracle = OracleWorld()

    def protocols(self, duration: float, starts: int) -> dict[str, Any]:
        """protocol -> mark or "mean" -> method -> region -> score."""
        if self.scene.duration < HISTORY_START + duration - 1e-6:
            raise ConfigError(
                f"{self.scene.name} lasts {self.scene.duration:g} s, and {duration:g} s in closed loop need "
                f"{HISTORY_START + duration:g} s: give --duration, or another --dataroot"
            )
        instants = one_step_starts(self.scene.duration, starts)
        on_time = [HISTORY_START + STEP * (k + 1) for k in range(round(duration / STEP))]
        between = [time - STEP / 2 for time in on_time]
        drive, swerve = logged(self.scene), swerving(self.scene, SWERVE, SWERVE_PERIOD, HISTORY_START)
        history, history_run = self.run("history", HISTORY_START, on_time, drive, True)
        log, log_run = self.run("log", HISTORY_START, between, swerve, False)
        return {
            "one_step_history": {"mean": average([self.run("history", t, [t + STEP], drive, True)[0][0] for t in instants])},
            "one_step_log": {"mean": average([self.run("log", t, [t + STEP / 2], drive, True)[0][0] for t in instants])},
            "closed_loop_history": marks(history) | {"share_of_steps": sources(history_run)},
            "closed_loop_log": marks(log) | {"share_of_steps": sources(log_run)},
        }

    def run(
        self, memory: MemoryPolicy, start: float, times: Sequence[float], path: Drive, plan_ahead: bool
    ) -> tuple[list[Scores], Rollout]:
        """Per step method -> region -> score; and the last contender's roll-out."""

        def rolled(world: World) -> Rollout:
            return roll_out(world, self.scene, self.rig, start, self.seed, times, path, plan_ahead, STEP)

        truth = rolled(self.oracle)
        runs = {name: rolled(world) for name, world in self.worlds[memory].items()}
        past = [frame for time, frame in self.real if time <= start + 1e-6]
        steps = []
        for k, (frame, at) in enumerate(zip(truth.frames, truth.scenes, strict=True)):
            nearest = self.real[int(np.argmin([abs(time - at.time) for time, _ in self.real]))][1]
            copied = {"copy_last": past[-1]} if memory == "history" else {"copy_nearest": nearest}
            ceiling = {"codec_ceiling": through_codec(self.codec, frame)} if self.codec else {}
            rows = ceiling | copied | {name: run.frames[k] for name, run in runs.items()}
            masks = regions(frame, at.boxes, past if memory == "history" else [real for _, real in self.real])
            steps.append({method: score(one, frame, masks) for method, one in rows.items()})
        return steps, list(runs.values())[-1]


def one_step_starts(duration: float, count: int) -> list[float]:
    """``count`` keyframe times from the first with a second of history to the last with a step ahead of it."""
    keyframes = np.arange(1.0, duration - STEP + 1e-6, STEP)
    return [float(t) for t in keyframes[np.unique(np.linspace(0, len(keyframes) - 1, count).round().astype(int))]]


def sources(run: Rollout) -> dict[str, float]:
    """Share of the steps that each source made."""
    names = sorted({name for info in run.infos for name in info.source})
    return {name: float(np.mean([name in info.source for info in run.infos])) for name in names}


Scores = dict[str, dict[str, dict[str, float]]]
"""method -> region -> metric -> value."""


def average(steps: Sequence[Scores]) -> Scores:
    """The mean over steps; a region counts where a step has it."""
    result: Scores = {}
    for method in steps[0]:
        for region in REGIONS:
            rows = [step[method][region] for step in steps if region in step[method]]
            if rows:
                result.setdefault(method, {})[region] = {
                    key: mean_and_spread([row[key] for row in rows])["mean"] for key in rows[0]
                }
    return result


def marks(steps: Sequence[Scores]) -> dict[str, Any]:
    """Scores at the marked times and their mean over all steps."""
    picked = {f"{mark:g}s": steps[round(mark / STEP) - 1] for mark in MARKS if round(mark / STEP) <= len(steps)}
    return {**picked, "mean": average(steps)}


def summarise(units: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """protocol -> mark -> region -> method -> metric -> mean and spread over scenes and seeds."""
    table: dict[str, Any] = {}
    for protocol, by_mark in units[0].items():
        table[protocol] = {}
        for mark, by_method in by_mark.items():
            if mark == "share_of_steps":
                shares = [unit[protocol][mark] for unit in units]
                names = sorted({name for share in shares for name in share})
                table[protocol][mark] = {name: float(np.mean([share.get(name, 0.0) for share in shares])) for name in names}
                continue
            for region in REGIONS:
                for method in by_method:
                    rows = [unit[protocol][mark][method][region] for unit in units if region in unit[protocol][mark][method]]
                    if rows:
                        cell = {key: mean_and_spread([row[key] for row in rows]) for key in rows[0]}
                        table[protocol].setdefault(mark, {}).setdefault(region, {})[method] = cell
    return table


if __name__ == "__main__":
    run(main, Options)
