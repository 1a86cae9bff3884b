"""``python -m dist4d_env prepare``."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from dist4d_env import json_output
from dist4d_env.curation.camera import CurationConfig
from dist4d_env.errors import check_ranges


@dataclass(frozen=True)
class Options:
    """Make metric depth for the images of a data set, from its LiDAR, boxes and images, and masks of the car's own body in them.

    Can be stopped at any time and run again: files that exist are kept. All depth in one folder is made with the same settings.
    """

    dataroot: Path | None = None
    """Folder of the data set; else $NUSCENES, else the built-in town."""
    version: str | None = None
    """Folder of tables below it, such as v1.0-trainval; found by itself when there is one."""
    dataset: str | None = None
    """Reader: a registered name or module:Class; found by itself where the folder is recognised."""
    scenes: tuple[str, ...] = ("all",)
    """Splits or scene names."""
    out: Path | None = None
    """Folder for the depth, to be found through $DIST4D_DEPTH; else beside the data set, or in the user's cache where that is
    read-only."""
    height: int = 450
    """Rows of the depth images (at most those of the image)."""
    sweeps: int = 5
    """LiDAR sweeps gathered before and after each keyframe, as far as their files exist."""
    completion: Literal["flow", "least_squares"] = "flow"
    """How depth is made dense: flow, by a small network that learned on the town; least_squares, along the image without any."""
    stereo: bool = False
    """Add depth from several images of the drive, by a small network that learned on the town, where LiDAR leaves gaps."""
    past_only: bool = False
    """Gather no sweep later than the keyframe, so that memory="history" knows nothing that a car could not know yet. Such depth
    has a folder of its own, which is used where $DIST4D_DEPTH names it."""
    overwrite: bool = False
    """Make files again that exist. Depth made with other settings is replaced once all of the new is made, in a folder "anew"
    beside it, where the same command goes on after it was stopped."""
    workers: int = os.cpu_count() or 1
    """Processes."""


def run(options: Options) -> int:
    """Prepares depth as the options say and prints where it is."""
    from dist4d_env.curation.body import prepare_bodies
    from dist4d_env.curation.prepare import depth_root, forecast, prepare_scenes
    from dist4d_env.data.open import open_dataset

    check_ranges(options, workers=(1, math.inf))
    after = 0 if options.past_only else options.sweeps
    config = CurationConfig(
        height=options.height, before=options.sweeps, after=after, completion=options.completion, stereo=options.stereo
    )
    dataset = open_dataset(options.dataroot, options.version, options.scenes, dataset=options.dataset)
    root = depth_root(dataset.dataroot, options.out, options.past_only)
    names = dataset.scene_names(options.scenes)
    ahead = forecast(dataset, names, root, config, options.overwrite, options.workers)
    if ahead:
        print(ahead, flush=True)
    bodies = prepare_bodies(dataset, names, root, options.overwrite, options.workers)  # first: stereo matches nothing in them
    done = prepare_scenes(dataset, names, root, config, options.overwrite, options.workers)
    print(f"{done.written} depth images written, {done.kept} kept, in {root}")
    if done.skipped:
        print(f"skipped {done.skipped}")
    for line in bodies:
        print(line)
    if options.out is not None or options.past_only:
        print(f"to use them: export DIST4D_DEPTH={root.parent.resolve()}")
    json_output.result({"depth": root, "scenes": names, **asdict(done), "bodies": bodies})
    return 0
