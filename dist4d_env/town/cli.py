"""``python -m dist4d_env town``: write the built-in town as a data set in nuScenes format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dist4d_env import json_output
from dist4d_env.errors import ConfigError, check_ranges


@dataclass(frozen=True)
class Options:
    """Make the built-in data set: streets, traffic, six cameras with depth and LiDAR, in nuScenes format."""

    out: Path | None = None
    """Folder to write; it must not exist yet. Default: the user's cache folder, where everything else looks for the town and
    draws a scene's pictures when it first needs them; this draws them all."""
    split: Literal["train", "val", "test", "all"] = "val"
    """Which scenes; the splits' streets have nothing in common."""
    looks: Literal["plain", "wild"] = "plain"
    """plain: clean and alike; wild: textures, objects, light and cameras that differ as much as real ones do, to train on."""
    cameras: int = 6
    """Cameras of a wild rig, 1 to 8; where they are and what they see differs from seed to seed."""
    size: str = "128x224"
    """Height x width of the images."""
    scenes: int | None = None
    """Scenes per split. Default: 48 for train, 8 for val and 8 for test."""
    seed: int = 0
    """Another seed is another town."""
    sweeps: bool = False
    """Store cameras and LiDAR at 10 Hz between the keyframes, too."""
    rate: Literal[2, 5, 10] = 2
    """Annotated keyframes per second: 2 as in nuScenes, 10 much as in its versions interpolated to 12 Hz."""
    semantics: bool = False
    """Store a class image beside every camera image."""
    pictures: bool = True
    """Store images, depth and LiDAR. Without (--no-pictures) there are tables and maps alone, enough for observations without
    cameras and for the world oracle, in seconds instead of minutes."""
    duration: float = 20.0
    """Seconds of each scene, up to 60; beyond 20 they are drives and traffic of their own."""
    workers: int | None = None
    """Processes that render. Default: one per core."""


def run(options: Options) -> int:
    """Writes the data set and prints its folder."""
    from dist4d_env.geometry.cameras import parse_size
    from dist4d_env.town.cache import ensure_town
    from dist4d_env.town.dataset import TownDataset, draw_missing
    from dist4d_env.town.writer import write_dataset

    check_ranges(options, seed=(0, math.inf), workers=(1, math.inf))
    if options.out is None:
        if options != Options(split=options.split) or options.split == "all":
            raise ConfigError("the cache folder holds towns with default options only: name a folder with --out")
        folder = ensure_town(options.split)
        if TownDataset.recognises(folder):
            draw_missing(folder)
    else:
        splits = ("train", "val", "test") if options.split == "all" else options.split
        folder = write_dataset(
            options.out, splits, options.scenes, parse_size(options.size), options.sweeps, options.seed, options.duration,
            options.semantics, options.workers, pictures=options.pictures, rate=options.rate,
            looks=options.looks, cameras=options.cameras,
        )  # fmt: skip
    print(f"town: {folder}")
    json_output.result({"dataroot": folder})
    return 0
