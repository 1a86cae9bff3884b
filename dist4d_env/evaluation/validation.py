"""``python -m dist4d_env validate``: the check of a data set, and with ``--worlds`` how well the models do on its own frames.

Each chosen keyframe is hidden and shown again from what is remembered without it: with memory ``log`` from all other keyframes,
with ``history`` from earlier ones. The model of a preset is worth its time where it comes nearer to the hidden frame than the
splat, which needs no model (``weights="splat"``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

import numpy as np
import torch

from dist4d_env.data import validate
from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.evaluation.statistics import Estimate, Resampler
from dist4d_env.geometry.cameras import parse_size
from dist4d_env.geometry.rgbd import FAR, RGBDFrame
from dist4d_env.metrics.images.accuracy import depth_abs_rel, depth_delta1, psnr, ssim_map
from dist4d_env.models.conditions import splat_images, target_conditions
from dist4d_env.models.pipelines import DiSTSPipeline, DiSTTPipeline, Generated
from dist4d_env.progress import Progress
from dist4d_env.scenes.scene import Scene
from dist4d_env.worlds.memory import Memory, MemoryPolicy

BASELINES = ("copy", "splat")
MEASURES = {"psnr": "PSNR, dB", "ssim": "SSIM", "holes": "in holes, dB", "abs_rel": "AbsRel", "delta1": "delta1"}
"""Columns of the table; holes: PSNR where the splat shows nothing and is filled."""


@dataclass(frozen=True)
class Options(validate.Options):
    """Check a data set and say what in it can be used.

    Reads every row of the tables and every scene's log, tracks, map and files; prints a line per scene and per fault. Exit status
    1 if there is one. With --worlds also hides keyframes, shows them again from the others, and says whether the models of
    --weights or the splat without any model come nearer to the true pictures.
    """

    worlds: bool = False
    """Compare the models with the splat on hidden keyframes that have images and depth."""
    weights: str = "tiny"
    """Preset or folder of the models to compare."""
    size: str = "64x112"
    """Height x width of the images to compare."""
    keyframes: int = 24
    """How many keyframes to hide, spread evenly over the scenes."""


@dataclass(frozen=True)
class Hidden:
    """A hidden keyframe. frame: its true RGB-D images; reference: the last keyframe known before it."""

    scene: Scene
    keyframe: int
    reference: int
    frame: RGBDFrame

    @property
    def time(self) -> float:
        """Seconds."""
        return float(self.scene.sensors.keyframe_time[self.keyframe])


Scores = dict[str, dict[str, float]]
"""Method to measure to value."""


class Models:
    """DiST-T and DiST-S of some weights, asked for a hidden keyframe."""

    def __init__(self, weights: str) -> None:
        self.dist_t, self.dist_s = DiSTTPipeline.from_pretrained(weights), DiSTSPipeline.from_pretrained(weights)
        self.steps = int(self.dist_t.transformer.config.steps)

    def show(self, hidden: Hidden, policy: MemoryPolicy) -> Scores:
        """Scores of copy, splat and both models."""
        scene, frame, time = hidden.scene, hidden.frame, hidden.time
        _, height, width = frame.depth.shape
        rig, known = scene.rig.at_size(height, width), float(scene.sensors.keyframe_time[hidden.reference])
        start = time if policy == "log" else known
        memory = Memory.from_log(scene, rig, start, policy)
        inside = float(np.clip(time, 0.0, scene.duration))
        boxes = scene.boxes(inside)
        splat = memory.render(rig, frame.global_from_camera, boxes, time, exclude_time=time)
        before = scene.ego_pose(float(np.clip(known, 0.0, scene.duration)))
        target = target_conditions(
            splat,
            intrinsics=rig.intrinsics,
            global_from_camera=frame.global_from_camera,
            global_from_ego=scene.ego_pose(inside),
            reference_global_from_ego=before,
            interval=time - known,
            boxes=boxes,
            scene_map=scene.map,
            description=scene.description,
        )
        reference = scene.sensors.rgbd(hidden.reference, height, width)
        nearest = memory.select(frame.global_from_camera, time, 1, exclude=(time,))[0].source().frame
        made_t = self.dist_t([reference], [[target]], generator=torch.Generator().manual_seed(0), steps=self.steps)
        made_s = self.dist_s([splat_images(splat)], generator=torch.Generator().manual_seed(0), steps=self.steps)
        shown = {
            "copy": (nearest.rgb, nearest.depth),
            "splat": splat.filled(),
            "DiST-T": _single(made_t, (0, 0)),
            "DiST-S": _single(made_s, (0,)),
        }
        counted = np.ones_like(splat.valid) if splat.body is None else ~splat.body
        return {name: score(rgb, depth, frame, counted, ~splat.valid) for name, (rgb, depth) in shown.items()}


def _single(made: Generated, at: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return made.rgb[at], made.depth[at]


def score(rgb: np.ndarray, depth: np.ndarray, truth: RGBDFrame, counted: np.ndarray, holes: np.ndarray) -> dict[str, float]:
    """``MEASURES`` of images (V, H, W, 3) and depth (V, H, W) over the pixels ``counted`` (V, H, W); nan where there are none."""
    solid = counted & (truth.depth < FAR - 1e-3)
    return {
        "psnr": psnr(rgb, truth.rgb, counted),
        "ssim": float(ssim_map(rgb, truth.rgb)[counted].mean()),
        "holes": psnr(rgb, truth.rgb, holes & counted) if (holes & counted).any() else float("nan"),
        "abs_rel": depth_abs_rel(depth, truth.depth, solid) if solid.any() else float("nan"),
        "delta1": depth_delta1(depth, truth.depth, solid) if solid.any() else float("nan"),
    }


def hidden_keyframes(dataset: Dataset, names: Sequence[str], count: int) -> list[tuple[str, int, int]]:
    """(scene, keyframe, the one known before it) of ``count`` keyframes, spread evenly over those that can be hidden: that have
    images and depth, as one before and one after them. Raises DataError where there are none."""
    found = []
    for name in names:
        sensors = dataset.load(name).sensors
        known = [k for k in range(len(sensors.keyframe_time)) if sensors.has_images(k) and sensors.has_depth(k)]
        found += [(name, keyframe, before) for before, keyframe in pairwise(known[:-1])]
    if not found:
        raise DataError(
            f"{dataset.dataroot}: no scene of {', '.join(names[:4])} has three keyframes with images and metric depth, which "
            f"comparing worlds needs; make depth with: python -m dist4d_env prepare --dataroot {dataset.dataroot}"
        )
    chosen = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return [found[k] for k in chosen]


def compare(
    dataset: Dataset, names: Sequence[str], weights: str, size: tuple[int, int], count: int
) -> dict[MemoryPolicy, list[tuple[tuple[str, int], Scores]]]:
    """For each memory the scores of every hidden keyframe, by (scene, keyframe)."""
    if count < 2:
        raise ConfigError(f"--keyframes must be at least 2 for a comparison, not {count}")
    places, models = hidden_keyframes(dataset, names, count), Models(weights)
    result: dict[MemoryPolicy, list[tuple[tuple[str, int], Scores]]] = {policy: [] for policy in get_args(MemoryPolicy)}
    with Progress("comparing", "keyframe", len(places)) as progress:
        for name, keyframe, before in places:
            scene = dataset.load(name)
            hidden = Hidden(scene, keyframe, before, scene.sensors.rgbd(keyframe, *size))
            for policy, rows in result.items():
                rows.append(((name, keyframe), models.show(hidden, policy)))
            progress.update()
    return result


def report(compared: dict[MemoryPolicy, list[tuple[tuple[str, int], Scores]]], weights: str) -> Iterator[str]:
    """The lines of the table, and one of advice for each memory."""
    for policy, rows in compared.items():
        yield (
            f'\nmemory="{policy}", {len(rows)} hidden keyframes' + " " * 4 + "".join(f"{name:>14}" for name in MEASURES.values())
        )
        for method in rows[0][1]:
            means = [np.array([scores[method][measure] for _, scores in rows]) for measure in MEASURES]
            cells = [f"{values[np.isfinite(values)].mean():.3f}" if np.isfinite(values).any() else "-" for values in means]
            yield f"  {method:<40}" + "".join(f"{cell:>14}" for cell in cells)
        yield advice(policy, weights, {method: gain(rows, method) for method in rows[0][1] if method not in BASELINES})


def gain(rows: Sequence[tuple[tuple[str, int], Scores]], method: str) -> Estimate:
    """dB by which a method is nearer to the truth than the splat, with its interval over scenes and their keyframes."""
    return Resampler([key for key, _ in rows]).mean([scores[method]["psnr"] - scores["splat"]["psnr"] for _, scores in rows])


def advice(policy: str, weights: str, gains: dict[str, Estimate]) -> str:
    """One sentence: which weights to use with a memory. The models are advised unless one of them is clearly worse."""
    worse = [name for name, estimate in gains.items() if estimate.high < 0]
    use = "splat" if worse else weights
    figures = ", ".join(f"{name} {e.mean:+.2f} dB [{e.low:+.2f}, {e.high:+.2f}]" for name, e in gains.items())
    why = f"{' and '.join(worse)} of {weights} {'are' if len(worse) > 1 else 'is'} farther from the true pictures than the splat"
    kept = "no model of it is clearly farther from the true pictures than the splat"
    return f'  use weights="{use}" with memory="{policy}": {why if worse else kept} ({figures})'


def run(options: Options) -> int:
    """Checks the data set and, where asked, compares the worlds. Returns 1 if something is broken."""
    size = parse_size(options.size)
    status = validate.run(options)
    if options.worlds:
        dataset = open_dataset(options.dataroot, options.version, options.scenes, dataset=options.dataset)
        playable = [name for name in dataset.scene_names(options.scenes) if not validate.check_scene(dataset, name).broken]
        for line in report(compare(dataset, playable, options.weights, size, options.keyframes), options.weights):
            print(line)
    return status
