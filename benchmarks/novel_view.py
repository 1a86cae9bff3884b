"""DiST-S against geometry: the six cameras moved sideways from one real RGB-D frame, on town scenes never trained on.

The source is a single frame; the truth is the oracle's render of the same instant from the moved rig. Rows: the codec applied to
the truth (ceiling of latent models), the source frame unmoved, the parameter-free splat, the weights. ``--weights splat`` leaves
out the rows that need weights. Places where a camera would be inside something or touch it are left out and counted.

    python -m benchmarks.novel_view --out benchmarks/results/novel_view.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.common import FinishedUnits, TownOptions, images_of, result_file, run
from benchmarks.pixels import regions, with_reach
from benchmarks.protocols import average, summarise
from benchmarks.rollouts import scene_at, through_codec
from benchmarks.tables import print_table
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.metrics.images.regional import score
from dist4d_env.models.conditions import splat_images
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline
from dist4d_env.models.video_codec import Codec
from dist4d_env.progress import each
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.memory import Memory
from dist4d_env.worlds.oracle import OracleState, OracleWorld

SHIFTS = (1.0, 2.0, 4.0)
CLEARANCE = 0.5
"""Metres to the nearest surface: no car can be where a camera would be nearer, as inside a parked car."""


@dataclass(frozen=True)
class Options(TownOptions):
    """Scores of DiST-S beside the unmoved source, best splat and codec ceiling."""

    instants: int = 4
    """How many keyframes of each."""
    seeds: int = 3
    """How many noise seeds; rows without noise are evaluated once."""
    quick: bool = False
    """Two scenes, one instant, one seed, to see that it runs."""


def main(options: Options) -> dict[str, Any]:
    given = options.weights != "splat"
    dist_t = DiSTTPipeline.from_pretrained(options.weights) if given else None  # of it, the codec and how it is to be sampled
    dist_s = DiSTSPipeline.from_pretrained(options.weights) if given else None
    codec, steps = (dist_t.codec, dist_t.transformer.config.steps) if dist_t else (None, 1)
    size = parse_size(options.size)
    dataset = open_dataset(options.dataroot, scenes=options.split, size=size)
    names = dataset.scene_names(options.split)[: 2 if options.quick else options.scenes]
    instants = 1 if options.quick else options.instants
    seeds = 1 if options.quick or dist_s is None else options.seeds
    key = {"weights": options.weights, "instants": instants, "town": dataset.dataroot, "size": options.size, "format": 4}
    finished = FinishedUnits(options.out, key)
    units = [(name, seed) for name in names for seed in range(seeds)]
    for name, seed in each(units, "measuring", "scene"):
        if f"{name}/{seed}" not in finished.done:
            entries = evaluate_scene(dataset.load(name), size, seed, instants, codec, dist_s, steps, baselines=seed == 0)
            finished.add(f"{name}/{seed}", entries)
    units_done = [finished.done[f"{name}/{seed}"] for name, seed in units]
    results = summarise_views(units_done)
    where = places([finished.done[f"{name}/0"] for name in names])
    if not results:
        raise DataError(f"{dataset.dataroot}: no place of {where['of']} is {CLEARANCE} m from every surface; nothing is measured")
    images = images_of(dataset.load(names[0]), size)
    content = {"scenes": names, "images": images, "seeds": seeds, "places": where, "results": results}
    result = result_file("novel_view", options, content, finished)
    print_table(results)
    return result


def evaluate_scene(
    scene: Scene,
    size: tuple[int, int],
    seed: int,
    instants: int,
    codec: Codec | None,
    dist_s: DiSTSPipeline | None,
    steps: int,
    baselines: bool = True,
) -> list[dict[str, Any]]:
    """One entry per instant and side: shift -> method -> region -> score; without shifts that put a camera into something.

    baselines: with the rows that no noise changes.
    """
    rig = scene.rig.at_size(*size)
    oracle = OracleWorld()
    (state,) = oracle.reset([WorldStart(scene, rig, 0.0, seed)])
    last = len(scene.sensors.keyframe_time) - 1
    keyframes = np.unique(np.linspace(min(2, last), max(last - 2, 0), instants).round().astype(int))
    entries = []
    for keyframe in keyframes.tolist():
        time = float(scene.sensors.keyframe_time[keyframe])
        source, boxes = scene.sensors.rgbd(keyframe, *size), scene.boxes(time)
        memory = Memory.from_frames([source], [boxes])
        for side in (1.0, -1.0):
            entry: dict[str, Any] = {}
            for shift in SHIFTS:
                truth = truth_aside(oracle, state, time, side * shift, source.body)
                if truth is None:
                    continue
                splat = memory.render(rig, truth.global_from_camera, boxes, time)
                methods = {"codec_ceiling": through_codec(codec, truth)} if codec and baselines else {}
                if baselines:
                    methods |= {"copy_source": like(truth, source.rgb, source.depth), "splat": like(truth, *splat.filled())}
                if dist_s:
                    generator = torch.Generator().manual_seed(noise_seed(seed, keyframe, side * shift))
                    made = dist_s([splat_images(splat)], generator=generator, steps=steps)
                    methods["dist_s"] = splat.over(like(truth, made.rgb[0], made.depth[0]))
                masks = with_reach(regions(truth, boxes, [source]), splat.valid)
                entry[f"{shift:g}m"] = {name: score(frame, truth, masks) for name, frame in methods.items()}
            entries.append(entry)
    return entries


def truth_aside(oracle: OracleWorld, state: OracleState, time: float, left: float, body: np.ndarray | None) -> RGBDFrame | None:
    """The true frame so many metres to the left of the log at a time in seconds; None where a camera would touch something other
    than the car's own body (V, H, W)."""
    scene = state.start.scene
    moved = scene.ego_pose(time) @ pose_from_xy_yaw(0.0, left, 0.0)
    at = replace(scene_at(scene, time, scene.ego_pose, scene.ego_pose, 0.5, 0), global_from_ego=moved)
    ((_, truth, _),) = oracle.step([state], [at])
    seen = truth.depth if body is None else truth.depth[~body]
    return None if seen.min() < CLEARANCE else truth


def noise_seed(seed: int, keyframe: int, lateral: float) -> int:
    """One noise per view."""
    return int(np.random.SeedSequence((seed, keyframe, int(10 * lateral) + 1000)).generate_state(1, np.uint64)[0])


def like(truth: RGBDFrame, rgb: np.ndarray, depth: np.ndarray) -> RGBDFrame:
    """Images at the truth's cameras."""
    return replace(truth, rgb=rgb, depth=depth.astype(np.float32))


def summarise_views(units: Sequence[list[dict[str, Any]]]) -> dict[str, Any]:
    """ "lateral_shift" -> shift -> region -> method -> metric -> mean and spread over scenes and seeds of their means.

    units: the entries of one scene and seed each; a unit has some of the methods.
    """
    shown = [{f"{s:g}m": [e[f"{s:g}m"] for e in entries if f"{s:g}m" in e] for s in SHIFTS} for entries in units]
    means = [{shift: average(scores) for shift, scores in by_shift.items() if scores} for by_shift in shown]
    return summarise([{"lateral_shift": unit} for unit in means])


def places(units: Sequence[list[dict[str, Any]]]) -> dict[str, int]:
    """shift -> number of places evaluated, of all instants and sides."""
    entries = [entry for unit in units for entry in unit]
    return {f"{shift:g}m": sum(f"{shift:g}m" in entry for entry in entries) for shift in SHIFTS} | {"of": len(entries)}


if __name__ == "__main__":
    run(main, Options)
