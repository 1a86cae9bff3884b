"""Validation of a data set: its faults, what each scene holds, and which worlds can play it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dist4d_env.data.contract import Dataset
from dist4d_env.data.depth_files import depth_roots
from dist4d_env.data.open import open_dataset
from dist4d_env.data.sensors import FileSensorLog
from dist4d_env.data.soundness import load_scene
from dist4d_env.errors import DataError
from dist4d_env.progress import Progress
from dist4d_env.scenes.scene import SensorLog


@dataclass(frozen=True)
class Options:
    """Check a data set and say what in it can be used.

    Reads every row of the tables and every scene's log, tracks, map and files; prints a line per scene and per fault. Exit status
    1 if there is one.
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
    """What one scene holds. keyframes: all; images, depth, lidar: how many keyframes have the files; body: cameras with a mask of
    the car's own body; broken: what is wrong, with each of its files where they were opened."""

    name: str
    seconds: float = 0.0
    tracks: int = 0
    keyframes: int = 0
    images: int = 0
    depth: int = 0
    lidar: int = 0
    missing_layers: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    body: tuple[str, ...] = ()

    @property
    def use(self) -> str:
        """What the scene can be played with: worlds that need its images, or only those that do not."""
        return "BROKEN" if self.broken else "all worlds" if self.depth else "worlds without images"

    @property
    def remedy(self) -> str:
        """What would make more of the scene usable; empty where nothing is missing."""
        if self.broken:
            return ""
        if not self.images:
            return "no images: fetch the camera files"
        if self.depth >= self.images:
            return ""
        if not self.lidar:
            return "images without depth, no LiDAR to make it from: fetch the LiDAR files, or bring your own depth (docs/data.md)"
        return "images without depth: run `python -m dist4d_env prepare`"


def check_scene(dataset: Dataset, name: str, images: bool = False) -> SceneCheck:
    """Reads a scene; images: opens its sensor files, too. What is broken is in the result, not raised, whatever it is."""
    broken: list[str] = []
    with _noted(broken):
        scene = load_scene(dataset, name)
        sensors, height, width = scene.sensors, scene.rig.height, scene.rig.width
        keyframes = range(len(sensors.keyframe_time))
        pictured = [k for k in keyframes if sensors.has_images(k)]
        deep = [k for k in pictured if sensors.has_depth(k)]
        swept = [k for k in keyframes if sensors.has_lidar(k)]
        for keyframe in keyframes if images else ():
            for read in _reads(sensors, keyframe, keyframe in pictured, keyframe in deep, (height, width)):
                with _noted(broken):
                    read()
            with _noted(broken):
                if keyframe in swept:
                    sensors.lidar(keyframe)
        body: tuple[str, ...] = ()
        missing = () if scene.map is None else tuple(sorted(scene.map.missing))
        with _noted(broken):
            body = _masked(sensors, height, width)
        counts = (scene.duration, len(scene.tracks), len(keyframes), len(pictured), len(deep), len(swept))
        return SceneCheck(name, *counts, missing, tuple(dict.fromkeys(broken)), body)
    return SceneCheck(name, broken=tuple(broken))


def _masked(sensors: SensorLog, height: int, width: int) -> tuple[str, ...]:
    """The cameras that have a mask of the car's own body."""
    if not isinstance(sensors, FileSensorLog) or (masks := sensors.body(height, width)) is None:
        return ()
    return tuple(name for name, mask in zip(sensors.camera_names, masks, strict=True) if mask.any())


def _reads(sensors: SensorLog, keyframe: int, pictured: bool, deep: bool, size: tuple[int, int]) -> list[Callable[[], Any]]:
    """What opens the images and depth of a keyframe, file by file where the sensors can."""
    if isinstance(sensors, FileSensorLog):
        views = range(len(sensors.camera_names))
        readers = [sensors.image] * pictured + [sensors.depth_of] * deep
        return [partial(reader, keyframe, view, *size) for reader in readers for view in views]
    return [partial(sensors.rgb, keyframe, *size)] * pictured + [partial(sensors.rgbd, keyframe, *size)] * deep


@contextlib.contextmanager
def _noted(broken: list[str]) -> Iterator[None]:
    """Adds what goes wrong to the list. A reader from elsewhere may raise anything."""
    try:
        yield
    except DataError as error:
        broken.append(str(error))
    except Exception as error:
        broken.append(f"its reader failed with {type(error).__name__}: {str(error)[:200]}")


def table(checks: Sequence[SceneCheck]) -> str:
    """A line per scene, and what would make more of it usable."""
    rows = [["scene", "seconds", "tracks", "keyframes", "images", "depth", "LiDAR", "playable in"]]
    for c in checks:
        counts = [f"{c.seconds:.1f}", *(str(n) for n in (c.tracks, c.keyframes, c.images, c.depth, c.lidar))]
        rows.append([c.name, *(["-"] * len(counts) if c.broken else counts), c.use])
    width = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:<{width}}" + "".join(f"{cell:>11}" for cell in row[1:-1]) + f"  {row[-1]}" for row in rows]
    for words in dict.fromkeys(words for check in checks for words in check.broken):
        lines.append(words)
    for words in dict.fromkeys(check.remedy for check in checks if check.remedy):
        lines.append(f"{words}  ({_some([check.name for check in checks if check.remedy == words])})")
    for cameras in dict.fromkeys(check.body for check in checks if check.body):
        names = _some([check.name for check in checks if check.body == cameras])
        lines.append(f"the car's own body is masked in {', '.join(cameras)}  ({names})")
    for layers in dict.fromkeys(check.missing_layers for check in checks if check.missing_layers):
        names = _some([check.name for check in checks if check.missing_layers == layers])
        lines.append(f"the map has no {', '.join(layers)}: what needs it is reported as not valid  ({names})")
    return "\n".join(lines)


@dataclass(frozen=True)
class Examined:
    """What was found. faults: of the tables."""

    dataset: Dataset
    checks: list[SceneCheck]
    faults: list[str]

    @property
    def sound(self) -> bool:
        """Whether nothing is broken."""
        return not self.faults and not any(check.broken for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        scenes = [asdict(check) | {"use": check.use, "remedy": check.remedy} for check in self.checks]
        place = {"dataroot": self.dataset.dataroot, "version": self.dataset.version}
        return {**place, "sound": self.sound, "scenes": scenes, "faults": self.faults}


def examine(options: Options) -> Examined:
    """Checks the tables and the scenes, prints what was found and returns it."""
    dataset = open_dataset(options.dataroot, options.version, options.scenes, dataset=options.dataset)
    names = dataset.scene_names(options.scenes)
    checks = []
    with Progress("checking", "scene", len(names)) as progress:
        for name in names:
            checks.append(check_scene(dataset, name, options.images))
            progress.update()
    print(f"{dataset.dataroot}, {dataset.version}: {len(checks)} scene{'s' * (len(checks) != 1)}")
    print(table(checks))
    faults: list[str] = []
    with _noted(faults):
        faults += getattr(dataset, "faults", list)()
    for words in faults:
        print(words)
    if chosen := os.environ.get("DIST4D_DEPTH"):
        ours, *others = depth_roots(dataset.dataroot)
        if not ours.is_dir():
            print(f"$DIST4D_DEPTH is {chosen}, which has no {ours.name}: depth is looked for in {' and '.join(map(str, others))}")
    return Examined(dataset, checks, faults)


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
