"""Training samples from the model's own rollouts, supervised by the recorded drive.

A model trained on recorded pasts alone never sees its own errors (exposure bias). Rollouts keep the memory as the generative
world does: real frames up to the start, then of each generated frame only the pixels that nothing remembered reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from dist4d_env.data.contract import Dataset
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.models.conditions import TargetConditions, target_conditions
from dist4d_env.models.pipelines import DiSTTPipeline, noise_of
from dist4d_env.scenes.scene import Scene
from dist4d_env.training.prepare import Keyframes, prepare
from dist4d_env.training.samples import NEXT, SampleSettings, stamp_weights, write_settings
from dist4d_env.worlds.dist4d import unseen
from dist4d_env.worlds.memory import Memory

STARTS = (2, 7)
"""Keyframes of a scene after which rollouts begin, each to the scene's end."""
ROWS = ("kind", "reference", "target", "made", "chunk", "last_real")


def prepare_rollouts(
    dataset: Dataset, names: Sequence[str], folder: Path, settings: SampleSettings, weights: str, workers: int = 2
) -> None:
    """``prepare`` with rollouts of ``weights`` (a shipped preset or a folder with DiST-T).

    settings: image size, chunk, count of frames in a splat and seed are used. Raises ``DataError`` where the folder holds samples
    of other weights.
    """
    write_settings(folder, settings)
    stamp_weights(folder, weights, "dist_t")
    prepare(dataset, names, folder, settings, workers, partial(_rollouts_of, weights))


def _rollouts_of(weights: str, scene: Scene, settings: SampleSettings) -> dict[str, np.ndarray]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return rollout_samples(scene, settings, DiSTTPipeline.from_pretrained(weights, device=device))


@dataclass
class Record:
    """Rows of samples. generated: frames that served as references; row values as ``SceneSamples`` names them."""

    generated: list[RGBDFrame] = field(default_factory=list)
    rows: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in ROWS})
    images: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, conditions: TargetConditions, **row: int) -> None:
        """One splat and its row."""
        for name, value in row.items():
            self.rows[name].append(value)
        for name, array in vars(conditions.images).items():
            self.images.setdefault(f"splat_{name}", []).append(array)


def rollout_samples(scene: Scene, settings: SampleSettings, pipeline: DiSTTPipeline) -> dict[str, np.ndarray]:
    """All arrays of one scene, as ``SceneSamples`` reads them."""
    known = Keyframes.read(scene, settings)
    record = Record()
    starts = [start for start in STARTS if start + settings.chunk < len(known.frames)] or [0]
    for start in starts:
        roll_out(scene, known, start, settings, pipeline, record)
    return {
        **known.arrays(),
        **known.control_arrays(scene),
        **{name: np.stack(stack) for name, stack in record.images.items()},
        **{name: np.array(values, np.int16) for name, values in record.rows.items()},
        "made_rgb": np.stack([frame.rgb for frame in record.generated]),
        "made_depth": np.stack([frame.depth for frame in record.generated]).astype(np.float16),
    }


def roll_out(
    scene: Scene, known: Keyframes, start: int, settings: SampleSettings, pipeline: DiSTTPipeline, record: Record
) -> None:
    """Follow the recorded path from keyframe ``start`` to the end in chunks, with the world's memory."""
    frames, times = known.frames, known.times
    rig = scene.rig.at_size(settings.height, settings.width)
    memory = Memory.from_log(scene, rig, times[start], "history")
    last, made, at = frames[start], -1, start
    generator = noise_of(settings.seed, start, *scene.name.encode())
    while at + 1 < len(frames):
        targets = list(range(at + 1, min(at + settings.chunk, len(frames) - 1) + 1))
        splats = [
            memory.render(rig, frames[t].global_from_camera, known.at_keyframe[t], times[t], settings.count) for t in targets
        ]
        conditions = [
            target_conditions(
                splat,
                intrinsics=frames[t].intrinsics,
                global_from_camera=frames[t].global_from_camera,
                global_from_ego=known.poses[t],
                reference_global_from_ego=known.poses[at],
                interval=times[t] - times[at],
                boxes=known.at_keyframe[t],
                scene_map=scene.map,
                description=scene.description,
            )
            for splat, t in zip(splats, targets, strict=True)
        ]
        chunk = len(set(record.rows["chunk"]))
        for t, one in zip(targets, conditions, strict=True):
            record.add(one, kind=NEXT, reference=at, target=t, made=made, chunk=chunk, last_real=start)
        drawn = pipeline([last], [conditions], generator=generator, steps=int(pipeline.transformer.config.steps))
        for k, t in enumerate(targets):
            last = splats[k].over(replace(frames[t], rgb=drawn.rgb[0, k], depth=drawn.depth[0, k]))
            memory = memory.with_generated(last, known.at_keyframe[t], unseen(splats[k]))
        record.generated.append(last)
        made, at = len(record.generated) - 1, targets[-1]
