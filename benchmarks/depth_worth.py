"""What depth is worth: the same pictures seen from elsewhere with each kind of depth, on town scenes never trained on.

``prepare`` makes the depth of pairs of consecutive keyframes from the town's LiDAR in each of the ways of ``KINDS``, and it is
read from files as any other; ``exact`` is the town's own. ``1m`` and ``2m``: the view that far to either side of a keyframe,
from that one alone, by the splat with its holes filled, which is what ``replay`` shows, and by DiST-S. ``between``: halfway in
time between both of a pair, on the recorded path, from both. The truth is the oracle's frame. Kinds differ in depth alone:
pictures, poses, places and noise are the same. Places where a camera would touch something are left out; ``views`` counts what
is left.

    python -m benchmarks.depth_worth --town DIR --town DIR --split test --out benchmarks/results/depth_worth.json
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import tyro

from benchmarks.common import FinishedUnits, images_of, result_file, run, told_apart
from benchmarks.depth import METHODS
from benchmarks.novel_view import CLEARANCE, like, noise_seed, truth_aside
from benchmarks.pixels import regions
from benchmarks.protocols import average, summarise
from benchmarks.tables import print_table
from dist4d_env.curation.camera import CurationConfig
from dist4d_env.curation.prepare import prepare_keyframe, sensor_files, stereo_maps
from dist4d_env.data.depth_files import read_depth
from dist4d_env.data.images import resample_nearest
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.metrics.images.regional import score
from dist4d_env.models.conditions import splat_images
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.progress import each
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.memory import Memory
from dist4d_env.worlds.oracle import OracleWorld

EXACT = "exact"
KINDS = ("least_squares", "flow", "flow_stereo")
"""Ways of making depth, of ``benchmarks.depth.METHODS``."""
SHIFTS = (1.0, 2.0)


@dataclass(frozen=True)
class Options:
    """Views from elsewhere with each kind of depth."""

    town: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default_factory=tuple)
    """Town data sets to measure on."""
    split: str = "val"
    """Their split: val for choosing, test is looked at once."""
    scenes: int = 3
    """How many scenes of each."""
    pairs: int = 1
    """Pairs of consecutive keyframes of each of them."""
    size: str = "64x112"
    """Height x width of the views; depth is made at the height that ``prepare`` makes it at."""
    weights: str = "tiny"
    """Preset or directory of DiST-S."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""


