"""How few network evaluations are enough: the same weights sampled with 1, 2, 4 and 30 evaluations.

Three protocols on town scenes never trained on, each against the oracle's render of the same instant:

- ``one_step_history``: DiST-T, 0.5 s ahead on the recorded drive, remembering only what was seen before;
- ``closed_loop_history``: 4 s on the recorded drive, the world living on what it made;
- ``novel_view_2m``: DiST-S, two metres beside one real RGB-D frame.

Frechet distance is over the town segmenter's features of single camera images, all scenes and seeds together, and is biased
upwards by their small number: compare rows of one table only. ``--student FOLDER`` adds rows of a DiST-T distilled from the same
weights (``train dist-t --distil``), by one and two evaluations.

    python -m benchmarks.sampling --out benchmarks/results/sampling.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import Journal, header, mean_and_spread, run, write_json
from benchmarks.protocols import Scores, average
from benchmarks.side_by_side import SHIFT, Frames, aside, closed_loop, completion, one_steps, tables
from benchmarks.tables import print_table
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError
from dist4d_env.metrics.images.frechet import frechet_distance
from dist4d_env.models.pipelines import DiSTTPipeline
from dist4d_env.models.segmenter import load_segmenter
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.contract import World
from dist4d_env.worlds.dist4d import GenerativeWorld
from dist4d_env.worlds.factory import make_world

BOUND = {"psnr": 0.2, "ssim": 0.01, "frechet": 0.1}
"""What few evaluations may lose against the most: dB, SSIM, share of the Frechet distance."""
STUDENT = (1, 2)
"""Evaluations of a distilled DiST-T."""


@dataclass(frozen=True)
class Options:
    """Scores of DiST-T and DiST-S by number of network evaluations."""

    weights: str = "tiny"
    """Preset or directory to judge."""
    student: Path | None = None
    """Folder of a distilled DiST-T."""
    evaluations: tuple[int, ...] = (1, 2, 4, 30)
    """Numbers of evaluations to compare; the largest is what the others are held against."""
    segmenter: Path | None = None
    """Folder of the town segmenter whose features the Frechet distance compares; the one that ships where none is given."""
    scenes: int = 8
    """How many val scenes."""
    starts: int = 4
    """Instants of each scene from which one step is predicted, and from which the cameras move aside."""
    duration: float = 4.0
    """Seconds in closed loop; scenes must be two seconds longer."""
    seeds: int = 3
    """How many noise seeds."""
    dataroot: Path | None = None
    """A town data set; the default one is made when there is none."""
    quick: bool = False
    """Two scenes, two instants, one second and one seed, to see that it runs."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""

    def __post_init__(self) -> None:
        if len(set(self.evaluations)) < 2 or min(self.evaluations) < 1:
            raise ConfigError(f"--evaluations needs at least two different numbers from 1 on, not {self.evaluations}")


def main(options: Options) -> dict[str, Any]:
    judge = Judge(options.weights, sorted(set(options.evaluations)), options.segmenter, options.student)
    dataset = open_dataset(options.dataroot)
    names = dataset.scene_names("val")[: 2 if options.quick else options.scenes]
    starts, duration, seeds = (2, 1.0, 1) if options.quick else (options.starts, options.duration, options.seeds)
    key = {"weights": options.weights, "student": options.student, "evaluations": judge.evaluations}
    key |= {"starts": starts, "duration": duration}
    journal = Journal(options.out, key | {"segmenter": options.segmenter, "town": dataset.dataroot})
    units = [(name, seed) for name in names for seed in range(seeds)]
    for name, seed in tqdm(units, desc="scenes", disable=None):
        if f"{name}/{seed}" not in journal.done:
            journal.add(f"{name}/{seed}", judge.unit(dataset.load(name), seed, starts, duration))
    done = [journal.done[f"{name}/{seed}"] for name, seed in units]
    results = tables([unit["scores"] for unit in done])
    distances = frechet([unit["features"] for unit in done])
    most = f"{judge.evaluations[-1]}"
    result = header("sampling", options) | {
        "scenes": names,
        "images": "6 x 64 x 112",
        "results": results,
        "frechet": distances,
        "frechet_images": {
            protocol: sum(len(unit["features"].get(protocol, {}).get("truth", ())) for unit in done) for protocol in distances
        },
        "loss_against_most": losses([unit["scores"] for unit in done], distances, most),
        "bound": BOUND,
    }
    if options.out:
        write_json(options.out, result)
    journal.finish()
    print_table(results)
    for protocol, rows in result["loss_against_most"].items():
        for method, row in rows.items():
            told = ", ".join(f"{name} {value['mean'] if isinstance(value, dict) else value:.4f}" for name, value in row.items())
            print(f"{protocol:<22}{method:>3} evaluations lose {told} against {most}")
    return result


