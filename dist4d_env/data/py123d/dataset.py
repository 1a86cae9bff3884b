"""A folder of 123D logs as a data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

from dist4d_env.data.contract import resolve_scenes
from dist4d_env.data.py123d.log import LogPart, load_part, parts_of
from dist4d_env.errors import DataError
from dist4d_env.scenes.scene import Scene

_DEPTHS = ("*", "*/*", "*/*/*")  # below a split, a log's folder; few data sets group them


@dataclass(frozen=True)
class Py123dDataset:
    """Logs below ``logs/<data set>_<split>/``, maps below ``maps/``, as py123d writes them.

    A scene is a log, or 20 s of one that is longer than 40: ``<log>-000``, ``<log>-001`` and so on.
    version: the data set, for folders that hold several; found by itself where there is one. Raises DataError.
    """

    dataroot: str
    version: str = ""

    def __post_init__(self) -> None:
        there = sorted({_dataset_of(folder) for folder in _splits(self.dataroot)})
        if not self.version and len(there) == 1:
            object.__setattr__(self, "version", there[0])
        if self.version not in there:
            what = f"no 123D logs of {self.version!r}" if self.version else "123D logs of several data sets"
            raise DataError(f"{self.dataroot}: {what} (there: {', '.join(there) or 'none'}); choose one with version=")

    @classmethod
    def recognises(cls, dataroot: str | os.PathLike[str]) -> bool:
        """Whether Arrow tables lie where py123d puts logs, whole or not."""
        return any(chain.from_iterable(Path(dataroot).glob(f"logs/*/{depth}/*.arrow") for depth in _DEPTHS[:2]))

    def names(self) -> tuple[str, ...]:
        """Every scene's name, split by split."""
        return tuple(self._scenes)

    def splits(self) -> dict[str, tuple[str, ...]]:
        """Scene names by what follows the data set in the names of folders: train, val, test."""
        found: dict[str, list[str]] = {}
        for name, part in self._scenes.items():
            found.setdefault(part.split, []).append(name)
        return {split: tuple(names) for split, names in found.items()}

    def scene_names(self, scenes: str | Sequence[str]) -> list[str]:
        """Names for a split, "all", a scene's name, or a list of these. Raises DataError."""
        return resolve_scenes(self, scenes)

    def load(self, name: str, require_map: bool = True) -> Scene:
        """Reads a scene: log, tracks, map, route, lights; images and LiDAR stay closed. Scenes are kept, a second call is free.

        The map is None where the data set has none. Raises DataError for an unknown scene, a log that is incomplete or broken, an
        object or camera of an unknown kind, or, unless ``require_map`` is False, a map file that should be there.
        """
        if name not in self._scenes:
            self.scene_names(name)  # raises, unless it is a split
            raise DataError(f"{name!r} is a split, not a scene; take one of scene_names({name!r})")
        return _load(self, self._scenes[name], require_map)

    @property
    def _scenes(self) -> dict[str, LogPart]:
        folders = [folder for folder in _splits(self.dataroot) if _dataset_of(folder) == self.version]
        return _listed(self.dataroot, tuple((folder, folder.stat().st_mtime_ns) for folder in folders))


def _splits(dataroot: str) -> list[Path]:
    logs = Path(dataroot, "logs")
    return sorted(folder for folder in logs.iterdir() if folder.is_dir()) if logs.is_dir() else []


def _dataset_of(folder: Path) -> str:
    """The data set of the logs in a split's folder, named ``<data set>_<split>``."""
    return folder.name.rpartition("_")[0] or folder.name


@lru_cache(maxsize=8)
def _listed(dataroot: str, folders: tuple[tuple[Path, int], ...]) -> dict[str, LogPart]:
    """The parts of all logs by name. folders: with the times at which they were changed."""
    found: dict[str, LogPart] = {}
    for folder, _ in folders:
        split = folder.name.rpartition("_")[2]
        for log in _logs_below(folder, len(_DEPTHS)):
            for part in parts_of(Path(dataroot), log, split):
                if part.name in found:
                    raise DataError(f"{log} and {found[part.name].folder} are logs of one name; rename one of the folders")
                found[part.name] = part
    if not found:
        raise DataError(
            f"{dataroot}: no 123D log in {', '.join(str(folder) for folder, _ in folders)}; convert the data set again"
        )
    return found


def _logs_below(folder: Path, depth: int) -> Iterator[Path]:
    """Folders of logs, complete or not, in order of their names."""
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir():
            continue
        if (entry / "sync.arrow").exists() or any(entry.glob("*.arrow")):
            yield entry
        elif depth > 1:
            yield from _logs_below(entry, depth - 1)


@lru_cache(maxsize=64)
def _load(dataset: Py123dDataset, part: LogPart, require_map: bool) -> Scene:
    try:
        return load_part(part, dataset.version, require_map)
    except DataError as error:
        raise DataError(f"{part.name}: {error}") from error
