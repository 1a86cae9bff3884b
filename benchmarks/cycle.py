"""What self-supervised cycle consistency is worth where depth is curated from LiDAR, as a real data set has it, and not exact.

Three runs of equal length from the same stage-1 weights: stage 1 continued on recorded-path pairs; half of the samples replaced
by cycles (``training/cycle.py``); half of them replaced by the oracle's true side views (``training/off_path.py``), the upper
bound that only the town can offer. All are judged as in ``benchmarks/novel_view.py``: the source is one val keyframe with curated
depth, the truth the oracle's render of the same instant from the moved rig. The share of the gap that cycles close is given
where the gap is more than twice its standard error over scenes. Needs two town data sets with LiDAR; everything made on the way
(curated depth, samples, runs) is kept in a work folder, and a stopped run goes on where it was.

    python -m benchmarks.cycle --dataroot TRAIN --val-dataroot VAL --work runs/cycle --out benchmarks/results/cycle.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import Journal, header, mean_and_spread, run, write_json
from benchmarks.novel_view import SHIFTS, SIZE, judge_scene, places, summarise
from benchmarks.tables import print_table
from dist4d_env.curation.camera import CurationConfig
from dist4d_env.curation.prepare import prepare_keyframe, prepare_scenes
from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.models.dist_s import DiSTSUNet
from dist4d_env.models.pipelines import DiSTSPipeline
from dist4d_env.models.presets import preset as preset_named
from dist4d_env.models.pretrained import load_model, resolve_weights
from dist4d_env.scenes.scene import Scene
from dist4d_env.training.checkpoint import CHECKPOINT
from dist4d_env.training.cycle import prepare_cycle
from dist4d_env.training.dist_s import DiSTSRecipe
from dist4d_env.training.loop import LoopOptions, train
from dist4d_env.training.off_path import prepare_off_path
from dist4d_env.training.prepare import prepare
from dist4d_env.training.samples import SampleSettings, SampleStore

RUNS = {"stage1": None, "cycle": "cycle", "oracle": "off_path"}
"""Name of a run -> folder of the samples that it mixes with recorded-path pairs."""
CURATION = CurationConfig(height=SIZE[0])
METRICS = {"psnr": 1.0, "ssim": 1.0, "abs_rel": -1.0, "delta1": 1.0}
"""Metric -> 1 where more is better, -1 where less is."""


@dataclass(frozen=True)
class Options:
    """Trains and judges the three runs."""

    dataroot: Path
    """Town data set with a train split."""
    val_dataroot: Path
    """Town data set with a val split."""
    work: Path
    """Folder for curated depth, samples and runs."""
    weights: str = "tiny"
    """Stage 1: a preset or a folder with dist_s/."""
    preset: str = "tiny"
    """Sizes of the model that the weights have."""
    steps: int = 500
    """Steps of each run."""
    batch: int = 4
    """Frames of six cameras per step."""
    learning_rate: float = 5e-4
    """Its plateau; it falls to zero over the second half."""
    train_scenes: int = 24
    """How many train scenes."""
    scenes: int = 8
    """How many val scenes."""
    instants: int = 4
    """How many keyframes of each."""
    seed: int = 0
    """Of samples, batches and noise."""
    workers: int = 1
    """Processes that make depth and samples."""
    quick: bool = False
    """Two train scenes, two val scenes, one instant, to see that it runs."""
    out: Path | None = None
    """Result file (JSON)."""


def main(options: Options) -> dict[str, Any]:
    town, val = (with_curated_depth(root, options.work / name) for name, root in datasets(options).items())
    names = town.scene_names("train")[: 2 if options.quick else options.train_scenes]
    judged = val.scene_names("val")[: 2 if options.quick else options.scenes]
    prepare_scenes(town, names, options.work / "train" / "depth", CURATION, workers=options.workers)
    curate_judged(val, judged, instants_of(options))
    samples = make_samples(town, names, options)
    for name in RUNS:
        train_run(name, samples, options)
    units = judge(val, judged, options)
    results = summarise(units)
    result = header("cycle", options) | {
        "train_scenes": len(names),
        "scenes": judged,
        "images": "6 x 64 x 112",
        "samples": {name: sum(len(scene.kind) for scene in store.scenes) for name, store in samples.items()},
        "places": places(units),
        "gap": gaps(units),
        "results": results,
    }
    if options.out:
        write_json(options.out, result)
    print_table(results)
    print_gaps(result["gap"])
    return result


def datasets(options: Options) -> dict[str, Path]:
    """Name of a copy -> the town it is made from."""
    return {"train": options.dataroot, "val": options.val_dataroot}


def with_curated_depth(dataroot: Path, copy: Path) -> Dataset:
    """The data set again, linked file by file, without its exact depth: what is not curated is missing, never exact."""
    copy.mkdir(parents=True, exist_ok=True)
    for path in sorted(dataroot.resolve().iterdir()):
        if path.name != "depth" and not (copy / path.name).exists():
            (copy / path.name).symlink_to(path)
    return open_dataset(copy)


def instants_of(options: Options) -> int:
    """Keyframes judged of each val scene."""
    return 1 if options.quick else options.instants


def judged_keyframes(scene: Scene, instants: int) -> list[int]:
    """The keyframes that ``benchmarks/novel_view.py`` looks at; it stops where one of them has no depth."""
    last = len(scene.sensors.keyframe_time) - 1
    return np.unique(np.linspace(min(2, last), max(last - 2, 0), instants).round().astype(int)).tolist()


def curate_judged(val: Dataset, names: Sequence[str], instants: int) -> None:
    """Depth of the keyframes that are judged; those of a scene that are not need none."""
    for name in tqdm(names, desc="val depth", unit="scene", disable=None):
        scene = val.load(name, False)
        for keyframe in judged_keyframes(scene, instants):
            prepare_keyframe(scene, keyframe, Path(val.dataroot) / "depth", CURATION)


def make_samples(town: Dataset, names: Sequence[str], options: Options) -> dict[str, SampleStore]:
    """Stores of recorded-path pairs, cycles and true side views of the same scenes."""
    # Depth is imperfect by itself: no noise is added.
    settings = SampleSettings(*SIZE, chunk=1, chunk_every=1, space=2.0, noisy=0.0, seed=options.seed)
    folder = options.work / "samples"
    prepare(town, names, folder / "path", settings, options.workers)
    prepare_cycle(town, names, folder / "cycle", settings, options.weights, options.workers)
    prepare_off_path(town, names, folder / "off_path", settings, options.workers)
    return {name: SampleStore(folder / name) for name in ("path", "cycle", "off_path")}


def train_run(name: str, samples: dict[str, SampleStore], options: Options) -> None:
    """One run from the stage-1 weights, taken up again where it was."""
    out = options.work / "runs" / name
    extra = RUNS[name]
    recipe = DiSTSRecipe(
        preset_named(options.preset), samples["path"], None, options.batch, options.seed, samples[extra] if extra else None
    )
    recipe.unet.load_state_dict(load_model(DiSTSUNet, resolve_weights(options.weights) / "dist_s").state_dict())
    loop = LoopOptions(
        out=out,
        steps=options.steps,
        learning_rate=options.learning_rate,
        warmup=50,
        decay=0.5,
        ema=0.99,
        seed=options.seed,
        validate_every=10 * options.steps,
        precision="float32",
        resume=(out / CHECKPOINT).is_file(),
    )
    train(recipe, loop)


def judge(val: Dataset, names: Sequence[str], options: Options) -> list[list[dict[str, Any]]]:
    """Entries of ``benchmarks/novel_view.py`` per scene, with the splat, the stage-1 weights and the three runs as methods."""
    weights = {"start": options.weights} | {name: str(options.work / "runs" / name / "weights") for name in RUNS}
    instants = instants_of(options)
    elsewhere = ("dataroot", "val_dataroot", "work", "out", "workers")  # a work folder has towns of its own, wherever they lie
    key = {name: str(value) for name, value in vars(options).items() if name not in elsewhere}
    journal = Journal(options.work / "judged.json", key)
    units = []
    for name in tqdm(names, desc="scenes", disable=None):
        merged: list[dict[str, Any]] = []
        for method, folder in weights.items():
            unit = f"{method}/{name}"
            if unit not in journal.done:
                pipeline = DiSTSPipeline.from_pretrained(folder)
                first = method == next(iter(weights))
                journal.add(unit, judge_scene(val.load(name), options.seed, instants, None, pipeline, 1, baselines=first))
            merged = merged or [{shift: {} for shift in entry} for entry in journal.done[unit]]
            for into, entry in zip(merged, journal.done[unit], strict=True):
                for shift, methods in entry.items():
                    into[shift] |= {method if made == "dist_s" else made: scores for made, scores in methods.items()}
        units.append(merged)
    return units


def gaps(units: Sequence[list[dict[str, Any]]], region: str = "all") -> dict[str, Any]:
    """shift -> metric -> what true side views and cycles gain over stage 1 continued, means and standard errors over scenes.

    Gains are positive where a run is better. share: of the gap to the upper bound that cycles close, None where the gap is not
    larger than twice its standard error.
    """
    found: dict[str, Any] = {}
    for shift in (f"{s:g}m" for s in SHIFTS):
        for metric, sign in METRICS.items():
            gains: dict[str, list[float]] = {"oracle": [], "cycle": []}
            for unit in units:
                rows = [entry[shift] for entry in unit if shift in entry]
                mean = {name: np.mean([row[name][region][metric] for row in rows]) for name in RUNS} if rows else {}
                for name, values in gains.items():
                    if mean:
                        values.append(float(sign * (mean[name] - mean["stage1"])))
            gap, gain = (mean_and_error(gains[name]) for name in ("oracle", "cycle"))
            real = gap["n"] > 1 and gap["mean"] > 2 * gap["error"]
            cell = {"gap": gap, "gain": gain, "share": gain["mean"] / gap["mean"] if real else None}
            found.setdefault(shift, {})[metric] = cell
    return found


def mean_and_error(values: list[float]) -> dict[str, float]:
    """Mean and its standard error over scenes."""
    spread = mean_and_spread(values)
    return {"mean": spread["mean"], "error": spread["std"] / max(spread["n"], 1) ** 0.5, "n": spread["n"]}


def print_gaps(found: dict[str, Any]) -> None:
    """One line per shift and metric."""
    print("\ngain over stage 1 continued (positive is better): true side views, cycles, share of the gap that cycles close")
    for shift, metrics in found.items():
        for metric, cell in metrics.items():
            share = "no gap" if cell["share"] is None else f"{cell['share']:.0%}"
            cells = "".join(f"{cell[name]['mean']:>+10.4f} ±{cell[name]['error']:.4f}" for name in ("gap", "gain"))
            print(f"  {shift:>3} {metric:<8}{cells}   {share}")


if __name__ == "__main__":
    run(main, Options)
