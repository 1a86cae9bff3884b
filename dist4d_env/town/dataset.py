"""The built-in town as a data set whose pictures are drawn scene by scene, when they are first looked at.

What draws is imported then: this module is asked about every folder that is opened.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from dist4d_env.data.nuscenes import NuScenesDataset
from dist4d_env.data.sensors import FileSensorLog
from dist4d_env.errors import DataError
from dist4d_env.processes import alone, cores
from dist4d_env.progress import Progress
from dist4d_env.scenes.scene import LidarSweep, Scene

if TYPE_CHECKING:
    from dist4d_env.town.scene_files import FileOptions

ON_DEMAND = ".pictures"
"""Folder of a data set whose pictures are drawn on demand; in it lies an empty file for every scene that has them."""
SceneKey = tuple[str, int, int, str, float]
"""Split, index, seed, looks and seconds of a town scene: the arguments of ``generate_scene``."""


@dataclass(frozen=True)
class TownDataset(NuScenesDataset):
    """A town written with pictures "on demand": tables and maps are there, a scene's images, depth and LiDAR are drawn together
    when one of them is first asked for."""

    @classmethod
    def recognises(cls, dataroot: str | os.PathLike[str]) -> bool:
        """Whether pictures of a town are drawn on demand in a folder."""
        return Path(dataroot, ON_DEMAND).is_dir()

    def load(self, name: str, require_map: bool = True) -> Scene:
        """See ``NuScenesDataset.load``; nothing is drawn yet."""
        return _load(self, name, require_map)


@lru_cache(maxsize=64)
def _load(dataset: TownDataset, name: str, require_map: bool) -> Scene:
    scene = NuScenesDataset.load(dataset, name, require_map)
    return replace(scene, dataset="town", sensors=TownSensorLog(**vars(scene.sensors)))


@dataclass(frozen=True)
class TownSensorLog(FileSensorLog):
    """Sensor files of a ``TownDataset``'s scene: every keyframe has them, for they are drawn before they are opened."""

    def has_images(self, keyframe: int) -> bool:
        return self._checked(keyframe) >= 0

    has_depth = has_lidar = has_images

    def image_path(self, keyframe: int, view: int) -> Path:
        self._draw()
        return super().image_path(keyframe, view)

    def lidar(self, keyframe: int) -> LidarSweep:
        self._draw()
        return super().lidar(keyframe)

    def sweeps(self, keyframe: int, before: int, after: int) -> tuple[LidarSweep, ...]:
        self._draw()
        return super().sweeps(keyframe, before, after)

    def _draw(self) -> None:
        draw_missing(Path(self.dataroot), (self.scene,))


def town_scene(dataroot: str | os.PathLike[str], name: str) -> SceneKey:
    """The key of a scene, from the ``town.json`` that the writer leaves. Raises DataError."""
    from dist4d_env.town.generate import VERSION

    record = _record(dataroot)
    try:
        seed, looks, about = int(record["seed"]), str(record["looks"]), record["scenes"]
        key = (
            (str(about[name]["split"]), int(about[name]["index"]), seed, looks, float(record["duration"]))
            if name in about
            else None
        )
        version = int(record["generator_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(dataroot, error) from error
    if version != VERSION:
        raise DataError(
            f"{dataroot} was written by version {version} of the town generator and this is version {VERSION}: "
            "write the town again with `python -m dist4d_env town`"
        )
    if key is None:
        raise DataError(f"{dataroot}/town.json does not list {name}: write the town again with `python -m dist4d_env town`")
    return key


def draw_missing(root: Path, names: Sequence[str] | None = None) -> None:
    """Draws the pictures of those scenes of a ``TownDataset`` (None: of all) that have none yet, on all cores.

    Several processes may ask at once: one draws, the others wait. A scene's files appear whole, and are drawn again where a
    process was killed before the last of them. Raises DataError.
    """
    done = root / ON_DEMAND
    names = list(_record(root)["scenes"]) if names is None else names
    if all((done / name).exists() for name in names):
        return
    try:
        with alone(done / ".lock", f"drawing pictures in {root}"):
            _draw(root, [name for name in names if not (done / name).exists()])
    except OSError as error:
        raise DataError(f"pictures of {', '.join(names)} could not be drawn in {root}: {error}") from error


def _draw(root: Path, names: list[str]) -> None:
    from dist4d_env.town.workers import run_jobs

    if not names:
        return
    options, at_once = _options(root), cores()
    with Progress("town pictures", "keyframe", len(names) * len(options.keyframes)) as bar:
        for first in range(0, len(names), at_once):
            group = names[first : first + at_once]
            step = max(1, min(at_once // len(group), len(options.keyframes)))
            keys = [town_scene(root, name) for name in group]
            jobs = [(split, index, start, step) for split, index, *_ in keys for start in range(step)]
            partial = root / ON_DEMAND / ".partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            run_jobs(partial, jobs, keys[0][2], options, None, bar.update)
            for path in filter(Path.is_file, partial.rglob("*")):
                target = root / path.relative_to(partial)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
            for name in group:
                (root / ON_DEMAND / name).touch()
            shutil.rmtree(partial)


def _options(root: Path) -> FileOptions:
    from dist4d_env.town.scene_files import FileOptions

    record = _record(root)
    try:
        known = {name: record[name] for name in FileOptions.__dataclass_fields__}
        return FileOptions(**known | {"size": tuple(known["size"]), "pictures": True})
    except (KeyError, TypeError) as error:
        raise _unreadable(root, error) from error


def _record(dataroot: str | os.PathLike[str]) -> dict:
    try:
        return {"looks": "plain"} | dict(json.loads(Path(dataroot, "town.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(dataroot, error) from error


def _unreadable(dataroot: str | os.PathLike[str], error: Exception) -> DataError:
    return DataError(f"{dataroot}/town.json cannot be read ({error!r}): write the town again with `python -m dist4d_env town`")
