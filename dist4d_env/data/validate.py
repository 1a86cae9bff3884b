"""``python -m dist4d_env validate``: what a data set holds, and what of it the worlds can use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dist4d_env.data.contract import Dataset
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import DataError
from dist4d_env.progress import Progress


@dataclass(frozen=True)
class Options:
    """Check a data set and say what in it can be used.

    Reads the tables and every scene's log, tracks, map and files; prints a line per scene. Exit status 1 if a scene is broken.
    """

    dataroot: Path | None = None
    """Folder of the data set; else $NUSCENES, else the built-in town."""
    version: str | None = None
    """Folder of tables below it, such as v1.0-trainval; found by itself when there is one."""
    dataset: str | None = None
    """Reader: a registered name or module:Class; found by itself where the folder is recognised."""
    scenes: tuple[str, ...] = ("all",)
    """Splits or scene names."""
    images: bool = False
    """Open every image, depth and LiDAR file as well, to find broken ones."""


@dataclass(frozen=True)
class SceneCheck:
    """What one scene holds. keyframes: all; images, depth, lidar: how many keyframes have the files; broken: what is wrong."""

    name: str
    seconds: float = 0.0
    tracks: int = 0
    keyframes: int = 0
    images: int = 0
    depth: int = 0
    lidar: int = 0
    missing_layers: tuple[str, ...] = ()
    broken: str | None = None

    @property
    def use(self) -> str:
        """What the scene can be played with: worlds that need its images, or only those that do not."""
        return "BROKEN" if self.broken else "all worlds" if self.depth else "worlds without images"

    @property
    def remedy(self) -> str:
        """What would make more of the scene usable; empty where nothing is missing."""
        if self.broken:
            return self.broken
        if not self.images:
            return "no images: fetch the camera files"
        return "images without depth: run `python -m dist4d_env prepare`" if self.depth < self.images else ""


def check_scene(dataset: Dataset, name: str, images: bool = False) -> SceneCheck:
    """Reads a scene; images: opens its sensor files, too. What is broken is in the result, not raised."""
    try:
        scene = dataset.load(name)
        sensors, height, width = scene.sensors, scene.rig.height, scene.rig.width
        keyframes = range(len(sensors.keyframe_time))
        pictured = [k for k in keyframes if sensors.has_images(k)]
        deep = [k for k in pictured if sensors.has_depth(k)]
        swept = [k for k in keyframes if sensors.has_lidar(k)]
        if images:
            for keyframe in pictured:
                sensors.rgb(keyframe, height, width)
            for keyframe in deep:
                sensors.rgbd(keyframe, height, width)
            for keyframe in swept:
                sensors.lidar(keyframe)
    except DataError as error:
        return SceneCheck(name, broken=str(error))
    missing = () if scene.map is None else tuple(sorted(scene.map.missing))
    return SceneCheck(name, scene.duration, len(scene.tracks), len(keyframes), len(pictured), len(deep), len(swept), missing)


def table(checks: Sequence[SceneCheck]) -> str:
    """A line per scene, and what would make more of it usable."""
    rows = [["scene", "seconds", "tracks", "keyframes", "images", "depth", "LiDAR", "playable in"]]
    for c in checks:
        counts = [f"{c.seconds:.1f}", *(str(n) for n in (c.tracks, c.keyframes, c.images, c.depth, c.lidar))]
        rows.append([c.name, *(["-"] * len(counts) if c.broken else counts), c.use])
    width = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:<{width}}" + "".join(f"{cell:>11}" for cell in row[1:-1]) + f"  {row[-1]}" for row in rows]
    for words in dict.fromkeys(check.remedy for check in checks if check.remedy):
        lines.append(f"{words}  ({_some([check.name for check in checks if check.remedy == words])})")
    for layers in dict.fromkeys(check.missing_layers for check in checks if check.missing_layers):
        names = _some([check.name for check in checks if check.missing_layers == layers])
        lines.append(f"the map has no {', '.join(layers)}: what needs it is reported as not valid  ({names})")
    return "\n".join(lines)


def run(options: Options) -> int:
    """Checks the scenes and prints the table. Returns 1 if one is broken."""
    dataset = open_dataset(options.dataroot, options.version, options.scenes, dataset=options.dataset)
    names = dataset.scene_names(options.scenes)
    checks = []
    with Progress("checking", "scene", len(names)) as progress:
        for name in names:
            checks.append(check_scene(dataset, name, options.images))
            progress.update()
    print(f"{dataset.dataroot}, {dataset.version}: {len(checks)} scenes")
    print(table(checks))
    return int(any(check.broken for check in checks))


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
