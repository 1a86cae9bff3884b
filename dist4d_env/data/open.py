"""Opening data sets: which folder, and which reader."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dist4d_env.data.contract import Dataset
from dist4d_env.errors import ConfigError, DataError, shown
from dist4d_env.registry import DATASETS, DEFAULT_DATAROOT, import_path

_MOST_BELOW = 100  # folders below a wrong one that are looked into
CONTRACT = ("dataroot", "version", "names", "splits", "scene_names", "load")


def open_dataset(
    dataroot: str | os.PathLike[str] | None = None,
    version: str | None = None,
    scenes: str | Sequence[str] = "val",
    dataset: Any = None,
    size: tuple[int, int] | None = None,
) -> Dataset:
    """Opens a data set.

    dataroot: its folder, else $NUSCENES, else the built-in town (made once, in the user's cache folder); version: the folder of
    tables below it, found by itself where there is one and none is given, or an empty one, as data sets without versions have;
    scenes: names or splits that will be loaded, for the built-in town makes only the split that is needed; dataset: a name in
    ``registry.DATASETS``, ``"module:Class"``, or an open data set, which is returned as it is; None takes the first reader that
    recognises the folder, and one given here finds its folder by itself where ``dataroot`` is None; size: height and width that
    its images will be shown at, so that the built-in town stores larger ones.
    Raises DataError naming the folder, table or file that is missing or broken, ConfigError for an unknown reader.
    """
    version = version or None
    _must_fit(dataroot=dataroot, version=version)
    if dataset is None:
        root, origin = _folder(dataroot, scenes, size)
        dataset, dataroot = _recognised(root, origin), root
    elif not (isinstance(dataset, str) or callable(dataset)) and (dataroot is not None or version is not None):
        raise ConfigError(f"dataset={shown(dataset)} is open already: leave out dataroot and version")
    given = {"dataroot": None if dataroot is None else str(dataroot), "version": version}
    opened: Dataset = DATASETS.make(dataset, CONTRACT, **{name: value for name, value in given.items() if value is not None})
    opened.names()  # opens the tables, so that what is wrong with them shows here
    return opened


def _must_fit(**names: Any) -> None:
    """Raises DataError for a name that no file can have: looking for it would raise what a fault of the machine does."""
    for keyword, name in names.items():
        try:
            os.stat(name or ".")
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise DataError(f"{keyword}={shown(str(name))} is too long for the name of a folder") from error
        except (ValueError, TypeError):  # no name at all
            pass


def _folder(
    dataroot: str | os.PathLike[str] | None, scenes: str | Sequence[str], size: tuple[int, int] | None
) -> tuple[Path, str]:
    """The folder and where its name comes from."""
    origin = "the dataroot argument"
    if dataroot is None and os.environ.get("NUSCENES"):
        dataroot, origin = os.environ["NUSCENES"], "$NUSCENES"
    if dataroot is None:
        origin = "the built-in town"
        try:
            dataroot = import_path(DEFAULT_DATAROOT)(scenes, size)
        except OSError as error:
            raise DataError(
                f"no data set: dataroot= was not given, $NUSCENES is not set, and the built-in town could not be made ({error})"
            ) from error
    root = Path(dataroot)
    if not root.is_dir():
        raise DataError(
            f"{root} (from {origin}) is no folder; pass dataroot=, or set $NUSCENES, to a folder that holds a data set, or leave "
            "both unset for the built-in town"
        )
    return root, origin


def _recognised(root: Path, origin: str) -> str:
    """The name of the first reader that knows what is in a folder."""
    found = _reader_of(root)
    if found is not None:
        return found
    near = next((place for place in (root.resolve().parent, *_folders(root)) if _reader_of(place)), None)
    if near is not None:
        raise DataError(f"{root} (from {origin}) holds no data set, but {near} does: pass that folder instead")
    raise DataError(
        f"{root} (from {origin}) holds no data set that one of the readers {', '.join(DATASETS.names())} recognises; nuScenes "
        "has a folder of tables such as v1.0-trainval, 123D one called logs: is it the right folder? A reader of your own is "
        "named by dataset='module:Class' (docs/extending.md)"
    )


def _reader_of(root: Path) -> str | None:
    readers = ((name, getattr(DATASETS.find(name), "recognises", None)) for name in DATASETS.names())
    return next((name for name, recognises in readers if recognises is not None and recognises(root)), None)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())[:_MOST_BELOW]
