"""The built-in town in the user's cache folder: made once, then only found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dist4d_env.errors import ConfigError
from dist4d_env.processes import alone
from dist4d_env.progress import say

DEFAULT_SIZE = (128, 224)
SIZES = (DEFAULT_SIZE, (224, 400), (448, 800))
"""Sizes that images are stored at: the smallest one that need not be enlarged."""


def town_folder(
    split: str = "val",
    size: tuple[int, int] = DEFAULT_SIZE,
    seed: int = 0,
    count: int | None = None,
    duration: float | None = None,
) -> Path:
    """Folder of the cached town with these options; the generator's version is part of the name.

    count: only so many scenes; duration: only so many seconds of each. None means all of them.
    """
    from platformdirs import user_cache_dir

    from dist4d_env.town.generate import VERSION

    part = ("" if count is None else f"-first{count}") + ("" if duration is None else f"-{duration:g}s")
    return Path(user_cache_dir("dist4d_env")) / "town" / f"v{VERSION}-{split}-{size[0]}x{size[1]}-seed{seed}{part}"


def split_of(scenes: str | Sequence[str]) -> str:
    """The split that scenes of the built-in town belong to; each is a split's or a scene's name, "all" means val.

    Raises ``ConfigError`` where they belong to several: a cached town holds one split.
    """
    from dist4d_env.town.model import SPLITS

    names = [scenes] if isinstance(scenes, str) else list(scenes)
    found = {split for name in names for split in SPLITS if name == split or str(name).startswith(f"town-{split}-")}
    if len(found) > 1:
        raise ConfigError(
            f"scenes of the built-in town's splits {', '.join(sorted(found))} cannot be mixed: name one split, or make a town of "
            "them all with `python -m dist4d_env town --split all --out DIR` and pass it as the data set"
        )
    return found.pop() if found else "val"


def default_dataroot(scenes: str | Sequence[str] = "val", size: tuple[int, int] | None = None) -> Path:
    """The built-in town's folder of the split that scenes belong to; see ``registry.DEFAULT_DATAROOT``."""
    split = split_of(scenes)
    count = _count(split, scenes)
    if size is None:
        return ensure_town(split, count=count)
    fitting = [stored for stored in SIZES if stored[0] >= size[0] and stored[1] >= size[1]]
    return ensure_town(split, fitting[0] if fitting else SIZES[-1], count=count)


def _count(split: str, scenes: str | Sequence[str]) -> int | None:
    """Scenes of the town that holds those named: None for the usual ones, else a multiple of their number, so that few different
    towns are made. Raises ``ConfigError`` for a number that the split has not."""
    from dist4d_env.town.generate import MOST_SCENES
    from dist4d_env.town.model import DEFAULT_COUNT

    names = [scenes] if isinstance(scenes, str) else scenes
    numbered = [re.fullmatch(rf"town-{split}-(\d{{4}})", str(name)) for name in names]
    last = max((int(found[1]) for found in numbered if found), default=0)
    usual, most = DEFAULT_COUNT[split], MOST_SCENES[split]
    if last >= most:
        raise ConfigError(f"split {split!r} of the town has scenes 0 to {most - 1}, not {last}: name others")
    return None if last < usual else min((last // usual + 1) * usual, most)


def ensure_town(
    split: str = "val",
    size: tuple[int, int] = DEFAULT_SIZE,
    seed: int = 0,
    count: int | None = None,
    duration: float | None = None,
) -> Path:
    """The cached folder of a town with these options (see ``town_folder``); makes it first if it is new, with a progress bar:
    tables and maps, a second or two per scene. Pictures are drawn on demand, scene by scene (``town.dataset``).

    Several processes may ask at once: one makes it, the others wait. The folder appears whole or not at all.
    """
    from dist4d_env.town.generate import DURATION
    from dist4d_env.town.writer import write_dataset

    folder = town_folder(split, size, seed, count, duration)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder.parent / f".{folder.name}.making", f"making {folder}"):
            if not folder.is_dir():
                if count is not None:
                    say(f"the town's {split} streets 0 to {count - 1} are made, once, a second or two each, in {folder}")
                seconds = DURATION if duration is None else duration
                write_dataset(folder, split, count, size, seed=seed, duration=seconds, on_demand=True)
    return folder
