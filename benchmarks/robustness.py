"""What errors of a real data set's labels cost: one step ahead with noisy depth, camera poses or boxes, splat and DiST-T alike.

Town labels are exact, so noise is put on them: on the remembered frames' depth, on the poses that they were taken from, or on the
annotated boxes (those of the memory and those that the model is told). The truth stays the oracle's render of the exact scene.
A model may lose what its splat loses; what it loses beyond that is its own weakness.

    python -m benchmarks.robustness --out benchmarks/results/robustness.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import Journal, header, mean_and_spread, run, write_json
from benchmarks.noisy_labels import with_noisy_boxes, with_noisy_sensors
from benchmarks.pixels import regions, score
from benchmarks.protocols import SIZE, STEP, Scores, average, one_step_starts
from benchmarks.rollouts import logged, real_frames, roll_out
from benchmarks.side_by_side import tables
from benchmarks.tables import print_table
from dist4d_env.data.open import open_dataset
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.oracle import OracleWorld

DEPTH = 0.07
"""Relative standard deviation of depth."""
POSE, POSE_ANGLE = 0.1, float(np.radians(0.5))
"""Standard deviation of a frame's ego pose: metres along x and along y, radians of yaw."""
BOX, BOX_ANGLE, BOX_MISSING = 0.2, float(np.radians(5)), 0.05
"""Standard deviation of an annotated box: metres along x and along y, radians of yaw; and the share that is not annotated."""
BOUND = 1.0
"""dB that a model may lose beyond what the splat loses."""

CONDITIONS: dict[str, Callable[[Scene, int], Scene]] = {
    "exact": lambda scene, seed: scene,
    "depth": lambda scene, seed: with_noisy_sensors(scene, seed, depth=DEPTH),
    "pose": lambda scene, seed: with_noisy_sensors(scene, seed, pose=POSE, angle=POSE_ANGLE),
    "boxes": lambda scene, seed: with_noisy_boxes(scene, seed, BOX, BOX_ANGLE, BOX_MISSING),
}
"""What is wrong with the labels: a scene and a seed to the scene as it is believed to be."""


@dataclass(frozen=True)
class Options:
    """What noise on depth, poses and boxes costs DiST-T and the splat."""

    weights: str = "tiny"
    """Preset or directory to judge."""
    scenes: int = 8
    """How many val scenes."""
    starts: int = 4
    """Instants of each scene from which one step is predicted."""
    seeds: int = 3
    """How many seeds, of the labels' noise and of the model's."""
    dataroot: Path | None = None
    """A town data set; the default one is made when there is none."""
    quick: bool = False
    """Two scenes, two instants and one seed, to see that it runs."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""


def main(options: Options) -> dict[str, Any]:
    worlds = {
        "splat": make_world("dist4d", weights="splat", memory="history"),
        "dist4d": make_world("dist4d", weights=options.weights, memory="history"),
    }
    dataset = open_dataset(options.dataroot)
    names = dataset.scene_names("val")[: 2 if options.quick else options.scenes]
    starts, seeds = (2, 1) if options.quick else (options.starts, options.seeds)
    journal = Journal(options.out, {"weights": options.weights, "starts": starts, "town": dataset.dataroot})
    units = [(name, seed) for name in names for seed in range(seeds)]
    for name, seed in tqdm(units, desc="scenes", disable=None):
        if f"{name}/{seed}" not in journal.done:
            journal.add(f"{name}/{seed}", judge(dataset.load(name), seed, starts, worlds))
    done = [journal.done[f"{name}/{seed}"] for name, seed in units]
    results = tables(done)
    lost = losses(done)
    result = header("robustness", options) | {
        "scenes": names,
        "images": "6 x 64 x 112",
        "noise": {"depth": DEPTH, "pose": [POSE, POSE_ANGLE], "boxes": [BOX, BOX_ANGLE, BOX_MISSING]},
        "results": results,
        "psnr_lost": lost,
        "bound": BOUND,
    }
    if options.out:
        write_json(options.out, result)
    journal.finish()
    print_table(results)
    for name, row in lost.items():
        print(name.ljust(8) + ", ".join(f"{key} {cell['mean']:.2f} ±{cell['std']:.2f} dB" for key, cell in row.items()))
    return result


def judge(scene: Scene, seed: int, starts: int, worlds: Mapping[str, Any]) -> dict[str, Scores]:
    """condition -> method -> region -> score, mean over the instants."""
    rig = scene.rig.at_size(*SIZE)
    real = real_frames(scene, *SIZE)
    result: dict[str, list[Scores]] = {name: [] for name in CONDITIONS}
    told = {name: perturb(scene, seed) for name, perturb in CONDITIONS.items()}
    for start in one_step_starts(scene.duration, starts):
        times = [start + STEP]
        truth = roll_out(OracleWorld(), scene, rig, start, seed, times, logged(scene), True, STEP)
        masks = regions(truth.frames[0], truth.scenes[0].boxes, [frame for time, frame in real if time <= start + 1e-6])
        for condition, believed in told.items():
            rows = {
                name: roll_out(world, believed, rig, start, seed, times, logged(believed), True, STEP).frames[0]
                for name, world in worlds.items()
            }
            result[condition].append({name: score(frame, truth.frames[0], masks) for name, frame in rows.items()})
    return {name: average(steps) for name, steps in result.items()}


def losses(units: Sequence[Mapping[str, Scores]]) -> dict[str, dict[str, Any]]:
    """condition -> PSNR lost by splat and model against exact labels, and by the model beyond the splat: mean and spread."""
    result: dict[str, dict[str, Any]] = {}
    for condition in CONDITIONS:
        if condition == "exact":
            continue
        by_method = {
            name: [unit["exact"][name]["all"]["psnr"] - unit[condition][name]["all"]["psnr"] for unit in units]
            for name in ("splat", "dist4d")
        }
        beyond = [model - splat for model, splat in zip(by_method["dist4d"], by_method["splat"], strict=True)]
        result[condition] = {name: mean_and_spread(values) for name, values in (by_method | {"beyond": beyond}).items()}
    return result


if __name__ == "__main__":
    run(main, Options)
