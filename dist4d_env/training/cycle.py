"""Self-supervised cycle consistency for DiST-S: samples of real views from synthesised side views.

Stage 2 of DiST-S's training (DiST-4D, arXiv 2503.15208), an offline pass over a data set: the cameras of a keyframe move
aside, its real RGB-D is splatted there, the stage-1 model completes it, and that synthesised RGB-D alone is splatted back to
the real cameras. The real frame supervises; only the condition is synthetic, with the holes and errors of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from dist4d_env.data.nuscenes import Dataset
from dist4d_env.errors import DataError
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.splat import Splat, splat
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import pose_from_xy_yaw
from dist4d_env.models.conditions import SplatImages, splat_images
from dist4d_env.models.pipelines import DiSTSPipeline
from dist4d_env.scenes.scene import Scene
from dist4d_env.training.prepare import Keyframes, prepare
from dist4d_env.training.samples import CYCLE, SampleSettings, stamp_weights, write_settings

REACH = 3.0
"""Metres to either side that the cameras move at most."""
CLEARANCE = 0.5
"""Metres that the cameras keep from everything visible, all the way aside: behind a surface nothing is known."""


def prepare_cycle(
    dataset: Dataset, names: Sequence[str], folder: Path, settings: SampleSettings, weights: str, workers: int = 2
) -> None:
    """``prepare`` with CYCLE samples, at most one per keyframe and side.

    settings: image size and seed are used; weights: stage-1 DiST-S, a shipped preset or a folder. Raises ``DataError`` where the
    folder holds samples of other weights.
    """
    write_settings(folder, settings)
    stamp_weights(folder, weights, "dist_s")
    prepare(dataset, names, folder, settings, workers, partial(_cycles_of, weights))


def _cycles_of(weights: str, scene: Scene, settings: SampleSettings) -> dict[str, np.ndarray]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return cycle_samples(scene, settings, completed_by(DiSTSPipeline.from_pretrained(weights, device=device)))


Complete = Callable[[SplatImages, int], tuple[np.ndarray, np.ndarray]]
"""A splat and a noise seed to dense rgb (V, H, W, 3) uint8 and depth (V, H, W) float32 metres."""


def completed_by(pipeline: DiSTSPipeline) -> Complete:
    """DiST-S as a function, in a single evaluation."""

    def complete(images: SplatImages, seed: int) -> tuple[np.ndarray, np.ndarray]:
        made = pipeline([images], generator=torch.Generator().manual_seed(seed))
        return made.rgb[0], made.depth[0]

    return complete


def cycle_samples(scene: Scene, settings: SampleSettings, complete: Complete) -> dict[str, np.ndarray]:
    """A scene's samples as ``SceneSamples`` reads them, without controls, which DiST-S does not take.

    The frames are the keyframes; every splat shows a keyframe from its own cameras, made of its synthesised side view.
    """
    size = (settings.height, settings.width)
    known = Keyframes.read(scene, size)
    rig = scene.rig.at_size(*size)
    generator = np.random.default_rng([settings.seed, CYCLE, *scene.name.encode()])
    targets, splats = [], []
    for k, source in enumerate(known.sources()):
        for poses, visible in side_views(known, k, source, rig, generator):
            side = synthesised(complete, visible, poses, rig, known.times[k], int(generator.integers(2**31)))
            back = SplatSource.from_frame(side, known.at_keyframe[k])
            real = known.frames[k]
            splats.append(splat([back], real.intrinsics, real.global_from_camera, size, known.at_keyframe[k], known.times[k]))
            targets.append(k)
    if not targets:
        raise DataError(f"scene {scene.name}: no keyframe has room for cameras beside it; leave this scene out")
    images, rows = [vars(splat_images(one)) for one in splats], np.array(targets, np.int16)
    return {
        **known.arrays(),
        **{f"splat_{name}": np.stack([one[name] for one in images]) for name in images[0]},
        "kind": np.full(len(rows), CYCLE, np.int16),
        "reference": rows,
        "target": rows,
        "noise": np.zeros(len(rows), np.float32),
    }


def side_views(
    known: Keyframes, k: int, source: SplatSource, rig: CameraRig, generator: np.random.Generator
) -> Iterator[tuple[np.ndarray, Splat]]:
    """Views of keyframe k from up to REACH metres to the left, then to the right: camera poses (V, 4, 4) and splat.

    Shifts are uniform over the room there is; a side without room is left out.
    """
    points = source.points.T[source.keep.ravel()] + (source.origin - known.poses[k][:3, 3])
    in_ego = points @ known.poses[k][:3, :3]
    for side in (1.0, -1.0):
        reach = min(REACH, room(in_ego, rig.ego_from_camera[:, :3, 3], side))
        shift = side * reach * (1 - generator.random())
        if reach < CLEARANCE:
            continue
        poses = known.poses[k] @ pose_from_xy_yaw(0.0, float(shift), 0.0) @ rig.ego_from_camera
        yield poses, splat([source], rig.intrinsics, poses, (rig.height, rig.width), known.at_keyframe[k], known.times[k])


def room(points: np.ndarray, cameras: np.ndarray, side: float) -> float:
    """Metres that cameras (V, 3) can move left (side 1) or right (-1) until one is CLEARANCE from points (N, 3), ego frame."""
    free = np.inf
    for camera in cameras:
        offset = points - camera
        ahead = side * offset[np.hypot(offset[:, 0], offset[:, 2]) < CLEARANCE, 1]
        free = min(free, ahead[ahead > 0].min(initial=np.inf))
    return float(free - CLEARANCE)


def synthesised(complete: Complete, visible: Splat, poses: np.ndarray, rig: CameraRig, time: float, seed: int) -> RGBDFrame:
    """The completed splat as a frame at the side cameras."""
    rgb, depth = complete(splat_images(visible), seed)
    return RGBDFrame(rgb, depth.astype(np.float32), rig.intrinsics, poses, np.full(len(poses), time))