class Judge:
    """The same two networks as one world per number of evaluations, beside the splat."""

    def __init__(self, weights: str, evaluations: Sequence[int], segmenter: Path | None, student: Path | None = None) -> None:
        self.evaluations = list(evaluations)
        given = GenerativeWorld.from_pretrained(weights, memory="history")
        self.worlds: dict[str, World] = {"splat": make_world("dist4d", weights="splat", memory="history")}
        for count in self.evaluations:
            policy = replace(given.policy, steps_t=count, steps_s=count)
            self.worlds[f"{count}"] = GenerativeWorld(given.dist_t, given.dist_s, "history", policy)
        if student is not None:
            distilled = DiSTTPipeline.from_pretrained(student)
            for count in STUDENT:
                policy = replace(given.policy, steps_t=count)
                self.worlds[f"student {count}"] = GenerativeWorld(distilled, given.dist_s, "history", policy)
        self.completions = {f"{count}": completion(given.dist_s, count) for count in self.evaluations}
        self.segmenter = load_segmenter(segmenter)

    def unit(self, scene: Scene, seed: int, starts: int, duration: float) -> dict[str, Any]:
        """scores: protocol -> method -> region -> metric -> value; features: protocol -> method -> rows (N, D)."""
        judged = {
            "one_step_history": one_steps(self.worlds, scene, seed, starts),
            "closed_loop_history": closed_loop(self.worlds, scene, seed, duration),
            f"novel_view_{SHIFT:g}m": aside(self.completions, scene, seed, starts),
        }
        return {
            "scores": {name: average([scores for scores, _ in rows]) for name, rows in judged.items() if rows},
            "features": {name: self.features([frames for _, frames in rows]) for name, rows in judged.items() if rows},
        }

    def features(self, frames: Sequence[Frames]) -> dict[str, list[list[float]]]:
        """method (and "truth") -> one row of features per camera image."""
        return {name: self.segmenter.look(np.concatenate([f[name].rgb for f in frames]))[1].tolist() for name in frames[0]}


def frechet(units: Sequence[Mapping[str, Mapping[str, list[list[float]]]]]) -> dict[str, dict[str, float]]:
    """protocol -> method -> Frechet distance to the truth."""
    result: dict[str, dict[str, float]] = {}
    for protocol in dict.fromkeys(name for unit in units for name in unit):
        here = [unit[protocol] for unit in units if protocol in unit]
        rows = {name: np.concatenate([np.array(unit[name], float) for unit in here]) for name in here[0]}
        truth = rows.pop("truth")
        scale = np.maximum(truth.std(0), 1e-6)  # every feature in units of its deviation over true pictures, as in closed loops
        result[protocol] = {name: frechet_distance(features / scale, truth / scale) for name, features in rows.items()}
    return result


def losses(
    units: Sequence[Mapping[str, Scores]], distances: Mapping[str, Mapping[str, float]], most: str
) -> dict[str, dict[str, dict[str, Any]]]:
    """protocol -> number of evaluations -> what is lost against ``most`` evaluations on the same noise, positive is worse.

    psnr (dB), ssim, delta1: mean and spread of paired differences over scenes and seeds; frechet: relative increase.
    """
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for protocol in distances:
        here = [unit[protocol] for unit in units if protocol in unit]
        for method in here[0]:
            if method in ("splat", most):
                continue
            pairs = [(unit[most]["all"], unit[method]["all"]) for unit in here]
            row: dict[str, Any] = {
                name: mean_and_spread([reference[name] - scored[name] for reference, scored in pairs])
                for name in ("psnr", "ssim", "delta1")
            }
            row["frechet"] = distances[protocol][method] / distances[protocol][most] - 1
            result.setdefault(protocol, {})[method] = row
    return result


if __name__ == "__main__":
    run(main, Options)
