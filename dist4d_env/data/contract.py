"""The contract of data sets: logged scenes by name, and how names of splits and scenes are resolved."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from typing import Protocol

from dist4d_env.errors import DataError, shown
from dist4d_env.scenes.scene import Scene


class Dataset(Protocol):
    """Logged scenes of one data set. ``registry.DATASETS`` calls a reader with ``dataroot`` and, where given, ``version``.

    A data set pickles small and is opened again from its pickle in other processes; what is read is kept once per process.
    Categories of objects are mapped to ``geometry.boxes.CATEGORIES`` by the reader ("other" where nothing fits);
    ``Tracks.name`` keeps the data set's own. For ``validate``, one may have ``faults() -> list[str]``: what
    is wrong in any of its records.
    """

    @property
    def dataroot(self) -> str:
        """The folder it lies in; with ``version`` and a scene's token it identifies a scene, in caches and stored episodes."""
        ...

    @property
    def version(self) -> str:
        """Which version in that folder; empty where there are none."""
        ...

    @classmethod
    def recognises(cls, dataroot: str | os.PathLike[str]) -> bool:
        """Whether a folder looks like a data set of this kind; a glance at the names of its files must do."""
        ...

    def names(self) -> tuple[str, ...]:
        """Every scene's name."""
        ...

    def splits(self) -> dict[str, tuple[str, ...]]:
        """Scene names by split."""
        ...

    def scene_names(self, scenes: str | Sequence[str]) -> list[str]:
        """Names for a split, "all", a scene's name, or a list of these (``resolve_scenes``). Raises DataError."""
        ...

    def load(self, name: str, require_map: bool = True) -> Scene:
        """A scene; its sensor files stay closed. Raises DataError, also for a missing map unless ``require_map`` is False."""
        ...


def resolve_scenes(dataset: Dataset, scenes: str | Sequence[str]) -> list[str]:
    """Names for a split ("train", "val", ...), "all", a scene's name, or a list of these, each once.

    Raises DataError for what is unknown or empty here, listing what there is.
    """
    if not isinstance(scenes, str):
        if not len(scenes):
            raise DataError("an empty list of scenes; name a split or scenes")
        return list(dict.fromkeys(name for entry in scenes for name in resolve_scenes(dataset, entry)))
    names, splits = list(dataset.names()), dataset.splits()
    if scenes in names:
        return [scenes]
    if scenes == "all":
        return names
    if splits.get(scenes):
        return list(splits[scenes])
    there = ", ".join(f"{name} ({len(members)})" for name, members in splits.items() if members) or "none"
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    what = f"split {scenes!r} holds no scene of" if scenes in splits else f"{shown(scenes)} is neither a split nor a scene of"
    similar = difflib.get_close_matches(scenes, [*names, *splits], n=1)
    hint = f" Did you mean {similar[0]!r}?" if similar and scenes not in splits else ""
    raise DataError(f"{what} {os.path.join(dataset.dataroot, dataset.version)}. Splits: {there}. Scenes: {listed}.{hint}")
