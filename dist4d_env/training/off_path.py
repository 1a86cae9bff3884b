"""True side views for DiST-S, from the town's oracle: an upper bound to hold cycle consistency against, never a training set.

No recording shows what its cameras did not see, so a real data set cannot offer these samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import invert
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.training.cycle import CLEARANCE, side_views, splat_arrays
from dist4d_env.training.prepare import Keyframes, make_scenes
from dist4d_env.training.samples import OFF_PATH, SampleSettings, write_scene, write_settings
from dist4d_env.worlds.contract import WorldStart
from dist4d_env.worlds.oracle import OracleWorld


def prepare_off_path(dataset: Dataset, names: Sequence[str], folder: Path, settings: SampleSettings, workers: int = 2) -> None:
    """Make the OFF_PATH samples of the named town scenes that ``folder`` does not hold yet: at most one per keyframe and side.

    settings: image size and seed are used. Raises ``DataError`` for scenes that are not of the built-in town.
    """
    write_settings(folder, settings)
    work = partial(off_path_scene, dataset.dataroot, dataset.version, folder=folder, settings=settings)
    make_scenes(work, names, folder, workers)


def off_path_scene(dataroot: str, version: str, name: str, folder: Path, settings: SampleSettings) -> None:
    """Make and write one scene's samples."""
    write_scene(folder, name, off_path_samples(open_dataset(dataroot, version).load(name), settings))


def off_path_samples(scene: Scene, settings: SampleSettings) -> dict[str, np.ndarray]:
    """A scene's samples as ``SceneSamples`` reads them, without controls; the frames are true side views, one per splat."""
    size = (settings.height, settings.width)
    known = Keyframes.read(scene, size)
    rig = scene.rig.at_size(*size)
    oracle = OracleWorld()
    (state,) = oracle.reset([WorldStart(scene, rig, 0.0, settings.seed)])
    generator = np.random.default_rng([settings.seed, OFF_PATH, *scene.name.encode()])
    truths: list[RGBDFrame] = []
    made, egos = [], []
    for k, source in enumerate(known.sources()):
        for poses, seen in side_views(known, k, source, rig, generator):
            ego = poses[0] @ invert(rig.ego_from_camera[0])
            nothing = SceneAt(known.times[k], ego, known.at_keyframe[k], np.zeros(0), np.zeros((0, 4, 4)), ())
            ((_, truth, _),) = oracle.step([state], [nothing])
            if truth.depth.min() >= CLEARANCE:
                truths.append(truth)
                made.append(seen)
                egos.append(ego)
    if not made:
        raise DataError(f"scene {scene.name}: no keyframe has room for cameras beside it; leave this scene out")
    return {
        "frame_rgb": np.stack([truth.rgb for truth in truths]),
        "frame_depth": np.stack([truth.depth for truth in truths]).astype(np.float16),
        "intrinsics": rig.intrinsics,
        "global_from_camera": np.stack([truth.global_from_camera for truth in truths]),
        "global_from_ego": np.stack(egos),
        "time": np.array([truth.time[0] for truth in truths]),
        **splat_arrays(made, OFF_PATH, range(len(made))),
    }