def main(options: Options) -> dict[str, Any]:
    """Measure, print and store."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    size, model = parse_size(options.size), DiSTSPipeline.from_pretrained(options.weights)
    steps = DiSTTPipeline.from_pretrained(options.weights).transformer.config.steps
    finished = FinishedUnits(options.out, {key: value for key, value in vars(options).items() if key != "out"})
    towns: dict[str, Any] = {}
    for label, town in told_apart((Path(town).name, town) for town in options.town).items():
        dataset = open_dataset(Path(town))
        names = dataset.scene_names(options.split)[: options.scenes]
        for name in each(names, label, "scene"):
            if f"{town}/{name}" not in finished.done:
                finished.add(f"{town}/{name}", list(evaluate(dataset.load(name), size, options.pairs, model, steps)))
        units = [finished.done[f"{town}/{name}"] for name in names]
        if not any(units):
            raise DataError(f"{town}: no place is {CLEARANCE} m from every surface; nothing is measured")
        results = summarise([of_scene(views) for views in units])
        views = {mark: sum(view["mark"] == mark for unit in units for view in unit) for mark in results["replay"]}
        images = images_of(dataset.load(names[0]), size)
        towns[label] = {"scenes": names, "images": images, "views": views, "results": results}
        print_table(results)
    return result_file("depth_worth", options, {"town": towns}, finished)


def evaluate(scene: Scene, size: tuple[int, int], count: int, model: DiSTSPipeline, steps: int) -> Iterator[dict[str, Any]]:
    """The views of a scene: "mark" (shift or "between") and, of each way of showing, kind of depth -> region -> score."""
    oracle, rig = OracleWorld(), scene.rig.at_size(*size)
    (state,) = oracle.reset([WorldStart(scene, rig, 0.0, 0)])
    last = len(scene.sensors.keyframe_time) - 1
    for first in np.unique(np.linspace(0, last, count + 2)[1:-1].round().astype(int)).tolist():
        pair = first, first + 1
        times = [float(scene.sensors.keyframe_time[keyframe]) for keyframe in pair]
        boxes, frames = [scene.boxes(time) for time in times], with_depth(scene, pair, size)
        alone = {kind: [Memory.from_frames([f], [b]) for f, b in zip(made, boxes, strict=True)] for kind, made in frames.items()}
        for index, left in ((i, side * shift) for i in range(2) for shift in SHIFTS for side in (1.0, -1.0)):
            time, now = times[index], boxes[index]
            truth = truth_aside(oracle, state, time, left, frames[EXACT][index].body)
            if truth is None:
                continue
            masks = regions(truth, now, frames[EXACT][index : index + 1])
            shown: dict[str, Any] = {"replay": {}, "dist_s": {}}
            for kind, memories in alone.items():
                splat = memories[index].render(rig, truth.global_from_camera, now, time)
                shown["replay"][kind] = score(like(truth, *splat.filled()), truth, masks)
                generator = torch.Generator().manual_seed(noise_seed(0, pair[index], left))
                view = model([splat_images(splat)], generator=generator, steps=steps)
                shown["dist_s"][kind] = score(splat.over(like(truth, view.rgb[0], view.depth[0])), truth, masks)
            yield {"mark": f"{abs(left):g}m", **shown}
        halfway = sum(times) / 2
        truth, now = truth_aside(oracle, state, halfway, 0.0, frames[EXACT][0].body), scene.boxes(halfway)
        if truth is not None:
            masks = regions(truth, now, frames[EXACT])
            together = {kind: Memory.from_frames(sources, boxes) for kind, sources in frames.items()}
            splats = {kind: memory.render(rig, truth.global_from_camera, now, halfway) for kind, memory in together.items()}
            yield {"mark": "between", "replay": {k: score(like(truth, *s.filled()), truth, masks) for k, s in splats.items()}}


def with_depth(scene: Scene, keyframes: tuple[int, ...], size: tuple[int, int]) -> dict[str, list[RGBDFrame]]:
    """Frames of some keyframes by kind of depth."""
    sensors = sensor_files(scene)
    exact = [sensors.rgbd(keyframe, *size) for keyframe in keyframes]
    frames = {EXACT: exact}
    for kind in KINDS:
        config = replace(CurationConfig(), **METHODS[kind])
        stereo = stereo_maps(scene, config)
        with tempfile.TemporaryDirectory() as root:
            for keyframe in keyframes:
                prepare_keyframe(scene, keyframe, Path(root), config, stereo=stereo)
            frames[kind] = [
                replace(
                    frame, depth=np.stack([_read(scene, Path(root), keyframe, view, size) for view in range(len(frame.depth))])
                )
                for keyframe, frame in zip(keyframes, exact, strict=True)
            ]
    return frames


def _read(scene: Scene, root: Path, keyframe: int, view: int, size: tuple[int, int]) -> np.ndarray:
    """Depth (H, W) below a root, as ``FileSensorLog`` reads it."""
    sensors = sensor_files(scene)
    stored = sensors.image_size[view]
    return resample_nearest(read_depth(root / sensors.depth_name(keyframe, view), stored), stored, *size)


def of_scene(views: list[dict[str, Any]]) -> dict[str, Any]:
    """Way of showing -> mark -> means over a scene's views."""
    means: dict[str, Any] = {}
    for way, mark in dict.fromkeys((way, view["mark"]) for view in views for way in view if way != "mark"):
        means.setdefault(way, {})[mark] = average([view[way] for view in views if view["mark"] == mark and way in view])
    return means


if __name__ == "__main__":
    run(main, Options)
